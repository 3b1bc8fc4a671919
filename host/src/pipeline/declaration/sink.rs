//! `[sinks.<id>]`: where rows go.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::delivery::{self, Delivery};
use super::file::Spanned;
use super::format::{self, FormatDecl, TimestampDecl};
use super::ids::{Ids, Upstream};
use super::keys;
use super::operator::Read;
use super::table::Table;
use super::value::Value;

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
    /// Memory, in the place of another kind: a script looks at them.
    Memory,
}

#[derive(Clone, Copy)]
enum Kind {
    Files,
    Stdout,
    Log,
}

const KINDS: [(&str, Kind); 3] = [("files", Kind::Files), ("stdout", Kind::Stdout), ("log", Kind::Log)];

/// The sink that a section declares.
pub(super) fn read(section: &Value<'_>, ids: &Ids, has_checkpoints: bool) -> Read<Sink> {
    let Some(table) = section.table(&keys::SINK) else { return (None, None) };
    let input = table.required("input", |v| ids.sink_input(v));
    (input.map(|input| vec![input]), read_with(section, &table, input, has_checkpoints))
}

fn read_with(
    section: &Value<'_>,
    table: &Table<'_>,
    input: Option<Spanned<Upstream>>,
    has_checkpoints: bool,
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
        (Kind::Files | Kind::Log, true) => Delivery::ExactlyOnce,
        (Kind::Files | Kind::Log, false) | (Kind::Stdout, _) => Delivery::AtLeastOnce,
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
