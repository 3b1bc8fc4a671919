//! `[sources.<id>]`: where rows come from.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use tidemill_flow::schema::FieldType;

use super::Context;
use super::file::Spanned;
use super::format::{self, FormatDecl, TimestampDecl};
use super::keys;
use super::stream::{self, MetadataDecl, StreamStart};
use super::table::Table;
use super::value::Value;

/// What the Nexmark generator emits unless told otherwise.
const EVENTS_PER_SECOND_DEFAULT: u64 = 10_000;

/// More partitions than the most parallel pipeline has tasks would stand idle.
const PARTITIONS_MAX: i64 = 720;

/// A named source of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, unique in the file.
    pub id: Spanned<String>,
    /// Where its rows come from.
    pub kind: SourceKind,
    /// After how long a silent partition doesn't hold back time any more, in milliseconds; `None`: it always does.
    pub idle_after_ms: Option<i64>,
    /// The sources that it keeps together with.
    pub align: Option<Align>,
}

/// Sources that keep together in event time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Align {
    /// The name that they share.
    pub group: String,
    /// How far a partition may be ahead of the one that has come least far, in milliseconds.
    pub max_drift_ms: i64,
}

/// Where a source's rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Files, read from the first line to the last.
    Files {
        /// Valid glob patterns, relative to the pipeline file.
        paths: Vec<Spanned<String>>,
        /// How their bytes are rows.
        decoding: Decoding,
    },
    /// The standard input of the process.
    Stdin {
        /// How its bytes are rows.
        decoding: Decoding,
    },
    /// The events of the Nexmark benchmark, made up on the spot.
    Nexmark(Nexmark),
    /// An embedded log.
    Log {
        /// Its folder, relative to the pipeline file.
        path: Spanned<PathBuf>,
        /// How its records are rows.
        decoding: Decoding,
        /// Where it starts when there is no checkpoint.
        from: LogStart,
        /// Whether it ends where the log ended when it began.
        until_end: bool,
    },
    /// Streams of a NATS server, each a partition.
    JetStream {
        /// The number of its connection.
        connection: usize,
        /// The streams, all different.
        streams: Vec<Spanned<String>>,
        /// How messages are rows.
        decoding: Decoding,
        /// Where it starts when there is no checkpoint.
        from: StreamStart,
        /// Whether it ends where the streams ended when it began.
        until_end: bool,
        /// Whether it goes on where messages are missing.
        allow_gaps: bool,
    },
    /// A script, in the place of another kind.
    Told {
        /// What a record's fields are.
        decoding: Decoding,
        /// How many partitions it has.
        partitions_count: NonZeroUsize,
        /// Whether rows tell how far time has come.
        makes_watermarks: bool,
    },
}

impl SourceKind {
    /// How bytes are rows, where they come as bytes.
    pub fn decoding(&self) -> Option<&Decoding> {
        match self {
            Self::Files { decoding, .. }
            | Self::Stdin { decoding }
            | Self::Log { decoding, .. }
            | Self::JetStream { decoding, .. }
            | Self::Told { decoding, .. } => Some(decoding),
            Self::Nexmark(_) => None,
        }
    }
}

/// Where in a log a pipeline without a checkpoint starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStart {
    /// At the oldest record that is kept.
    Beginning,
    /// Behind the newest record.
    End,
}

/// How bytes are rows, and when those happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoding {
    /// The format.
    pub format: FormatDecl,
    /// What tells a row's event time; `None`: rows have none.
    pub event_time: Option<EventTime>,
    /// The declared fields; empty: the fields are those that operators ask for.
    pub fields: Vec<FieldDecl>,
    /// Fields that have what is known of a message beside its payload.
    pub metadata: Vec<MetadataDecl>,
}

/// What tells a row's event time, and how far time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// A field; if it is among the declared ones it is a timestamp.
    Field {
        /// Its name.
        field: Spanned<String>,
        /// How far a row may lag behind the latest one before it, in milliseconds.
        out_of_orderness_ms: i64,
    },
    /// A field; and another one says how far time has come. As above, they are timestamps.
    Punctuated {
        /// The field with a row's time.
        field: Spanned<String>,
        /// The field that says up to when all rows have come.
        watermark_field: Spanned<String>,
    },
    /// The clock, when the row is read.
    Arrival,
}

