//! A JSON value into a column: the common spellings at once, all others and the faults at leisure.

use super::super::columns::{Column, Columns, Fault, Runs, Values};
use super::super::scan::plain_end;
use super::super::{number, time};
use super::skip::skip_value;
use super::spaces;
use super::strings::read_string;

impl Columns {
    /// Pushes the value at `at` onto a column; returns the place after it.
    #[inline(always)]
    pub(super) fn json(&mut self, column: usize, buf: &[u8], at: usize) -> Result<usize, Fault> {
        let (column, row) = self.open(column);
        column.json(row, buf, at)
    }
}

impl Column {
    #[inline(always)]
    fn json(&mut self, row: usize, buf: &[u8], at: usize) -> Result<usize, Fault> {
        let quickly = match &mut self.values {
            Values::Integer(values) => number::integer(buf, at).map(|(value, end)| {
                values.push(value);
                end
            }),
            Values::Text(runs) => plain_string(buf, at).map(|end| {
                runs.push(buf, at + 1, end);
                end + 1
            }),
            Values::Timestamp(values) => number::integer(buf, at).and_then(|(number, end)| {
                values.push(time::from_number(number, self.unit)?);
                Some(end)
            }),
            Values::Float(values) => number::float(buf, at).map(|(value, end)| {
                values.push(value);
                end
            }),
            Values::Boolean(_) | Values::Bytes(_) => None,
        };
        match quickly {
            Some(end) => Ok(end),
            None => self.json_closely(row, buf, at),
        }
    }

    /// Pushes what isn't written in the commonest way, or says what is wrong with it.
    fn json_closely(&mut self, row: usize, buf: &[u8], at: usize) -> Result<usize, Fault> {
        // The colon was foreseen, but not the space after it.
        let start = spaces(buf, at);
        if start > at {
            return self.json(row, buf, start);
        }
        // Also checks the value, so that what follows may take its form for granted.
        let end = skip_value(buf, at, self.depth)?;
        let text = &buf[at..end];
        if text == b"null" {
            return self.push_null(row, "null").map(|()| end);
        }
        let number = matches!(text[0], b'-' | b'0'..=b'9');
        let string = text[0] == b'"';
        let unit = self.unit;
        let pushed = match &mut self.values {
            Values::Boolean(values) => boolean(text).map(|value| values.push(value)),
            // The quick way takes all integers that fit.
            Values::Integer(_) => None,
            Values::Float(values) if number => number::float_text(text).map(|value| values.push(value)),
            Values::Timestamp(values) if number => time::from_decimal(text, unit).map(|ms| values.push(ms)),
            Values::Timestamp(values) if string && unit.takes_text() => {
                time::from_text(&unescaped(text)?).map(|ms| values.push(ms))
            }
            Values::Text(runs) if string => Some(push_string(runs, text)?),
            Values::Text(runs) if matches!(text[0], b'{' | b'[') => {
                runs.push(buf, at, end);
                Some(())
            }
            Values::Bytes(runs) if string => runs.push_base64(&unescaped(text)?),
            Values::Float(_) | Values::Timestamp(_) | Values::Text(_) | Values::Bytes(_) => None,
        };
        match pushed {
            Some(()) => Ok(end),
            None => Err(self.mismatch(&String::from_utf8_lossy(text))),
        }
    }
}

/// The end of the string at `at`, if it has no escapes.
#[inline(always)]
fn plain_string(buf: &[u8], at: usize) -> Option<usize> {
    if buf[at] != b'"' {
        return None;
    }
    let end = plain_end(buf, at + 1);
    (buf[end] == b'"').then_some(end)
}

fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

fn push_string(runs: &mut Runs, text: &[u8]) -> Result<(), Fault> {
    read_string(text, 1, &mut runs.bytes)?;
    runs.seal();
    Ok(())
}

/// What a string says, without quotes and escapes.
fn unescaped(text: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    read_string(text, 1, &mut out)?;
    Ok(out)
}
