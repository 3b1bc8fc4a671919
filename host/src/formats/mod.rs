//! Formats: JSON lines, CSV and lines of text to Arrow columns and back.
//!
//! A [`Decoder`] gets the fields that somebody downstream demands, and no others: the rest of a record is
//! only checked, not kept. A record that can't be decoded is set aside with the reason, and the rows
//! around it are unharmed. Nothing here reads or writes a file: bytes come in blocks, columns go out.
//!
//! What is accepted, format by format, is said at [`Format`]; how each type is read, at [`Demand`].
//!
//! `decoder` finds the records in blocks and counts lines; `json`, `csv` and `text` read one record each into
//! `columns`; `scan`, `number` and `time` read what is common to them; `encoder` is the way back.

mod columns;
mod csv;
mod decoder;
mod encoder;
mod error;
mod json;
mod number;
mod scan;
mod text;
mod time;

#[cfg(test)]
mod tests;

pub use decoder::{BATCH_BYTES_MAX, Decoded, Decoder, Malformed, RECORD_BYTES_MAX};
pub use encoder::Encoder;
pub use error::FormatError;

use tidemill_flow::schema::Field;

/// How records are written.
///
/// Common to all: UTF-8, a byte order mark at the start is skipped, lines end with LF or CRLF, blank lines
/// are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object (RFC 8259) on each line. Of keys that occur twice the last counts. What isn't
    /// demanded is checked as closely as what is, but for the size of numbers.
    JsonLines,
    /// Comma-separated values as in RFC 4180: fields may be quoted, and then hold delimiters, line breaks
    /// and doubled quotes. A quote within an unquoted field stands for itself. A record with more or
    /// fewer fields than the first one is malformed. If a quote is never closed, its line is malformed and
    /// the next line is the next record.
    Csv(CsvOptions),
    /// Each line is the value of one text field, whose path is `line`.
    Text,
}

/// What one CSV file does differently from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// Separates fields; not a quote, CR or LF.
    pub delimiter: u8,
    /// Whether the first record names the columns. If not, their names are `1`, `2`, …
    pub header: bool,
    /// Fields that mean null. Text and bytes are null only if the field isn't quoted. An encoder writes
    /// the first of them; the empty field if there is none.
    pub null: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', header: true, null: vec![String::new()] }
    }
}

/// How instants are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampUnit {
    /// Text is RFC 3339, a number is milliseconds since the Unix epoch.
    #[default]
    Auto,
    /// Only RFC 3339 text. Without an offset it is UTC, and a date alone is its midnight.
    Rfc3339,
    /// A number of seconds since the Unix epoch, perhaps with a fraction.
    Seconds,
    /// A number of milliseconds since the Unix epoch.
    Milliseconds,
    /// A number of microseconds since the Unix epoch.
    Microseconds,
    /// A number of nanoseconds since the Unix epoch.
    Nanoseconds,
}

impl TimestampUnit {
    fn takes_text(self) -> bool {
        matches!(self, Self::Auto | Self::Rfc3339)
    }
}

/// A field that a decoder shall fill, and where it finds it.
///
/// | type | JSON | CSV |
/// |---|---|---|
/// | boolean | `true`, `false` | `true`, `false` in any case, `1`, `0` |
/// | integer | a number without fraction and exponent | digits with an optional sign |
/// | float | a number | a number, `NaN`, `inf`, `-inf` |
/// | text | a string; an object or array gives its JSON text as it stands | the field |
/// | bytes | a string in base64, padded or not | the field in base64 |
/// | timestamp | see [`TimestampUnit`] | see [`TimestampUnit`] |
///
/// In CSV, spaces around what is neither text nor bytes don't count. A number out of its type's range is
/// malformed, never rounded to its edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Name, type and nullability in the batch. Where the record has no value or null, the row is null,
    /// or malformed if the field isn't nullable.
    pub field: Field,
    /// Where the record has it. JSON: the keys from the outside to the inside. CSV: the column's name.
    /// Text: `line`.
    pub path: Vec<String>,
    /// How a timestamp is written; without meaning for other types.
    pub unit: TimestampUnit,
}

impl Demand {
    /// A demand for a field that the record has under the same name.
    pub fn named(field: Field) -> Self {
        let path = vec![field.name.clone()];
        Self { field, path, unit: TimestampUnit::Auto }
    }
}
