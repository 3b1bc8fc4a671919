//! Rows that a log shows at once, and that are there once all the same, whenever the process is killed and whatever it
//! then goes on from.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemill_tests::{Ended, Folder, sorted, tidemill_in};

use crate::lives::assert_same;

/// From logs through a flat-map, windows, running numbers and timers into logs that show everything at once. The rows of
/// a walker are in one partition, so that their numbers don't depend on how partitions take turns; and a visitor comes
/// once, so that each visit ends with its timer, and none with a row that happened to be faster.
const PIPELINE: &str = r#"
    name = "p"
    [checkpoints]
    interval = "20ms"
    [sources.lines]
    type = "log"
    path = "lines"
    until_end = true
    event_time = { field = "at" }
    [sources.lines.fields]
    walker = "integer"
    line = "text"
    at = { type = "timestamp", unit = "ms" }
    [sources.walks]
    type = "log"
    path = "walks"
    until_end = true
    event_time = { field = "at" }
    [sources.walks.fields]
    visitor = "integer"
    at = { type = "timestamp", unit = "ms" }
    [operators.split]
    component = "@split-words"
    input = "lines"
    [operators.count]
    component = "@count"
    input = "split"
    key = "word"
    window = { type = "tumbling", size = "20s" }
    [operators.number]
    component = "@count-by-key"
    input = "lines"
    key = "walker"
    [operators.sessions]
    component = "@sessions"
    input = "walks"
    key = "visitor"
    settings = { gap_minutes = 1 }
    [sinks.words]
    type = "log"
    input = "split"
    path = "out/words"
    delivery = "idempotent"
    [sinks.counts]
    type = "log"
    input = "count"
    path = "out/counts"
    delivery = "idempotent"
    partitions = 2
    key = "word"
    [sinks.numbers]
    type = "log"
    input = "number"
    path = "out/numbers"
    delivery = "idempotent"
    partitions = 3
    [sinks.visits]
    type = "log"
    input = "sessions"
    path = "out/visits"
    delivery = "idempotent"
    "#;

const SINKS: [&str; 4] = ["words", "counts", "numbers", "visits"];
const LINES: u64 = 15_000;

fn log(folder: &Folder, arguments: &[&str]) -> Ended {
    tidemill_in(&folder.path(""), ["log"].iter().chain(arguments))
}

