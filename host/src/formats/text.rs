//! Lines of text: the whole line is the value.

use memchr::memchr;

use super::columns::{Columns, Values};
use super::decoder::Found;

/// Reads the line that begins `buf`, which has its line break.
pub(super) fn read(buf: &[u8], columns: &mut Columns, columns_count: usize) -> Found {
    let end = memchr(b'\n', buf).unwrap_or(buf.len());
    let text = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
    if text.is_empty() {
        return Found::Blank(end + 1);
    }
    for column in 0..columns_count {
        let (column, _) = columns.open(column);
        let Values::Text(runs) = &mut column.values else { unreachable!("the decoder checked the type") };
        runs.push(buf, 0, text.len());
    }
    Found::Record { bytes: end + 1, lines: 1, row: Ok(()) }
}
