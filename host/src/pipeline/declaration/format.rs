//! How bytes are rows: the format of a source or a sink, and how timestamps are written.

use std::path::Path;

use super::keys;
use super::table::Table;
use super::value::Value;

/// A format, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatDecl {
    /// A JSON object a line.
    JsonLines,
    /// Separated values, a row a line.
    Csv(CsvDecl),
    /// A line is a row.
    Text,
}

/// The options of CSV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvDecl {
    /// The ASCII character between values.
    pub delimiter: u8,
    /// Whether the first line of a file has the names of the columns.
    pub header: bool,
    /// The texts that mean that a value is absent, in a source. A sink writes the first, the empty text.
    pub null: Vec<String>,
}

impl Default for CsvDecl {
    fn default() -> Self {
        Self { delimiter: b',', header: true, null: vec![String::new()] }
    }
}

/// How a timestamp is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampDecl {
    /// Text such as `2013-01-01T05:00:00Z`.
    Rfc3339,
    /// Seconds since the Unix epoch.
    Seconds,
    /// Milliseconds since the Unix epoch.
    Milliseconds,
    /// Microseconds since the Unix epoch.
    Microseconds,
    /// Nanoseconds since the Unix epoch.
    Nanoseconds,
}

impl TimestampDecl {
    /// Each with the name that it has in the file.
    pub(super) const NAMES: [(&'static str, Self); 5] = [
        ("rfc3339", Self::Rfc3339),
        ("s", Self::Seconds),
        ("ms", Self::Milliseconds),
        ("us", Self::Microseconds),
        ("ns", Self::Nanoseconds),
    ];
}

pub(super) const JSON_LINES: &str = "json-lines";
const CSV: &str = "csv";
const TEXT: &str = "text";

const NAMES: [(&str, ()); 3] = [(JSON_LINES, ()), (CSV, ()), (TEXT, ())];

/// A record of a log stands alone: it has no header, and no line of its own.
const LOG_NAMES: [(&str, ()); 1] = [(JSON_LINES, ())];

/// The name of the format that a path's extension makes plain.
fn of_extension(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_ascii_lowercase().to_str()? {
        "csv" => Some(CSV),
        "jsonl" | "ndjson" | "json" => Some(JSON_LINES),
        "txt" => Some(TEXT),
        _ => None,
    }
}

/// The name of the format that the extensions of all paths agree on.
pub(super) fn of_extensions<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Option<&'static str> {
    let mut names = paths.into_iter().map(of_extension);
    let first = names.next()??;
    names.all(|name| name == Some(first)).then_some(first)
}

/// The format of a source; `plain` is the one that needn't be written.
pub(super) fn of_source(table: &Table<'_>, plain: Option<&'static str>) -> Option<FormatDecl> {
    read(table, plain, |value| {
        let table = value.table(&keys::SOURCE_CSV)?;
        let null = table.or("null", CsvDecl::default().null, |v| v.one_or_more(|v| Some(v.text()?.value)));
        let csv = read_csv(&table);
        Some(CsvDecl { null: null?, ..csv? })
    })
}

/// The format of a sink; `plain` is the one that needn't be written.
pub(super) fn of_sink(table: &Table<'_>, plain: Option<&'static str>) -> Option<FormatDecl> {
    read(table, plain, |value| read_csv(&value.table(&keys::SINK_CSV)?))
}

/// The format of a log's records.
pub(super) fn of_log(table: &Table<'_>) -> Option<FormatDecl> {
    table.or("format", FormatDecl::JsonLines, |v| v.choice(&LOG_NAMES).map(|_| FormatDecl::JsonLines))
}

fn read(
    table: &Table<'_>,
    plain: Option<&'static str>,
    read_csv: impl FnOnce(Value<'_>) -> Option<CsvDecl>,
) -> Option<FormatDecl> {
    let name = match (table.get("format"), plain) {
        (Some(value), _) => value.choice(&NAMES).map(|(name, ())| name),
        (None, Some(name)) => Some(name),
        (None, None) => {
            let place = table.place();
            table.report(format!("missing key `format` {place}: no file extension makes it plain"))
        }
    };
    let csv = table.optional("csv", |value| match name {
        Some(name) if name != CSV => {
            table.misplaced(value.key().span, "csv", "format", &[CSV], name);
            None
        }
        _ => read_csv(value),
    });
    Some(match name? {
        CSV => FormatDecl::Csv(csv?.unwrap_or_default()),
        JSON_LINES => FormatDecl::JsonLines,
        _ => FormatDecl::Text,
    })
}

fn read_csv(table: &Table<'_>) -> Option<CsvDecl> {
    table.check_keys(None);
    let CsvDecl { delimiter, header, null } = CsvDecl::default();
    let delimiter = table.or("delimiter", delimiter, read_delimiter);
    let header = table.or("header", header, |v| v.boolean());
    Some(CsvDecl { delimiter: delimiter?, header: header?, null })
}

fn read_delimiter(value: Value<'_>) -> Option<u8> {
    match value.text()?.as_bytes() {
        [b'"' | b'\r' | b'\n'] => value.refuse("a quote or the end of a line can't be the delimiter"),
        &[byte] if byte.is_ascii() => Some(byte),
        _ => value.refuse("must be a single ASCII character, such as \";\" or \"\\t\""),
    }
}
