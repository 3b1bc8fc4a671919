//! A pipeline that failed, was stopped or was killed goes on where it was, on as many tasks as it is given then; and
//! where it can't, it says why and leaves everything as it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use tidemill_tests::{Consumer, Ended, Folder};

use crate::lives::{PROCESSES, WINDOWS, assert_nothing_staged, assert_same, committed, uninterrupted};

/// The same with more events, so that whoever wants to stop it has the time to.
fn longer(pipeline: &str) -> String {
    pipeline.replace("events = 50_000", "events = 150_000")
}

/// Waits until a pipeline has a checkpoint.
fn wait_for_checkpoint(folder: &Folder) {
    let started = Instant::now();
    while folder.files("p.checkpoints/checkpoints").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A folder in which the pipeline was killed after some checkpoints.
fn killed(pipeline: &str) -> Folder {
    let folder = Folder::new();
    assert!(folder.live(pipeline, 1, "commit.done=kill@2").was_killed(), "it ended too early");
    folder
}

/// Checks that the pipeline can't go on as it is now, for these reasons, and that what has appeared stays.
#[track_caller]
fn check_refused(folder: &Folder, pipeline: &str, expected: &[&str]) {
    let mut consumer = Consumer::new("out");
    consumer.look(folder);
    let checkpoints = folder.files("p.checkpoints/checkpoints");
    let ended = folder.live(pipeline, 1, "").with(2);
    for words in expected {
        assert!(ended.stderr.contains(words), "{words:?} is not in:\n{}", ended.stderr);
    }
    consumer.look(folder);
    assert_eq!(folder.files("p.checkpoints/checkpoints"), checkpoints);
}

#[test]
fn ctrl_c_is_an_interruption_and_no_end() {
    for pipeline in [WINDOWS, PROCESSES] {
        let pipeline = longer(pipeline);
        let expected = uninterrupted(&pipeline);
        let (folder, mut consumer) = (Folder::new(), Consumer::new("out"));
        for _ in 0..2 {
            let before = folder.files("p.checkpoints/checkpoints");
            let running = folder.start(&pipeline, &["--json"], b"");
            let started = Instant::now();
            while folder.files("p.checkpoints/checkpoints").is_subset(&before) {
                assert!(started.elapsed() < Duration::from_secs(20), "no checkpoint");
                std::thread::sleep(Duration::from_millis(2));
            }
            running.interrupt();
            assert_eq!(running.wait().with(130).json()["ended"], "stopped");
            consumer.look(&folder);
            assert_nothing_staged(&folder);
        }
        assert!(consumer.rows().len() < expected.len(), "it was stopped too late");
        let ended = folder.live(&pipeline, 2, "").well();
        assert!(ended.stderr.contains("p: going on from checkpoint "), "{}", ended.stderr);
        consumer.look(&folder);
        assert_same(&consumer.rows(), &expected, "stopped twice");
    }
}

/// Whether there is nothing in it that wasn't there before.
trait IsSubset {
    fn is_subset(&self, before: &[String]) -> bool;
}

impl IsSubset for Vec<String> {
    fn is_subset(&self, before: &[String]) -> bool {
        self.iter().all(|name| before.contains(name))
    }
}

#[test]
fn what_has_finished_stays_finished() {
    let folder = Folder::new();
    let first = folder.live(WINDOWS, 2, "").well();
    let rows = committed(&folder);
    let second = folder.live(WINDOWS, 2, "").well();
    assert!(second.stderr.contains("there is nothing left to do"), "{}", second.stderr);
    assert_eq!(committed(&folder), rows);
    assert_eq!(second.count("sources", "events", "rows"), 50_000);
    let of_both = |what| [&first, &second].map(|e| e.count("operators", "count", what));
    for what in ["rows_in", "rows_out", "windows", "late"] {
        let [first, second] = of_both(what);
        assert_eq!(first, second, "{what}");
    }
}

#[test]
fn counts_go_on_where_the_checkpoint_had_come() {
    let folder = killed(PROCESSES);
    let ended = folder.live(PROCESSES, 3, "").well();
    assert_eq!(ended.count("sources", "events", "rows"), 50_000);
    assert_eq!(ended.count("operators", "number", "rows_in"), 46_000);
    assert_eq!(ended.count("sinks", "numbers", "rows"), 46_000);
}

#[test]
fn each_life_may_have_as_many_tasks_as_it_likes() {
    for pipeline in [WINDOWS, PROCESSES] {
        let expected = uninterrupted(pipeline);
        for lives in [[1, 3, 2], [3, 1, 7], [2, 8, 1]] {
            let (folder, mut consumer) = (Folder::new(), Consumer::new("out"));
            for tasks in lives {
                let is_last = tasks == lives[2];
                let ended = folder.live(pipeline, tasks, if is_last { "" } else { "commit.done=kill@2" });
                assert_eq!(ended.was_killed(), !is_last, "{tasks} of {lives:?}: {}", ended.stderr);
                consumer.look(&folder);
            }
            assert_nothing_staged(&folder);
            assert_same(&consumer.rows(), &expected, &format!("{lives:?} tasks"));
        }
    }
}

#[test]
fn state_in_memory_is_in_checkpoints_too() {
    for pipeline in [WINDOWS, PROCESSES] {
        let in_memory =
            pipeline.replace("[sources.events]", "[state]\nbackend = \"memory\"\n[sources.events]");
        let expected = uninterrupted(pipeline);
        let folder = Folder::new();
        for (tasks, death) in [(1, "commit.done=kill@2"), (3, "persist.files=kill@2"), (2, "")] {
            assert_eq!(folder.live(&in_memory, tasks, death).was_killed(), !death.is_empty());
        }
        assert_same(&committed(&folder), &expected, "in memory");
    }
}

/// A failure at `place` that the pipeline survives.
#[track_caller]
fn check_survived(pipeline: &str, failpoints: &str, told: &str) {
    let folder = Folder::new();
    let ended = folder.live(pipeline, 2, failpoints);
    assert!(ended.stderr.contains(told), "{failpoints}: {told:?} is not in:\n{}", ended.stderr);
    ended.well();
    assert_same(&committed(&folder), &uninterrupted(pipeline), failpoints);
}

#[test]
fn a_full_disk_costs_a_checkpoint() {
    for place in ["persist.begin", "persist.frozen", "persist.files"] {
        check_survived(WINDOWS, &format!("{place}=enospc@2"), "checkpoint 2 was given up: No space left");
    }
    check_survived(PROCESSES, "persist.files=enospc@1;persist.frozen=enospc@2", "checkpoint 2 was given up");
    check_survived(WINDOWS, "manifest.written=enospc@2", "checkpoint 2 was given up");
}

/// A checkpoint may be given up though its manifest is there: what was promised with it is kept, once.
#[test]
fn a_kill_after_a_checkpoint_that_was_given_up() {
    for pipeline in [WINDOWS, PROCESSES] {
        let expected = uninterrupted(pipeline);
        for failed in
            ["manifest.written=eio@3", "manifest.copy=eio@3", "persist.done=eio@3", "persist.files=eio@3"]
        {
            for death in [
                "persist.begin=kill@4",
                "manifest.written=kill@4",
                "commit.rename=kill@5",
                "persist.done=kill@4",
            ] {
                let folder = Folder::new();
                let ended = folder.live(pipeline, 2, &format!("{failed};{death}"));
                assert!(ended.was_killed() || ended.status == Some(0), "{failed};{death}:\n{}", ended.stderr);
                folder.live(pipeline, 3, "").well();
                assert_same(&committed(&folder), &expected, &format!("{failed};{death}"));
            }
        }
    }
}

#[test]
fn too_many_failed_checkpoints_are_a_failure() {
    let pipeline = WINDOWS.replace("retain = 1", "tolerated_failures = 1");
    check_failed(&pipeline, "persist.files=eio@2+", "os error 5");
    let none = WINDOWS.replace("retain = 1", "tolerated_failures = 0");
    check_failed(&none, "persist.begin=eio@2", "os error 5");
}

/// Checks that the pipeline fails for this reason, and is whole when it is run again.
#[track_caller]
fn check_failed(pipeline: &str, failpoints: &str, told: &str) -> Ended {
    let folder = Folder::new();
    let ended = folder.live(pipeline, 2, failpoints).with(1);
    assert!(ended.stderr.contains("pipeline `p` failed: "), "{}", ended.stderr);
    assert!(ended.stderr.contains(told), "{told:?} is not in:\n{}", ended.stderr);
    folder.live(pipeline, 2, "").well();
    assert_same(&committed(&folder), &uninterrupted(pipeline), failpoints);
    ended
}

const RESTARTING: &str =
    "tolerated_failures = 0\n[restart]\nstrategy = \"fixed\"\nattempts = 2\ndelay = \"20ms\"";

#[test]
fn a_pipeline_that_failed_starts_again() {
    for pipeline in [WINDOWS, PROCESSES] {
        let pipeline = pipeline.replace("retain = 1", RESTARTING).replace("retain = 2", RESTARTING);
        for place in
            ["persist.begin", "persist.files", "commit.begin", "commit.rename", "barrier.task", "sink.part"]
        {
            check_survived(&pipeline, &format!("{place}=eio@2"), "starting again from the last checkpoint");
        }
        check_survived(
            &pipeline,
            "snapshot.slice=eio@1;barrier.source=eio@7",
            "(failure 1 in a row), in 20ms",
        );
    }
}

#[test]
fn a_pipeline_that_fails_again_and_again_gives_up() {
    let pipeline = WINDOWS.replace("retain = 1", RESTARTING);
    let ended = check_failed(&pipeline, "persist.begin=eio@1+", "given up after 3 failures in a row");
    assert!(ended.stderr.contains("(failure 2 in a row), in 20ms"), "{}", ended.stderr);
}

#[test]
fn two_hosts_do_not_share_checkpoints() {
    let folder = Folder::new();
    let pipeline = longer(WINDOWS);
    let first = folder.start(&pipeline, &["--json"], b"");
    wait_for_checkpoint(&folder);
    let second = folder.live(&pipeline, 2, "").with(2);
    assert!(second.stderr.contains("are in use by "), "{}", second.stderr);
    assert!(second.stderr.contains("stop that first"), "{}", second.stderr);
    first.wait().well();
    assert_same(&committed(&folder), &uninterrupted(&pipeline), "beside another");
}

#[test]
fn two_pipelines_do_not_share_checkpoints() {
    let folder = killed(WINDOWS);
    let other =
        WINDOWS.replace("name = \"p\"", "name = \"q\"").replace("retain = 1", "path = \"p.checkpoints\"");
    check_refused(&folder, &other, &["those of pipeline `p`, not of `q`", "its own folder"]);
}

#[test]
fn output_of_an_earlier_life_is_not_overwritten() {
    let folder = Folder::with(&[("out/hot-0000000001.jsonl", "{\"of\":\"an earlier life\"}\n")]);
    check_refused(&folder, WINDOWS, &["hot-0000000001.jsonl is there, but no checkpoint", "`hot`"]);
    // What only looks like it is nobody's business.
    let folder = Folder::with(&[("out/hot-1.jsonl", "x\n"), ("out/.hot-0000000001-x.staged", "x\n")]);
    folder.live(WINDOWS, 2, "").well();
    assert_eq!(folder.read("out/hot-1.jsonl"), "x\n");
    assert!(folder.has("out/.hot-0000000001-x.staged"));
}

#[test]
fn a_consumer_may_take_files_away() {
    for place in ["commit.done", "commit.rename", "persist.done", "commit.begin"] {
        let folder = Folder::new();
        let mut taken = Vec::new();
        for life in 1..=3 {
            let death = if life < 3 { format!("{place}=kill@3") } else { String::new() };
            let ended = folder.live(PROCESSES, 2, &death);
            assert_eq!(ended.was_killed(), life < 3, "{place}, life {life}:\n{}", ended.stderr);
            for name in folder.files("out").into_iter().filter(|n| !n.starts_with('.')) {
                let (sink, _) = name.rsplit_once('-').unwrap();
                taken.extend(folder.read(&format!("out/{name}")).lines().map(|row| format!("{sink} {row}")));
                std::fs::remove_file(folder.path(&format!("out/{name}"))).unwrap();
            }
        }
        taken.sort_unstable();
        assert_same(&taken, &uninterrupted(PROCESSES), place);
    }
}

const STEPS: &str = r#"
    name = "p"
    [checkpoints]
    interval = "10ms"
    [sources.steps]
    type = "files"
    path = "steps.jsonl"
    fields.walker = "integer"
    [operators.number]
    component = "@count-by-key"
    input = "steps"
    key = "walker"
    [sinks.numbers]
    type = "files"
    input = "number"
    path = "out/numbers-*.jsonl"
    "#;
const STEPS_COUNT: usize = 400_000;

fn steps(count: usize) -> String {
    (0..count).map(|n| format!("{{\"walker\":{}}}\n", n * 7919 % 1_000)).collect()
}

fn numbers(count: usize) -> Vec<String> {
    let mut counts = BTreeMap::<usize, usize>::new();
    let number = |n: usize| {
        let count = counts.entry(n * 7919 % 1_000).or_default();
        *count += 1;
        format!("numbers {{\"walker\":{},\"count\":{count}}}", n * 7919 % 1_000)
    };
    let mut rows: Vec<String> = (0..count).map(number).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn a_file_that_has_grown_is_read_on() {
    let folder = Folder::with(&[("steps.jsonl", &steps(STEPS_COUNT))]);
    assert!(folder.live(STEPS, 2, "commit.done=kill").was_killed());
    folder.write("steps.jsonl", steps(STEPS_COUNT + 1_000));
    folder.live(STEPS, 3, "").well();
    assert_same(&committed(&folder), &numbers(STEPS_COUNT + 1_000), "a file that has grown");
    // What has finished has finished.
    folder.write("steps.jsonl", steps(STEPS_COUNT + 2_000));
    folder.live(STEPS, 3, "").well();
    assert_same(&committed(&folder), &numbers(STEPS_COUNT + 1_000), "a file that has grown too late");
}

#[test]
fn a_file_that_has_changed_is_not_read_on() {
    let text = steps(STEPS_COUNT);
    let folder = Folder::with(&[("steps.jsonl", &text)]);
    assert!(folder.live(STEPS, 2, "commit.done=kill").was_killed());
    // In every line, as only the bytes just before the position are compared.
    folder.write("steps.jsonl", text.replace("walker", "walkee"));
    check_refused(&folder, STEPS, &["steps.jsonl", "has changed since the checkpoint"]);
    folder.write("steps.jsonl", &text[..1_000]);
    check_refused(&folder, STEPS, &["steps.jsonl", "has changed since the checkpoint"]);
    std::fs::remove_file(folder.path("steps.jsonl")).unwrap();
    check_refused(&folder, STEPS, &["steps.jsonl"]);
    folder.write("steps.jsonl", &text);
    folder.live(STEPS, 1, "").well();
    assert_same(&committed(&folder), &numbers(STEPS_COUNT), "the old file again");
}

#[test]
fn state_is_not_read_as_what_it_is_not() {
    let folder = killed(WINDOWS);
    let changed = |from: &str, to: &str| {
        assert!(WINDOWS.contains(from), "{from}");
        WINDOWS.replace(from, to)
    };
    check_refused(
        &folder,
        &changed("size = \"100ms\", slide = \"20ms\"", "size = \"200ms\", slide = \"20ms\""),
        &["can't go on from checkpoint ", "the state of `count` was kept for ", "put back what was"],
    );
    check_refused(
        &folder,
        &changed("key = \"auction\"", "key = [\"auction\", \"channel\"]"),
        &["the state of `count` was kept for ", "auction (integer), channel (text)"],
    );
    check_refused(
        &folder,
        &changed("[operators.count]", "[operators.sum]").replace("input = \"count\"", "input = \"sum\""),
        &["it has state of the operator `count`, which the pipeline no longer has"],
    );
    check_refused(
        &folder,
        &changed("[sources.events]", "[sources.happened]")
            .replace("input = \"events\"", "input = \"happened\""),
        &["the source `events` is in it, and the pipeline has none of this id"],
    );
    folder.live(WINDOWS, 2, "").well();
    assert_same(&committed(&folder), &uninterrupted(WINDOWS), "after refusals");
}

#[test]
fn another_component_does_not_read_state_that_it_has_no_use_for() {
    let folder = killed(PROCESSES);
    let other = PROCESSES.replace("@count-by-key", "@latest-by-item");
    let ended = folder.live(&other, 1, "").with(2);
    assert!(!ended.stderr.is_empty());
    folder.live(PROCESSES, 2, "").well();
    assert_same(&committed(&folder), &uninterrupted(PROCESSES), "after a refusal");
}

/// State of half a million keys takes more than the budget.
#[test]
fn more_state_than_memory_is_no_problem() {
    const KEYS: usize = 500_000;
    let mut lines = String::new();
    for n in 0..KEYS + 50_000 {
        writeln!(lines, "{{\"walker\":{}}}", n * 7_919 % KEYS).unwrap();
    }
    let mut expected = Vec::new();
    for walker in 0..KEYS {
        expected.push(format!("numbers {{\"walker\":{walker},\"count\":1}}"));
    }
    for n in KEYS..KEYS + 50_000 {
        expected.push(format!("numbers {{\"walker\":{},\"count\":2}}", n * 7_919 % KEYS));
    }
    expected.sort_unstable();
    let small = "[state]\nmemory = \"16MiB\"\n[sources.steps]";
    let bare = STEPS.replace("[sources.steps]", small).replace("\"10ms\"", "\"200ms\"");

    let folder = Folder::with(&[("steps.jsonl", &lines)]);
    folder.live(&bare, 2, "").well();
    assert_same(&committed(&folder), &expected, "with checkpoints");

    let folder = Folder::with(&[("steps.jsonl", &lines)]);
    assert!(folder.live(&bare, 2, "commit.done=kill@2").was_killed());
    folder.live(&bare, 3, "").well();
    assert_same(&committed(&folder), &expected, "with checkpoints and a kill");

    let without = bare
        .replace("[checkpoints]\n    interval = \"200ms\"\n", "")
        .replace("numbers-*.jsonl", "numbers-0.jsonl");
    let folder = Folder::with(&[("steps.jsonl", &lines)]);
    folder.live(&without, 2, "").well();
    assert_same(&committed(&folder), &expected, "without checkpoints");
}
