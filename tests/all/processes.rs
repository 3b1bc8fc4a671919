//! Process operators: what they remember of each key, the timers that they set, and when they forget.

use std::fmt::Write;

use serde_json::{Value, json};
use tidemill_tests::{Folder, sorted};

/// A pipeline with one process operator, which reads `in.jsonl` and writes `out.jsonl`.
fn pipeline(component: &str, key: &str, source: &str, operator: &str) -> String {
    format!(
        r#"
        name = "p"
        [sources.rows]
        type = "files"
        path = "in.jsonl"
        {source}
        [operators.process]
        component = "@{component}"
        input = "rows"
        key = "{key}"
        {operator}
        [sinks.out]
        type = "files"
        input = "process"
        path = "out.jsonl"
        "#
    )
}

/// Runs it over these rows, at one task and at three, and checks that these rows come out.
#[track_caller]
fn check(pipeline: &str, rows: &str, expected: &[Value]) -> Folder {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    let folder = Folder::with(&[("in.jsonl", rows)]);
    for tasks in [1, 3] {
        folder.live(pipeline, tasks, "").well();
        let rows = folder.json_lines("out.jsonl").iter().map(ToString::to_string).collect::<Vec<_>>();
        let strs = |rows: &[String]| sorted(rows.iter().map(String::as_str));
        assert_eq!(strs(&rows), strs(&expected), "{tasks} tasks");
    }
    folder
}

const TIMED: &str = "event_time = { field = \"at\" }\n        fields = { who = \"text\", at = { type = \"timestamp\", unit = \"s\" } }";

#[test]
fn each_key_has_values_of_its_own() {
    let numbered = |who: &str, count| json!({"who": who, "count": count});
    check(
        &pipeline("count-by-key", "who", "fields.who = \"text\"", ""),
        "{\"who\":\"ann\"}\n{\"who\":\"bob\"}\n{\"who\":\"ann\"}\n{\"who\":\"ann\"}\n{}\n{\"who\":\"\"}\n",
        &[
            numbered("ann", 1),
            numbered("bob", 1),
            numbered("ann", 2),
            numbered("ann", 3),
            json!({"who": null, "count": 1}),
            numbered("", 1),
        ],
    );
}

#[test]
fn timers_fire_in_event_time() {
    let rows = [("ann", 0), ("bob", 30), ("ann", 50), ("ann", 200), ("bob", 205), ("ann", 230)];
    let rows: String = rows.iter().map(|(who, at)| format!("{{\"who\":\"{who}\",\"at\":{at}}}\n")).collect();
    let visit = |who: &str, start: u64, end: u64, pages: u64| {
        let time = |at: u64| format!("1970-01-01T00:{:02}:{:02}Z", at / 60, at % 60);
        json!({"who": who, "start": time(start), "end": time(end), "pages": pages})
    };
    check(
        &pipeline("sessions", "who", TIMED, "settings = { gap_minutes = 1 }"),
        &rows,
        &[
            visit("ann", 0, 50, 2),
            visit("bob", 30, 30, 1),
            visit("ann", 200, 230, 2),
            visit("bob", 205, 205, 1),
        ],
    );
}

#[test]
fn collections_keep_what_is_put_into_them() {
    let offer = |shop: &str, item: &str, price: Value| {
        format!("{}\n", json!({"shop": shop, "item": item, "price": price}))
    };
    let change = |shop: &str, item: &str, items: i64, change: Value| json!({"shop": shop, "item": item, "items": items, "change": change});
    let rows = offer("mill", "rye", json!(1.5))
        + &offer("mill", "flour", json!(2.0))
        + &offer("bakery", "rye", json!(4.0))
        + &offer("mill", "rye", json!(1.25))
        + &offer("mill", "rye", Value::Null)
        + &offer("mill", "rye", Value::Null)
        + &offer("mill", "rye", json!(3.0));
    let fields =
        "fields = { shop = \"text\", item = { type = \"text\", nullable = false }, price = \"float\" }";
    let folder = check(
        &pipeline("latest-by-item", "shop", fields, ""),
        &rows,
        &[
            change("mill", "rye", 1, Value::Null),
            change("mill", "flour", 2, Value::Null),
            change("bakery", "rye", 1, Value::Null),
            change("mill", "rye", 2, json!(-0.25)),
            change("mill", "rye", 1, Value::Null),
            change("mill", "rye", 2, Value::Null),
        ],
    );
    let rejected = folder.json_lines("p.dead-letters.jsonl");
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert!(rejected[0].to_string().contains("rye isn't sold here"), "{rejected:?}");
}

