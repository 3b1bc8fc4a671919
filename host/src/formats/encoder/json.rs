//! Rows as JSON objects, each on its line, with null for what is absent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemill_flow::schema::Schema;

use super::super::scan::{append, is_special, plain_until};
use super::cells::{Cells, Runs, Values, write_float, write_integer};

pub(super) struct JsonWriter {
    /// What comes before each value: brace or comma, key, colon.
    prefixes: Vec<Vec<u8>>,
}

impl JsonWriter {
    pub(super) fn new(schema: &Schema) -> Self {
        let prefix = |(at, name): (usize, &String)| {
            let mut prefix = vec![if at == 0 { b'{' } else { b',' }];
            write_text(name.as_bytes(), 0, name.len(), &mut prefix);
            prefix.push(b':');
            prefix
        };
        Self { prefixes: schema.fields().iter().map(|field| &field.name).enumerate().map(prefix).collect() }
    }

    #[inline]
    pub(super) fn write(&self, columns: &[Cells<'_>], row: usize, out: &mut Vec<u8>) {
        for (prefix, column) in self.prefixes.iter().zip(columns) {
            append(out, prefix, 0, prefix.len());
            write_cell(column, row, out);
        }
        out.extend_from_slice(if columns.is_empty() { b"{}" } else { b"}" });
    }
}

#[inline(always)]
fn write_cell(column: &Cells<'_>, row: usize, out: &mut Vec<u8>) {
    if column.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match &column.values {
        Values::Boolean(values) if values.value(row) => out.extend_from_slice(b"true"),
        Values::Boolean(_) => out.extend_from_slice(b"false"),
        Values::Integer(values) => write_integer(values[row], out),
        Values::Float(values) if values[row].is_finite() => write_float(values[row], out),
        Values::Float(_) => out.extend_from_slice(b"null"),
        Values::Text(runs) => {
            let (start, end) = runs.range(row);
            write_text(runs.bytes, start, end, out);
        }
        Values::Bytes(runs) => write_base64(runs, row, out),
        Values::Timestamp(values) => column.write_timestamp(values[row], b"\"", out),
    }
}

fn write_base64(runs: &Runs<'_>, row: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(runs.get(row)).as_bytes());
    out.push(b'"');
}

/// Appends `bytes[start..end]`, which is UTF-8, as a string.
#[inline(always)]
fn write_text(bytes: &[u8], start: usize, end: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    let plain = plain_until(bytes, start, end);
    append(out, bytes, start, plain);
    if plain < end {
        write_escaped(&bytes[plain..end], out);
    }
    out.push(b'"');
}

#[cold]
fn write_escaped(text: &[u8], out: &mut Vec<u8>) {
    for run in text.split_inclusive(|byte| is_special(*byte)) {
        let (last, plain) = run.split_last().expect("runs that were split off have bytes");
        out.extend_from_slice(plain);
        match last {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control @ ..0x20 => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
            other => out.push(*other),
        }
    }
}
