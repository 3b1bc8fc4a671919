//! Pipelines between embedded logs: what is read once is written once, whatever happens in between; and a log that isn't
//! what it was is told.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemill_tests::{Ended, Folder, sorted, tidemill_in};

/// From a log through state and windows into two logs.
const BETWEEN_LOGS: &str = r#"
    name = "p"
    [checkpoints]
    interval = "10ms"
    retain = 2
    [sources.steps]
    type = "log"
    path = "steps"
    until_end = true
    event_time = { field = "at" }
    [sources.steps.fields]
    walker = "integer"
    at = { type = "timestamp", unit = "ms" }
    [operators.number]
    component = "@count-by-key"
    input = "steps"
    key = "walker"
    [operators.count]
    component = "@count"
    input = "steps"
    key = "walker"
    window = { type = "tumbling", size = "1m" }
    [sinks.numbers]
    type = "log"
    input = "number"
    path = "out/numbers"
    partitions = 2
    key = "walker"
    [sinks.counts]
    type = "log"
    input = "count"
    path = "out/counts"
    "#;

/// From a log to another as it is.
const COPY: &str = r#"
    name = "p"
    dead_letters = "dead-*.jsonl"
    [checkpoints]
    interval = "10ms"
    [sources.lines]
    type = "log"
    path = "in"
    until_end = true
    fields = { n = "integer" }
    [sinks.copy]
    type = "log"
    input = "lines"
    path = "copy"
    "#;

#[track_caller]
fn log(folder: &Folder, arguments: &[&str]) -> Ended {
    tidemill_in(&folder.path(""), ["log"].iter().chain(arguments))
}

fn make(folder: &Folder, name: &str, partitions: u32) {
    log(folder, &["create", name, "--partitions", &partitions.to_string()]).well();
}

/// Appends lines, each to the partition of this field, or to each in turn.
fn append(folder: &Folder, name: &str, lines: &str, key: Option<&str>) {
    folder.write("lines.jsonl", lines);
    let key = key.map(|key| vec!["--key-field", key]).unwrap_or_default();
    log(folder, &[&["append", name, "lines.jsonl"], key.as_slice()].concat()).well();
}

