//! CSV, case by case.

use super::*;

fn check(options: CsvOptions, fields: &[(&str, FieldType)], input: &str, expected: &[&str]) {
    assert_eq!(outcome(&Format::Csv(options), &demands(fields), input.as_bytes()), expected, "{input:?}");
}

#[test]
fn rfc_4180_is_read() {
    let fields = [("a", FieldType::Text), ("c", FieldType::Text)];
    let cases = [
        ("a,b,c\r\n1,2,3\r\n", "2: {\"a\":\"1\",\"c\":\"3\"}"),
        ("a,b,c\n1,2,3", "2: {\"a\":\"1\",\"c\":\"3\"}"),
        ("\"a\",\"b\",\"c\"\n\"1\",\"2\",\"3\"\n", "2: {\"a\":\"1\",\"c\":\"3\"}"),
        ("a,b,c\n\"1\r\n,\"\"x\"\"\",2,3\n", "2: {\"a\":\"1\\r\\n,\\\"x\\\"\",\"c\":\"3\"}"),
        ("a,b,c\n\n1 ,2,\" 3\"\n\n", "3: {\"a\":\"1 \",\"c\":\" 3\"}"),
        ("a,b,c\n1\"2,,\"\"\"\"\n", "2: {\"a\":\"1\\\"2\",\"c\":\"\\\"\"}"),
        ("a,b,c\n,,\"\"\n", "2: {\"a\":null,\"c\":\"\"}"),
        (
            "c,a\né,the first column and the second\n",
            "2: {\"a\":\"the first column and the second\",\"c\":\"é\"}",
        ),
    ];
    for (input, expected) in cases {
        check(CsvOptions::default(), &fields, input, &[expected]);
    }
}

#[test]
fn lines_count_embedded_breaks() {
    let input = "a\n\"1\n2\"\nx\n\"3\n\n4\"y\nz\n";
    let fields = [("a", FieldType::Text)];
    let expected = [
        "2: {\"a\":\"1\\n2\"}",
        "4: {\"a\":\"x\"}",
        "5: expected `,` after the closing quote",
        "8: {\"a\":\"z\"}",
    ];
    check(CsvOptions::default(), &fields, input, &expected);
}

#[test]
fn an_open_quote_costs_one_line() {
    let expected = ["1: {\"1\":\"x\"}", "2: a quote is not closed", "3: {\"1\":\"y\"}", "4: {\"1\":\"z\"}"];
    let options = CsvOptions { header: false, ..CsvOptions::default() };
    check(options, &[("1", FieldType::Text)], "x\n\"oh\ny\nz\n", &expected);
}

#[test]
fn values_are_read_by_type() {
    let options = || CsvOptions { delimiter: b';', header: false, null: vec!["NA".into(), "".into()] };
    let cases = [
        (FieldType::Integer, "5;007;+3; 4 ;NA;\"NA\"", "5,7,3,4,null,null"),
        (FieldType::Float, "5;.5;1e3; -2.50 ;;0.1", "5.0,0.5,1000.0,-2.5,null,0.1"),
        (FieldType::Boolean, "true;FALSE;1;0;NA;", "true,false,true,false,null,null"),
        (FieldType::Text, "NA;\"NA\";\"\";;a;NAN", "null,\"NA\",\"\",null,\"a\",\"NAN\""),
        (FieldType::Bytes, "AAEC;AA==;;NA;\"\";AA", "\"AAEC\",\"AA==\",null,null,\"\",\"AA==\""),
    ];
    for (field_type, input, expected) in cases {
        let names: Vec<_> = (1..=6).map(|n| n.to_string()).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), field_type)).collect();
        let values = expected.split(',').zip(&names).map(|(value, name)| format!("\"{name}\":{value}"));
        check(options(), &fields, input, &[&format!("1: {{{}}}", values.collect::<Vec<_>>().join(","))]);
    }
}

#[test]
fn nothing_but_the_header_is_taken_for_no_rows() {
    let format = Format::Csv(CsvOptions::default());
    let demands = demands(&[("b", FieldType::Integer)]);
    let mut decoder = Decoder::new(&format, demands.clone()).unwrap();
    let input = b"\xef\xbb\xbf\na,b\n1,2\n3,4\n";
    let header = decoder.decode(input, false, 0).unwrap();
    assert_eq!(&input[header..], b"1,2\n3,4\n");
    decoder.continue_at_line(4, false);
    assert_eq!(decoder.decode(b"3,4\n", true, 9), Ok(4));
    assert_eq!(summary(&demands, &decoder.take()), ["4: {\"b\":4}"]);
}