#[test]
fn what_was_silent_for_long_is_forgotten() {
    let mut rows = "{\"who\":\"ann\",\"at\":0}\n".to_owned();
    // Enough of others that time is known to have passed: it passes between batches.
    for at in 0..40_000 {
        writeln!(rows, "{{\"who\":\"bob\",\"at\":{}}}", at / 100).unwrap();
    }
    rows += "{\"who\":\"ann\",\"at\":400}\n{\"who\":\"ann\",\"at\":401}\n";
    let numbers = |ttl: &str| {
        let folder = Folder::with(&[("in.jsonl", &rows)]);
        folder.live(&pipeline("count-by-key", "who", TIMED, ttl), 2, "").well();
        let all = folder.json_lines("out.jsonl");
        let of = |who| all.iter().filter(|r| r["who"] == who).map(|r| r["count"].as_i64().unwrap()).collect();
        let (ann, bob): (Vec<i64>, Vec<i64>) = (of("ann"), of("bob"));
        (ann, *bob.last().unwrap())
    };
    assert_eq!(numbers(""), (vec![1, 2, 3], 40_000));
    assert_eq!(numbers("ttl = { count = \"2m\" }"), (vec![1, 1, 2], 40_000));
    assert_eq!(numbers("ttl = { count = \"1h\" }"), (vec![1, 2, 3], 40_000));
    let by_clock = "ttl = { count = { after = \"1h\", clock = \"processing-time\" } }";
    assert_eq!(numbers(by_clock), (vec![1, 2, 3], 40_000));
}

/// Checks that the operator, declared so, is refused with these words.
#[track_caller]
fn check_refused(pipeline: &str, expected: &str) {
    let folder = Folder::with(&[("in.jsonl", "{\"who\":\"ann\",\"at\":0}\n")]);
    let ended = folder.run(pipeline).with(2);
    assert!(ended.stderr.contains(expected), "{expected:?} is not in:\n{}", ended.stderr);
    assert!(!folder.has("out.jsonl"));
}

#[test]
fn what_a_process_operator_has_no_use_for_is_refused() {
    let counting = |source: &str, operator: &str| pipeline("count-by-key", "who", source, operator);
    check_refused(
        &counting(TIMED, "").replace("key = \"who\"", ""),
        "`process` is a process-operator, which has state and timers for each key; add `key = \"...\"`",
    );
    check_refused(
        &counting(TIMED, "window = { type = \"tumbling\", size = \"1h\" }"),
        "`process` is a process-operator, which has no windows",
    );
    check_refused(
        &counting(TIMED, "ttl = { counts = \"1h\" }"),
        "`process` has no slot `counts` in its state; did you mean `count`?",
    );
    check_refused(
        &counting("fields.who = \"text\"", "ttl = { count = \"1h\" }"),
        "`count` expires by event time, but the rows of `rows` have none",
    );
    check_refused(&counting(TIMED, "ttl = { count = \"0s\" }"), "ttl");
    check_refused(&pipeline("sessions", "who", TIMED, ""), "gap_minutes");
    check_refused(
        &pipeline("sessions", "who", "fields.who = \"text\"", "settings = { gap_minutes = 1 }"),
        "have no event time; give the source an `event_time`",
    );
    check_refused(&counting(TIMED, "").replace("key = \"who\"", "key = \"whom\""), "whom");
}
