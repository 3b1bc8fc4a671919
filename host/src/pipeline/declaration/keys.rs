//! Every key that a pipeline file may have, in one place.
//!
//! Readers may ask only for the keys listed here, the file may have only these, suggestions come from
//! here, and a test holds `docs/pipeline-file.md` against this page.

/// The keys of one kind of table.
#[derive(Debug)]
pub(super) struct Keys {
    /// The heading under which the reference page describes them.
    pub(super) heading: &'static str,
    /// The key whose value decides which others belong, where there is one.
    pub(super) decided_by: &'static str,
    /// The keys.
    pub(super) keys: &'static [Key],
}

/// A key, and the cases of the table that it belongs to.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Empty: all.
    pub(super) cases: &'static [&'static str],
}

impl Keys {
    pub(super) fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }
}

const fn any(name: &'static str) -> Key {
    Key { name, cases: &[] }
}

const fn only(name: &'static str, cases: &'static [&'static str]) -> Key {
    Key { name, cases }
}

pub(super) static PIPELINE: Keys = Keys {
    heading: "## The top level",
    decided_by: "",
    keys: &[
        any("name"),
        any("parallelism"),
        any("dead_letters"),
        any("late"),
        any("checkpoints"),
        any("state"),
        any("restart"),
        any("connections"),
        any("sources"),
        any("operators"),
        any("sinks"),
    ],
};

pub(super) static CHECKPOINTS: Keys = Keys {
    heading: "## Checkpoints: `[checkpoints]`",
    decided_by: "",
    keys: &[
        any("path"),
        any("interval"),
        any("min_pause"),
        any("timeout"),
        any("unaligned_after"),
        any("tolerated_failures"),
        any("retain"),
    ],
};

pub(super) static STATE: Keys = Keys {
    heading: "## State: `[state]`",
    decided_by: "backend",
    keys: &[any("backend"), any("memory"), only("path", &["rocksdb"])],
};

pub(super) static RESTART: Keys = Keys {
    heading: "## Restarts: `[restart]`",
    decided_by: "strategy",
    keys: &[
        any("strategy"),
        only("attempts", &["fixed", "exponential"]),
        only("delay", &["fixed", "exponential"]),
        only("max_delay", &["exponential"]),
    ],
};

pub(super) static CONNECTION: Keys = Keys {
    heading: "## Connections: `[connections.<id>]`",
    decided_by: "",
    keys: &[
        any("type"),
        any("servers"),
        any("user"),
        any("password"),
        any("token"),
        any("nkey"),
        any("credentials"),
        any("tls"),
        any("reconnect"),
        any("request_timeout"),
        any("inbox_prefix"),
        any("domain"),
    ],
};

pub(super) static SECRET: Keys =
    Keys { heading: "### Secrets", decided_by: "", keys: &[any("env"), any("file")] };

pub(super) static TLS: Keys = Keys {
    heading: "### `tls`",
    decided_by: "",
    keys: &[any("required"), any("authorities"), any("certificate"), any("key"), any("first")],
};

pub(super) static RECONNECT: Keys =
    Keys { heading: "### `reconnect`", decided_by: "", keys: &[any("delay"), any("max_delay")] };

pub(super) static SOURCE: Keys = Keys {
    heading: "## Sources: `[sources.<id>]`",
    decided_by: "type",
    keys: &[
        any("type"),
        only("path", &["files", "log"]),
        only("format", &["files", "stdin", "log", "jetstream"]),
        only("csv", &["files", "stdin", "jetstream"]),
        only("event_time", &["files", "stdin", "log", "jetstream"]),
        only("idle_after", &["log", "jetstream"]),
        any("align"),
        only("fields", &["files", "stdin", "log", "jetstream"]),
        only("from", &["log", "jetstream"]),
        only("until_end", &["log", "jetstream"]),
        only("connection", &["jetstream"]),
        only("stream", &["jetstream"]),
        only("metadata", &["jetstream"]),
        only("allow_gaps", &["jetstream"]),
        only("events", &["nexmark"]),
        only("events_per_second", &["nexmark"]),
        only("out_of_orderness", &["nexmark"]),
        only("partitions", &["nexmark"]),
        only("seed", &["nexmark"]),
        only("pace", &["nexmark"]),
    ],
};

pub(super) static SOURCE_CSV: Keys = Keys {
    heading: "### `csv` of a source",
    decided_by: "",
    keys: &[any("delimiter"), any("header"), any("null")],
};

pub(super) static EVENT_TIME: Keys = Keys {
    heading: "### `event_time`",
    decided_by: "",
    keys: &[any("field"), any("out_of_orderness"), any("watermark_field")],
};

pub(super) static METADATA: Keys = Keys {
    heading: "### `metadata`",
    decided_by: "",
    keys: &[any("subject"), any("time"), any("sequence"), any("headers")],
};

pub(super) static FROM: Keys =
    Keys { heading: "### `from` of a stream", decided_by: "", keys: &[any("sequence"), any("time")] };

pub(super) static ALIGN: Keys =
    Keys { heading: "### `align`", decided_by: "", keys: &[any("group"), any("max_drift")] };

pub(super) static FIELD: Keys = Keys {
    heading: "### `fields`",
    decided_by: "type",
    keys: &[any("type"), any("path"), any("nullable"), only("unit", &["timestamp"])],
};

pub(super) static OPERATOR: Keys = Keys {
    heading: "## Operators: `[operators.<id>]`",
    decided_by: "",
    keys: &[
        any("component"),
        any("input"),
        any("inputs"),
        any("settings"),
        any("memory"),
        any("call_timeout"),
        any("key"),
        any("keys"),
        any("window"),
        any("join"),
        any("allowed_lateness"),
        any("trigger"),
        any("ttl"),
        any("parallelism"),
    ],
};

pub(super) static WINDOW: Keys = Keys {
    heading: "### `window`",
    decided_by: "type",
    keys: &[
        any("type"),
        only("size", &["tumbling", "hopping"]),
        only("slide", &["hopping"]),
        only("offset", &["tumbling", "hopping"]),
        only("time_zone", &["tumbling", "hopping"]),
        only("gap", &["session"]),
        only("rows", &["count"]),
        only("time", &["tumbling", "hopping", "session", "count"]),
    ],
};

pub(super) static TRIGGER: Keys = Keys {
    heading: "### `trigger`",
    decided_by: "",
    keys: &[any("early_interval"), any("early_rows"), any("rows"), any("mode")],
};

pub(super) static JOIN: Keys = Keys {
    heading: "### `join`",
    decided_by: "type",
    keys: &[
        any("type"),
        any("kind"),
        only("lower", &["interval"]),
        only("upper", &["interval"]),
        only("exclusive", &["interval"]),
        only("grace", &["table"]),
        only("versions", &["table"]),
        only("delete_when", &["table"]),
    ],
};

pub(super) static TTL: Keys =
    Keys { heading: "### `ttl`", decided_by: "", keys: &[any("after"), any("clock")] };

pub(super) static SINK: Keys = Keys {
    heading: "## Sinks: `[sinks.<id>]`",
    decided_by: "type",
    keys: &[
        any("type"),
        any("input"),
        only("path", &["files", "log"]),
        any("delivery"),
        any("format"),
        any("fields"),
        any("timestamps"),
        only("csv", &["files", "stdout"]),
        only("partitions", &["log"]),
        only("key", &["log"]),
        only("connection", &["jetstream"]),
        only("stream", &["jetstream"]),
        only("subject", &["jetstream"]),
        only("headers", &["jetstream"]),
        only("create", &["jetstream"]),
    ],
};

pub(super) static SINK_CSV: Keys =
    Keys { heading: "### `csv` of a sink", decided_by: "", keys: &[any("delimiter"), any("header")] };

pub(super) static CREATE: Keys = Keys {
    heading: "### `create`",
    decided_by: "",
    keys: &[any("subjects"), any("replicas"), any("max_age"), any("max_bytes"), any("duplicate_window")],
};

pub(super) static SCRIPT: Keys = Keys {
    heading: "### The top level of a script",
    decided_by: "",
    keys: &[
        any("pipeline"),
        any("operator"),
        any("inputs"),
        any("parallelism"),
        any("watermarks"),
        any("clock"),
        any("fields"),
        any("tolerance"),
        any("step"),
    ],
};

pub(super) static SCRIPT_INPUT: Keys = Keys {
    heading: "### Inputs: `[inputs.<name>]`",
    decided_by: "",
    keys: &[any("partitions"), any("event_time"), any("fields")],
};

pub(super) static STEP: Keys = Keys {
    heading: "### Steps: `[[step]]`",
    decided_by: "",
    keys: &[
        any("note"),
        any("restore"),
        any("input"),
        any("partition"),
        any("rows"),
        any("watermark"),
        any("idle"),
        any("active"),
        any("advance"),
        any("end"),
        any("expect"),
        any("expect_in_order"),
        any("expect_late"),
        any("expect_rejected"),
        any("fields"),
        any("tolerance"),
        any("snapshot"),
    ],
};

pub(super) static STEP_RESTORE: Keys =
    Keys { heading: "### `restore`", decided_by: "", keys: &[any("snapshot"), any("parallelism")] };

/// Those of a script, in the order of its reference page.
#[cfg(test)]
pub(super) static OF_SCRIPTS: [&Keys; 4] = [&SCRIPT, &SCRIPT_INPUT, &STEP, &STEP_RESTORE];

/// All of a pipeline file, in the order of the reference page.
#[cfg(test)]
pub(super) static ALL: [&Keys; 23] = [
    &PIPELINE,
    &CHECKPOINTS,
    &STATE,
    &RESTART,
    &CONNECTION,
    &SECRET,
    &TLS,
    &RECONNECT,
    &SOURCE,
    &SOURCE_CSV,
    &EVENT_TIME,
    &METADATA,
    &FROM,
    &ALIGN,
    &FIELD,
    &OPERATOR,
    &WINDOW,
    &TRIGGER,
    &JOIN,
    &TTL,
    &SINK,
    &SINK_CSV,
    &CREATE,
];
