//! Versions of an operator follow each other while rows flow: each row goes through one of them, and a version that isn't
//! fit goes again without a trace.

use std::fmt::Write;

use serde_json::Value;
use tidemill_tests::{Ended, Folder, Host, Streams, component, tidemill_in};

const PIPELINE: &str = r#"
    name = "p"
    [checkpoints]
    interval = "100ms"
    [sources.rows]
    type = "log"
    path = "rows"
    event_time = { field = "at" }
    [sources.rows.fields]
    part = "integer"
    number = "integer"
    at = { type = "timestamp", unit = "ms" }
    [operators.marks]
    component = "@marks-one"
    input = "rows"
    key = "part"
    window = { type = "tumbling", size = "100ms" }
    [sinks.out]
    type = "log"
    input = "marks"
    path = "out"
    "#;

/// Rows of a partition each have the number of a millisecond.
const PARTS: u64 = 2;

fn bad(what: &str, after: u64) -> String {
    PIPELINE.replace("@marks-one", "@marks-bad").replace(
        "key = \"part\"",
        &format!("key = \"part\"\n    settings = {{ do = \"{what}\", after = {after} }}"),
    )
}

fn log(folder: &Folder, arguments: &[&str]) -> Ended {
    tidemill_in(&folder.path(""), ["log"].iter().chain(arguments))
}

fn folder() -> Folder {
    let folder = Folder::new();
    log(&folder, &["create", "rows", "--partitions", "2"]).well();
    folder
}

/// Adds rows with these numbers to each part.
fn feed(folder: &Folder, from: u64, count: u64) {
    let mut rows = String::new();
    for number in from..from + count {
        for part in 0..PARTS {
            writeln!(rows, r#"{{"part":{part},"number":{number},"at":{number}}}"#).unwrap();
        }
    }
    folder.write("rows.jsonl", rows);
    log(folder, &["append", "rows", "rows.jsonl", "--key-field", "part"]).well();
}

fn swap(host: &Host<'_>, package: &str) -> Ended {
    host.tell(&["swap", "p", &format!("marks={}", component(package).display()), "--wait"])
}

/// Waits until everything that was fed is read, and ends the pipeline with all windows fired.
fn drain(host: &Host<'_>, rows: u64) {
    // What a run had read that has failed is still counted until the next one runs.
    host.wait_until("p", |status| {
        status["state"] == "running" && status["sources"]["rows"]["rows"] == rows * PARTS
    });
    host.tell(&["stop", "p", "--drain", "--wait"]).well();
    assert_eq!(host.state("p"), "finished");
}

/// Groups in the order of their windows, by part.
fn groups(folder: &Folder) -> Vec<Vec<Value>> {
    let read = log(folder, &["read", "out", "--json"]).well().stdout;
    let mut parts = vec![Vec::new(); usize::try_from(PARTS).unwrap()];
    for line in read.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let row: Value = serde_json::from_str(record["value"].as_str().unwrap()).unwrap();
        parts[usize::try_from(row["part"].as_u64().unwrap()).unwrap()].push(row);
    }
    parts.into_iter().map(sorted).collect()
}

fn sorted(mut groups: Vec<Value>) -> Vec<Value> {
    groups.sort_by_key(|row| row["first_one"].as_u64().into_iter().chain(row["first_two"].as_u64()).min());
    groups
}

/// Which version has seen a part's rows, from the first on: stretches of version and rows, without gap or overlap.
fn stretches(groups: &[Value]) -> Vec<(u64, u64)> {
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    let mut expected = 0;
    for row in groups {
        let mut seen = Vec::new();
        for (version, name) in [(1, "one"), (2, "two")] {
            let count = row[format!("rows_{name}")].as_u64().unwrap();
            if count > 0 {
                let at = |bound: &str| row[format!("{bound}_{name}")].as_u64().unwrap();
                seen.push((at("first"), at("last"), version, count));
            }
        }
        seen.sort_unstable();
        for (first, last, version, count) in seen {
            assert_eq!((first, last + 1 - first), (expected, count), "rows of version {version} in {row}");
            expected = last + 1;
            match stretches.last_mut() {
                Some((of, rows)) if *of == version => *rows += count,
                _ => stretches.push((version, count)),
            }
        }
    }
    stretches
}