impl EventTime {
    /// The field with a row's time, if a field has it.
    pub fn field(&self) -> Option<&Spanned<String>> {
        match self {
            Self::Field { field, .. } | Self::Punctuated { field, .. } => Some(field),
            Self::Arrival => None,
        }
    }

    /// The fields that the source itself reads.
    pub fn fields(&self) -> impl Iterator<Item = &Spanned<String>> {
        let watermark = match self {
            Self::Punctuated { watermark_field, .. } => Some(watermark_field),
            Self::Field { .. } | Self::Arrival => None,
        };
        self.field().into_iter().chain(watermark)
    }
}

/// A field that the file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDecl {
    /// Its name.
    pub name: Spanned<String>,
    /// The type of its values.
    pub field_type: FieldType,
    /// The names that lead to it, from the outermost; never empty, and a single one for CSV.
    pub path: Vec<String>,
    /// For a timestamp, how it is written; `None`: each value tells.
    pub unit: Option<TimestampDecl>,
    /// Whether a value may be absent.
    pub nullable: bool,
}

/// What the Nexmark generator makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nexmark {
    /// How many events; `None`: endless.
    pub events_count: Option<u64>,
    /// How many there are in a second of event time.
    pub events_per_second: u64,
    /// How far they are shuffled, in milliseconds of event time.
    pub out_of_orderness_ms: i64,
    /// Over how many partitions they are spread.
    pub partitions_count: NonZeroUsize,
    /// Equal seeds make equal events.
    pub seed: u64,
    /// How fast they come.
    pub pace: Pace,
}

/// How fast generated events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they are taken.
    None,
    /// Each when its event time has passed since the start, as in life.
    EventTime,
}

#[derive(Clone, Copy)]
enum Kind {
    Files,
    Stdin,
    Nexmark,
    Log,
    JetStream,
}

const KINDS: [(&str, Kind); 5] = [
    ("files", Kind::Files),
    ("stdin", Kind::Stdin),
    ("nexmark", Kind::Nexmark),
    ("log", Kind::Log),
    ("jetstream", Kind::JetStream),
];

const STARTS: [(&str, LogStart); 2] = [("beginning", LogStart::Beginning), ("end", LogStart::End)];

const PACES: [(&str, Pace); 2] = [("none", Pace::None), ("event-time", Pace::EventTime)];

/// The source that a section declares.
pub(super) fn read(section: &Value<'_>, context: Context<'_>) -> Option<Source> {
    let table = section.table(&keys::SOURCE)?;
    let kind = table.required("type", |v| {
        let kind = v.choice(&KINDS)?;
        if context.has_checkpoints && matches!(kind.1, Kind::Stdin) {
            v.refuse::<()>(
                "what came through standard input can't be read again from a checkpoint on; read it from files or a \
                 log, or remove [checkpoints]",
            );
        }
        Some(kind)
    });
    table.check_keys(kind.map(|(name, _)| name));
    let kind = match kind?.1 {
        Kind::Files => read_files(&table),
        Kind::Stdin => read_decoding(&table, None).map(|decoding| SourceKind::Stdin { decoding }),
        Kind::Nexmark => read_nexmark(&table).map(SourceKind::Nexmark),
        Kind::Log => read_log(&table),
        Kind::JetStream => stream::read(&table, context.connections),
    };
    let idle_after_ms = table.optional("idle_after", |v| v.positive_duration_ms());
    let align = table.optional("align", read_align);
    let kind = kind?;
    if let Some(decoding) = kind.decoding() {
        check_time(&table, decoding.event_time.as_ref());
    }
    Some(Source { id: section.key(), kind, idle_after_ms: idle_after_ms?, align: align? })
}

fn read_align(value: Value<'_>) -> Option<Align> {
    let table = value.table(&keys::ALIGN)?;
    table.check_keys(None);
    let group = table.required("group", |v| v.name());
    let max_drift_ms = table.required("max_drift", |v| v.positive_duration_ms());
    Some(Align { group: group?.value, max_drift_ms: max_drift_ms? })
}

