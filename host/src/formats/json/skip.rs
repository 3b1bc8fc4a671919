//! Passing over JSON values: quickly, but not over what is broken.

use super::super::columns::Fault;
use super::super::scan::digits_end;
use super::strings::skip_string;
use super::{expect, spaces};

/// How deep objects and arrays may be nested, the record itself included; enough for anything meant to be
/// read, little enough for the stack.
pub(super) const DEPTH_MAX: usize = 127;

/// The place after the value at `at`, which is in an object or array at this depth.
#[inline(always)]
pub(super) fn skip_value(buf: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    match buf[at] {
        b'"' => skip_string(buf, at + 1),
        b'1'..=b'9' => {
            let end = digits_end(buf, at);
            if matches!(buf[end], b'.' | b'e' | b'E') { skip_number(buf, at) } else { Ok(end) }
        }
        b'-' | b'0' => skip_number(buf, at),
        b'{' | b'[' => skip_nested(buf, at, depth + 1),
        // The colon was foreseen, but not the space after it.
        b' ' | b'\t' | b'\r' => skip_spaced(buf, at, depth),
        _ => skip_word(buf, at),
    }
}

fn skip_spaced(buf: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    skip_value(buf, spaces(buf, at), depth)
}

fn skip_nested(buf: &[u8], at: usize, depth: usize) -> Result<usize, Fault> {
    if depth > DEPTH_MAX {
        return Err(too_deep(at));
    }
    let object = buf[at] == b'{';
    let close = if object { b'}' } else { b']' };
    let mut at = spaces(buf, at + 1);
    if buf[at] == close {
        return Ok(at + 1);
    }
    loop {
        if object {
            let what = "a key";
            at = skip_string(buf, expect(buf, at, b'"', what)?)?;
            at = spaces(buf, expect(buf, spaces(buf, at), b':', "`:`")?);
        }
        at = spaces(buf, skip_value(buf, at, depth)?);
        match buf[at] {
            b',' => at = spaces(buf, at + 1),
            byte if byte == close => return Ok(at + 1),
            _ => return Err(expected(if object { "`,` or `}`" } else { "`,` or `]`" }, buf, at)),
        }
    }
}

/// The place after the number at `at`, of any size.
pub(super) fn skip_number(buf: &[u8], at: usize) -> Result<usize, Fault> {
    let start = at + usize::from(buf[at] == b'-');
    let mut end = skip_digits(buf, start)?;
    if buf[start] == b'0' && end > start + 1 {
        return Err(Fault::new(format!("a number begins with 0 at column {}", start + 1)));
    }
    if buf[end] == b'.' {
        end = skip_digits(buf, end + 1)?;
    }
    if matches!(buf[end], b'e' | b'E') {
        let signed = matches!(buf[end + 1], b'+' | b'-');
        end = skip_digits(buf, end + 1 + usize::from(signed))?;
    }
    Ok(end)
}

#[inline(always)]
fn skip_digits(buf: &[u8], at: usize) -> Result<usize, Fault> {
    let end = digits_end(buf, at);
    if end > at { Ok(end) } else { Err(expected("a digit", buf, at)) }
}

fn skip_word(buf: &[u8], at: usize) -> Result<usize, Fault> {
    let rest = &buf[at..];
    match [&b"true"[..], b"false", b"null"].into_iter().find(|word| rest.starts_with(word)) {
        Some(word) => Ok(at + word.len()),
        None => Err(expected("a value", buf, at)),
    }
}

/// The fault of something else than `what` at `at`.
#[cold]
pub(super) fn expected(what: &str, buf: &[u8], at: usize) -> Fault {
    let ahead = &buf[at..buf.len().min(at + 4)];
    let found = match String::from_utf8_lossy(ahead).chars().next() {
        None | Some('\n') => "the end of the line".to_owned(),
        Some(c) if c.is_control() => format!("a control character ({:?})", c),
        Some(c) => format!("`{c}`"),
    };
    Fault::new(format!("expected {what} at column {}, found {found}", at + 1))
}

#[cold]
pub(super) fn too_deep(at: usize) -> Fault {
    Fault::new(format!("nested deeper than {DEPTH_MAX} at column {}", at + 1))
}
