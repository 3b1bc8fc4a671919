//! Corners of a pipeline where several features meet: streams united, rows multiplied, outputs beside inputs.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tidemill_tests::{Folder, sorted};

const WORDS: &str = r#"
    name = "p"
    [sources.text]
    type = "files"
    path = "*.txt"
    format = "text"
    [operators.split]
    component = "@split-words"
    input = "text"
    [operators.count]
    component = "@count"
    input = "split"
    key = "word"
    [sinks.counts]
    type = "files"
    input = "count"
    path = "counts.csv"
    "#;

#[test]
fn united_streams_may_differ_in_what_may_be_missing() {
    let folder = Folder::with(&[
        ("always.jsonl", "{\"word\":\"a\"}\n"),
        ("perhaps.jsonl", "{\"word\":null}\n{\"word\":\"b\"}\n"),
    ]);
    folder
        .run(
            r#"
        name = "p"
        [sources.always]
        type = "files"
        path = "always.jsonl"
        fields.word = { type = "text", nullable = false }
        [sources.perhaps]
        type = "files"
        path = "perhaps.jsonl"
        fields.word = "text"
        [operators.count]
        component = "@count"
        inputs = ["always", "perhaps"]
        key = "word"
        [sinks.counts]
        type = "files"
        input = "count"
        path = "counts.jsonl"
        "#,
        )
        .well();
    let counts = folder.json_lines("counts.jsonl");
    assert_eq!(counts.len(), 3, "{counts:?}");
    for word in [json!("a"), json!("b"), json!(null)] {
        assert!(counts.contains(&json!({ "word": word, "count": 1 })), "{word} is not in {counts:?}");
    }
}

#[test]
fn a_pipeline_does_not_read_what_it_writes_itself() {
    let folder = Folder::with(&[("in.jsonl", "{\"line\":\"a b\"}\nno JSON\n")]);
    let pipeline = WORDS.replace("path = \"*.txt\"\n    format = \"text\"", "path = \"*.jsonl\"");
    for _ in 0..2 {
        let ended = folder.run(&pipeline).well();
        assert_eq!(ended.count("sources", "text", "rows"), 1);
        assert_eq!(folder.json_lines("p.dead-letters.jsonl").len(), 1);
    }
}

#[test]
fn a_device_named_for_dead_letters_stays_one() {
    let folder = Folder::with(&[("in.txt", "a\n")]);
    let link = folder.path("null");
    std::os::unix::fs::symlink("/dev/null", &link).expect("a link can be made");
    folder.run(&WORDS.replace("name = \"p\"", "name = \"p\"\n    dead_letters = \"null\"")).well();
    assert!(link.symlink_metadata().expect("it is there").file_type().is_symlink());
}

#[test]
fn rows_that_became_many_are_counted_in_pieces() {
    let folder = Folder::with(&[("in.txt", &format!("{}\n", "tide mill ".repeat(50_000)))]);
    let ended = folder.run(WORDS).well();
    assert_eq!(ended.count("operators", "split", "rows_out"), 100_000);
    assert_eq!(sorted(folder.read("counts.csv").lines().skip(1)), ["mill,50000", "tide,50000"]);
}

#[test]
fn hopping_windows_of_many_keys_fit_into_little_memory() {
    let lines: String = (0..60_000).map(|n| format!("{{\"k\":{n},\"t\":{}}}\n", n % 2 * 1000)).collect();
    let twice = format!("{lines}{lines}");
    let folder = Folder::with(&[("in.jsonl", &twice)]);
    let ended = folder
        .run(
            r#"
        name = "p"
        [sources.events]
        type = "files"
        path = "in.jsonl"
        event_time = { field = "t", out_of_orderness = "1h" }
        [sources.events.fields]
        k = "integer"
        t = { type = "timestamp", unit = "ms" }
        [operators.count]
        component = "@count"
        input = "events"
        key = "k"
        window = { type = "hopping", size = "4s", slide = "1s" }
        memory = "3MiB"
        [sinks.counts]
        type = "files"
        input = "count"
        path = "counts.jsonl"
        "#,
        )
        .well();
    assert_eq!(ended.count("operators", "count", "rows_out"), 4 * 60_000);
}

#[test]
fn a_short_timeout_is_for_what_runs_longer() {
    let folder = Folder::with(&[("in.txt", &"a b c\n".repeat(100_000))]);
    folder.run(&WORDS.replace("input = \"text\"", "input = \"text\"\n    call_timeout = \"50ms\"")).well();
}

#[test]
fn more_operators_than_can_run_are_refused() {
    let folder = Folder::with(&[("in.txt", "a\n")]);
    let second = "[operators.again]\ncomponent = \"@count\"\ninput = \"count\"\nkey = \"word\"\n";
    let pipeline = WORDS.replace("input = \"count\"", "input = \"again\"") + second;
    let ended = folder.run_with(&pipeline, &["--parallelism", "720"]).with(2);
    assert!(
        ended.stderr.contains("needs 1441 instances of its operators, but there can be 1000"),
        "{}",
        ended.stderr
    );
}

/// A pipe whose writer takes its time holds up neither the other source nor Ctrl-C.
#[test]
fn a_slow_pipe_holds_up_nothing_else() {
    let folder = Folder::with(&[("quick.txt", "now\n")]);
    let pipe = folder.path("slow");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let pipeline = r#"
        name = "p"
        [sources.quick]
        type = "files"
        path = "quick.txt"
        format = "text"
        [sources.slow]
        type = "files"
        path = "slow"
        format = "text"
        [operators.split]
        component = "@split-words"
        input = "quick"
        [operators.other]
        component = "@split-words"
        input = "slow"
        [sinks.out]
        type = "files"
        input = "split"
        path = "out.jsonl"
        [sinks.slowly]
        type = "files"
        input = "other"
        path = "slowly.jsonl"
        "#;
    let running = folder.start(pipeline, &[], b"");
    let started = Instant::now();
    while !folder.has("out.jsonl") || folder.read("out.jsonl").is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "nothing came out beside a pipe that nobody writes to"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    running.interrupt();
    running.wait().with(130);
}