fn rows_of(stretches: &[(u64, u64)]) -> u64 {
    stretches.iter().map(|(_, rows)| rows).sum()
}

#[test]
fn each_row_goes_through_one_version_and_each_part_changes_once() {
    let folder = folder();
    let host = Host::start(&folder);
    host.apply(PIPELINE, &[]).well();
    for round in 0..6 {
        feed(&folder, round * 1_000, 1_000);
        swap(&host, if round % 2 == 0 { "marks-two" } else { "marks-one" }).well();
    }
    feed(&folder, 6_000, 1_000);
    drain(&host, 7_000);
    for part in groups(&folder) {
        let stretches = stretches(&part);
        assert_eq!(rows_of(&stretches), 7_000);
        let versions: Vec<u64> = stretches.iter().map(|(version, _)| *version).collect();
        let is_alternating = versions.windows(2).all(|pair| pair[0] != pair[1]);
        assert!(is_alternating && versions.len() <= 7 && versions.len() >= 5, "{stretches:?}");
        assert_eq!(versions.last(), Some(&1), "{stretches:?}");
    }
    let history = host.ask(&["history", "p"]);
    let swaps = history.as_array().unwrap().iter().filter(|entry| entry["event"] == "swap").count();
    assert_eq!(swaps, 6, "{history:#}");
    assert_eq!(host.ask(&["status", "p"])["generation"], 7);
    host.stop();
}

#[test]
fn a_version_that_fails_is_gone_without_a_trace() {
    for (what, why) in [
        ("trap", "row 1000 of its life"),
        ("reject", "it rejected"),
        ("dawdle", "times as long as the version before"),
    ] {
        let folder = folder();
        let host = Host::start(&folder);
        host.apply(PIPELINE, &[]).well();
        feed(&folder, 0, 2_000);
        host.wait_until("p", |status| status["sources"]["rows"]["rows"] == 2_000 * PARTS);
        let swapping = std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                // Long enough for the rows to come; one that traps is gone at once.
                host.apply(&bad(what, if what == "trap" { 1_000 } else { 1 }), &["--probation", "2s"])
            });
            // It needs rows to fail at.
            host.wait_for("p", "probation");
            feed(&folder, 2_000, 3_000);
            swapping.join().unwrap()
        });
        let told = swapping.with(1).stderr;
        assert!(told.contains("went back to generation 1"), "{what}: {told}");
        let history = host.tell(&["history", "p"]).well().stdout;
        assert!(history.contains(why), "{what}: {history}");
        drain(&host, 5_000);
        for part in groups(&folder) {
            assert_eq!(stretches(&part), [(1, 5_000)], "{what}");
        }
        let letters = folder.files("");
        let letters: Vec<&String> = letters.iter().filter(|name| name.contains("dead")).collect();
        assert!(letters.is_empty(), "{what}: {letters:?}");
        host.stop();
    }
}

#[test]
fn a_version_with_another_state_goes_on_from_what_there_is() {
    let folder = folder();
    let host = Host::start(&folder);
    host.apply(PIPELINE, &[]).well();
    feed(&folder, 0, 1_050);
    host.wait_until("p", |status| status["sources"]["rows"]["rows"] == 1_050 * PARTS);
    let planned = host.apply(&bad("nothing", 1), &[]).well().stderr;
    assert!(planned.contains("rows_bad"), "{planned}");
    feed(&folder, 1_050, 50);
    drain(&host, 1_100);
    for part in groups(&folder) {
        let last = part.last().unwrap();
        // Of the last window each version has seen a half.
        assert_eq!((&last["rows_one"], &last["finished_by"]), (&50.into(), &50.into()), "{last}");
    }
    host.stop();
}

