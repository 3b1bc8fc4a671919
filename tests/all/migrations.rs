//! A new version of an operator takes over what the old one kept in another form: all of it, once, or nothing.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemill_tests::{Ended, Folder, Running, sorted, tidemill_in};

/// Visits in plain windows and in sessions, over everything, and numbered; and as they are, to see how far it has come.
const PIPELINE: &str = r#"
    name = "p"
    [checkpoints]
    interval = "20ms"
    retain = 2
    [state]
    backend = "BACKEND"
    [sources.visits]
    type = "log"
    path = "visits"
    until_end = UNTIL_END
    event_time = { field = "at" }
    fields = { who = "integer", seconds = "float", at = { type = "timestamp", unit = "ms" } }
    [operators.ever]
    component = "@VISITS"
    input = "visits"
    key = "who"
    [operators.minutes]
    component = "@VISITS"
    input = "visits"
    key = "who"
    window = { type = "hopping", size = "1m", slide = "20s" }
    [operators.sittings]
    component = "@VISITS"
    input = "visits"
    key = "who"
    window = { type = "session", gap = "40s" }
    [operators.number]
    component = "@NUMBER"
    input = "visits"
    key = "who"
    [sinks.all]
    type = "files"
    input = "visits"
    path = "all/*.jsonl"
    [sinks.ever-out]
    type = "files"
    input = "ever"
    path = "out/ever-*.jsonl"
    [sinks.minutes-out]
    type = "files"
    input = "minutes"
    path = "out/minutes-*.jsonl"
    [sinks.sittings-out]
    type = "files"
    input = "sittings"
    path = "out/sittings-*.jsonl"
    [sinks.numbers]
    type = "files"
    input = "number"
    path = "out/numbers-*.jsonl"
    "#;

const VISITS: usize = 6_000;

/// The pipeline with these versions of its operators. It ends with the log if it shall.
fn pipeline(visits: &str, number: &str, backend: &str, until_end: bool) -> String {
    let text = PIPELINE.replace("BACKEND", backend).replace("UNTIL_END", &until_end.to_string());
    text.replace("VISITS", visits).replace("NUMBER", number)
}

/// One visit every 40 ms, of 500 people; in halves of seconds, whose sums are exact.
fn visits(range: std::ops::Range<usize>) -> String {
    let mut lines = String::new();
    for at in range {
        let (who, halves) = (at * 7_919 % 500, at * 31 % 17);
        let seconds = halves as f64 / 2.0;
        writeln!(lines, "{{\"who\":{who},\"seconds\":{seconds},\"at\":{}}}", at * 40).unwrap();
    }
    lines
}

fn append(folder: &Folder, lines: &str) {
    folder.write("lines.jsonl", lines);
    tidemill_in(&folder.path(""), ["log", "append", "visits", "lines.jsonl", "--key-field", "who"]).well();
}

fn with_log() -> Folder {
    let folder = Folder::new();
    tidemill_in(&folder.path(""), ["log", "create", "visits", "--partitions", "2"]).well();
    folder
}

/// The lines of all files in a folder whose names begin so, sorted.
fn lines(folder: &Folder, of: &str, begins: &str) -> Vec<String> {
    let files = folder.files(of).into_iter().filter(|f| f.starts_with(begins) && f.ends_with(".jsonl"));
    let text: Vec<String> = files.map(|file| folder.read(&format!("{of}/{file}"))).collect();
    sorted(text.iter().flat_map(|text| text.lines()))
}

/// Runs until all that was appended is committed, and stops it.
fn run_and_stop(folder: &Folder, pipeline: &str, rows: usize) -> Ended {
    let running = folder.start(pipeline, &["--json", "--parallelism", "2"], b"");
    let begun = Instant::now();
    while lines(folder, "all", "").len() < rows {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", running.wait());
        std::thread::sleep(Duration::from_millis(10));
    }
    running.interrupt();
    running.wait().with(130)
}

const OUTPUTS: [&str; 4] = ["ever-", "minutes-", "sittings-", "numbers-"];

/// What comes of all visits with the first versions alone.
fn undisturbed() -> [Vec<String>; 4] {
    let folder = with_log();
    append(&folder, &visits(0..VISITS));
    folder.live(&pipeline("visits-v1", "count-by-key", "rocksdb", true), 2, "").well();
    OUTPUTS.map(|of| lines(&folder, "out", of))
}

