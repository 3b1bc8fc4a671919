//! What values look like in files, in and out.

use tidemill_tests::Folder;

/// Sends a file through a pipeline without operators: `source` and `sink` are further keys of each.
#[track_caller]
fn check(from: (&str, &str), source: &str, to: &str, sink: &str, expected: &str) {
    let folder = Folder::with(&[from]);
    let pipeline = format!(
        r#"
        name = "p"
        [sources.in]
        type = "files"
        path = "{}"
        {source}
        [sinks.out]
        type = "files"
        input = "in"
        path = "{to}"
        {sink}
        "#,
        from.0
    );
    let ended = folder.run(&pipeline).well();
    assert_eq!(ended.json()["dead_letters"], serde_json::Value::Null, "nothing is malformed");
    assert_eq!(folder.read(to), expected);
}

#[test]
fn values_within_values_are_found_by_their_path() {
    check(
        ("in.jsonl", "{\"meta\":{\"time\":5,\"a.b\":\"x\"},\"n\":[1,{}]}\n{\"meta\":{}}\n{}\n"),
        "fields = { time = { type = \"integer\", path = \"meta.time\" }, dotted = { type = \"text\", path = [\"meta\", \
         \"a.b\"] } }",
        "out.jsonl",
        "",
        "{\"time\":5,\"dotted\":\"x\"}\n{\"time\":null,\"dotted\":null}\n{\"time\":null,\"dotted\":null}\n",
    );
}

#[test]
fn timestamps_are_read_and_written_in_every_unit() {
    const MS: i64 = 1_700_000_000_123;
    let inputs = [
        ("s", "1700000000", "1700000000"),
        ("ms", "1700000000123", "1700000000123"),
        ("us", "1700000000123456", "1700000000123000"),
        ("ns", "1700000000123456789", "1700000000123000000"),
        ("rfc3339", "\"2023-11-14T22:13:20.123Z\"", "\"2023-11-14T22:13:20.123Z\""),
        ("rfc3339", "\"2023-11-15T00:13:20.123+02:00\"", "\"2023-11-14T22:13:20.123Z\""),
        ("auto", "\"2023-11-14T22:13:20.123Z\"", "\"2023-11-14T22:13:20.123Z\""),
        ("auto", "1700000000123", "\"2023-11-14T22:13:20.123Z\""),
    ];
    for (unit, written, expected) in inputs {
        let fields = format!("fields = {{ at = {{ type = \"timestamp\", unit = \"{unit}\" }} }}");
        let sink = if unit == "auto" { String::new() } else { format!("timestamps = \"{unit}\"") };
        let (input, output) = (format!("{{\"at\":{written}}}\n"), format!("{{\"at\":{expected}}}\n"));
        check(("in.jsonl", &input), &fields, "out.jsonl", &sink, &output);
        let as_ms = if unit == "s" { MS / 1000 * 1000 } else { MS };
        check(("in.jsonl", &input), &fields, "out.csv", "timestamps = \"ms\"", &format!("at\n{as_ms}\n"));
    }
}

#[test]
fn every_type_goes_from_csv_to_json_and_back() {
    const FIELDS: &str = "[sources.in.fields]\nyes = \"boolean\"\nn = \"integer\"\nx = \"float\"\ntext = \"text\"\n\
        raw = \"bytes\"\nat = \"timestamp\"\n";
    let csv = "yes,n,x,text,raw,at\n\
        true,-9223372036854775808,0.1,\"a \"\"b\"\", c\",AAH/,2026-01-01T00:00:00Z\n\
        false,9223372036854775807,1e+300,ünï\u{1f980},Yg==,1969-12-31T23:59:59.999Z\n\
        ,,,,,\n";
    let json = "{\"yes\":true,\"n\":-9223372036854775808,\"x\":0.1,\"text\":\"a \\\"b\\\", c\",\"raw\":\"AAH/\",\
        \"at\":\"2026-01-01T00:00:00Z\"}\n\
        {\"yes\":false,\"n\":9223372036854775807,\"x\":1e+300,\"text\":\"ünï\u{1f980}\",\"raw\":\"Yg==\",\
        \"at\":\"1969-12-31T23:59:59.999Z\"}\n\
        {\"yes\":null,\"n\":null,\"x\":null,\"text\":null,\"raw\":null,\"at\":null}\n";
    check(("in.csv", csv), FIELDS, "out.jsonl", "", json);
    check(("in.jsonl", json), FIELDS, "out.csv", "", csv);
}

#[test]
fn csv_has_the_delimiter_header_and_nulls_that_it_is_said_to_have() {
    check(
        ("in.csv", "1;NA\n2;-\n3;x\n"),
        "csv = { delimiter = \";\", header = false, null = [\"NA\", \"-\"] }\n\
         fields = { a = { type = \"integer\", path = \"1\" }, b = { type = \"text\", path = \"2\" } }",
        "out.csv",
        "csv = { delimiter = \"\\t\", header = false }\nfields = [\"b\", \"a\"]",
        "\t1\n\t2\nx\t3\n",
    );
}

#[test]
fn lines_of_text_stay_as_they_are_and_blank_ones_are_no_rows() {
    let lines = "one\n  two, \"2\"\n\n \r\nlast";
    check(("in.txt", lines), "fields = { line = \"text\" }", "out.txt", "", "one\n  two, \"2\"\n \nlast\n");
}

#[test]
fn several_globs_are_one_source() {
    let folder = Folder::with(&[("a/1.csv", "n\n1\n"), ("a/2.csv", "n\n2\n"), ("b/3.csv", "other,n\nx,3\n")]);
    let ended = folder.run(
        r#"
        name = "p"
        [sources.in]
        type = "files"
        path = ["a/*.csv", "b/3.csv", "a/1.csv"]
        fields = { n = "integer" }
        [sinks.out]
        type = "files"
        input = "in"
        path = "made/new/out.csv"
        csv = { header = false }
        "#,
    );
    assert_eq!(ended.well().count("sources", "in", "rows"), 3);
    assert_eq!(folder.rows("made/new/out.csv"), ["1", "2", "3"]);
}
