//! Timestamps: text and numbers to milliseconds since the Unix epoch, and back to text.
//!
//! What is finer than a millisecond is cut off towards the past, in text and numbers alike, so that
//! the order of two instants never turns around.

use jiff::Timestamp;

use super::TimestampUnit;
use super::scan::digits;

const DAY_MS: i64 = 86_400_000;

/// Scales a number of `unit`s to milliseconds; none if that overflows or the unit means text.
#[inline(always)]
pub(super) fn from_number(number: i64, unit: TimestampUnit) -> Option<i64> {
    match unit {
        TimestampUnit::Auto | TimestampUnit::Milliseconds => Some(number),
        TimestampUnit::Seconds => number.checked_mul(1_000),
        TimestampUnit::Microseconds => Some(number.div_euclid(1_000)),
        TimestampUnit::Nanoseconds => Some(number.div_euclid(1_000_000)),
        TimestampUnit::Rfc3339 => None,
    }
}

/// Reads a decimal number with a fraction, such as `1700000000.25` seconds, digit by digit: through
/// a float the last millisecond would depend on rounding. Digits after the ninth don't count.
pub(super) fn from_decimal(text: &[u8], unit: TimestampUnit) -> Option<i64> {
    let per_ms = match unit {
        TimestampUnit::Seconds => 1_000_000,
        TimestampUnit::Auto | TimestampUnit::Milliseconds => 1_000_000_000,
        TimestampUnit::Microseconds => 1_000_000_000_000,
        TimestampUnit::Nanoseconds => 1_000_000_000_000_000,
        TimestampUnit::Rfc3339 => return None,
    };
    let (sign, text) = text.strip_prefix(b"-").map_or((1, text), |text| (-1, text));
    let (whole, rest) = digits(text, 0, 0);
    let fraction = text[rest..].strip_prefix(b".")?;
    let (_, end) = digits(fraction, 0, 0);
    if !(1..=18).contains(&rest) || end == 0 || end != fraction.len() {
        return None;
    }
    let counted = end.min(9);
    let (part, _) = digits(&fraction[..counted], 0, 0);
    let billionths = i128::from(whole) * 1_000_000_000 + i128::from(part) * 10i128.pow(9 - counted as u32);
    i64::try_from((sign * billionths).div_euclid(per_ms)).ok()
}

/// Reads RFC 3339, also with a space for the `T`, and without an offset (then UTC); a date alone is
/// its midnight. What else [`jiff`] takes for an instant is accepted too.
pub(super) fn from_text(text: &[u8]) -> Option<i64> {
    common(text).or_else(|| {
        let instant: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
        Some(instant.as_millisecond() - i64::from(instant.subsec_nanosecond() % 1_000_000 < 0))
    })
}

/// The fixed layouts: `YYYY-MM-DD[(T| )HH:MM:SS[.f+][Z|±HH:MM]]`.
fn common(text: &[u8]) -> Option<i64> {
    let (date, time) = text.split_first_chunk::<10>()?;
    let year = two(date, 0)? * 100 + two(date, 2)?;
    let (month, day) = (two(date, 5)?, two(date, 8)?);
    if date[4] != b'-' || date[7] != b'-' || day == 0 || day > days_in(year, month)? {
        return None;
    }
    let midnight = days_since_epoch(year, month, day) * DAY_MS;
    if time.is_empty() {
        return Some(midnight);
    }
    let (clock, rest) = time.split_first_chunk::<9>()?;
    let (hour, minute, second) = (two(clock, 1)?, two(clock, 4)?, two(clock, 7)?);
    let separated = matches!(clock[0], b'T' | b't' | b' ') && clock[3] == b':' && clock[6] == b':';
    if !separated || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (milli, offset) = fraction(rest)?;
    Some(midnight + ((hour * 60 + minute) * 60 + second) * 1_000 + milli - offset_ms(offset)?)
}

/// The milliseconds of an optional `.f+`, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let counted = count.min(3);
    let (value, _) = digits(&rest[..counted], 0, 0);
    (count > 0).then(|| (value as i64 * [0, 100, 10, 1][counted], &rest[count..]))
}

fn offset_ms(text: &[u8]) -> Option<i64> {
    match text {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', _, _] if hours.len() == 2 => {
            let (hours, minutes) = (two(text, 1)?, two(text, 4)?);
            let size = (hours * 60 + minutes) * 60_000;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -size } else { size })
        }
        _ => None,
    }
}

#[inline(always)]
fn two(text: &[u8], at: usize) -> Option<i64> {
    let (tens, ones) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then_some(i64::from(tens * 10 + ones))
}

fn days_in(year: i64, month: i64) -> Option<i64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => Some(29),
        2 => Some(28),
        _ => None,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are taken to begin in March, so that the leap
/// day is the last one; `(153 m + 2) / 5` are the days before the m-th month counted so.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// The year, month and day that begin `days` after 1970-01-01; the inverse of [`days_since_epoch`].
fn date(days: i64) -> (i64, i64, i64) {
    const DAYS_IN_ERA: i64 = 146_097; // 400 years
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(DAYS_IN_ERA), days.rem_euclid(DAYS_IN_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Appends `YYYY-MM-DDTHH:MM:SS[.mmm]Z`; false, and nothing appended, outside the years 0000 to 9999,
/// which RFC 3339 can't write.
pub(super) fn write(ms: i64, out: &mut Vec<u8>) -> bool {
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date(days);
    if !(0..=9_999).contains(&year) {
        return false;
    }
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let (seconds, milli) = (of_day / 1_000, of_day % 1_000);
    let parts = [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, seconds / 3_600),
        (14, seconds / 60 % 60),
        (17, seconds % 60),
        (21, milli % 100),
    ];
    for (at, value) in parts {
        text[at] += (value / 10) as u8;
        text[at + 1] += (value % 10) as u8;
    }
    if milli == 0 {
        text[19] = b'Z';
        out.extend_from_slice(&text[..20]);
    } else {
        text[20] += (milli / 100) as u8;
        out.extend_from_slice(&text);
    }
    true
}
