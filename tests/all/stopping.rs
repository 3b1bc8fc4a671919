//! How a run ends: by itself, by Ctrl-C, by a reader who has seen enough; and what the shell is told.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidemill_tests::{Folder, command, component, tidemill};

const ENDLESS: &str = r#"
    name = "endless"
    [sources.events]
    type = "nexmark"
    events_per_second = 2_000
    pace = "event-time"
    [operators.bids]
    component = "@nexmark-bids"
    input = "events"
    [operators.count]
    component = "@count"
    input = "bids"
    key = "auction"
    window = { type = "tumbling", size = "1h" }
    [sinks.out]
    type = "files"
    input = "bids"
    path = "out.jsonl"
    [sinks.counts]
    type = "files"
    input = "count"
    path = "counts.jsonl"
    "#;

#[test]
fn ctrl_c_stops_in_order() {
    let folder = Folder::new();
    let running = folder.start(ENDLESS, &[], b"");
    wait_for_rows(&folder);
    let asked = Instant::now();
    running.interrupt();
    let ended = running.wait().with(130);
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
    assert!(ended.stderr.contains("stopping; Ctrl-C again to leave at once\n"), "{}", ended.stderr);
    assert!(ended.stderr.contains("endless stopped after "), "{}", ended.stderr);
    assert!(ended.stderr.contains(" groups in unfinished windows\n"), "{}", ended.stderr);
    assert!(folder.read("out.jsonl").ends_with("}\n"), "the last line is whole");
    assert!(!folder.json_lines("out.jsonl").is_empty());
    assert_eq!(folder.read("counts.jsonl"), "", "a window that didn't end has no result");
}

#[test]
fn what_was_stopped_is_told_to_programs_too() {
    let folder = Folder::new();
    let running = folder.start(ENDLESS, &["--json"], b"");
    wait_for_rows(&folder);
    running.interrupt();
    let ended = running.wait().with(130);
    assert_eq!(ended.json()["ended"], "stopped");
    assert_eq!(ended.count("sinks", "out", "rows"), folder.json_lines("out.jsonl").len() as u64);
    assert_eq!(ended.count("operators", "count", "windows"), 0);
    assert!(ended.count("operators", "count", "groups_left") > 0);
}

fn wait_for_rows(folder: &Folder) {
    let started = Instant::now();
    while !folder.has("out.jsonl") || folder.read("out.jsonl").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30), "no row came out");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_exit_status_tells_what_happened() {
    let bounded = ENDLESS.replace("pace = \"event-time\"", "events = 1_000");
    let folder = Folder::new();
    assert_eq!(folder.run(&bounded).with(0).json()["ended"], "finished");

    // What can't be done as it was asked.
    tidemill(["run", "no-such-pipeline.toml"]).with(2);
    tidemill(["inspect", "no-such-component.wasm"]).with(2);
    tidemill(["--log", "=,=", "inspect", "no-such-component.wasm"]).with(2);
    tidemill(["rnu"]).with(2);
    folder.run(&bounded.replace("\"out.jsonl\"", "1")).with(2);
    folder.run_with(&bounded, &["--parallelism", "0"]).with(2);

    // What was begun and failed: a disk that is full.
    let failed =
        folder.run(&bounded.replace("\"out.jsonl\"", "\"/dev/full\"\nformat = \"json-lines\"")).with(1);
    assert!(failed.stderr.contains("cannot write /dev/full: No space left on device"), "{}", failed.stderr);
}

#[test]
fn quiet_says_nothing_and_otherwise_the_summary_is_for_people() {
    let bounded = ENDLESS.replace("pace = \"event-time\"", "events = 10_000");
    let folder = Folder::new();
    let quiet = folder.run_with(&bounded, &["--quiet"]).well();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let told = folder.run_with(&bounded, &["--show", "2"]).well();
    assert!(told.stderr.starts_with("endless finished after "), "{}", told.stderr);
    assert!(told.stderr.contains("  events  10,000 rows read\n"), "{}", told.stderr);
    assert!(told.stderr.contains("  bids    10,000 in, 9,200 out\n"), "{}", told.stderr);
    assert!(told.stderr.contains("  out     9,200 rows written to out.jsonl\n"), "{}", told.stderr);
    assert!(told.stdout.starts_with("out.jsonl, the first 2 rows:\n"), "{}", told.stdout);
}

#[test]
fn a_reader_who_has_seen_enough_is_no_panic() {
    let folder = Folder::new();
    let rows = ENDLESS.replace("pace = \"event-time\"", "events = 1_000_000").replace(
        "type = \"files\"\n    input = \"bids\"\n    path = \"out.jsonl\"",
        "type = \"stdout\"\n    input = \"bids\"",
    );
    assert!(rows.contains("stdout"));
    let summary = ENDLESS.replace("pace = \"event-time\"", "events = 1_000");
    let inspect = ["inspect".into(), component("count").into_os_string()];
    check_unread(&mut folder.command(&rows));
    check_unread(folder.command(&summary).args(["--json", "--show", "3"]));
    check_unread(command(&folder.path("")).args(inspect));
    check_unread(command(&folder.path("")).arg("--help"));
}

/// Checks that a command whose output nobody reads ends in order.
#[track_caller]
fn check_unread(command: &mut Command) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("a child can be waited for");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{command:?}:\n{stderr}");
    assert!(
        output.status.code().is_some_and(|status| status < 2),
        "{command:?}: {}\n{stderr}",
        output.status
    );
}
