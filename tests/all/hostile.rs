//! An operator that misbehaves ends its pipeline within a bounded time, and the message says who, how, and at which
//! row; it never takes the host with it.

use std::time::{Duration, Instant};

use tidemill_tests::{Ended, Folder, component, tidemill};

/// The line `now` is the third: before it, the operator behaves.
const LINES: &str = "one\ntwo\nnow\nfour\n";

/// Far more than any of these takes, far less than a hanging guest would.
const TIME_MAX: Duration = Duration::from_secs(20);

fn run(misbehaviour: &str, limits: &str) -> (Folder, Ended) {
    let folder = Folder::with(&[("lines.txt", LINES)]);
    let pipeline = format!(
        r#"
        name = "p"
        [sources.lines]
        type = "files"
        path = "lines.txt"
        [operators.bad]
        component = "@hostile"
        input = "lines"
        settings = {{ do = "{misbehaviour}" }}
        {limits}
        [sinks.out]
        type = "files"
        input = "bad"
        path = "out.jsonl"
        "#
    );
    let started = Instant::now();
    let ended = folder.run(&pipeline);
    assert!(started.elapsed() < TIME_MAX, "took {:?}", started.elapsed());
    (folder, ended)
}

/// Checks that the pipeline fails for this cause, told with the operator, its component, and the batch's place.
#[track_caller]
fn check(misbehaviour: &str, limits: &str, cause: &[&str]) {
    let (_, ended) = run(misbehaviour, limits);
    let ended = ended.with(1);
    let inspected =
        tidemill(["inspect".as_ref(), "--json".as_ref(), component("hostile").as_os_str()]).well();
    let digest = inspected.json()["sha256"].as_str().expect("a digest")[..12].to_owned();
    let place = format!("operator `bad` (component {digest}), in the batch that begins at lines.txt:1: ");
    for words in [&[place.as_str()], cause].concat() {
        assert!(ended.stderr.contains(words), "{words:?} is not in:\n{}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_guest_that_never_returns_is_stopped_at_its_timeout() {
    let started = Instant::now();
    check(
        "spin",
        "call_timeout = \"200ms\"",
        &["ran longer than 200 ms in one call and was stopped; raise `call_timeout` if that is its work"],
    );
    assert!(started.elapsed() < Duration::from_secs(5), "{:?} for a limit of 200 ms", started.elapsed());
}

#[test]
fn a_guest_that_hoards_memory_is_stopped_at_its_limit() {
    check("allocate", "", &["wanted more than its 64 MiB of memory; raise `memory` if that is its work ("]);
    check("allocate", "memory = \"8MiB\"", &["wanted more than its 8 MiB of memory"]);
}

#[test]
fn a_panic_is_told_with_its_message_and_place() {
    check("panic", "", &["trapped: panicked at guest-examples/hostile/src/lib.rs:", "no more of this"]);
}

#[test]
fn a_bottomless_recursion_traps() {
    check("recurse", "", &["trapped: wasm trap: call stack exhausted", "::descend\n"]);
}

#[test]
fn an_answer_too_large_to_copy_is_refused() {
    check(
        "huge-output",
        "memory = \"1GiB\"",
        &["trapped: too much data is being copied between the host and the guest"],
    );
}

#[test]
fn a_flood_of_log_lines_is_cut_and_nothing_else_happens() {
    let (folder, ended) = run("flood-log", "");
    let ended = ended.well();
    assert_eq!(folder.read("out.jsonl").lines().nth(2), Some(r#"{"answer":"dry again"}"#));
    assert_eq!(folder.read("out.jsonl").lines().count(), 4);
    assert_eq!(ended.stderr.matches("of a flood").count(), 1000);
    assert!(ended.stderr.contains("logged 1000 lines; the rest is dropped"), "{}", ended.stderr);
    assert!(!ended.stderr.contains('\x1b'), "colours are for terminals: {:?}", ended.stderr);
}
