//! Checkpoints that don't wait for all barriers: what was in flight is processed once by whoever goes on from them, at any
//! number of tasks.

use serde_json::Value;
use tidemill_tests::{Folder, tidemill_in};

use crate::lives::{assert_same, committed, uninterrupted};

/// Two sources, one as quick as it can be and one in real time, feed an operator that is slower than both: so there are
/// always rows before the barrier of the one that have to wait when that of the other has come. The windows behind it
/// hear from all of its tasks, some sooner and some later.
pub(crate) const UNEVEN: &str = r#"
    name = "p"
    [checkpoints]
    interval = "20ms"
    unaligned_after = "0s"
    retain = 100
    [sources.flood]
    type = "nexmark"
    events = 20_000
    events_per_second = 40_000
    out_of_orderness = "40ms"
    partitions = 2
    [sources.quiet]
    type = "nexmark"
    events = 8_000
    events_per_second = 20_000
    out_of_orderness = "40ms"
    seed = 7
    pace = "event-time"
    [operators.bids]
    component = "@nexmark-bids"
    input = "flood"
    [operators.other-bids]
    component = "@nexmark-bids"
    input = "quiet"
    [operators.number]
    component = "@hostile-keyed"
    inputs = ["bids", "other-bids"]
    key = "bidder"
    settings = { do = "dawdle" }
    [operators.count]
    component = "@count"
    input = "number"
    key = "bidder"
    window = { type = "hopping", size = "100ms", slide = "20ms" }
    [sinks.numbers]
    type = "files"
    input = "number"
    path = "out/numbers-*.jsonl"
    [sinks.counts]
    type = "files"
    input = "count"
    path = "out/counts-*.jsonl"
    "#;

/// The manifests of all checkpoints that are kept, in order.
fn manifests(folder: &Folder) -> Vec<Value> {
    let names = folder.files("p.checkpoints/checkpoints");
    let read = |name: &String| {
        let text = folder.read(&format!("p.checkpoints/checkpoints/{name}"));
        // Behind it is a line with its digest.
        serde_json::Deserializer::from_str(&text).into_iter().next().unwrap().unwrap()
    };
    names.iter().map(read).collect()
}

/// How many rows were in flight at each checkpoint that is kept, in order.
pub(crate) fn rows_in_flight(folder: &Folder) -> Vec<u64> {
    manifests(folder).iter().map(in_flight).collect()
}

fn in_flight(manifest: &Value) -> u64 {
    let operators = manifest["operators"].as_array().unwrap();
    operators.iter().filter_map(|o| o["in_flight"]["rows"].as_u64()).sum()
}

#[test]
fn rows_in_flight_are_processed_once_at_any_number_of_tasks() {
    let expected = uninterrupted(UNEVEN);
    let folder = Folder::new();
    let mut with_rows = 0;
    for tasks in [3, 1, 2, 3] {
        // When it begins, queues fill: the first checkpoint has rows in flight nearly always.
        let killed = folder.live(UNEVEN, tasks, "commit.done=kill@1").was_killed();
        let newest = rows_in_flight(&folder).pop().unwrap();
        println!("{tasks} tasks: killed: {killed}, {newest} rows in flight");
        with_rows += u32::from(killed && newest > 0);
    }
    folder.live(UNEVEN, 2, "").well();
    assert_same(&committed(&folder), &expected, "after starts with another number of tasks");
    assert!(with_rows >= 1, "no start found rows in flight");
    // The last one waits for all barriers, and nothing of the others is left in it.
    let last = manifests(&folder).pop().unwrap();
    assert_eq!((last["kind"].as_str(), in_flight(&last)), (Some("finished"), 0));
}

#[test]
fn what_is_in_flight_is_shown_and_is_no_state() {
    let folder = Folder::new();
    assert!(folder.live(UNEVEN, 1, "commit.done=kill@2").was_killed());
    let all = manifests(&folder);
    let with_rows = all.iter().rev().find(|m| in_flight(m) > 0).expect("one with rows in flight");
    let number = with_rows["checkpoint"].to_string();
    assert_eq!(with_rows["format"], 2);
    let shown =
        tidemill_in(&folder.path(""), ["checkpoint", "show", "p.checkpoints", &number].map(str::to_owned));
    let shown = shown.well().stdout;
    assert!(shown.contains("rows in flight\n"), "{shown}");
    assert!(shown.contains("  in flight   "), "{shown}");
    let state = ["state", "show", "p.checkpoints", "number", "--at", &number].map(str::to_owned);
    let state = tidemill_in(&folder.path(""), state).well().stdout;
    assert!(state.lines().all(|line| line.contains("\"state\"")), "{state:.500}");
}

#[test]
fn a_version_that_reads_other_fields_is_told_to_go_back() {
    // Both operators read the same tasks: what is slow for the one comes late to the other.
    let pipeline = UNEVEN
        .replace("input = \"number\"\n    key", "inputs = [\"bids\", \"other-bids\"]\n    key")
        .replace("key = \"bidder\"\n    window", "key = \"channel\"\n    window");
    let to_count = |manifest: &Value| {
        let operators = manifest["operators"].as_array().unwrap();
        operators.iter().find(|o| o["id"] == "count").and_then(|o| o["in_flight"]["rows"].as_u64())
    };
    let folder = Folder::new();
    assert!(folder.live(&pipeline, 3, "commit.done=kill@1").was_killed(), "it ended too early");
    // Without rows in flight it would have none of the fields either.
    assert!(manifests(&folder).last().and_then(to_count).is_some(), "`count` had waited for all barriers");
    let other = pipeline.replace("@count\"", "@nexmark-highest-bid\"");
    let refused = folder.live(&other, 3, "").with(2);
    for words in
        ["rows are in flight to `count`", "they don't have the field", "run that one again and stop it"]
    {
        assert!(refused.stderr.contains(words), "{words:?} is not in:\n{}", refused.stderr);
    }
    folder.live(&pipeline, 2, "").well();
    assert_same(&committed(&folder), &uninterrupted(&pipeline), "with the version before");
}
