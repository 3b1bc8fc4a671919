//! Rows as they were written, taken apart into the texts of their values. They aren't decoded: both sides were written by
//! the same encoder, so equal values are equal texts, and no number is rounded on the way.

use std::io::{self, BufRead};

use super::compare::Row;
use super::facts::{Writing, Written};
use crate::formats::RECORD_BYTES_MAX;

/// Reads the records of a file one by one.
pub(super) struct Records<R> {
    input: R,
    written: Written,
    /// Of CSV: the columns, by the header or else by the plan.
    columns: Vec<String>,
    begun: bool,
    line: Vec<u8>,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(input: R, written: &Written) -> Self {
        let columns = written.fields.clone();
        Self { input, written: written.clone(), columns, begun: false, line: Vec::new() }
    }

    /// The next row; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Row>> {
        loop {
            if !self.fill()? {
                return Ok(None);
            }
            let is_header = !self.begun && matches!(self.written.how, Writing::Csv { header: true, .. });
            self.begun = true;
            if is_header {
                self.columns = cells(text(&self.line)?, self.delimiter());
                continue;
            }
            let written = Written { how: self.written.how.clone(), fields: self.columns.clone() };
            return parse(&self.line, &written).map(Some);
        }
    }

    fn delimiter(&self) -> u8 {
        match self.written.how {
            Writing::Csv { delimiter, .. } => delimiter,
            Writing::Json | Writing::Text => b',',
        }
    }

    /// Reads the next record, without its line break; false at the end. Quoted values of CSV have line breaks too.
    fn fill(&mut self) -> io::Result<bool> {
        self.line.clear();
        loop {
            if self.input.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(!self.line.is_empty());
            }
            if self.line.len() > RECORD_BYTES_MAX {
                return Err(io::Error::other("a row is longer than any that could be written"));
            }
            let is_csv = matches!(self.written.how, Writing::Csv { .. });
            let quotes = self.line.iter().filter(|b| **b == b'"').count();
            if !is_csv || quotes % 2 == 0 {
                if self.line.last() == Some(&b'\n') {
                    self.line.pop();
                }
                return Ok(true);
            }
        }
    }
}

/// Takes a record apart, which has no line break at its end.
///
/// # Errors
/// When it isn't one.
pub(super) fn parse(record: &[u8], written: &Written) -> io::Result<Row> {
    let wrong = || io::Error::other(format!("`{}` isn't a row as this sink writes them", shown(record)));
    let text = text(record)?;
    match written.how {
        Writing::Json => object(text).ok_or_else(wrong),
        Writing::Csv { delimiter, .. } => {
            let cells = cells(text, delimiter);
            let row: Row = written.fields.iter().cloned().zip(cells.iter().cloned()).collect();
            if row.len() == cells.len() { Ok(row) } else { Err(wrong()) }
        }
        Writing::Text => {
            let field = written.fields.first().cloned().unwrap_or_default();
            Ok(Row::from([(field, text.to_owned())]))
        }
    }
}

fn text(record: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(record).map_err(|_| io::Error::other(format!("`{}` isn't UTF-8", shown(record))))
}

fn shown(record: &[u8]) -> String {
    String::from_utf8_lossy(record).chars().take(80).flat_map(char::escape_debug).collect()
}

/// The cells of a record of CSV as they stand, with their quotes: quoted, empty text isn't null.
fn cells(record: &str, delimiter: u8) -> Vec<String> {
    let mut cells = Vec::new();
    let (mut from, mut is_quoted) = (0, false);
    for (at, byte) in record.bytes().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            _ if byte == delimiter && !is_quoted => {
                cells.push(record.get(from..at).unwrap_or_default().to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    cells.push(record.get(from..).unwrap_or_default().to_owned());
    cells
}

/// The values of a JSON object as they stand, by key.
fn object(text: &str) -> Option<Row> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut row = Row::new();
    while !rest.is_empty() {
        let key = value(rest)?;
        let field: String = serde_json::from_str(key).ok()?;
        rest = rest[key.len()..].trim_start().strip_prefix(':')?.trim_start();
        let of_key = value(rest)?;
        rest = rest[of_key.len()..].trim_start();
        row.insert(field, of_key.trim_end().to_owned());
        match rest.strip_prefix(',') {
            Some(next) if !next.trim_start().is_empty() => rest = next.trim_start(),
            Some(_) => return None,
            None if rest.is_empty() => {}
            None => return None,
        }
    }
    Some(row)
}

/// The value at the beginning: to its closing quote, or to the comma or colon behind it that stands in no text and in no
/// other value.
fn value(text: &str) -> Option<&str> {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' if is_text && depth == 0 => return text.get(..=at),
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' | b':' if depth == 0 => return text.get(..at).filter(|value| !value.is_empty()),
            _ => {}
        }
    }
    let is_whole = depth == 0 && !is_text && !text.is_empty();
    is_whole.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pairs: &[(&str, &str)]) -> Row {
        pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
    }

    fn rows(text: &str, how: Writing, fields: &[&str]) -> Vec<Row> {
        let written = Written { how, fields: fields.iter().map(|f| (*f).to_owned()).collect() };
        let mut records = Records::new(text.as_bytes(), &written);
        std::iter::from_fn(|| records.next().unwrap()).collect()
    }

    #[test]
    fn an_object_is_taken_apart_and_its_values_stay_as_they_stand() {
        let text = "{\"a\":1.50,\"b\":\"x,\\\"y}\\\\\",\"c\":null,\"d\\u00e9\":{\"e\":[1,2]}}\n{}\n";
        let expected =
            row(&[("a", "1.50"), ("b", "\"x,\\\"y}\\\\\""), ("c", "null"), ("dé", "{\"e\":[1,2]}")]);
        assert_eq!(rows(text, Writing::Json, &["a"]), [expected, row(&[])]);
    }

    #[test]
    fn quoted_values_of_csv_may_hold_anything() {
        let csv = Writing::Csv { delimiter: b';', header: true };
        let text = "k;\"v;w\"\n1;\"a\n\"\"b\"\";\"\n2;\"\"\n3;\n";
        let (k, v) = ("k", "\"v;w\"");
        assert_eq!(
            rows(text, csv, &["k", "v"]),
            [
                row(&[(k, "1"), (v, "\"a\n\"\"b\"\";\"")]),
                row(&[(k, "2"), (v, "\"\"")]),
                row(&[(k, "3"), (v, "")]),
            ]
        );
        let bare = Writing::Csv { delimiter: b',', header: false };
        assert_eq!(rows("1,2\n", bare, &["x", "y"]), [row(&[("x", "1"), ("y", "2")])]);
    }

    #[test]
    fn what_is_no_row_is_told() {
        let json = Written { how: Writing::Json, fields: Vec::new() };
        for bad in ["", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}", "[1]", "{\"a\":[1}"] {
            assert!(parse(bad.as_bytes(), &json).is_err(), "{bad}");
        }
        let csv =
            Written { how: Writing::Csv { delimiter: b',', header: false }, fields: vec!["a".to_owned()] };
        assert!(parse(b"1,2", &csv).is_err());
        assert!(parse(b"\xff", &csv).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_taking_it_apart_panic(text in "[{}\\[\\]\",:\\\\a é]{0,12}") {
            let _ = object(&text);
            let _ = cells(&text, b',');
        }
    }
}
