//! Durations and sizes as people write them: `1h30m`, `64MiB`.

use super::suggest::any_of;

/// A century. Longer is a slip of the finger, and this far from the ends of 64 bits a window's bounds
/// can be added up without a thought for overflow.
pub(super) const DURATION_MS_MAX: i64 = 36_525 * 86_400_000;

const DURATION_UNITS: [(&str, i64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const SIZE_UNITS: [(&str, i64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// What a duration looks like, for messages.
pub(super) const DURATION_EXAMPLE: &str = "such as \"250ms\", \"10s\" or \"1h30m\"";

/// What a size looks like, for messages.
pub(super) const SIZE_EXAMPLE: &str = "such as \"64MiB\"";

/// Milliseconds in a text like `250ms` or `1h30m`: whole numbers, each with its unit, larger units first.
///
/// # Errors
/// When it is something else, or longer than a century.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let mut units = DURATION_UNITS.as_slice();
    let mut total_ms = 0_i64;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let (count, unit, after) = number_and_unit(rest, text, DURATION_EXAMPLE)?;
        let Some(at) = units.iter().position(|&(name, _)| name == unit) else {
            return Err(match DURATION_UNITS.iter().any(|&(name, _)| name == unit) {
                true => format!(
                    "\"{text}\" should have its larger units first, and each once, {DURATION_EXAMPLE}"
                ),
                false => unknown_unit(text, unit, &DURATION_UNITS),
            });
        };
        total_ms = count
            .checked_mul(units[at].1)
            .and_then(|part_ms| total_ms.checked_add(part_ms))
            .filter(|&ms| ms <= DURATION_MS_MAX)
            .ok_or_else(|| format!("\"{text}\" is too long; at most a century (\"36525d\")"))?;
        units = &units[at + 1..];
        rest = after;
    }
    Ok(total_ms)
}

/// Milliseconds in a text like `1h30m`, or `-5m` for as many before.
pub(super) fn signed_duration_ms(text: &str) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(before) => duration_ms(before).map(|ms| -ms),
        None => duration_ms(text),
    }
}

/// Bytes in a text like `64MiB`.
pub(super) fn size_bytes(text: &str) -> Result<i64, String> {
    let (count, unit, after) = number_and_unit(text, text, SIZE_EXAMPLE)?;
    match SIZE_UNITS.iter().find(|&&(name, _)| name == unit) {
        Some((_, unit_bytes)) if after.is_empty() => {
            count.checked_mul(*unit_bytes).ok_or_else(|| format!("\"{text}\" is too large"))
        }
        _ => Err(unknown_unit(text, &text[text.len() - unit.len() - after.len()..], &SIZE_UNITS)),
    }
}

/// The number and the unit at the beginning of `rest`, and what follows them.
fn number_and_unit<'a>(rest: &'a str, text: &str, example: &str) -> Result<(i64, &'a str, &'a str), String> {
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, after) = rest.split_at(digits);
    let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
    if number.is_empty() || unit.starts_with('.') {
        return Err(format!("\"{text}\" is not a whole number with its unit, {example}"));
    }
    if unit.is_empty() {
        return Err(format!("\"{text}\" lacks a unit; write text {example}"));
    }
    let number = number.parse().map_err(|_| format!("\"{text}\" is too large"))?;
    Ok((number, unit, after))
}

fn unknown_unit<T>(text: &str, unit: &str, units: &[(&'static str, T)]) -> String {
    let known = any_of(units.iter().rev().map(|(name, _)| *name), '`');
    format!("\"{text}\" has the unknown unit `{unit}`; expected {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_whole_units() {
        for (text, expected_ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("90m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("36525d", DURATION_MS_MAX),
        ] {
            assert_eq!(duration_ms(text), Ok(expected_ms), "{text}");
        }
    }

    #[test]
    fn sizes_are_in_powers_of_two() {
        for (text, expected_bytes) in [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("64MiB", 1 << 26)] {
            assert_eq!(size_bytes(text), Ok(expected_bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_or_size_is_refused() {
        for text in ["", "s", "10", "1.5h", "1h 30m", "30m1h", "1h1h", "-1s", "1w", "36526d", "1h30", "é"] {
            assert!(duration_ms(text).is_err(), "{text:?}");
        }
        assert!(duration_ms("99999999999999999999s").is_err());
        for text in ["", "64", "64MB", "64M", "64mib", "1GiB1B", "1.5MiB", "99999999999GiB", "MiB"] {
            assert!(size_bytes(text).is_err(), "{text:?}");
        }
    }
}
