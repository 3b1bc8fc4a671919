//! JSON lines, case by case.

use super::*;

fn check(fields: &[(&str, FieldType)], cases: &[(&str, &str)]) {
    for (input, expected) in cases {
        let found = outcome(&Format::JsonLines, &demands(fields), input.as_bytes());
        assert_eq!(found, [format!("1: {expected}")], "{input}");
    }
}

#[test]
fn values_are_read_by_type() {
    check(
        &[("i", FieldType::Integer)],
        &[
            (r#"{"i":5}"#, r#"{"i":5}"#),
            (r#" { "i" : 5 , "x" : [ ] } "#, r#"{"i":5}"#),
            (r#"{"i":-0}"#, r#"{"i":0}"#),
            (r#"{"i":9223372036854775807}"#, r#"{"i":9223372036854775807}"#),
            (r#"{"i":-9223372036854775808}"#, r#"{"i":-9223372036854775808}"#),
            (r#"{"i":1,"i":2}"#, r#"{"i":2}"#),
            (r#"{"i":1,"i":null}"#, r#"{"i":null}"#),
            (r#"{"i":null,"i":3}"#, r#"{"i":3}"#),
            (r#"{"\u0069":7}"#, r#"{"i":7}"#),
            (r#"{}"#, r#"{"i":null}"#),
        ],
    );
    check(
        &[("f", FieldType::Float), ("b", FieldType::Boolean)],
        &[
            (r#"{"f":5,"b":true}"#, r#"{"f":5.0,"b":true}"#),
            (r#"{"f":-0.25,"b":false}"#, r#"{"f":-0.25,"b":false}"#),
            (r#"{"f":1e3}"#, r#"{"f":1000.0,"b":null}"#),
            (r#"{"f":0.1}"#, r#"{"f":0.1,"b":null}"#),
            (r#"{"f":123456789012345678}"#, r#"{"f":1.2345678901234568e+17,"b":null}"#),
            (r#"{"f":1e-400}"#, r#"{"f":0.0,"b":null}"#),
        ],
    );
    check(
        &[("t", FieldType::Text)],
        &[
            (r#"{"t":""}"#, r#"{"t":""}"#),
            (r#"{"t":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#, r#"{"t":"\"\\/\b\f\n\r\té😀"}"#),
            (r#"{"t":"more than sixteen bytes, é"}"#, r#"{"t":"more than sixteen bytes, é"}"#),
            (r#"{"t":{"a": [1, "x"]}}"#, r#"{"t":"{\"a\": [1, \"x\"]}"}"#),
        ],
    );
    check(
        &[("y", FieldType::Bytes)],
        &[(r#"{"y":"AAECAw=="}"#, r#"{"y":"AAECAw=="}"#), (r#"{"y":"AAECAw"}"#, r#"{"y":"AAECAw=="}"#)],
    );
}

#[test]
fn paths_lead_into_objects() {
    check(
        &[("a.b", FieldType::Integer), ("a.c.d", FieldType::Text), ("e", FieldType::Integer)],
        &[
            (r#"{"a":{"b":1,"c":{"d":"x"}},"e":2}"#, r#"{"a.b":1,"a.c.d":"x","e":2}"#),
            (r#"{"e":2,"a":{"c":{"z":0,"d":"x"},"b":1}}"#, r#"{"a.b":1,"a.c.d":"x","e":2}"#),
            (r#"{"a":null,"e":2}"#, r#"{"a.b":null,"a.c.d":null,"e":2}"#),
            (r#"{"a":{},"e":2}"#, r#"{"a.b":null,"a.c.d":null,"e":2}"#),
            // The last object counts, not the union of both.
            (r#"{"a":{"b":1},"a":{"c":{"d":"x"}}}"#, r#"{"a.b":null,"a.c.d":"x","e":null}"#),
        ],
    );
}

#[test]
fn one_value_serves_several_demands() {
    let mut demands = demands(&[("a", FieldType::Text), ("a.b", FieldType::Integer)]);
    demands.push(Demand { field: Field::nullable("again", FieldType::Integer), ..demands[1].clone() });
    let input = br#"{"a":{"b":1}}"#;
    assert_eq!(outcome(&Format::JsonLines, &demands, input), [r#"1: {"a":"{\"b\":1}","a.b":1,"again":1}"#]);
}

#[test]
fn shapes_change_from_record_to_record() {
    let lines = [
        r#"{"k":"a","x":1,"y":2}"#,
        r#"{"k":"b","y":3}"#,
        r#"{ "k": "c", "y": 4, "x": 5 }"#,
        r#"{"k":"a","x":6,"y": 7}"#,
        r#"{"y":8}"#,
        r#"{"k":"a","z":{"x":0},"x":9}"#,
        r#"{"k":"a","x":10,"y":11}"#,
        r#"{}"#,
    ];
    let expected = [
        r#"{"x":1,"y":2}"#,
        r#"{"x":null,"y":3}"#,
        r#"{"x":5,"y":4}"#,
        r#"{"x":6,"y":7}"#,
        r#"{"x":null,"y":8}"#,
        r#"{"x":9,"y":null}"#,
        r#"{"x":10,"y":11}"#,
        r#"{"x":null,"y":null}"#,
    ];
    let demands = demands(&[("x", FieldType::Integer), ("y", FieldType::Integer)]);
    let decoded = decode(&Format::JsonLines, &demands, lines.repeat(3).join("\n").as_bytes());
    assert_eq!(rows(&demands, &decoded), expected.repeat(3));
}

#[test]
fn memory_of_shapes_is_bounded_and_renewed() {
    let many: String = (0..20_000).map(|n| format!("{{\"k{n}\":{n},\"x\":{n}}}\n")).collect();
    let demands = demands(&[("x", FieldType::Integer)]);
    let decoded = decode(&Format::JsonLines, &demands, many.as_bytes());
    let expected: Vec<_> = (0..20_000).map(|n| format!("{{\"x\":{n}}}")).collect();
    assert_eq!(rows(&demands, &decoded), expected);
}

#[test]
fn depth_is_bounded() {
    for (depth, rows) in [(126, 1), (127, 0)] {
        let line = format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), rows == 1);
        for fields in [&[][..], &[("a", FieldType::Text)]] {
            assert_eq!(decode(&Format::JsonLines, &demands(fields), line.as_bytes()).rows, rows, "{depth}");
        }
    }
}