#[test]
fn a_replays_version_takes_over_and_goes_again() {
    let folder = folder();
    let host = Host::start(&folder);
    host.apply(PIPELINE, &[]).well();
    feed(&folder, 0, 1_020);
    host.wait_until("p", |status| status["sources"]["rows"]["rows"] == 1_020 * PARTS);
    let replayed = replay(&host);
    assert!(replayed.stdout.contains("different"), "{}", replayed.stdout);
    host.tell(&["promote", "p", "replay-1", "--wait"]).well();
    host.wait_for("p", "running");
    feed(&folder, 1_020, 1_000);
    host.wait_until("p", |status| status["sources"]["rows"]["rows"] == 2_020 * PARTS);
    host.tell(&["rollback", "p", "--wait"]).well();
    host.wait_for("p", "running");
    feed(&folder, 2_020, 1_000);
    drain(&host, 3_020);
    for part in groups(&folder) {
        let stretches = stretches(&part);
        // A window that was open is that of the version which finishes it: each has all rows from the beginning.
        assert_eq!(stretches, [(1, 1_000), (2, 1_000), (1, 1_020)]);
    }
    assert_eq!(host.ask(&["status", "p"])["generation"], 3);
    host.stop();
}

fn replay(host: &Host<'_>) -> Ended {
    host.tell(&["savepoint", "p", "--wait"]).well();
    let with = format!("marks={}", component("marks-two").display());
    host.tell(&["replay", "p", "--from", "beginning", "--with", &with, "--wait"]).well()
}

