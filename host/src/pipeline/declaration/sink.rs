//! `[sinks.<id>]`: where rows go.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use tidemill_jetstream::{HeaderTemplate, Template};

use super::delivery::{self, Delivery};
use super::file::Spanned;
use super::format::{self, FormatDecl, TimestampDecl};
use super::ids::{Ids, Upstream};
use super::keys;
use super::operator::Read;
use super::table::Table;
use super::value::Value;
use super::{Context, connection, stream};

/// As many as there are key groups; a log with more would have some that no key ever meets.
const PARTITIONS_MAX: i64 = 720;

/// A named place where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Its name, unique in the file.
    pub id: Spanned<String>,
    /// Whose rows it gets.
    pub input: Spanned<Upstream>,
    /// Where they go.
    pub kind: SinkKind,
    /// How often a row arrives when the pipeline begins again at a checkpoint.
    pub delivery: Delivery,
    /// How they are written.
    pub format: FormatDecl,
    /// The fields that are written, in this order and all different; `None`: all.
    pub fields: Option<Vec<Spanned<String>>>,
    /// How timestamps are written.
    pub timestamps: TimestampDecl,
}

/// Where a sink's rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// A file, or one for each checkpoint.
    Files {
        /// Its path, relative to the pipeline file; nothing else in the pipeline writes there. With exactly-once
        /// delivery, and then only, its name has a `*`, which becomes the checkpoint's number.
        path: Spanned<PathBuf>,
    },
    /// The standard output of the process.
    Stdout,
    /// An embedded log.
    Log {
        /// Its folder, relative to the pipeline file; nothing else in the pipeline uses it.
        path: Spanned<PathBuf>,
        /// How many partitions it is created with.
        partitions_count: NonZeroUsize,
        /// The fields that decide on a row's partition, all different; empty: any will do.
        key: Vec<Spanned<String>>,
    },
    /// A stream of a NATS server.
    JetStream {
        /// The number of its connection.
        connection: usize,
        /// The stream.
        stream: Spanned<String>,
        /// The subject of each row's message, in which `{field}` stands for a field's value.
        subject: Spanned<String>,
        /// The names of headers, and their values, written as the subject is.
        headers: Vec<(Spanned<String>, Spanned<String>)>,
        /// How the stream is made if there is none; `None`: it must be there.
        create: Option<CreateDecl>,
    },
    /// Memory, in the place of another kind: a script looks at them.
    Memory,
}

/// How a stream is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateDecl {
    /// The subjects that it takes, beside those of the host's own messages.
    pub subjects: Vec<String>,
    /// On how many servers.
    pub replicas: usize,
    /// How long messages are kept, in milliseconds; `None`: without end.
    pub max_age_ms: Option<i64>,
    /// How many bytes of them are kept; `None`: all.
    pub max_bytes: Option<i64>,
    /// How long the server knows the ids of messages, in milliseconds; `None`: two minutes.
    pub duplicate_window_ms: Option<i64>,
}

#[derive(Clone, Copy)]
enum Kind {
    Files,
    Stdout,
    Log,
    JetStream,
}

const KINDS: [(&str, Kind); 4] =
    [("files", Kind::Files), ("stdout", Kind::Stdout), ("log", Kind::Log), ("jetstream", Kind::JetStream)];

/// As many as NATS replicates a stream to.
const REPLICAS_MAX: i64 = 5;

/// The sink that a section declares.
pub(super) fn read(section: &Value<'_>, ids: &Ids, context: Context<'_>) -> Read<Sink> {
    let Some(table) = section.table(&keys::SINK) else { return (None, None) };
    let input = table.required("input", |v| ids.sink_input(v));
    (input.map(|input| vec![input]), read_with(section, &table, input, context))
}

fn read_with(
    section: &Value<'_>,
    table: &Table<'_>,
    input: Option<Spanned<Upstream>>,
    Context { connections, has_checkpoints }: Context<'_>,
) -> Option<Sink> {
    let kind = table.required("type", |v| v.choice(&KINDS));
    table.check_keys(kind.map(|(name, _)| name));
    let fields = table.optional("fields", |v| v.distinct(v.array(|v| v.name())?));
    let timestamps = table.or("timestamps", TimestampDecl::Rfc3339, |v| {
        v.choice(&TimestampDecl::NAMES).map(|(_, timestamps)| timestamps)
    });
    let kind = kind?.1;
    let delivery = read_delivery(table, kind, has_checkpoints);
    let (kind, format) = match kind {
        Kind::Stdout => (Some(SinkKind::Stdout), format::of_sink(table, Some(format::JSON_LINES))),
        Kind::Files => read_files(table, delivery, has_checkpoints),
        Kind::Log => (read_log(table), format::of_log(table)),
        Kind::JetStream => (read_jetstream(table, connections), format::of_log(table)),
    };
    Some(Sink {
        id: section.key(),
        input: input?,
        kind: kind?,
        delivery: delivery?,
        format: format?,
        fields: fields?,
        timestamps: timestamps?,
    })
}