/// The records of a log, as `tidemill log read --json` shows them.
#[track_caller]
fn records(folder: &Folder, name: &str) -> Vec<Value> {
    let read = log(folder, &["read", name, "--json"]).well();
    read.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The values of a log's records, sorted.
#[track_caller]
fn values(folder: &Folder, name: &str) -> Vec<String> {
    let records = records(folder, name);
    sorted(records.iter().map(|record| record["value"].as_str().unwrap()))
}

/// Steps of 300 walkers in two partitions.
fn with_steps() -> Folder {
    let folder = Folder::new();
    make(&folder, "steps", 2);
    let mut lines = String::new();
    let mut walker = 7_u64;
    for step in 0..150_000 {
        walker = walker.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        writeln!(lines, "{{\"walker\":{},\"at\":{}}}", (walker >> 33) % 300, step * 10).unwrap();
    }
    append(&folder, "steps", &lines, Some("walker"));
    folder
}

/// What a run of [`BETWEEN_LOGS`] has written.
fn written(folder: &Folder) -> [Vec<String>; 2] {
    ["out/numbers", "out/counts"].map(|name| values(folder, name))
}

#[test]
fn records_are_written_once_whenever_the_process_is_killed() {
    let folder = with_steps();
    folder.live(BETWEEN_LOGS, 2, "").well();
    let expected = written(&folder);
    assert_eq!(expected[0].len(), 150_000, "a number for each step");
    let mut died_at = BTreeSet::new();
    let deaths = [
        ["sink.part=kill", "recovery.decided=kill"],
        ["sink.part=kill@3", "recovery.commit=kill"],
        ["persist.done=kill", "recovery.commit=kill"],
        ["commit.begin=kill", "commit.rename=kill"],
        // Each transaction passes it twice: before it is published, and before what was staged is removed.
        ["commit.rename=kill", "commit.rename=kill"],
        ["commit.rename=kill@2", "commit.rename=kill@2"],
        ["commit.rename=kill@3", "recovery.discard=kill"],
        ["commit.rename=kill@4", "recovery.state=kill"],
        ["commit.done=kill", "sink.part=kill@2"],
        ["persist.files=kill", "commit.rename=kill@5"],
    ];
    for deaths in deaths {
        let folder = with_steps();
        for death in deaths {
            let ended = folder.live(BETWEEN_LOGS, 2, death);
            if ended.was_killed() {
                died_at.insert(death);
            } else {
                ended.well();
            }
        }
        folder.live(BETWEEN_LOGS, 2, "").well();
        for (found, expected) in written(&folder).iter().zip(&expected) {
            let counts = (found.len(), expected.len());
            assert!(found == expected, "after {deaths:?}: {counts:?} records, found and expected");
        }
        for log in ["out/numbers", "out/counts"] {
            assert_eq!(folder.files(&format!("{log}/staged")), [""; 0], "left of {log} after {deaths:?}");
        }
    }
    let planned: BTreeSet<&str> = deaths.into_iter().flatten().collect();
    assert!(died_at.len() + 3 >= planned.len(), "only {died_at:?} of {planned:?} happened");
}

#[test]
fn a_checkpoint_that_fails_takes_no_record_with_it() {
    let folder = with_steps();
    folder.live(BETWEEN_LOGS, 2, "").well();
    let expected = written(&folder);
    let folder = with_steps();
    folder.live(BETWEEN_LOGS, 2, "persist.files=eio").well();
    assert!(written(&folder) == expected, "a checkpoint was given up, its rows come with the next");
}

#[test]
fn a_record_keeps_its_key_and_its_event_time() {
    let folder = Folder::new();
    make(&folder, "steps", 1);
    append(&folder, "steps", "{\"walker\":5,\"at\":1000}\n{\"walker\":6,\"at\":2000}\n", None);
    folder.live(BETWEEN_LOGS, 1, "").well();
    let mut records = records(&folder, "out/numbers");
    records.sort_by_key(|r| r["timestamp_ms"].as_i64());
    let shown = |r: &Value| format!("{} {}", r["timestamp_ms"], r["key"].as_str().unwrap());
    assert_eq!(records.iter().map(shown).collect::<Vec<_>>(), ["1000 5", "2000 6"]);
}

#[test]
fn a_record_is_one_row_however_it_is_broken_into_lines() {
    let folder = Folder::new();
    make(&folder, "in", 1);
    append(&folder, "in", "{\"n\":1}\n\n{\"n\":\"x\"}\n{\"n\":4}\n", None);
    folder.live(COPY, 1, "").well();
    assert_eq!(values(&folder, "copy"), ["{\"n\":1}", "{\"n\":4}"]);
    let dead: Vec<String> = folder.files("").into_iter().filter(|name| name.starts_with("dead-")).collect();
    let letter = &folder.json_lines(&dead[0])[0];
    assert_eq!((letter["record"].as_i64(), letter["raw"].as_str()), (Some(2), Some("{\"n\":\"x\"}")));
    assert_eq!(letter["from"], "lines partition 0");
}

#[test]
fn what_is_appended_later_is_followed_and_a_stop_is_gone_on_from() {
    let folder = Folder::new();
    make(&folder, "in", 2);
    let following = COPY.replace("until_end = true", "");
    append(&folder, "in", "{\"n\":1}\n", None);
    let mut expected = 1;
    for round in 0..3 {
        let running = folder.start(&following, &["--json", "--parallelism", "1"], b"");
        wait_for_records(&folder, expected);
        // One partition only: the other mustn't hold it up.
        append(&folder, "in", &format!("{{\"n\":{}}}\n", round + 2), None);
        expected += 1;
        wait_for_records(&folder, expected);
        running.interrupt();
        running.wait().with(130);
    }
    assert_eq!(values(&folder, "copy"), ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}"]);
}

fn wait_for_records(folder: &Folder, count: usize) {
    let started = Instant::now();
    while !folder.has("copy") || records(folder, "copy").len() < count {
        assert!(started.elapsed() < Duration::from_secs(30), "no {count} records came out");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_end_of_a_log_is_where_it_was_when_the_run_began() {
    let folder = Folder::new();
    make(&folder, "in", 2);
    folder.live(COPY, 2, "").well();
    assert_eq!(values(&folder, "copy"), [""; 0]);
    let from_end = COPY.replace("until_end = true", "until_end = true\nfrom = \"end\"");
    let folder = Folder::new();
    make(&folder, "in", 1);
    append(&folder, "in", "{\"n\":1}\n", None);
    folder.live(&from_end, 1, "").well();
    assert_eq!(values(&folder, "copy"), [""; 0]);
}

/// A following run that was stopped behind some records, small files of which can be trimmed.
fn stopped() -> (Folder, String) {
    let folder = Folder::new();
    log(&folder, &["create", "in", "--segment-bytes", "4096"]).well();
    for _ in 0..3 {
        append(&folder, "in", &"{\"n\":1}\n".repeat(500), None);
    }
    let following = COPY.replace("until_end = true", "");
    let running = folder.start(&following, &[], b"");
    wait_for_records(&folder, 1_500);
    running.interrupt();
    running.wait().with(130);
    (folder, following)
}

#[test]
fn a_log_that_isnt_what_it_was_is_told() {
    let (folder, following) = stopped();
    std::fs::remove_dir_all(folder.path("in")).unwrap();
    make(&folder, "in", 1);
    let refused = folder.run(&following).with(2);
    assert!(refused.stderr.contains("lines partition 0: "), "{}", refused.stderr);
    assert!(refused.stderr.contains("isn't the one that was read before"), "{}", refused.stderr);

    let (folder, following) = stopped();
    for _ in 0..3 {
        append(&folder, "in", &"{\"n\":2}\n".repeat(500), None);
    }
    log(&folder, &["trim", "in", "--partition", "0", "--before", "2900"]).well();
    let refused = folder.run(&following).with(2);
    assert!(refused.stderr.contains("lines partition 0: "), "{}", refused.stderr);
    assert!(refused.stderr.contains("1500"), "{}", refused.stderr);
}

#[test]
fn output_without_its_checkpoint_is_not_written_again() {
    let folder = Folder::new();
    make(&folder, "in", 1);
    append(&folder, "in", "{\"n\":1}\n", None);
    folder.live(COPY, 1, "").well();
    let other_store = COPY.replace("interval", "path = \"elsewhere\"\n    interval");
    let refused = folder.live(&other_store, 1, "").with(2);
    assert!(refused.stderr.contains("has output of `p/copy` already"), "{}", refused.stderr);
    assert_eq!(values(&folder, "copy"), ["{\"n\":1}"]);
}

#[test]
fn a_sink_asks_for_what_a_log_can_do() {
    let folder = Folder::new();
    make(&folder, "in", 1);
    make(&folder, "copy", 3);
    let refused = folder.run(COPY).with(2);
    assert!(refused.stderr.contains("has 3 partitions, which can't be changed"), "{}", refused.stderr);
}

#[test]
fn without_checkpoints_rows_are_appended_at_once() {
    let folder = Folder::new();
    make(&folder, "in", 1);
    append(&folder, "in", "{\"n\":1}\n{\"n\":2}\n", None);
    let direct =
        COPY.replace("dead-*.jsonl", "dead.jsonl").replace("[checkpoints]\n    interval = \"10ms\"", "");
    folder.live(&direct, 1, "").well();
    folder.live(&direct, 1, "").well();
    assert_eq!(values(&folder, "copy"), ["{\"n\":1}", "{\"n\":1}", "{\"n\":2}", "{\"n\":2}"]);
}
