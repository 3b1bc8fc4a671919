//! Eight bytes at a time: where a run of plain text ends, how many digits begin here and what they say.
//!
//! Words are loaded little-endian, so the first byte in memory is the lowest byte of the word and
//! `trailing_zeros` finds the first hit. Marks are set in the high bit of each byte.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// `byte` in all eight places.
pub(super) const fn splat(byte: u8) -> u64 {
    LOW * byte as u64
}

/// The eight bytes at `at`, if the buffer has that many.
#[inline(always)]
pub(super) fn word(buf: &[u8], at: usize) -> Option<u64> {
    buf.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Marks exactly the bytes that are zero.
#[inline(always)]
pub(super) fn zeros_exact(word: u64) -> u64 {
    !(((word & !HIGH) + !HIGH) | word) & HIGH
}

/// The first place of a mark.
#[inline(always)]
pub(super) fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Whether a byte can't stand for itself in a JSON string: a quote, a backslash, a control character.
#[inline(always)]
pub(super) fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Marks the [special](is_special) bytes of sixteen. Above the lowest mark others may be wrong, as the
/// borrow of a true hit travels upwards; that mark is exact, which is all that a search needs.
///
/// Sixteen, because most texts are shorter: then the first look ends the search, and the branch on it is
/// foreseen. Vector compares would halve the work, but can't get their result into a register in safe Rust.
#[inline(always)]
fn specials(chunk: &[u8; 16]) -> u128 {
    const fn all(byte: u8) -> u128 {
        u128::MAX / 0xff * byte as u128
    }
    let bytes = u128::from_le_bytes(*chunk);
    let (quotes, escapes) = (bytes ^ all(b'"'), bytes ^ all(b'\\'));
    let quotes = quotes.wrapping_sub(all(1)) & !quotes;
    let escapes = escapes.wrapping_sub(all(1)) & !escapes;
    let controls = bytes.wrapping_sub(all(0x20)) & !bytes;
    (quotes | escapes | controls) & all(0x80)
}

/// The first [special](is_special) byte at or after `at`, or the buffer's end.
#[inline(always)]
pub(super) fn plain_end(buf: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = buf.get(at..).and_then(<[u8]>::first_chunk) {
        let marks = specials(chunk);
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 16;
    }
    while at < buf.len() && !is_special(buf[at]) {
        at += 1;
    }
    at
}

/// The first [special](is_special) byte of `buf[at..end]`, or `end`. May look at what is behind `end`.
#[inline(always)]
pub(super) fn plain_until(buf: &[u8], mut at: usize, end: usize) -> usize {
    while at < end {
        let Some(chunk) = buf.get(at..).and_then(<[u8]>::first_chunk) else {
            return plain_end(&buf[..end], at);
        };
        let marks = specials(chunk);
        if marks != 0 {
            return end.min(at + marks.trailing_zeros() as usize / 8);
        }
        at += 16;
    }
    end
}

/// Appends `buf[start..end]`. Most texts are short, and a copy of a fixed size is two instructions instead
/// of a call; it may copy what is behind `end`, and drop it.
#[inline(always)]
pub(super) fn append(out: &mut Vec<u8>, buf: &[u8], start: usize, end: usize) {
    const SHORT: usize = 16;
    match buf.get(start..).and_then(<[u8]>::first_chunk::<SHORT>) {
        Some(chunk) if end - start <= SHORT => {
            let length = out.len() + (end - start);
            out.extend_from_slice(chunk);
            out.truncate(length);
        }
        _ => out.extend_from_slice(&buf[start..end]),
    }
}

/// Continues the decimal number `value` with the digits at `at`; returns it and where they end.
///
/// Nineteen digits always fit. With more the value wraps around, and the caller, who sees how many
/// there were, must not use it.
#[inline(always)]
pub(super) fn digits(buf: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    const POWERS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    while let Some(word) = word(buf, at) {
        let places = word ^ splat(b'0');
        let others = no_digits(places);
        if others == 0 {
            value = value.wrapping_mul(100_000_000).wrapping_add(eight(places));
            at += 8;
            continue;
        }
        let count = first(others);
        // Shifting up puts zeros in front of the digits and drops what follows them; in two steps, as
        // none of the eight places may be a digit.
        let number = eight(places << (56 - 8 * count) << 8);
        return (value.wrapping_mul(POWERS[count]).wrapping_add(number), at + count);
    }
    while let Some(digit) = buf.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value.wrapping_mul(10).wrapping_add(digit.into());
        at += 1;
    }
    (value, at)
}

/// Where the digits at `at` end.
#[inline(always)]
pub(super) fn digits_end(buf: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(buf, at) {
        let others = no_digits(word ^ splat(b'0'));
        if others != 0 {
            return at + first(others);
        }
        at += 8;
    }
    while buf.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Marks the bytes that aren't 0 to 9; the lowest mark is exact. Adding 0x76 sets the high bit of what is
/// larger than 9, and a carry only disturbs bytes behind the first such one.
#[inline(always)]
fn no_digits(places: u64) -> u64 {
    (places.wrapping_add(splat(0x76)) | places) & HIGH
}

/// The number whose eight digits, most significant first, are the bytes of `places`: neighbours are
/// joined three times, to two, four and eight digits.
#[inline(always)]
fn eight(places: u64) -> u64 {
    let pairs = (places.wrapping_mul(10 * 256 + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000 * (1 << 32) + 1) >> 32
}