/// The same between streams of a real server: what is compared is told by the markers behind each checkpoint's rows.
#[test]
fn streams_are_replayed_and_taken_over_too() {
    let Some(streams) = Streams::start() else { return };
    streams.make("ROWS", &Value::Null);
    let pipeline = format!(
        r#"
    name = "p"
    [checkpoints]
    interval = "100ms"
    [connections.local]
    type = "nats"
    servers = "{}"
    [sources.rows]
    type = "jetstream"
    connection = "local"
    stream = "ROWS"
    event_time = {{ field = "at" }}
    [sources.rows.fields]
    part = "integer"
    number = "integer"
    at = {{ type = "timestamp", unit = "ms" }}
    [operators.marks]
    component = "@marks-one"
    input = "rows"
    key = "part"
    window = {{ type = "tumbling", size = "100ms" }}
    [sinks.out]
    type = "jetstream"
    connection = "local"
    input = "marks"
    stream = "OUT"
    subject = "out.{{part}}"
    create = {{ subjects = "out.>" }}
    "#,
        streams.server.url()
    );
    let publish = |from: u64, count: u64| {
        let row = |n: u64| ("ROWS.row", format!(r#"{{"part":0,"number":{n},"at":{n}}}"#));
        streams.publish(&(from..from + count).map(row).collect::<Vec<_>>());
    };
    let folder = Folder::new();
    let host = Host::start(&folder);
    host.apply(&pipeline, &[]).well();
    publish(0, 1_020);
    host.wait_until("p", |status| status["sources"]["rows"]["rows"] == 1_020);
    host.tell(&["savepoint", "p", "--wait"]).well();
    let same = host.tell(&["verify", "p", "--from", "beginning"]).well().stdout;
    assert!(same.contains("10 equal, 0 different, 0 missing, 0 added"), "{same}");
    let replayed = replay(&host).stdout;
    assert!(replayed.contains("0 equal, 10 different, 0 missing, 0 added"), "{replayed}");
    host.tell(&["promote", "p", "replay-2", "--wait"]).well();
    publish(1_020, 1_000);
    host.wait_until("p", |status| status["state"] == "running" && status["sources"]["rows"]["rows"] == 2_020);
    host.tell(&["stop", "p", "--drain", "--wait"]).well();
    let rows = streams.payloads("OUT").iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(stretches(&sorted(rows)), [(1, 1_000), (2, 1_020)]);
    host.stop();
}

#[test]
fn a_crash_in_a_promotion_leaves_one_version_or_the_other() {
    for death in
        ["takeover.begin=kill", "takeover.files=kill", "manifest.written=kill", "takeover.manifest=kill"]
    {
        let folder = folder();
        // The failpoints are also passed by ordinary checkpoints; these are far away.
        let rare = PIPELINE.replace("100ms\"\n    [sources", "1h\"\n    [sources");
        let host = Host::start(&folder);
        host.apply(&rare, &[]).well();
        feed(&folder, 0, 1_000);
        host.wait_until("p", |status| status["sources"]["rows"]["rows"] == 1_000 * PARTS);
        replay(&host);
        host.tell(&["pause", "p", "--wait"]).well();
        host.stop();
        let host = Host::start_with(&folder, death);
        let promoted = host.tell(&["promote", "p", "replay-1", "--wait"]);
        assert_ne!(promoted.status, Some(0), "{death}: {}", promoted.stderr);
        assert!(host.wait_for_death(), "{death}");
        let host = Host::start(&folder);
        host.tell(&["resume", "p", "--wait"]).well();
        let generation = host.wait_until("p", |status| status["state"] == "running")["generation"].clone();
        feed(&folder, 1_000, 1_000);
        drain(&host, 2_000);
        let is_new = generation == 2;
        // A manifest is also written by the shadow, which comes to where the pipeline is.
        assert!(death.starts_with("manifest") || is_new == death.starts_with("takeover.manifest"), "{death}");
        for part in groups(&folder) {
            // Of the window that was open each version has all rows.
            let expected: &[(u64, u64)] = if is_new { &[(1, 900), (2, 1_100)] } else { &[(1, 2_000)] };
            assert_eq!(stretches(&part), expected, "{death}");
        }
        host.stop();
    }
}

#[test]
fn a_crash_in_a_swap_leaves_one_version_or_the_other() {
    let mut died = 0;
    for death in [
        "swap.begin=kill",
        "swap.task=kill",
        "swap.task=kill@2",
        "barrier.task=kill@4",
        "snapshot.done=kill@8",
        "persist.begin=kill@2",
        "manifest.written=kill@2",
        "persist.done=kill@2",
        "commit.begin=kill@2",
        "commit.done=kill@3",
    ] {
        let folder = folder();
        // So that the second or third checkpoint is the swap's, or ends its probation.
        let rare = PIPELINE.replace("\"100ms\"\n    [sources", "\"700ms\"\n    [sources");
        let host = Host::start_with(&folder, death);
        host.apply(&rare, &["--parallelism", "2"]);
        feed(&folder, 0, 1_000);
        // Whether it is still there to answer is open.
        let swapped = swap(&host, "marks-two");
        let was_swapped = swapped.status == Some(0);
        died += u32::from(!was_swapped);
        if was_swapped {
            host.kill()
        } else {
            assert!(host.wait_for_death(), "{death}")
        }
        let host = Host::start(&folder);
        let generation = host.wait_until("p", |status| status["state"] == "running")["generation"].clone();
        assert!(!was_swapped || generation == 2, "{death}: what had passed is what there is");
        feed(&folder, 1_000, 1_000);
        drain(&host, 2_000);
        for part in groups(&folder) {
            let stretches = stretches(&part);
            assert_eq!(rows_of(&stretches), 2_000, "{death}");
            let versions: Vec<u64> = stretches.iter().map(|(version, _)| *version).collect();
            let expected: &[&[u64]] = if generation == 1 { &[&[1]] } else { &[&[1, 2], &[2]] };
            assert!(
                expected.contains(&versions.as_slice()),
                "{death}, generation {generation}: {stretches:?}"
            );
        }
        host.stop();
    }
    assert!(died >= 4, "only {died} died in a swap");
}