/// Only what has a time of its own can be late with it, or ahead of others.
fn check_time(table: &Table<'_>, event_time: Option<&EventTime>) {
    let why = match event_time {
        Some(EventTime::Field { .. } | EventTime::Punctuated { .. }) => return,
        Some(EventTime::Arrival) => {
            "rows that happen when they arrive are neither behind nor ahead, as the clock goes on without them; remove it"
        }
        None => "the source's rows have no event time; give it an `event_time`, or remove it",
    };
    for value in ["idle_after", "align"].into_iter().filter_map(|key| table.get(key)) {
        value.refuse::<()>(why);
    }
}

fn read_files(table: &Table<'_>) -> Option<SourceKind> {
    let paths = table.required("path", |v| v.one_or_more(read_glob));
    let plain =
        paths.as_ref().and_then(|paths| format::of_extensions(paths.iter().map(|p| Path::new(p.as_str()))));
    // That the format can't be told from a path with errors is no error of its own.
    if paths.is_none() && table.get("format").is_none() {
        read_event_time_and_fields(table, false);
        return None;
    }
    let decoding = read_decoding(table, plain);
    Some(SourceKind::Files { paths: paths?, decoding: decoding? })
}

fn read_glob(value: Value<'_>) -> Option<Spanned<String>> {
    let path = value.name()?;
    match glob::Pattern::new(&path) {
        Ok(_) => Some(path),
        Err(error) => value.refuse(format!("\"{}\" is not a glob pattern: {}", path.value, error.msg)),
    }
}

fn read_log(table: &Table<'_>) -> Option<SourceKind> {
    let path = table.required("path", |v| v.path());
    let format = format::of_log(table);
    let (event_time, fields) = read_event_time_and_fields(table, false);
    let from = table.or("from", LogStart::Beginning, |v| v.choice(&STARTS).map(|(_, from)| from));
    let until_end = table.or("until_end", false, |v| v.boolean());
    let decoding =
        Decoding { format: format?, event_time: event_time?, fields: fields?, metadata: Vec::new() };
    Some(SourceKind::Log { path: path?, decoding, from: from?, until_end: until_end? })
}

fn read_decoding(table: &Table<'_>, plain: Option<&'static str>) -> Option<Decoding> {
    let format = format::of_source(table, plain);
    let flat = matches!(format, Some(FormatDecl::Csv(_)));
    let (event_time, fields) = read_event_time_and_fields(table, flat);
    Some(Decoding { format: format?, event_time: event_time?, fields: fields?, metadata: Vec::new() })
}

pub(super) type EventTimeAndFields = (Option<Option<EventTime>>, Option<Vec<FieldDecl>>);

pub(super) fn read_event_time_and_fields(table: &Table<'_>, flat: bool) -> EventTimeAndFields {
    let fields = table.or("fields", Vec::new(), |value| {
        let table = value.table_of_names()?;
        // Each is read before any is judged: all their errors count.
        let fields: Vec<_> = table.values().into_iter().map(|value| read_field(value, flat)).collect();
        fields.into_iter().collect()
    });
    let declared = fields.as_deref().unwrap_or_default();
    let event_time = table.optional("event_time", |value| read_event_time(value, declared));
    (event_time, fields)
}

/// `"arrival"`, or a table that names a field.
fn read_event_time(value: Value<'_>, fields: &[FieldDecl]) -> Option<EventTime> {
    if value.is_text() {
        return value.choice(&[("arrival", ())]).map(|_| EventTime::Arrival);
    }
    if !value.is_table() {
        return value.mismatch("\"arrival\" or table");
    }
    let table = value.table(&keys::EVENT_TIME)?;
    table.check_keys(None);
    let field = table.required("field", |v| is_timestamp(v, fields));
    let out_of_orderness_ms = table.optional("out_of_orderness", |v| v.duration_ms());
    let watermark_field = table.optional("watermark_field", |v| {
        if out_of_orderness_ms != Some(None) {
            return v.refuse(
                "either `out_of_orderness` says how far time has come, or the records do in this field; remove one of them",
            );
        }
        let name = is_timestamp(v, fields)?;
        if field.as_ref() == Some(&name) {
            return v.refuse(
                "it is the event time itself, and two rows may have the same; for rows in the order of their times \
                 write `field` alone",
            );
        }
        Some(name)
    });
    let (field, out_of_orderness_ms) = (field?, out_of_orderness_ms?.unwrap_or(0));
    Some(match watermark_field? {
        Some(watermark_field) => EventTime::Punctuated { field, watermark_field },
        None => EventTime::Field { field, out_of_orderness_ms },
    })
}

