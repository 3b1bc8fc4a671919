//! Instants as text and as numbers.

use super::super::time;
use super::*;

#[test]
fn text_is_rfc_3339_and_a_little_more() {
    let cases = [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2013-01-01T10:00:00Z", Some(1_357_034_400_000)),
        ("2013-01-01t10:00:00.5z", Some(1_357_034_400_500)),
        ("2013-01-01 10:00:00", Some(1_357_034_400_000)),
        ("2013-01-01", Some(1_356_998_400_000)),
        ("2013-01-01T10:00:00.123999999+01:30", Some(1_357_029_000_123)),
        ("2013-01-01T10:00:00-08:00", Some(1_357_063_200_000)),
        ("1969-12-31T23:59:59.9999Z", Some(-1)),
        ("0000-01-01T00:00:00Z", Some(-62_167_219_200_000)),
        ("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999)),
        ("2016-02-29", Some(1_456_704_000_000)),
        ("2015-02-29", None),
        ("1900-02-29", None),
        ("2013-13-01", None),
        ("2013-01-00", None),
        ("2013-01-01T24:00:00Z", None),
        ("2013-01-01T10:00:00.Z", None),
        ("2013-01-01T10:00:00+1", None),
        ("2013-01-01T10:00:00Zx", None),
        ("", None),
        ("soon", None),
    ];
    for (text, expected) in cases {
        assert_eq!(time::from_text(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn numbers_are_scaled_towards_the_past() {
    use TimestampUnit::*;
    let cases = [
        (Auto, "1700000000000", Some(1_700_000_000_000i64)),
        (Milliseconds, "-5", Some(-5)),
        (Milliseconds, "5.9", Some(5)),
        (Milliseconds, "-5.1", Some(-6)),
        (Seconds, "1700000000.123", Some(1_700_000_000_123)),
        (Seconds, "-0.0001", Some(-1)),
        (Seconds, "9223372036854775", Some(9_223_372_036_854_775_000)),
        (Seconds, "9223372036854776", None),
        (Microseconds, "-1", Some(-1)),
        (Microseconds, "1999.9", Some(1)),
        (Nanoseconds, "1700000000000000001", Some(1_700_000_000_000i64)),
        (Milliseconds, "1e3", None),
        (Rfc3339, "5", None),
        (Milliseconds, "\"2013-01-01\"", None),
    ];
    for (unit, text, expected) in cases {
        let demand = Demand { unit, ..demand("t", FieldType::Timestamp) };
        let decoded =
            decode(&Format::JsonLines, std::slice::from_ref(&demand), format!("{{\"t\":{text}}}").as_bytes());
        let batch = batch(std::slice::from_ref(&demand), &decoded);
        let mut found = Vec::new();
        let encoder = Encoder::new(&Format::JsonLines, &schema(&[demand])).unwrap();
        encoder.with_timestamps(Milliseconds).encode(&batch, &mut found);
        let expected = expected.map(|ms| format!("{{\"t\":{ms}}}\n")).unwrap_or_default();
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{unit:?} {text}");
    }
}

#[test]
fn text_is_written_as_jiff_writes_it() {
    let mut ms = -62_167_219_200_000;
    while ms < 253_402_300_799_999 {
        let mut text = Vec::new();
        assert!(time::write(ms, &mut text));
        let jiff = jiff::Timestamp::from_millisecond(ms).map(|t| t.to_string());
        let text = String::from_utf8(text).unwrap();
        assert_eq!(time::from_text(text.as_bytes()), Some(ms), "{text}");
        if let Ok(jiff) = jiff {
            let full = jiff.replace('Z', "").split_once('.').map(|(head, f)| format!("{head}.{f:0<3}Z"));
            assert_eq!(text, full.unwrap_or(jiff));
        }
        ms += 86_400_000 * 97 + 7_654_321;
    }
    for ms in [i64::MIN, i64::MAX, 253_402_300_800_000, -62_167_219_200_001] {
        assert!(!time::write(ms, &mut Vec::new()), "{ms}");
    }
}