/// A folder in which the first versions have had the first half of the visits, and were stopped.
fn halfway(backend: &str) -> Folder {
    let folder = with_log();
    append(&folder, &visits(0..VISITS / 2));
    run_and_stop(&folder, &pipeline("visits-v1", "count-by-key", backend, false), VISITS / 2);
    append(&folder, &visits(VISITS / 2..VISITS));
    folder
}

#[test]
fn the_second_version_goes_on_where_the_first_one_was() {
    let expected = undisturbed();
    for (backend, tasks) in [("rocksdb", "3"), ("memory", "1")] {
        let folder = halfway(backend);
        let second = pipeline("visits-v2", "number-by-key", backend, true);
        let mut command = folder.command(&second);
        command.env("TIDEMILL_LOG", "info").args(["--parallelism", tasks]);
        let ended = Running::start(&mut command, b"").wait().well();
        for (of, expected) in OUTPUTS.iter().zip(&expected) {
            assert!(
                lines(&folder, "out", of) == *expected,
                "{of}* with {tasks} tasks, {backend}: {}",
                ended.stderr
            );
        }
        assert!(ended.stderr.contains("migrated state"), "{}", ended.stderr);
        let newest = tidemill_in(&folder.path(""), ["checkpoint", "show", "p.checkpoints", "--json"]).well();
        // What isn't stored any more isn't spoken of any more.
        for operator in newest.json()["operators"].as_array().unwrap() {
            assert_eq!(operator["state"].as_array().map(Vec::len), Some(1), "{operator}");
        }
    }
}

#[test]
fn a_start_that_is_broken_off_has_migrated_nothing() {
    let folder = halfway("rocksdb");
    let second = pipeline("visits-v2", "number-by-key", "rocksdb", true);
    // All is migrated by then, and nothing of it is in a checkpoint.
    assert!(folder.live(&second, 2, "persist.begin=kill@1").was_killed());
    folder.live(&second, 1, "").well();
    for (of, expected) in OUTPUTS.iter().zip(&undisturbed()) {
        assert!(lines(&folder, "out", of) == *expected, "{of}*");
    }
}

#[test]
fn without_a_migration_both_forms_are_shown() {
    let folder = halfway("rocksdb");
    run_and_stop(&folder, &pipeline("visits-v2", "number-by-key", "rocksdb", false), VISITS);
    // It takes over what the first version kept, and not what the second one does.
    let other = pipeline("hostile-aggregate", "number-by-key", "rocksdb", true);
    let refused = folder.live(&other, 2, "").with(2);
    for expected in [
        "the new component of `ever` can't go on from the state of the old one",
        "  time: integer    time: text       <- no text can be made of integer",
        "it has migrations from {visits: integer, time: float}",
    ] {
        assert!(refused.stderr.contains(expected), "no {expected:?} in {}", refused.stderr);
    }
}

#[test]
fn a_migration_that_fails_is_told_and_the_old_version_can_go_on() {
    // Only what is over everything, where `who` 7 has as many visits as the migration dislikes.
    let only_ever = |component: &str, until_end: bool| {
        let text = pipeline(component, "count-by-key", "rocksdb", until_end);
        let (head, rest) = text.split_once("[operators.minutes]").unwrap();
        let (_, sinks) = rest.split_once("[sinks.all]").unwrap();
        let (sinks, _) = sinks.split_once("[sinks.minutes-out]").unwrap();
        format!("{head}[sinks.all]{sinks}")
    };
    for (count, reason) in [(13, "trapped: "), (17, "seventeen visits are too many")] {
        let folder = with_log();
        let line = |who: usize| format!("{{\"who\":{who},\"seconds\":1,\"at\":0}}\n");
        let all: String = (0..300).map(line).chain((1..count).map(|_| line(7))).collect();
        append(&folder, &all);
        let rows = all.lines().count();
        run_and_stop(&folder, &only_ever("visits-v1", false), rows);
        let refused = folder.live(&only_ever("hostile-aggregate", true), 2, "").with(2);
        let told = "the new component of `ever` can't migrate the state of the old one: the row of the key {\"who\":7} \
                    can't be migrated: ";
        assert!(refused.stderr.contains(&format!("{told}{reason}")), "{}", refused.stderr);
        assert!(refused.stderr.contains("go on with the old component"), "{}", refused.stderr);
        folder.live(&only_ever("visits-v1", true), 1, "").well();
        let results = lines(&folder, "out", "ever-");
        assert_eq!(results.len(), 300);
        let seven: Vec<Value> = results.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seven = seven.iter().find(|row| row["who"] == 7).unwrap();
        assert_eq!(seven["visits"], count);
    }
}
