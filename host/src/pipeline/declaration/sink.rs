//! `[sinks.<id>]`: where rows go.

use std::path::PathBuf;

use super::file::Spanned;
use super::format::{self, FormatDecl, TimestampDecl};
use super::ids::{Ids, Upstream};
use super::keys;
use super::operator::Read;
use super::table::Table;
use super::value::Value;

/// A named place where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Its name, unique in the file.
    pub id: Spanned<String>,
    /// Whose rows it gets.
    pub input: Spanned<Upstream>,
    /// Where they go.
    pub kind: SinkKind,
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
    /// A file.
    Files {
        /// Its path, relative to the pipeline file; nothing else in the pipeline writes there.
        path: Spanned<PathBuf>,
    },
    /// The standard output of the process.
    Stdout,
}

#[derive(Clone, Copy)]
enum Kind {
    Files,
    Stdout,
}

const KINDS: [(&str, Kind); 2] = [("files", Kind::Files), ("stdout", Kind::Stdout)];

/// The sink that a section declares.
pub(super) fn read(section: &Value<'_>, ids: &Ids) -> Read<Sink> {
    let Some(table) = section.table(&keys::SINK) else { return (None, None) };
    let input = table.required("input", |v| ids.sink_input(v));
    (input.map(|input| vec![input]), read_with(section, &table, input))
}

fn read_with(section: &Value<'_>, table: &Table<'_>, input: Option<Spanned<Upstream>>) -> Option<Sink> {
    let kind = table.required("type", |v| v.choice(&KINDS));
    table.check_keys(kind.map(|(name, _)| name));
    let fields = table.optional("fields", |v| v.distinct(v.array(|v| v.name())?));
    let timestamps = table.or("timestamps", TimestampDecl::Rfc3339, |v| {
        v.choice(&TimestampDecl::NAMES).map(|(_, timestamps)| timestamps)
    });
    let (kind, format) = match kind?.1 {
        Kind::Stdout => (Some(SinkKind::Stdout), format::of_sink(table, Some(format::JSON_LINES))),
        Kind::Files => {
            let path = table.required("path", |v| v.path());
            let plain = path.as_ref().map(|path| format::of_extensions([path.as_path()]));
            // That the format can't be told from a path with errors is no error of its own.
            let format = match (plain, table.get("format")) {
                (None, None) => None,
                (plain, _) => format::of_sink(table, plain.flatten()),
            };
            (path.map(|path| SinkKind::Files { path }), format)
        }
    };
    Some(Sink {
        id: section.key(),
        input: input?,
        kind: kind?,
        format: format?,
        fields: fields?,
        timestamps: timestamps?,
    })
}
