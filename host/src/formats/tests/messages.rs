//! Every reason that people get to read, word for word.

use super::*;

/// The only record is malformed for this reason, and a good one after it is read.
fn check(format: &Format, demands: &[Demand], cases: &[(&[u8], &str)], good: &str) {
    for (input, reason) in cases {
        let two = [input, &b"\n"[..], good.as_bytes()].concat();
        let decoded = decode(format, demands, &two);
        let shown = String::from_utf8_lossy(input);
        let reasons: Vec<_> = decoded.malformed.iter().map(|m| m.reason.as_str()).collect();
        assert_eq!((reasons, decoded.rows), (vec![*reason], 1), "{shown}");
        assert_eq!(decoded.malformed[0].raw, *input, "{shown}");
    }
}

#[test]
fn json_structure() {
    let cases: &[(&[u8], &str)] = &[
        (b"[1]", "expected an object at column 1, found `[`"),
        (b"{1:2}", "expected a key or `}` at column 2, found `1`"),
        (b"{\"a\":1,}", "expected a key at column 8, found `}`"),
        (b"{\"a\" 1}", "expected `:` at column 6, found `1`"),
        (b"{\"a\":}", "expected a value at column 6, found `}`"),
        (b"{\"a\":1 \"b\":2}", "expected `,` or `}` at column 8, found `\"`"),
        (b"{\"a\":1", "expected `,` or `}` at column 7, found the end of the line"),
        (b"{\"a\":[1 2]}", "expected `,` or `]` at column 9, found `2`"),
        (b"{\"a\":1}}", "expected the end of the line at column 8, found `}`"),
        (b"{\"a\":truth}", "expected a value at column 6, found `t`"),
        (b"{\"a\":01}", "a number begins with 0 at column 6"),
        (b"{\"a\":1.}", "expected a digit at column 8, found `}`"),
        (b"{\"a\":-\x01}", "expected a digit at column 7, found a control character ('\\u{1}')"),
        (b"{\"a\":\"x", "unterminated string"),
        (b"{\"a\":\"\\", "unterminated string"),
        (b"{\"a\":\"\x01\"}", "control character in a string at column 7"),
        (b"{\"a\":\"\\x\"}", "unknown escape in a string at column 7"),
        (b"{\"a\":\"\\u12g4\"}", "expected four hexadecimal digits after `\\u` at column 7"),
        (b"{\"a\":\"\\ud800\"}", "half a surrogate pair in a string at column 7"),
        (b"{\"a\":\"\xff\"}", "not UTF-8 at byte 7"),
    ];
    check(&Format::JsonLines, &[], cases, "{\"a\":1}");
    check(&Format::JsonLines, &demands(&[("other", FieldType::Text)]), cases, "{\"a\":1}");
    let deep = format!("{{\"a\":{}", "[".repeat(127));
    check(&Format::JsonLines, &[], &[(deep.as_bytes(), "nested deeper than 127 at column 132")], "{}");
}

