//! A savepoint stays until somebody deletes it, and a pipeline can go back to it; not behind output that would then come
//! again.

use std::fs;

use tidemill_tests::{Folder, tidemill_in};

use crate::lives::{PROCESSES, WINDOWS, assert_same, committed, uninterrupted};

#[test]
fn windows_go_back_to_a_savepoint() {
    check_goes_back(WINDOWS);
}

#[test]
fn processes_go_back_to_a_savepoint() {
    check_goes_back(PROCESSES);
}

fn check_goes_back(pipeline: &str) {
    let folder = Folder::new();
    assert!(folder.live(pipeline, 2, "commit.done=kill@3").was_killed(), "it ended too early");
    let newest = folder.files("p.checkpoints/checkpoints").pop().unwrap();
    let number: u64 = newest[..10].parse().unwrap();
    let kept =
        ["checkpoint", "keep", "p.checkpoints", &number.to_string(), "before-lunch"].map(str::to_owned);
    tidemill_in(&folder.path(""), kept).well();
    folder.live(pipeline, 2, "").well();
    let all = committed(&folder);

    let refused = folder.run_with(pipeline, &["--from", "before-lunch"]).with(2);
    assert!(
        refused.stderr.contains(&format!("has appeared since checkpoint {number}")),
        "{}",
        refused.stderr
    );
    assert_eq!(committed(&folder), all);

    for file in folder.files("out") {
        let (_, after) = file.rsplit_once('-').unwrap();
        if after[..10].parse::<u64>().unwrap() > number {
            fs::remove_file(folder.path(&format!("out/{file}"))).unwrap();
        }
    }
    folder.run_with(pipeline, &["--from", "before-lunch"]).well();
    assert_same(&committed(&folder), &uninterrupted(pipeline), "gone back to the savepoint");
    // Neither the checkpoints that were made since, nor the one limit on their number, have touched it.
    tidemill_in(&folder.path(""), ["checkpoint", "verify", "p.checkpoints", "before-lunch"]).well();
}

#[test]
fn what_isnt_there_is_not_gone_on_from() {
    let folder = Folder::new();
    let refused = folder.run_with(WINDOWS, &["--from", "nope"]).with(2);
    assert!(refused.stderr.contains("there is no savepoint nope"), "{}", refused.stderr);
    let without: String =
        WINDOWS.replace("[checkpoints]", "").replace("interval = \"30ms\"", "").replace("retain = 1", "");
    let without = without.replace("-*.jsonl", ".jsonl");
    let refused = folder.run_with(&without, &["--from", "3"]).with(2);
    assert!(refused.stderr.contains("it has no checkpoints"), "{}", refused.stderr);
}
