//! Numbers as JSON writes them, from the place in a buffer where they begin.
//!
//! The quick forms return `None` for whatever they don't cover; the caller then looks closely, to
//! take the slow way or to tell people what is wrong.

use super::scan::digits;

/// Reads `-?(0|[1-9][0-9]*)` that fits an `i64` and isn't followed by a fraction or an exponent.
#[inline(always)]
pub(super) fn integer(buf: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = *buf.get(at)? == b'-';
    let start = at + usize::from(negative);
    let (value, end) = digits(buf, start, 0);
    let count = end - start;
    let padded = count > 1 && buf[start] == b'0';
    if count == 0 || count > 19 || padded || matches!(buf.get(end), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    let signed = match negative {
        false => i64::try_from(value).ok()?,
        true => 0i64.checked_sub_unsigned(value)?,
    };
    Some((signed, end))
}

/// Reads a float that needs no rounding but the last: up to 15 digits and no exponent, so that both
/// the digits and the power of ten are exact in an `f64` and their quotient is rounded once.
#[inline(always)]
pub(super) fn float(buf: &[u8], at: usize) -> Option<(f64, usize)> {
    const POWERS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let negative = *buf.get(at)? == b'-';
    let start = at + usize::from(negative);
    let (mut value, mut end) = digits(buf, start, 0);
    let whole = end - start;
    let padded = whole > 1 && buf[start] == b'0';
    let mut fraction = 0;
    if buf.get(end) == Some(&b'.') {
        let point = end;
        (value, end) = digits(buf, point + 1, value);
        fraction = end - point - 1;
        if fraction == 0 {
            return None;
        }
    }
    if whole == 0 || whole + fraction > 15 || padded || matches!(buf.get(end), Some(b'e' | b'E')) {
        return None;
    }
    let size = value as f64 / POWERS[fraction];
    Some((if negative { -size } else { size }, end))
}

/// Reads any decimal text as Rust does; a number too large for an `f64` is none.
pub(super) fn float_text(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    // Only words ("inf", "NaN") may mean what isn't finite.
    let spelled = !text.bytes().any(|b| b.is_ascii_digit());
    (value.is_finite() || spelled).then_some(value)
}