/// Lines of four words, of walkers whose rows each stand in one partition.
fn lines(from: u64, count: u64) -> String {
    let (mut lines, mut random) = (String::new(), Random(from));
    for n in from..from + count {
        let (walker, visitor) = (random.below(40), n / 10);
        let words: Vec<String> = (0..4).map(|_| format!("w{}", random.below(200))).collect();
        let (line, at) = (words.join(" "), n * 100);
        writeln!(lines, r#"{{"walker":{walker},"visitor":{visitor},"line":"{line}","at":{at}}}"#).unwrap();
    }
    lines
}

fn append(folder: &Folder, lines: &str) {
    folder.write("lines.jsonl", lines);
    log(folder, &["append", "lines", "lines.jsonl", "--key-field", "walker"]).well();
    log(folder, &["append", "walks", "lines.jsonl"]).well();
}

fn folder_with(lines: &str) -> Folder {
    let folder = Folder::new();
    log(&folder, &["create", "lines", "--partitions", "3"]).well();
    log(&folder, &["create", "walks"]).well();
    append(&folder, lines);
    folder
}

#[track_caller]
fn records(folder: &Folder, sink: &str) -> Vec<Value> {
    let read = log(folder, &["read", &format!("out/{sink}"), "--json"]).well();
    read.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the records say, with their times, sorted. Each must have an id of its own.
#[track_caller]
fn written(folder: &Folder, sink: &str) -> Vec<String> {
    let records = records(folder, sink);
    assert_eq!(ids(&records).len(), records.len(), "ids of {sink}");
    let row = |r: &Value| format!("{} {}", r["timestamp_ms"], r["value"].as_str().unwrap());
    let rows: Vec<String> = records.iter().map(row).collect();
    sorted(rows.iter().map(String::as_str))
}

fn ids(records: &[Value]) -> BTreeSet<&str> {
    records.iter().map(|record| record["row_id"].as_str().unwrap()).collect()
}

/// What a run writes that nobody interrupts, and how long it takes.
fn uninterrupted(lines: &str) -> ([Vec<String>; 4], Duration) {
    let folder = folder_with(lines);
    let begun = Instant::now();
    folder.live(PIPELINE, 2, "").well();
    let took = begun.elapsed();
    let written = SINKS.map(|sink| written(&folder, sink));
    assert_eq!(written[0].len() as u64, LINES * 4, "words");
    assert_eq!(written[2].len() as u64, LINES, "numbers");
    assert_eq!(written[3].len() as u64, LINES / 10, "visits");
    assert!(written[1].len() > 10_000, "{} counts", written[1].len());
    (written, took)
}

#[track_caller]
fn assert_written(folder: &Folder, expected: &[Vec<String>; 4], what: &str) {
    for (sink, expected) in SINKS.iter().zip(expected) {
        assert_same(&written(folder, sink), expected, &format!("{sink} {what}"));
    }
}

#[test]
fn rows_are_there_once_wherever_the_process_is_killed() {
    let lines = lines(0, LINES);
    let (expected, _) = uninterrupted(&lines);
    let (mut died_at, mut planned) = (BTreeSet::new(), BTreeSet::new());
    for (deaths, parallelism) in [
        (["sink.part=kill", "recovery.state=kill", "sink.part=kill@2"], [1, 1, 1, 1]),
        (["sink.part=kill@5", "persist.begin=kill", "persist.done=kill@2"], [3, 3, 3, 3]),
        (["persist.files=kill@2", "sink.part=kill@6", "barrier.task=kill@3"], [1, 3, 2, 1]),
        (["barrier.source=kill", "barrier.task=kill@2", "snapshot.done=kill@4"], [3, 1, 3, 2]),
        (["commit.done=kill", "barrier.task=kill@9", "recovery.decided=kill"], [2, 2, 3, 3]),
    ] {
        let folder = folder_with(&lines);
        for (death, parallelism) in deaths.into_iter().zip(parallelism) {
            planned.insert(death);
            let ended = folder.live(PIPELINE, parallelism, death);
            if ended.was_killed() {
                died_at.insert(death);
            } else {
                ended.well();
            }
        }
        folder.live(PIPELINE, parallelism[3], "").well();
        assert_written(&folder, &expected, &format!("after {deaths:?} with parallelism {parallelism:?}"));
    }
    assert!(died_at.len() + 3 >= planned.len(), "only {died_at:?} of {planned:?} happened");
}

#[test]
fn rows_are_there_once_whenever_the_process_is_killed() {
    let lines = lines(0, LINES);
    let (expected, took) = uninterrupted(&lines);
    let mut within_ms = u64::try_from(took.as_millis()).unwrap().max(4);
    let mut random = Random::new();
    let (mut killed, mut with_rows) = (0, 0);
    // How long a life takes is another matter on a machine that is busy, so those who ended before their kill are
    // followed by others that are killed sooner, until enough were hit.
    for folders in 0.. {
        if folders >= 2 && killed >= 4 && with_rows >= 1 {
            break;
        }
        assert!(folders < 20, "{killed} kills hit, {with_rows} when there were rows");
        let first = if folders % 2 == 0 { 1 } else { 3 };
        let folder = folder_with(&lines);
        for life in 0..8 {
            // Later lives have another parallelism than the first.
            let parallelism = if life < 4 { first } else { 4 - first };
            let mut running =
                folder.start(PIPELINE, &["--quiet", "--parallelism", &parallelism.to_string()], b"");
            std::thread::sleep(Duration::from_millis(random.below(within_ms)));
            running.kill();
            let ended = running.wait();
            if !ended.was_killed() {
                ended.well();
                within_ms = (within_ms * 3 / 4).max(4);
                break;
            }
            killed += 1;
            with_rows += u32::from(folder.has("out/words/log") && !records(&folder, "words").is_empty());
        }
        folder.live(PIPELINE, first, "").well();
        assert_written(&folder, &expected, &format!("after {killed} kills"));
    }
}

/// Its first checkpoint is far away, and it waits for more.
fn without_checkpoints_yet() -> String {
    PIPELINE.replace("\"20ms\"", "\"1h\"").replace("until_end = true", "")
}

#[test]
fn rows_are_seen_before_any_checkpoint_and_known_again_without_one() {
    let (first, more) = (lines(0, 2_000), lines(2_000, 2_000));
    let folder = folder_with(&first);
    for _ in 0..2 {
        let mut running = folder.start(&without_checkpoints_yet(), &["--parallelism", "3"], b"");
        wait_for(&folder, "numbers", 2_000);
        wait_for(&folder, "words", 8_000);
        running.kill();
        assert!(running.wait().was_killed());
        assert_eq!(manifests(&folder), 0, "a checkpoint was complete");
    }
    append(&folder, &more);
    folder.live(PIPELINE, 1, "").well();
    let whole = folder_with(&first);
    append(&whole, &more);
    whole.live(PIPELINE, 2, "").well();
    for sink in SINKS {
        let (found, expected) = (written(&folder, sink), written(&whole, sink));
        assert_same(&found, &expected, sink);
    }
}

fn wait_for(folder: &Folder, sink: &str, count: usize) {
    let begun = Instant::now();
    while !folder.has(&format!("out/{sink}/log")) || records(folder, sink).len() < count {
        assert!(begun.elapsed() < Duration::from_secs(30), "no {count} rows in {sink}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn manifests(folder: &Folder) -> usize {
    let names = folder.files("p.checkpoints/checkpoints");
    assert!(folder.has("p.checkpoints"), "{:?}", folder.files(""));
    names.iter().filter(|name| name.ends_with(".json")).count()
}

#[test]
fn going_back_to_a_savepoint_writes_nothing_twice() {
    let folder = folder_with(&lines(0, 5_000));
    let following = PIPELINE.replace("until_end = true", "");
    let running = folder.start(&following, &[], b"");
    wait_for(&folder, "numbers", 5_000);
    running.interrupt();
    running.wait().with(130);
    let newest = folder.files("p.checkpoints/checkpoints").pop().unwrap();
    let number = newest[..10].trim_start_matches('0').to_owned();
    tidemill_in(&folder.path(""), ["checkpoint", "keep", "p.checkpoints", &number, "before"]).well();
    append(&folder, &lines(5_000, 3_000));
    let running = folder.start(&following, &[], b"");
    wait_for(&folder, "numbers", 8_000);
    running.interrupt();
    running.wait().with(130);
    let before = SINKS.map(|sink| records(&folder, sink));
    let running = folder.start(&following, &["--from", "before"], b"");
    append(&folder, &lines(8_000, 10));
    wait_for(&folder, "numbers", 8_010);
    running.interrupt();
    running.wait().with(130);
    for (sink, before) in SINKS.iter().zip(before) {
        let after = records(&folder, sink);
        assert_eq!(ids(&after).len(), after.len(), "ids of {sink}");
        assert!(
            after.starts_with(&before) || ids(&before).is_subset(&ids(&after)),
            "rows of {sink} are there still"
        );
    }
}

#[test]
fn a_delivery_that_would_write_rows_again_is_refused() {
    let folder = folder_with(&lines(0, 1_000));
    let following = PIPELINE.replace("until_end = true", "");
    let stop = |pipeline: &str, count| {
        let running = folder.start(pipeline, &[], b"");
        wait_for(&folder, "numbers", count);
        running.interrupt();
        running.wait().with(130);
    };
    stop(&following, 1_000);
    append(&folder, &lines(1_000, 100));
    let mut running = folder.start(&without_checkpoints_yet(), &[], b"");
    wait_for(&folder, "numbers", 1_100);
    running.kill();
    running.wait();
    let exactly_once = PIPELINE.replace("\"idempotent\"", "\"exactly-once\"");
    let refused = folder.live(&exactly_once, 1, "").with(2);
    let why = "rows that were shown at once since the checkpoint";
    assert!(refused.stderr.contains(why), "{}", refused.stderr);
    append(&folder, &lines(1_100, 10));
    stop(&following, 1_110);
    append(&folder, &lines(1_110, 10));
    folder.live(&exactly_once, 1, "").well();
    assert_eq!(records(&folder, "numbers").len(), 1_120);
}

#[test]
fn late_rows_keep_their_ids() {
    let folder = Folder::new();
    log(&folder, &["create", "lines"]).well();
    log(&folder, &["create", "walks"]).well();
    folder.write(
        "lines.jsonl",
        "{\"walker\":1,\"line\":\"a\",\"at\":50000}\n{\"walker\":1,\"line\":\"b c\",\"at\":10}\n",
    );
    log(&folder, &["append", "lines", "lines.jsonl"]).well();
    let with_late = format!(
        "{PIPELINE}[sinks.late]\ntype = \"log\"\ninput = \"count.late\"\npath = \"out/late\"\n\
         delivery = \"idempotent\"\n"
    );
    folder.live(&with_late, 1, "").well();
    let (late, words) = (records(&folder, "late"), records(&folder, "words"));
    let (late, words) = (ids(&late), ids(&words));
    assert_eq!((late.len(), words.len()), (2, 3));
    assert!(late.is_subset(&words), "a late row is the row that came: {late:?} of {words:?}");
}

#[test]
fn other_sinks_pay_for_no_ids() {
    let folder = folder_with(&lines(0, 10));
    let mixed = PIPELINE.replace(
        "path = \"out/counts\"\n    delivery = \"idempotent\"",
        "path = \"out/counts\"\n    delivery = \"at-least-once\"",
    );
    assert_ne!(mixed, PIPELINE);
    folder.live(&mixed, 1, "").well();
    assert!(records(&folder, "counts").iter().all(|r| r["row_id"].is_null() && r["id"].is_null()));
    assert!(records(&folder, "words").iter().all(|r| r["row_id"].as_str().unwrap().len() == 32));
}

/// Numbers from a seed that is printed: a test that fails shows it, and `TIDEMILL_TEST_SEED` brings it back.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let asked = std::env::var("TIDEMILL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = asked.unwrap_or_else(|| u64::from(std::process::id()));
        println!("TIDEMILL_TEST_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64: every seed is a good one.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
