//! Joins: which rows meet, when those are told that meet none, and that kills change nothing of it.

use serde_json::{Value, json};
use tidemill_tests::{Consumer, Folder, sorted, tidemill};

use crate::lives::{JOINS, assert_same, committed, uninterrupted};

/// Orders and payments joined by order, whose rows are written to `out.jsonl`. Rows come in order of time, the file's;
/// the two sources are read side by side.
fn pipeline(join: &str, more: &str) -> String {
    format!(
        r#"
        name = "p"
        [sources.orders]
        type = "files"
        path = "orders.jsonl"
        event_time = {{ field = "at", out_of_orderness = "1h" }}
        fields = {{ at = {{ type = "timestamp", unit = "s" }}, id = "text", customer = "text", amount = "float" }}
        [sources.payments]
        type = "files"
        path = "payments.jsonl"
        event_time = {{ field = "at", out_of_orderness = "1h" }}
        fields = {{ at = {{ type = "timestamp", unit = "s" }}, order = "text", method = "text", void = "boolean" }}
        [operators.paid]
        component = "@join-orders-payments"
        inputs = ["orders", "payments"]
        keys = [["id"], ["order"]]
        {join}
        [sinks.out]
        type = "files"
        input = "paid"
        path = "out.jsonl"
        {more}
        "#
    )
}

const ORDERS: &str = r#"{"at":0,"id":"a","customer":"ann","amount":1.0}
{"at":10,"id":"b","customer":"bob","amount":2.0}
{"at":20,"id":"a","customer":"ann","amount":3.0}
{"at":30,"id":"c","customer":"cem","amount":-4.0}
{"at":99,"id":"d","customer":"dot","amount":5.0}
"#;

const PAYMENTS: &str = r#"{"at":5,"order":"a","method":"cash"}
{"at":15,"order":"a","method":"card"}
{"at":25,"order":"b","method":"card"}
{"at":27,"order":"c","method":"card"}
{"at":28,"order":"b","method":"cash","void":true}
"#;

/// Runs it at one task and at three, and checks that these customers pay so.
#[track_caller]
fn check(pipeline: &str, expected: &[(&str, f64, Option<&str>)]) -> Folder {
    let folder = Folder::with(&[("orders.jsonl", ORDERS), ("payments.jsonl", PAYMENTS)]);
    let told = |(customer, amount, method): &(&str, f64, Option<&str>)| {
        json!({"customer": customer, "amount": amount, "method": method}).to_string()
    };
    let expected: Vec<String> = expected.iter().map(told).collect();
    for tasks in [1, 3] {
        folder.live(pipeline, tasks, "").well();
        let rows = folder.json_lines("out.jsonl").into_iter().map(|mut row| {
            let row = row.as_object_mut().unwrap();
            json!({"customer": row["customer"], "amount": row["amount"], "method": row["method"]}).to_string()
        });
        let rows: Vec<String> = rows.collect();
        let strs = |rows: &[String]| sorted(rows.iter().map(String::as_str));
        assert_eq!(strs(&rows), strs(&expected), "{tasks} tasks");
    }
    folder
}

#[test]
fn an_interval_join_pairs_what_is_near_and_tells_what_is_alone() {
    let inner = "join = { type = \"interval\", lower = \"-5s\", upper = \"15s\" }";
    let near = [
        ("ann", 1.0, Some("cash")),
        ("ann", 1.0, Some("card")),
        ("bob", 2.0, Some("card")),
        ("ann", 3.0, Some("card")),
    ];
    let folder = check(&pipeline(inner, ""), &near);
    let rows = folder.json_lines("out.jsonl");
    assert!(rows.iter().all(|row| row["id"].is_string()), "the key is among the fields: {rows:?}");
    // What the component rejects is set aside with both sides.
    let rejected = folder.json_lines("p.dead-letters.jsonl");
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0]["row"]["right.method"], "card");
    let left = inner.replace("lower", "kind = \"left\", lower");
    check(&pipeline(&left, ""), &[&near[..], &[("dot", 5.0, None)]].concat());
    let exclusive = inner.replace("upper =", "exclusive = \"both\", upper =");
    check(&pipeline(&exclusive, ""), &[near[0]]);
}

#[test]
fn a_window_join_pairs_what_is_in_a_window() {
    let join =
        "join = { type = \"window\", kind = \"left\" }\nwindow = { type = \"tumbling\", size = \"20s\" }";
    let folder = check(
        &pipeline(join, ""),
        &[
            ("ann", 1.0, Some("cash")),
            ("ann", 1.0, Some("card")),
            ("bob", 2.0, None),
            ("ann", 3.0, None),
            ("dot", 5.0, None),
        ],
    );
    let of_dot = folder.json_lines("out.jsonl").into_iter().find(|row| row["customer"] == "dot").unwrap();
    assert_eq!(of_dot["window_start"], "1970-01-01T00:01:20Z");
}