fn read_delivery(table: &Table<'_>, kind: Kind, has_checkpoints: bool) -> Option<Delivery> {
    let default = match (kind, has_checkpoints) {
        (Kind::Files | Kind::Log | Kind::JetStream, true) => Delivery::ExactlyOnce,
        (Kind::Files | Kind::Log | Kind::JetStream, false) | (Kind::Stdout, _) => Delivery::AtLeastOnce,
    };
    delivery::read(table, default, has_checkpoints, |delivery| match (kind, delivery) {
        (Kind::Stdout, Delivery::ExactlyOnce | Delivery::Idempotent) => {
            Err("what was printed can't be taken back, so standard output is \"at-least-once\"")
        }
        (Kind::Files, Delivery::Idempotent) => {
            Err("a file can't tell that a row is in it already; write \"exactly-once\" or \"at-least-once\"")
        }
        _ => Ok(()),
    })
}

fn read_files(
    table: &Table<'_>,
    delivery: Option<Delivery>,
    has_checkpoints: bool,
) -> (Option<SinkKind>, Option<FormatDecl>) {
    let path = table.required("path", |v| match delivery {
        Some(Delivery::ExactlyOnce) => {
            delivery::read_path(v, true, ", or delivery = \"at-least-once\" for a single file")
        }
        Some(_) if has_checkpoints => {
            delivery::read_path(v, false, "; remove the `*`, or write delivery = \"exactly-once\"")
        }
        Some(_) => delivery::read_path(v, false, delivery::WITHOUT_CHECKPOINTS),
        // How it should look depends on what is wrong itself.
        None => v.path(),
    });
    let plain = path.as_ref().map(|path| format::of_extensions([path.as_path()]));
    // That the format can't be told from a path with errors is no error of its own.
    let format = match (plain, table.get("format")) {
        (None, None) => None,
        (plain, _) => format::of_sink(table, plain.flatten()),
    };
    (path.map(|path| SinkKind::Files { path }), format)
}

fn read_log(table: &Table<'_>) -> Option<SinkKind> {
    let path = table.required("path", |v| v.path());
    let partitions_count = table.or("partitions", NonZeroUsize::MIN, |v| v.count(PARTITIONS_MAX));
    let key = table.or("key", Vec::new(), |v| v.distinct(v.one_or_more(|v| v.name())?));
    Some(SinkKind::Log { path: path?, partitions_count: partitions_count?, key: key? })
}

fn read_jetstream(table: &Table<'_>, connections: &[Spanned<String>]) -> Option<SinkKind> {
    let connection = table.required("connection", |v| connection::of_name(&v, connections));
    let stream = table.required("stream", stream::read_name);
    let subject = table.required("subject", |v| {
        let subject = v.name()?;
        match Template::parse(&subject) {
            Ok(_) => Some(subject),
            Err(why) => v.refuse(why),
        }
    });
    let headers = table.or("headers", Vec::new(), |value| {
        let headers = value.table_of_names()?;
        headers.values().into_iter().map(read_header).collect()
    });
    let create = table.optional("create", read_create);
    Some(SinkKind::JetStream {
        connection: connection?,
        stream: stream?,
        subject: subject?,
        headers: headers?,
        create: create?,
    })
}

fn read_header(value: Value<'_>) -> Option<(Spanned<String>, Spanned<String>)> {
    let (name, template) = (value.key(), value.text()?);
    match HeaderTemplate::parse(&name, &template) {
        Ok(_) => Some((name, template)),
        Err(why) => value.refuse(why),
    }
}

fn read_create(value: Value<'_>) -> Option<CreateDecl> {
    let table = value.table(&keys::CREATE)?;
    table.check_keys(None);
    let subjects = table.required("subjects", |v| v.one_or_more(|v| Some(v.name()?.value)));
    let replicas = table.or("replicas", 1, |v| Some(v.count(REPLICAS_MAX)?.get()));
    let max_age_ms = table.optional("max_age", |v| v.positive_duration_ms());
    let max_bytes = table.optional("max_bytes", |v| v.size_bytes());
    let duplicate_window_ms = table.optional("duplicate_window", |v| v.positive_duration_ms());
    Some(CreateDecl {
        subjects: subjects?,
        replicas: replicas?,
        max_age_ms: max_age_ms?,
        max_bytes: max_bytes?,
        duplicate_window_ms: duplicate_window_ms?,
    })
}
