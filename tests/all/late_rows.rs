//! Rows that come too late for their windows are counted once, can be read, and nothing is lost between.

use std::collections::BTreeMap;

use tidemill_tests::Folder;

const EVENTS: u64 = 20_000;

/// Bids out of order by 4 s, read with a bound of 300 ms, counted by the second.
const PIPELINE: &str = r#"
    name = "p"
    late = "unread.jsonl"
    [sources.bids]
    type = "files"
    path = "events.jsonl"
    event_time = { field = "dateTime", out_of_orderness = "300ms" }
    [sources.bids.fields]
    event_type = "text"
    price = "integer"
    dateTime = { type = "timestamp", unit = "ms" }
    [operators.fine]
    component = "@nexmark-currency"
    input = "bids"
    [operators.count]
    component = "@count"
    input = "fine"
    key = "event_type"
    window = { type = "tumbling", size = "1s" }
    [sinks.counts]
    type = "files"
    input = "count"
    path = "counts.jsonl"
    timestamps = "ms"
    "#;

#[test]
fn every_row_is_folded_late_or_rejected() {
    for parallelism in ["1", "4"] {
        let folder = shuffled();
        let ended = folder.run_with(PIPELINE, &["--json", "--parallelism", parallelism]).well();
        let count = |what| ended.count("operators", "count", what);
        let folded: u64 = counts(&folder).values().sum();
        let (bids, late, rejected) =
            (ended.count("operators", "fine", "rows_out"), count("late"), count("rejected"));
        assert_eq!(count("rows_in"), bids);
        assert!(late > 100 && folded > 100, "{late} late and {folded} folded rows prove little");
        assert_eq!(folded + late + rejected, bids, "{folded} folded, {late} late, {rejected} rejected");
        assert_eq!(count("groups_left"), 0);
        assert_eq!(folder.json_lines("unread.jsonl").len() as u64, late);
    }
}

#[test]
fn late_rows_can_be_read_with_how_late_they_are() {
    let folder = shuffled();
    let sink =
        "[sinks.late]\ntype = \"files\"\ninput = \"count.late\"\npath = \"late.jsonl\"\ntimestamps = \"ms\"";
    let ended = folder.run(&format!("{PIPELINE}\n{sink}")).well();
    let late = folder.json_lines("late.jsonl");
    assert_eq!(late.len() as u64, ended.count("operators", "count", "late"));
    assert!(!folder.has("unread.jsonl"), "the file is for late rows that nobody reads");
    // The same rule, row by row: in the order of the file, the bound behind the latest event of any kind.
    let mut expected = Vec::new();
    let mut watermark = i64::MIN;
    for event in folder.json_lines("events.jsonl") {
        let time = event["dateTime"].as_i64().unwrap();
        let last = time - time.rem_euclid(1000) + 999;
        if event["event_type"] == "bid" && last <= watermark {
            expected.push((time, event["price"].as_i64().map(|p| p * 908 / 1000), watermark - last));
        }
        watermark = watermark.max(time - 300 - 1);
    }
    let found = late.iter().map(|row| {
        (row["dateTime"].as_i64().unwrap(), row["price"].as_i64(), row["late_by_ms"].as_i64().unwrap())
    });
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert!(expected.len() > 100, "{} late rows prove little", expected.len());
    assert_eq!(found, expected);
}

fn counts(folder: &Folder) -> BTreeMap<i64, u64> {
    let count =
        |row: serde_json::Value| (row["window_start"].as_i64().unwrap(), row["count"].as_u64().unwrap());
    folder.json_lines("counts.jsonl").into_iter().map(count).collect()
}

/// A folder with `events.jsonl`.
fn shuffled() -> Folder {
    let folder = Folder::new();
    let ended = folder.run(&format!(
        r#"
        name = "events"
        [sources.events]
        type = "nexmark"
        events = {EVENTS}
        events_per_second = 1_000
        out_of_orderness = "4s"
        [sinks.out]
        type = "files"
        input = "events"
        path = "events.jsonl"
        fields = ["event_type", "price", "dateTime"]
        timestamps = "ms"
        "#
    ));
    ended.well();
    folder
}

#[test]
fn a_row_is_not_late_while_another_partition_is_behind_it() {
    let at = |seconds: &[u32]| -> String {
        seconds
            .iter()
            .map(|s| format!("{{\"event_type\":\"bid\",\"price\":1,\"dateTime\":{s}000}}\n"))
            .collect()
    };
    // 50 comes after 100; but as long as the other file is at its beginning, so is time.
    let folder = Folder::with(&[("events-1.jsonl", &at(&[1, 100, 50])), ("events-2.jsonl", &at(&[1, 10]))]);
    let pipeline = PIPELINE.replace("events.jsonl", "events-*.jsonl");
    let ended = folder.run_with(&pipeline, &["--json", "--parallelism", "1"]).well();
    assert_eq!(ended.count("operators", "count", "late"), 0);
    assert_eq!(counts(&folder), [(1_000, 2), (10_000, 1), (50_000, 1), (100_000, 1)].into());
}