/// The name of a field that isn't declared to be anything but a timestamp.
fn is_timestamp(value: Value<'_>, fields: &[FieldDecl]) -> Option<Spanned<String>> {
    let name = value.name()?;
    match fields.iter().find(|field| field.name == name) {
        Some(field) if field.field_type != FieldType::Timestamp => value.refuse(format!(
            "the field `{}` is declared as {}, expected timestamp",
            name.value, field.field_type
        )),
        _ => Some(name),
    }
}

/// `dep_delay = "integer"`, or a table that says more.
fn read_field(value: Value<'_>, flat: bool) -> Option<FieldDecl> {
    let name = read_field_name(value);
    if value.is_text() {
        let (field_type, name) = (read_type(value), name?);
        let path = vec![name.value.clone()];
        return Some(FieldDecl { name, field_type: field_type?, path, unit: None, nullable: true });
    }
    if !value.is_table() {
        return value.mismatch("the name of a type or table");
    }
    let table = value.table(&keys::FIELD)?;
    let field_type = table.required("type", read_type);
    table.check_keys(field_type.map(FieldType::name));
    let path = table.optional("path", |v| read_path(v, flat));
    let nullable = table.or("nullable", true, |v| v.boolean());
    let unit = table.or("unit", None, read_unit);
    let name = name?;
    let path = path?.unwrap_or_else(|| vec![name.value.clone()]);
    Some(FieldDecl { name, field_type: field_type?, path, unit: unit?, nullable: nullable? })
}

fn read_field_name(value: Value<'_>) -> Option<Spanned<String>> {
    let name = value.key();
    if name.is_empty() || name.starts_with('$') {
        let message = "a field's name must not be empty or begin with `$`, which the host's own fields do";
        value.problems().report(&name, message);
        return None;
    }
    Some(name)
}

fn read_type(value: Value<'_>) -> Option<FieldType> {
    value
        .choice(&FieldType::ALL.map(|field_type| (field_type.name(), field_type)))
        .map(|(_, field_type)| field_type)
}

fn read_unit(value: Value<'_>) -> Option<Option<TimestampDecl>> {
    let [a, b, c, d, e] = TimestampDecl::NAMES.map(|(name, unit)| (name, Some(unit)));
    value.choice(&[("auto", None), a, b, c, d, e]).map(|(_, unit)| unit)
}

fn read_path(value: Value<'_>, flat: bool) -> Option<Vec<String>> {
    let path: Vec<_> = if value.is_text() {
        value.name()?.split('.').map(str::to_owned).collect()
    } else if value.is_array() {
        value.array(|v| Some(v.name()?.value))?
    } else {
        return value.mismatch("text or array");
    };
    if path.iter().any(String::is_empty) {
        return value
            .refuse("has an empty name between its dots; write an array of names if a name has a dot");
    }
    if flat && path.len() > 1 {
        let column = path.join(".");
        return value.refuse(format!(
            "CSV has no values within values; for the column \"{column}\" write [\"{column}\"]"
        ));
    }
    Some(path)
}

fn read_nexmark(table: &Table<'_>) -> Option<Nexmark> {
    let number = |v: Value<'_>, min| v.integer(min, i64::MAX).map(i64::unsigned_abs);
    let events_count = table.optional("events", |v| number(v, 1));
    let events_per_second = table.or("events_per_second", EVENTS_PER_SECOND_DEFAULT, |v| number(v, 1));
    let out_of_orderness_ms = table.or("out_of_orderness", 0, |v| v.duration_ms());
    let partitions_count = table.or("partitions", NonZeroUsize::MIN, |v| v.count(PARTITIONS_MAX));
    let seed = table.or("seed", 42, |v| number(v, 0));
    let pace = table.or("pace", Pace::None, |v| v.choice(&PACES).map(|(_, pace)| pace));
    Some(Nexmark {
        events_count: events_count?,
        events_per_second: events_per_second?,
        out_of_orderness_ms: out_of_orderness_ms?,
        partitions_count: partitions_count?,
        seed: seed?,
        pace: pace?,
    })
}
