//! A row that can't be used is kept with its place and the reason, and the rows around it are unharmed.

use serde_json::json;
use tidemill_tests::Folder;

/// Runs `rows.EXTENSION` with these fields to `out.jsonl`, all of them.
fn run(file: &str, content: impl AsRef<[u8]>, fields: &str) -> (Folder, u64, u64) {
    let folder = Folder::new();
    folder.write(file, content);
    let pipeline = format!(
        r#"
        name = "p"
        [sources.rows]
        type = "files"
        path = "{file}"
        fields = {{ {fields} }}
        [sinks.out]
        type = "files"
        input = "rows"
        path = "out.jsonl"
        "#
    );
    let ended = folder.run(&pipeline).well();
    let (rows, malformed) =
        (ended.count("sources", "rows", "rows"), ended.count("sources", "rows", "malformed"));
    assert_eq!(
        ended.json()["dead_letters"].is_string(),
        malformed > 0,
        "the summary names the file if there is one"
    );
    assert_eq!(ended.count("sinks", "out", "rows"), rows);
    (folder, rows, malformed)
}

#[test]
fn malformed_csv_is_kept_with_its_line_and_text() {
    let (folder, rows, malformed) =
        run("rows.csv", "a,b\n1,one\nx,two\n3\n\"4\",\"fo\nur\"\n5,five\n", r#"a = "integer", b = "text""#);
    assert_eq!((rows, malformed), (3, 2));
    let good = [json!({"a": 1, "b": "one"}), json!({"a": 4, "b": "fo\nur"}), json!({"a": 5, "b": "five"})];
    assert_eq!(folder.json_lines("out.jsonl"), good);
    let letters = folder.json_lines("p.dead-letters.jsonl");
    let places: Vec<_> =
        letters.iter().map(|l| json!([l["source"], l["from"], l["record"], l["raw"]])).collect();
    assert_eq!(places, [json!(["rows", "rows.csv", 3, "x,two"]), json!(["rows", "rows.csv", 4, "3"])]);
    assert!(letters[0]["reason"].as_str().unwrap().contains("\"a\""), "{}", letters[0]);
}

#[test]
fn malformed_json_is_kept_with_its_line_and_text() {
    let lines = "{\"a\":1}\n{\"a\":2\n\n{\"a\":\"three\"}\n[4]\n{\"a\":5}\n";
    let (folder, rows, malformed) = run("rows.jsonl", lines, r#"a = "integer""#);
    assert_eq!((rows, malformed), (2, 3));
    assert_eq!(folder.json_lines("out.jsonl"), [json!({"a": 1}), json!({"a": 5})]);
    let letters = folder.json_lines("p.dead-letters.jsonl");
    let places: Vec<_> = letters.iter().map(|l| json!([l["record"], l["raw"]])).collect();
    assert_eq!(places, [json!([2, "{\"a\":2"]), json!([4, "{\"a\":\"three\"}"]), json!([5, "[4]"])]);
}

#[test]
fn what_is_not_text_is_kept_as_base64() {
    let (folder, rows, malformed) = run("rows.csv", b"a\ngood\nb\xffd\nfine\n", r#"a = "text""#);
    assert_eq!((rows, malformed), (2, 1));
    let letter = &folder.json_lines("p.dead-letters.jsonl")[0];
    assert_eq!((&letter["raw"], &letter["raw_base64"]), (&json!(null), &json!("Yv9k")), "{letter}");
    assert_eq!(letter["record"], 3);
}

#[test]
fn a_value_that_an_operator_needs_and_a_row_lacks_rejects_the_row() {
    let folder = Folder::with(&[(
        "rows.jsonl",
        "{\"line\":\"a b\"}\n{\"line\":null}\n{\"other\":1}\n{\"line\":\"c\"}\n",
    )]);
    let ended = folder.run(
        r#"
        name = "p"
        [sources.rows]
        type = "files"
        path = "rows.jsonl"
        [operators.split]
        component = "@split-words"
        input = "rows"
        [sinks.out]
        type = "files"
        input = "split"
        path = "out.jsonl"
        "#,
    );
    let ended = ended.well();
    assert_eq!(ended.count("operators", "split", "rejected"), 2);
    assert_eq!(folder.rows("out.jsonl"), [r#"{"word":"a"}"#, r#"{"word":"b"}"#, r#"{"word":"c"}"#]);
    let letters = folder.json_lines("p.dead-letters.jsonl");
    let places: Vec<_> =
        letters.iter().map(|l| json!([l["operator"], l["from"], l["record"], l["reason"]])).collect();
    let reason = "field `line` is missing or null, but the operator reads it as always there";
    assert_eq!(
        places,
        [json!(["split", "rows.jsonl", 2, reason]), json!(["split", "rows.jsonl", 3, reason])]
    );
    assert_eq!(letters[0]["digest"].as_str().unwrap().len(), 64, "{}", letters[0]);
}

#[test]
fn flights_cancelled_at_the_end_of_a_file_are_rejected_and_the_others_go_on() {
    let cancelled = "cancelled: no departure time";
    for (rows, out, lines) in [
        ("EWR,UA,2\nLGA,DL,-3\nJFK,B6,NA\n", &[2, -3][..], &[4][..]),
        ("EWR,UA,NA\nLGA,DL,NA\nJFK,B6,NA\n", &[], &[2, 3, 4]),
    ] {
        let folder = Folder::with(&[("flights.csv", &format!("origin,carrier,dep_delay\n{rows}"))]);
        let ended = folder.run(
            r#"
            name = "p"
            [sources.flights]
            type = "files"
            path = "flights.csv"
            csv = { null = ["", "NA"] }
            [operators.clean]
            component = "@flights-clean"
            input = "flights"
            [sinks.out]
            type = "files"
            input = "clean"
            path = "out.jsonl"
            fields = ["delay_minutes"]
            "#,
        );
        let ended = ended.well();
        assert_eq!(ended.count("operators", "clean", "rows_out"), out.len() as u64);
        assert_eq!(ended.count("operators", "clean", "rejected"), lines.len() as u64);
        let expected: Vec<_> = out.iter().map(|delay| json!({ "delay_minutes": delay })).collect();
        assert_eq!(folder.json_lines("out.jsonl"), expected, "{rows}");
        let letters = folder.json_lines("p.dead-letters.jsonl");
        let places: Vec<_> =
            letters.iter().map(|l| json!([l["operator"], l["from"], l["record"], l["reason"]])).collect();
        let expected: Vec<_> =
            lines.iter().map(|line| json!(["clean", "flights.csv", line, cancelled])).collect();
        assert_eq!(places, expected, "{rows}");
    }
}

#[test]
fn a_row_without_event_time_is_malformed() {
    let folder = Folder::with(&[("rows.csv", "at,n\n2026-01-01T00:00:00Z,1\n,2\nnoon,3\n")]);
    let ended = folder.run(
        r#"
        name = "p"
        [sources.rows]
        type = "files"
        path = "rows.csv"
        event_time = { field = "at" }
        fields = { at = "timestamp", n = "integer" }
        [sinks.out]
        type = "files"
        input = "rows"
        path = "out.csv"
        "#,
    );
    assert_eq!(ended.well().count("sources", "rows", "malformed"), 2);
    assert_eq!(folder.read("out.csv"), "at,n\n2026-01-01T00:00:00Z,1\n");
}

#[test]
fn however_a_file_ends_its_lines_it_has_the_same_rows() {
    let expected = [json!({"a": 1, "b": "x"}), json!({"a": 2, "b": "y"})];
    for content in [
        "a,b\n1,x\n2,y\n",
        "a,b\n1,x\n2,y",
        "a,b\r\n1,x\r\n2,y\r\n",
        "\u{feff}a,b\n1,x\n2,y\n",
        "a,b\n\n1,x\n\n2,y\n\n",
    ] {
        let (folder, rows, malformed) = run("rows.csv", content, r#"a = "integer", b = "text""#);
        assert_eq!((rows, malformed), (2, 0), "{content:?}");
        assert_eq!(folder.json_lines("out.jsonl"), expected, "{content:?}");
    }
    for content in [
        "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}",
        "{\"a\":1,\"b\":\"x\"}\r\n{\"a\":2,\"b\":\"y\"}\r\n",
        "\u{feff}{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}\n",
    ] {
        let (folder, rows, malformed) = run("rows.jsonl", content, r#"a = "integer", b = "text""#);
        assert_eq!((rows, malformed), (2, 0), "{content:?}");
        assert_eq!(folder.json_lines("out.jsonl"), expected, "{content:?}");
    }
}

#[test]
fn an_empty_file_has_no_rows() {
    for (file, content) in [("rows.jsonl", ""), ("rows.csv", "a,b\n"), ("rows.csv", "a,b"), ("rows.csv", "")]
    {
        let (folder, rows, malformed) = run(file, content, r#"a = "integer", b = "text""#);
        assert_eq!((rows, malformed), (0, 0), "{file} with {content:?}");
        assert_eq!(folder.read("out.jsonl"), "");
        assert!(!folder.has("p.dead-letters.jsonl"));
    }
}

#[test]
fn dead_letters_of_an_earlier_run_do_not_stay() {
    let folder = Folder::with(&[("rows.csv", "a\nx\n"), ("p.dead-letters.jsonl", "old\n")]);
    let pipeline = r#"
        name = "p"
        [sources.rows]
        type = "files"
        path = "rows.csv"
        fields = { a = "integer" }
        [sinks.out]
        type = "files"
        input = "rows"
        path = "out.csv"
        "#;
    folder.run(pipeline).well();
    assert_eq!(folder.json_lines("p.dead-letters.jsonl").len(), 1);
    folder.write("rows.csv", "a\n1\n");
    folder.run(pipeline).well();
    assert!(!folder.has("p.dead-letters.jsonl"));
}