#[test]
fn a_table_join_finds_what_was_valid() {
    let join = "join = { type = \"table\", kind = \"left\", grace = \"5s\", versions = \"1h\", delete_when = \"void\" }";
    let expected = [("ann", 1.0, None), ("bob", 2.0, None), ("ann", 3.0, Some("card")), ("dot", 5.0, None)];
    check(&pipeline(join, ""), &expected);
}

/// A source joined with itself: each row meets itself, but for the last one, which is too late for that on both sides.
#[test]
fn late_rows_of_both_sides_say_where_they_come_from() {
    const ROWS: usize = 20_000;
    let text = r#"
        name = "p"
        [sources.rows]
        type = "files"
        path = "rows.jsonl"
        event_time = { field = "at" }
        fields = { at = { type = "timestamp", unit = "s" }, id = "integer", customer = "text", amount = "float", method = "text" }
        [operators.paid]
        component = "@join-orders-payments"
        inputs = ["rows", "rows"]
        key = "id"
        join = { type = "interval", lower = "0s", upper = "1s" }
        [sinks.out]
        type = "files"
        input = "paid"
        path = "out.jsonl"
        "#;
    let row = |id: usize, at: usize| {
        format!("{{\"at\":{at},\"id\":{id},\"customer\":\"ann\",\"amount\":1.0,\"method\":\"card\"}}\n")
    };
    let rows: String = (0..ROWS).map(|id| row(id, id)).chain([row(ROWS, 3)]).collect();
    let folder = Folder::with(&[("rows.jsonl", &rows)]);
    let ended = folder.live(text, 3, "").well();
    assert_eq!(folder.json_lines("out.jsonl").len(), ROWS);
    let lateness = |late: Vec<Value>| {
        let by = |side: &str| {
            let of_side: Vec<&Value> = late.iter().filter(|row| row["late_side"] == side).collect();
            assert_eq!(of_side.len(), 1, "{late:?}");
            of_side[0]["late_by_ms"].as_i64().unwrap()
        };
        // Time had come to some block of the file, on both sides.
        let block_ms = 1_000_000;
        assert!(by("left") > block_ms && by("right") > block_ms, "{late:?}");
    };
    assert_eq!(ended.count("operators", "paid", "late"), 2);
    let unread = folder.json_lines("p.late.jsonl");
    assert!(unread.iter().all(|late| late["reason"] == "the row came when it could no longer be joined"));
    lateness(unread.into_iter().map(|late| late["row"].clone()).collect());
    let sink = "[sinks.late]\ntype = \"files\"\ninput = \"paid.late\"\npath = \"late.jsonl\"\n\
                fields = [\"customer\", \"method\", \"late_side\", \"late_by_ms\"]";
    folder.live(&format!("{text}\n{sink}"), 1, "").well();
    lateness(folder.json_lines("late.jsonl"));
}

#[test]
fn a_join_that_was_killed_goes_on_with_another_number_of_tasks() {
    let expected = uninterrupted(JOINS);
    for (first, second) in [(1, 3), (3, 2)] {
        let folder = Folder::new();
        assert!(folder.live(JOINS, first, "commit.rename=kill@3").was_killed());
        folder.live(JOINS, second, "snapshot.slice=kill@20");
        folder.live(JOINS, first, "").well();
        assert_same(&committed(&folder), &expected, &format!("from {first} to {second} tasks"));
    }
}

/// Every bid is told by itself or in pairs, never both and never twice alone; and none is late behind the join.
#[test]
fn what_is_alone_is_told_once() {
    let folder = Folder::new();
    let ended = folder.live(JOINS, 2, "").well();
    for operator in ["near", "together", "known", "count"] {
        assert_eq!(ended.count("operators", operator, "late"), 0, "{operator}");
    }
    assert_eq!(ended.count("operators", "known", "rows_out"), ended.count("operators", "bids", "rows_out"));
    let mut consumer = Consumer::new("out");
    consumer.look(&folder);
    let parsed = |row: &String| -> Value { serde_json::from_str(row.split_once(' ').unwrap().1).unwrap() };
    let rows: Vec<Value> = consumer.rows().iter().map(parsed).collect();
    let counted: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
    assert_eq!(
        counted,
        ended.count("operators", "near", "rows_out"),
        "windows behind the join have every row"
    );
}

#[test]
fn what_a_join_keeps_can_be_looked_at() {
    let folder = Folder::new();
    let joins =
        JOINS.replace("events = 8_000", "events = 40_000").replace("events = 6_000", "events = 30_000");
    assert!(folder.live(&joins, 2, "commit.done=kill@3").was_killed());
    let store = folder.path("p.checkpoints");
    let rows = |operator: &str| {
        let shown = tidemill(["state", "show", store.to_str().unwrap(), operator, "--limit", "20"]).well();
        shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    for operator in ["near", "together", "known"] {
        let rows = rows(operator);
        assert!(!rows.is_empty(), "{operator}");
        for row in &rows {
            assert!(row["key"]["price"].is_i64() && row["time"].is_string(), "{row}");
            assert!(row["row"]["bidder"].is_i64(), "{row}");
            assert_eq!(row["window_end"].is_string(), operator == "together", "{row}");
        }
    }
}
