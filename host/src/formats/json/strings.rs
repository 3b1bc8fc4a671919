//! JSON strings: their escapes, and what may not be in them.

use super::super::columns::Fault;
use super::super::scan::plain_end;

/// Appends the string whose content begins at `at` to `out`; returns the place after its closing quote.
pub(super) fn read_string(buf: &[u8], mut at: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
    loop {
        let end = plain_end(buf, at);
        out.extend_from_slice(&buf[at..end]);
        if buf[end] == b'"' {
            return Ok(end + 1);
        }
        let (c, next) = escape(buf, end)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        at = next;
    }
}

/// The place after the closing quote of the string whose content begins at `at`.
#[inline(always)]
pub(super) fn skip_string(buf: &[u8], at: usize) -> Result<usize, Fault> {
    let end = plain_end(buf, at);
    if buf[end] == b'"' { Ok(end + 1) } else { skip_escapes(buf, end) }
}

fn skip_escapes(buf: &[u8], mut at: usize) -> Result<usize, Fault> {
    while buf[at] != b'"' {
        (_, at) = escape(buf, at)?;
        at = plain_end(buf, at);
    }
    Ok(at + 1)
}

/// Reads the escape at `at`; returns the character it means and the place after it.
fn escape(buf: &[u8], at: usize) -> Result<(char, usize), Fault> {
    match buf[at] {
        b'\\' => {}
        b'\n' => return Err(Fault::new("unterminated string")),
        _ => return Err(Fault::new(format!("control character in a string at column {}", at + 1))),
    }
    let c = match buf[at + 1] {
        byte @ (b'"' | b'\\' | b'/') => byte.into(),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(buf, at),
        b'\n' => return Err(Fault::new("unterminated string")),
        _ => return Err(Fault::new(format!("unknown escape in a string at column {}", at + 1))),
    };
    Ok((c, at + 2))
}

/// Reads `\uXXXX`, or two of them that are a surrogate pair.
fn unicode_escape(buf: &[u8], at: usize) -> Result<(char, usize), Fault> {
    let first = four_digits(buf, at)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, at + 6));
    }
    let second = match &buf[at + 6..] {
        [b'\\', b'u', ..] if first < 0xdc00 => four_digits(buf, at + 6)?,
        _ => 0,
    };
    let pair =
        (0xdc00..0xe000).contains(&second).then(|| 0x1_0000 + ((first - 0xd800) << 10) + second - 0xdc00);
    match pair.and_then(char::from_u32) {
        Some(c) => Ok((c, at + 12)),
        None => Err(Fault::new(format!("half a surrogate pair in a string at column {}", at + 1))),
    }
}

/// The four hexadecimal digits of the escape at `at`.
fn four_digits(buf: &[u8], at: usize) -> Result<u32, Fault> {
    let digits = buf.get(at + 2..at + 6).unwrap_or_default();
    let value = digits.iter().try_fold(0, |value, byte| Some(value * 16 + char::from(*byte).to_digit(16)?));
    value.filter(|_| digits.len() == 4).ok_or_else(|| {
        Fault::new(format!("expected four hexadecimal digits after `\\u` at column {}", at + 1))
    })
}