#[test]
fn json_values() {
    let mut demands = demands(&[
        ("i", FieldType::Integer),
        ("f", FieldType::Float),
        ("b", FieldType::Boolean),
        ("t", FieldType::Text),
        ("y", FieldType::Bytes),
        ("ms", FieldType::Timestamp),
        ("s", FieldType::Timestamp),
        ("o.x", FieldType::Text),
    ]);
    demands[6].unit = TimestampUnit::Seconds;
    let cases: &[(&[u8], &str)] = &[
        (b"{\"i\":\"abc\"}", "field \"i\": expected integer, found \"abc\""),
        (b"{\"i\":1.0}", "field \"i\": expected integer, found 1.0"),
        (b"{\"i\":1e3}", "field \"i\": expected integer, found 1e3"),
        (b"{\"i\":9223372036854775808}", "field \"i\": expected integer, found 9223372036854775808"),
        (b"{\"f\":1e999}", "field \"f\": expected float, found 1e999"),
        (b"{\"b\":1}", "field \"b\": expected boolean, found 1"),
        (b"{\"t\":1}", "field \"t\": expected text, found 1"),
        (b"{\"y\":\"?\"}", "field \"y\": expected bytes in base64, found \"?\""),
        (b"{\"ms\":\"soon\"}", "field \"ms\": expected timestamp (RFC 3339 or milliseconds), found \"soon\""),
        (
            b"{\"s\":9223372036854775807}",
            "field \"s\": expected timestamp (seconds), found 9223372036854775807",
        ),
        (b"{\"o\":[1]}", "field \"o\": expected an object, found [1]"),
        (
            b"{\"i\":\"0123456789012345678901234567890123456789\"}",
            "field \"i\": expected integer, found \"012345678901234567890123456789012345678…",
        ),
    ];
    check(&Format::JsonLines, &demands, cases, "{}");
    let strict = [Demand::named(Field::new("x", FieldType::Integer))];
    let cases: &[(&[u8], &str)] = &[
        (b"{}", "field \"x\" is missing, but not nullable"),
        (b"{\"x\":null}", "field \"x\" is null, but not nullable"),
    ];
    check(&Format::JsonLines, &strict, cases, "{\"x\":1}");
}

#[test]
fn csv_records() {
    let format = Format::Csv(CsvOptions { header: false, ..CsvOptions::default() });
    let decoded = |input: &[u8]| {
        let input = [&b"1,x\n"[..], input, b"\n2,y"].concat();
        outcome(&format, &demands(&[("1", FieldType::Integer)]), &input)
    };
    let cases: &[(&[u8], &str)] = &[
        (b"abc,x", "2: field \"1\": expected integer, found \"abc\""),
        (b"1", "2: expected 2 fields, found 1"),
        (b"1,2,3", "2: expected 2 fields, found 3"),
        (b"1,\"x\"y", "2: expected `,` after the closing quote"),
        (b"1,\"x", "2: a quote is not closed"),
        (b"1,\xff", "2: not UTF-8 at byte 3"),
    ];
    for (input, reason) in cases {
        assert_eq!(decoded(input), ["1: {\"1\":1}", reason, "3: {\"1\":2}"], "{reason}");
    }
}

#[test]
fn unusable_formats() {
    let csv = Format::Csv(CsvOptions::default());
    let x = demands(&[("x", FieldType::Integer)]);
    let message = |demands: Vec<Demand>, format: &Format, input: &[u8]| {
        Decoder::new(format, demands).and_then(|mut d| d.decode(input, true, 9)).unwrap_err().to_string()
    };
    let missing = "there is no column \"x\", but a, b";
    assert_eq!(message(x.clone(), &csv, b"a,b\n1,2\n"), missing);
    assert_eq!(message(x.clone(), &csv, b"x,x\n"), "the header has more than one column \"x\"");
    assert_eq!(message(x.clone(), &csv, b"\"x"), "cannot read the header: a quote is not closed");
    let flat = "cannot decode field \"a.b\": its path has to be one name, as the columns of CSV are flat";
    assert_eq!(message(demands(&[("a.b", FieldType::Integer)]), &csv, b""), flat);
    let line = "cannot decode field \"x\": lines of text have one field, the text `line`";
    assert_eq!(message(x.clone(), &Format::Text, b""), line);
    let none = vec![Demand { path: Vec::new(), ..x[0].clone() }];
    assert_eq!(
        message(none, &Format::JsonLines, b""),
        "cannot decode field \"\": its path needs at least one key"
    );
    let quote = Format::Csv(CsvOptions { delimiter: b'"', ..CsvOptions::default() });
    let odd = "'\"' cannot delimit fields; use a character other than a quote or a line break";
    assert_eq!(message(x.clone(), &quote, b""), odd);
    let text = Encoder::new(&Format::Text, &schema(&x)).err().unwrap().to_string();
    assert_eq!(text, "lines of text hold exactly one text field, but the schema is {x: integer?}");
}
