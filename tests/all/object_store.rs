//! Checkpoints in a real object store: a run goes on from there wherever its local folders are, and of two runs the older
//! one ends.

use std::process::Command;
use std::time::{Duration, Instant};

use tidemill_tests::{Bucket, Consumer, Ended, Folder, Running, command};

use crate::lives::{PROCESSES, WINDOWS, assert_nothing_staged, assert_same, uninterrupted};

/// The pipeline with its checkpoints in the bucket.
fn in_bucket(pipeline: &str) -> String {
    let there = pipeline.replace("[checkpoints]", "[checkpoints]\npath = \"s3://bucket/jobs/p\"");
    assert_ne!(there, pipeline, "the pipeline has checkpoints");
    there
}

/// The same with so many events that there are some checkpoints, each of which takes some dozens of requests.
fn longer(pipeline: &str) -> String {
    pipeline.replace("events = 50_000", "events = 400_000").replace("events = 35_000", "events = 280_000")
}

fn run(bucket: &Bucket, folder: &Folder, pipeline: &str, failpoints: &str) -> Ended {
    start(bucket, folder, pipeline, failpoints).wait()
}

fn start(bucket: &Bucket, folder: &Folder, pipeline: &str, failpoints: &str) -> Running {
    let mut command = folder.command(&in_bucket(pipeline));
    bucket.tell(&mut command).args(["--json"]).env("TIDEMILL_FAILPOINTS", failpoints);
    Running::start(&mut command, b"")
}

fn tidemill(bucket: &Bucket, folder: &Folder, arguments: &[&str]) -> Ended {
    let mut command: Command = command(&folder.path("."));
    Running::start(bucket.tell(&mut command).args(arguments), b"").wait()
}

#[test]
fn a_killed_pipeline_goes_on_from_the_bucket_with_nothing_on_its_disk() {
    for (pipeline, deaths) in [
        (WINDOWS, ["commit.done=kill", "manifest.copy=kill@2"]),
        (PROCESSES, ["commit.rename=kill", "persist.files=kill@2"]),
    ] {
        let Some(bucket) = Bucket::new() else { return };
        let pipeline = &longer(pipeline);
        let expected = uninterrupted(pipeline);
        let (folder, mut consumer) = (Folder::new(), Consumer::new("out"));
        for death in deaths {
            let ended = run(&bucket, &folder, pipeline, death);
            assert!(ended.was_killed(), "{death}: {}", ended.stderr);
            consumer.look(&folder);
            std::fs::remove_dir_all(folder.path("p.work")).unwrap();
        }
        let ended = run(&bucket, &folder, pipeline, "").well();
        assert!(ended.stderr.contains("p: going on from checkpoint "), "{}", ended.stderr);
        consumer.look(&folder);
        assert_same(&consumer.rows(), &expected, "killed twice");
        assert_nothing_staged(&folder);
    }
}

#[test]
fn of_two_runs_the_older_one_ends_and_shows_nothing_more() {
    let Some(bucket) = Bucket::new() else { return };
    let pipeline = longer(WINDOWS);
    let expected = uninterrupted(&pipeline);
    let (folder, mut consumer) = (Folder::new(), Consumer::new("out"));
    // It is held up before it writes its second manifest, as a process on a machine that stands still for a while.
    // Its working copy is its own, as on another machine.
    let elsewhere = format!("{pipeline}\n[state]\npath = \"elsewhere\"\n");
    let old = start(&bucket, &folder, &elsewhere, "persist.files=delay:15000@2");
    let started = Instant::now();
    while bucket.names("jobs/p/checkpoints/").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    run(&bucket, &folder, &pipeline, "").well();
    consumer.look(&folder);
    let ended = old.wait().with(1);
    assert!(ended.stderr.contains("run 2 of the pipeline has begun"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("a-secret-that-is-never-shown"), "{}", ended.stderr);
    consumer.look(&folder);
    assert_same(&consumer.rows(), &expected, "two runs");
}

#[test]
fn a_bucket_is_looked_at_like_a_folder() {
    let Some(bucket) = Bucket::new() else { return };
    let folder = Folder::new();
    assert!(run(&bucket, &folder, &longer(PROCESSES), "commit.done=kill@3").was_killed());
    let place = "s3://bucket/jobs/p";
    let listed = tidemill(&bucket, &folder, &["checkpoint", "list", place, "--json"]).well().json();
    let checkpoints = listed["checkpoints"].as_array().unwrap().len();
    assert!(checkpoints > 1, "{listed}");
    tidemill(&bucket, &folder, &["checkpoint", "verify", place]).well();
    tidemill(&bucket, &folder, &["checkpoint", "show", place]).well();
    tidemill(&bucket, &folder, &["checkpoint", "keep", place, "3", "kept"]).well();
    let deleted = tidemill(&bucket, &folder, &["checkpoint", "delete", place, "2"]).well();
    assert!(deleted.stdout.contains("the pipeline removes the files"), "{}", deleted.stdout);
    let shown = tidemill(&bucket, &folder, &["state", "show", place, "number", "--limit", "1"]).well();
    assert_eq!(shown.stdout.lines().count(), 1, "{}", shown.stdout);
    let mut from = folder.command(&in_bucket(&longer(PROCESSES)));
    let ended = Running::start(bucket.tell(&mut from).args(["--json", "--from", "kept"]), b"").wait().well();
    assert!(ended.stderr.contains("p: going on from checkpoint 3"), "{}", ended.stderr);
}

#[test]
fn a_service_that_is_gone_is_told_with_what_to_do() {
    let Some(bucket) = Bucket::new() else { return };
    let folder = Folder::new();
    let pipeline = in_bucket(WINDOWS);
    let mut unencrypted = folder.command(&pipeline);
    bucket.tell(&mut unencrypted).env_remove("AWS_ALLOW_HTTP");
    let ended = Running::start(&mut unencrypted, b"").wait().with(2);
    assert!(ended.stderr.contains("set AWS_ALLOW_HTTP=true"), "{}", ended.stderr);
    let mut elsewhere = folder.command(&pipeline.replace("s3://bucket/", "s3://no-bucket/"));
    let ended = Running::start(bucket.tell(&mut elsewhere), b"").wait().with(2);
    assert!(ended.stderr.contains("s3://no-bucket/jobs/p"), "{}", ended.stderr);
    assert!(ended.stderr.contains("there is no such bucket"), "{}", ended.stderr);
    let mut gone = folder.command(&pipeline);
    bucket.tell(&mut gone).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let ended = Running::start(&mut gone, b"").wait().with(2);
    assert!(ended.stderr.contains("check that the service can be reached"), "{}", ended.stderr);
}
