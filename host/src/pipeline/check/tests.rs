//! Keys of the pipeline file against what a component says of itself, without the component; and against a folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidemill_flow::schema::{Field, FieldType, Schema};

use super::*;
use crate::pipeline::declaration::{self, Clock, SourceKind};
use crate::pipeline::plan::{
    self, CheckpointPlan, OperatorKind, Origin, RestartPlan, StateBackend, StatePlan, TtlPlan,
};
use crate::plugin::{Collection, Output, Sides};

/// A pipeline around an operator `o` with these keys, whose rows have the integer `k` and the text `v`.
fn declaration(source: &str, operator: &str) -> Declaration {
    let text = format!(
        "name = \"p\"\n[operators.o]\ncomponent = \"o.wasm\"\ninput = \"s\"\n{operator}\n\
         [sources.s]\ntype = \"files\"\npath = \"a.csv\"\n{source}\n\
         [sources.s.fields]\nk = \"integer\"\nv = \"text\"\nx = \"float\"\nt = \"timestamp\"\n\
         [sinks.out]\ntype = \"stdout\"\ninput = \"o\"\n"
    );
    declaration::parse("p.toml", &text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn schema(fields: &[(&str, FieldType)]) -> Schema {
    Schema::new(fields.iter().map(|(name, t)| Field::nullable(*name, *t)).collect()).unwrap()
}

/// An operator that reads `v`, returns these fields, and keeps the value `last` and the collection `seen`.
fn description(returned: &[(&str, FieldType)]) -> Description {
    Description {
        name: "o".to_owned(),
        version: "1.0.0".to_owned(),
        inputs: vec![schema(&[("v", FieldType::Text)])],
        output: Output::Replaced(schema(returned)),
        state: schema(&[("last", FieldType::Timestamp)]),
        collections: vec![Collection {
            name: "seen".to_owned(),
            entry: FieldType::Text,
            value: FieldType::Integer,
        }],
        absent: Sides::default(),
    }
}

/// What is reported of an operator of this world with these keys.
fn reported(world: World, operator: &str, source: &str) -> String {
    let (declaration, description) =
        (declaration(source, operator), description(&[("n", FieldType::Integer)]));
    let problems = declaration.problems();
    let components = [Component { world, description: &description }];
    let checker = Checker { declaration: &declaration, components: &components, problems: &problems };
    checker.check_use(&declaration.operators[0], components[0]);
    let (edges, inputs) = checker.edges(&Demands::new(1), true);
    checker.check_reads(&edges, &inputs, &Demands::new(1));
    checker.sink_schemas(&edges, &inputs, &Demands::new(1));
    match problems.settle(Some(())) {
        Ok(()) => String::new(),
        Err(errors) => errors.iter().map(|(place, message)| format!("{place}: {message}\n")).collect(),
    }
}

const TIMED: &str = "event_time = { field = \"t\" }";

#[test]
fn a_process_operator_needs_a_key_and_has_no_window() {
    assert_eq!(
        reported(World::Process, "window = { type = \"tumbling\", size = \"1h\" }", TIMED),
        "p.toml:2:12: `o` is a process-operator, which has state and timers for each key; add `key = \"...\"`, the field \
         or fields that tell whose a row is\n\
         p.toml:5:1: `o` is a process-operator, which has no windows; only an aggregate-operator or a window-operator has `window`\n"
    );
    assert_eq!(reported(World::Process, "key = \"k\"\nparallelism = 3", ""), "");
}

#[test]
fn the_key_of_a_process_operator_can_be_compared() {
    assert_eq!(
        reported(World::Process, "key = [\"x\", \"kk\"]", ""),
        "p.toml:5:8: the key field `x` is a float, which can't be compared for equality; use integer or text\n\
         p.toml:5:13: the key of `o` needs a field `kk`, which its input doesn't have; did you mean `k`?\n"
    );
}

#[test]
fn what_expires_is_a_slot() {
    assert_eq!(
        reported(
            World::Process,
            "key = \"k\"\nttl = { lsat = \"1h\", seen = \"1h\", other = \"1h\" }",
            TIMED
        ),
        "p.toml:6:9: `o` has no slot `lsat` in its state; did you mean `last`?\n\
         p.toml:6:35: `o` has no slot `other` in its state; expected `last` or `seen`\n"
    );
}

#[test]
fn only_process_operators_have_slots() {
    for world in [World::Aggregate, World::Transform] {
        assert_eq!(
            reported(world, "ttl = { seen = \"1h\" }", TIMED),
            "p.toml:5:9: `o` has no slots; only a process-operator has a `ttl`\n"
        );
    }
}

#[test]
fn what_expires_by_event_time_needs_it() {
    let keys = "key = \"k\"\nttl = { seen = \"1h\", last = { after = \"1h\", clock = \"processing-time\" } }";
    assert_eq!(
        reported(World::Process, keys, ""),
        "p.toml:6:9: `seen` expires by event time, but the rows of `s` have none; give the source an `event_time`, or \
         write { after = \"...\", clock = \"processing-time\" }\n"
    );
    assert_eq!(reported(World::Process, keys, TIMED), "");
}

/// What becomes of the columns of a process operator that returns these fields, where everything is written.
fn process_columns(operator: &str, returned: &[(&str, FieldType)]) -> parts::Columns {
    let (declaration, description) = (declaration(TIMED, operator), description(returned));
    let problems = declaration.problems();
    let components = [Component { world: World::Process, description: &description }];
    let checker = Checker { declaration: &declaration, components: &components, problems: &problems };
    let demands = Demands::new(1);
    let (edges, inputs) = checker.edges(&demands, true);
    let sinks = checker.sink_schemas(&edges, &inputs, &demands);
    let wanted = checker.wanted(&edges, &inputs, &sinks, &demands);
    assert!(problems.is_empty());
    assert_eq!(wanted.sources, [BTreeSet::from(["k".to_owned(), "v".to_owned()])], "no other is decoded");
    checker.columns(0, (&inputs[0], None), &edges.operators[0], &demands, &wanted)
}

#[test]
fn the_key_and_what_is_returned_go_on_from_a_process_operator() {
    let keys = "key = [\"v\", \"k\"]\nttl = { seen = { after = \"1h\", clock = \"processing-time\" }, last = \"1d\" }";
    let columns = process_columns(keys, &[("sum", FieldType::Integer), ("k", FieldType::Text)]);
    let emits: Vec<_> =
        columns.emits.iter().map(|(f, origin)| (f.name.as_str(), f.field_type, *origin)).collect();
    assert_eq!(
        emits,
        [
            ("v", FieldType::Text, Origin::Key(0)),
            ("k", FieldType::Text, Origin::Returned(1)),
            ("sum", FieldType::Integer, Origin::Returned(0)),
        ]
    );
    let OperatorKind::Process { key, ttl } = &columns.kind else { panic!("{:?}", columns.kind) };
    let names: Vec<_> = key.iter().map(|&at| columns.input.fields()[at].name.as_str()).collect();
    assert_eq!(names, ["v", "k"]);
    let slot = |slot: &str, after_ms, clock| TtlPlan { slot: slot.to_owned(), after_ms, clock };
    assert_eq!(*ttl, [slot("seen", 3_600_000, Clock::Processing), slot("last", 86_400_000, Clock::Event)]);
    assert_eq!(columns.kind.key(), Some(key.as_slice()));
}

/// The plans for the pipeline as a whole, of a file with these sections.
fn whole(sections: &str) -> (Option<CheckpointPlan>, StatePlan, RestartPlan) {
    let text = format!(
        "name = \"p\"\n{sections}\n[sources.s]\ntype = \"nexmark\"\n[sinks.out]\ntype = \"stdout\"\ninput = \"s\"\n"
    );
    let declaration = declaration::parse("p.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let problems = declaration.problems();
    let checker = Checker { declaration: &declaration, components: &[], problems: &problems };
    let base = Path::new("/jobs");
    (checker.checkpoints(base, &[]), checker.state(base), checker.restart())
}

#[test]
fn the_working_copy_stands_among_the_checkpoints_unless_told_otherwise() {
    let path = |sections| whole(sections).1.path;
    assert_eq!(path(""), None);
    assert_eq!(path("[checkpoints]"), Some(PathBuf::from("/jobs/p.checkpoints/work")));
    assert_eq!(path("[checkpoints]\npath = \"/c\""), Some(PathBuf::from("/c/work")));
    assert_eq!(path("[checkpoints]\npath = \"s3://bucket/x\""), Some(PathBuf::from("/jobs/p.work")));
    assert_eq!(path("[state]\npath = \"w\""), Some(PathBuf::from("/jobs/w")));
    assert_eq!(path("[checkpoints]\n[state]\nbackend = \"memory\""), None);
}

#[test]
fn checkpoints_and_restarts_are_planned_as_declared() {
    let (checkpoints, state, restart) = whole(
        "[checkpoints]\ninterval = \"1s\"\nmin_pause = \"2s\"\ntimeout = \"3s\"\nunaligned_after = \"0s\"\ntolerated_failures = 4\nretain = 5\n\
         [state]\nmemory = \"16MiB\"\n[restart]\nstrategy = \"fixed\"\nattempts = 6\ndelay = \"7s\"",
    );
    let expected = CheckpointPlan {
        path: Path::new("/jobs/p.checkpoints").into(),
        work: PathBuf::from("/jobs/p.checkpoints/work"),
        interval_ms: 1000,
        min_pause_ms: 2000,
        timeout_ms: 3000,
        unaligned_after_ms: Some(0),
        tolerated_failures: 4,
        retain: 5,
    };
    assert_eq!(checkpoints, Some(expected));
    assert_eq!((state.backend, state.memory_bytes), (StateBackend::RocksDb, 16 << 20));
    let expected = RestartPlan::FromCheckpoint { attempts: 6, delay_ms: 7000, max_delay_ms: 7000 };
    assert_eq!(restart, expected);
    assert_eq!(whole("[checkpoints]").2, RestartPlan::None);
}

#[test]
fn delays_double_up_to_their_maximum_and_end_with_the_attempts() {
    let delays = |plan: RestartPlan| (1..=5).map(|failures| plan.delay_ms(failures)).collect::<Vec<_>>();
    let doubling = RestartPlan::FromCheckpoint { attempts: 4, delay_ms: 100, max_delay_ms: 500 };
    assert_eq!(delays(doubling), [Some(100), Some(200), Some(400), Some(500), None]);
    let fixed = RestartPlan::FromCheckpoint { attempts: 2, delay_ms: 100, max_delay_ms: 100 };
    assert_eq!(delays(fixed), [Some(100), Some(100), None, None, None]);
    assert_eq!(delays(RestartPlan::None), [None; 5]);
    let patient = RestartPlan::FromCheckpoint { attempts: 1_000_000, delay_ms: 1, max_delay_ms: 60_000 };
    assert_eq!(patient.delay_ms(1_000_000), Some(60_000));
}

/// What is planned for a log as the sink of the source's rows, or what is wrong with that.
fn log_sink(keys: &str) -> Result<plan::SinkOutput, String> {
    let text = format!(
        "name = \"p\"\n[sinks.out]\ntype = \"log\"\ninput = \"s\"\npath = \"l\"\n{keys}\n\
         [sources.s]\ntype = \"files\"\npath = \"a.csv\"\n\
         fields = {{ k = \"integer\", v = \"text\", x = \"float\" }}\n"
    );
    let declaration = declaration::parse("p.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let problems = declaration.problems();
    let checker = Checker { declaration: &declaration, components: &[], problems: &problems };
    let demands = Demands::new(1);
    let (edges, inputs) = checker.edges(&demands, true);
    let sinks = checker.sinks(checker.sink_schemas(&edges, &inputs, &demands), Path::new("/jobs"), &[]);
    let messages = |errors: Errors| errors.iter().map(|(place, m)| format!("{place}: {m}\n")).collect();
    problems.settle(sinks).map(|mut sinks| sinks.remove(0).output).map_err(messages)
}

#[test]
fn a_log_is_keyed_by_what_is_written_to_it() {
    let log = |partitions, key: &[usize]| plan::SinkOutput::Log {
        path: PathBuf::from("/jobs/l"),
        partitions,
        key: key.to_vec(),
    };
    assert_eq!(log_sink(""), Ok(log(1, &[])));
    assert_eq!(
        log_sink("partitions = 720\nfields = [\"v\", \"x\", \"k\"]\nkey = [\"k\", \"v\"]"),
        Ok(log(720, &[2, 0]))
    );
    assert_eq!(
        log_sink("fields = [\"v\", \"x\"]\nkey = [\"k\", \"x\"]"),
        Err("p.toml:7:8: the key field `k` is not among those that are written; did you mean `v`?\n\
             p.toml:7:13: the key field `x` is a float, which can't be compared for equality; use integer or text\n"
            .to_owned())
    );
}

/// The files that a source reads in a folder that has these, or what is wrong with them.
fn files(sections: &str, folder: &Path) -> Result<Vec<String>, String> {
    let text = format!(
        "name = \"p\"\n{sections}\n[sources.s]\ntype = \"files\"\npath = \"*.jsonl\"\n\
         [sinks.out]\ntype = \"stdout\"\ninput = \"s\"\n"
    );
    let declaration = declaration::parse("p.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let problems = declaration.problems();
    let checker = Checker { declaration: &declaration, components: &[], problems: &problems };
    let SourceKind::Files { paths, .. } = &declaration.sources[0].kind else { panic!("files are declared") };
    let files = checker.files(folder, paths);
    let names = |files: Vec<PathBuf>| {
        files.iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    problems.settle(files).map(names).map_err(|errors| errors.iter().map(|(_, m)| m.to_owned()).collect())
}

#[test]
fn a_source_does_not_read_what_the_pipeline_writes_for_each_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["in.jsonl", "p.late.jsonl", "p.late-0000000041.jsonl", "p.dead-letters-0000000007.jsonl"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    assert_eq!(
        files("[checkpoints]", folder.path()),
        Ok(vec!["in.jsonl".to_owned(), "p.late.jsonl".to_owned()])
    );
    let with_numbers = ["in.jsonl", "p.dead-letters-0000000007.jsonl", "p.late-0000000041.jsonl"];
    assert_eq!(files("", folder.path()), Ok(with_numbers.map(str::to_owned).to_vec()));
}

#[test]
#[cfg(unix)]
fn a_pipe_is_not_read_where_there_are_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.path().join("pipe.jsonl")).unwrap();
    assert_eq!(files("", folder.path()), Ok(vec!["pipe.jsonl".to_owned()]));
    let message = files("[checkpoints]", folder.path()).unwrap_err();
    assert!(message.contains("pipe.jsonl is a pipe: what came through it can't be read again"), "{message}");
}

/// What is reported of a join of two sources with these keys.
fn join_reported(operator: &str, output: Output, absent: Sides) -> String {
    let text = format!(
        "name = \"p\"\n[operators.j]\ncomponent = \"j.wasm\"\n{operator}\n\
         [sources.l]\ntype = \"files\"\npath = \"l.csv\"\n{TIMED}\n\
         [sources.l.fields]\nk = \"integer\"\nv = \"text\"\nt = \"timestamp\"\n\
         [sources.r]\ntype = \"files\"\npath = \"r.csv\"\n{TIMED}\n\
         [sources.r.fields]\nid = \"integer\"\nk = \"text\"\ngone = \"boolean\"\nt = \"timestamp\"\n\
         [sinks.out]\ntype = \"stdout\"\ninput = \"j\"\n"
    );
    let declaration = match declaration::parse("p.toml", &text) {
        Ok(declaration) => declaration,
        Err(errors) => return errors.to_string(),
    };
    let inputs = vec![schema(&[("v", FieldType::Text)]), schema(&[("k", FieldType::Text)])];
    let description = Description { inputs, output, absent, ..description(&[]) };
    let problems = declaration.problems();
    let components = [Component { world: World::Join, description: &description }];
    let checker = Checker { declaration: &declaration, components: &components, problems: &problems };
    checker.check_use(&declaration.operators[0], components[0]);
    let (edges, inputs) = checker.edges(&Demands::new(2), true);
    checker.check_reads(&edges, &inputs, &Demands::new(2));
    match problems.settle(Some(())) {
        Ok(()) => String::new(),
        Err(errors) => errors.iter().map(|(place, message)| format!("{place}: {message}\n")).collect(),
    }
}

#[test]
fn a_join_has_two_inputs_keys_of_one_type_and_sides_that_may_be_missing() {
    let returned = || Output::Replaced(schema(&[("n", FieldType::Integer)]));
    let check = |operator: &str, absent: Sides, expected: &str| {
        let reported = join_reported(operator, returned(), absent);
        assert!(reported.contains(expected), "{expected:?} is not in:\n{reported}");
        assert_eq!(reported.is_empty(), expected.is_empty(), "{reported}");
    };
    let (none, right) = (Sides::default(), Sides { left: false, right: true });
    let keyed = "inputs = [\"l\", \"r\"]\nkeys = [[\"k\"], [\"id\"]]";
    let interval = |more: &str| {
        format!("{keyed}\njoin = {{ type = \"interval\", lower = \"-1s\", upper = \"1s\"{more} }}")
    };
    check(&interval(""), none, "");
    check(&interval(", kind = \"left\""), right, "");
    check(&interval(", kind = \"left\""), none, "`j` can't do without it");
    check(&interval(", kind = \"full\""), right, "leaves out the left side");
    check(
        &interval("").replace("keys = [[\"k\"], [\"id\"]]", "key = \"k\""),
        none,
        "`k` on the left is integer",
    );
    check(&interval("").replace("[\"id\"]", "[\"idd\"]"), none, "did you mean `id`?");
    check(
        &interval("").replace("[[\"k\"], [\"id\"]]", "[[\"k\"]]"),
        none,
        "expected the fields of two inputs",
    );
    check(&interval("").replace("keys = [[\"k\"], [\"id\"]]", ""), none, "joins by key");
    check(&interval("").replace("\"-1s\"", "\"2s\""), none, "no time is between");
    check(&interval(", grace = \"1s\""), none, "grace");
    check(&interval("").replace("[\"l\", \"r\"]", "[\"l\", \"r\", \"l\"]"), none, "joins two inputs");
    check(keyed, none, "say what it joins");
    let of = |join: &str| format!("{keyed}\njoin = {{ {join} }}");
    check(&of("type = \"window\""), none, "joins by window; add `window");
    check(&(of("type = \"window\"") + "\nwindow = { type = \"tumbling\", size = \"1h\" }"), none, "");
    check(
        &(interval("") + "\nwindow = { type = \"tumbling\", size = \"1h\" }"),
        none,
        "only a join of the type",
    );
    check(&of("type = \"table\", delete_when = \"gone\", grace = \"1s\", versions = \"1m\""), none, "");
    check(&of("type = \"table\", delete_when = \"id\""), none, "`id` is integer");
    check(&of("type = \"table\", kind = \"full\""), none, "a version never stands alone");
    check(
        &of("type = \"table\", grace = \"2s\", versions = \"1s\""),
        none,
        "must not be shorter than `grace`",
    );
    let extended = Output::Extended(schema(&[("n", FieldType::Integer)]));
    assert_eq!(join_reported(&interval(""), extended, none), "");
}

#[test]
fn what_windows_take_and_fire_suits_them() {
    let check = |keys: &str, source: &str, expected: &str| {
        assert_eq!(reported(World::Aggregate, keys, source), expected, "{keys}");
    };
    let lateness = "allowed_lateness = \"1m\"\n";
    for (window, why) in [
        ("", "no row is late for the global window, which ends with the input"),
        ("window = { type = \"count\", rows = 3 }", "no row is late for a window that ends with its rows"),
        (
            "window = { type = \"session\", gap = \"1m\", time = \"processing\" }",
            "in processing time no row is late",
        ),
    ] {
        let keys = format!("{lateness}{window}");
        check(&keys, TIMED, &format!("p.toml:5:20: {why}; remove `allowed_lateness`\n"));
    }
    check(
        "trigger = { early_rows = 2 }\nwindow = { type = \"count\", rows = 3 }",
        "",
        "p.toml:5:1: a count window fires when it has its rows, and at no other time; remove `trigger`, or write \
         `window = { type = \"global\" }` to keep the rows of all windows\n",
    );
    let session = "window = { type = \"session\", gap = \"1m\" }";
    check(
        session,
        "",
        "p.toml:5:1: windows of event time, but the rows of `s` have none; give the source an `event_time`, or the \
         window `time = \"processing\"`\n",
    );
    let hopping = format!("{lateness}window = {{ type = \"hopping\", size = \"1h\", slide = \"1s\" }}");
    check(
        &hopping,
        TIMED,
        "p.toml:6:1: with `time_zone`, `time`, `allowed_lateness` or `trigger` each row is added to each window that it \
         is in, which would be 3600, and may be 1000; let `slide` be longer\n",
    );
    for keys in [session, &format!("{lateness}{session}"), "trigger = { rows = 5 }"] {
        check(keys, TIMED, "");
    }
    assert_eq!(
        reported(World::Transform, lateness, TIMED),
        "p.toml:5:20: `o` is a transform-operator, which has no windows; only an aggregate-operator or a window-operator has \
         `allowed_lateness`\n"
    );
}
