//! `tidemill test`: what it says of scripts that pass, fail, or can't be played.

use serde_json::json;
use tidemill_tests::{Ended, Folder, component, tidemill_in, workspace_file};

/// Plays scripts from a folder with these files, in which `@count` stands for a component.
fn play(files: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let folder = Folder::new();
    for (name, text) in files {
        let mut text = (*text).to_owned();
        for package in ["sum-by-key", "count-by-key", "count", "hostile"] {
            text = text.replace(&format!("@{package}\""), &format!("{}\"", component(package).display()));
        }
        folder.write(name, text);
    }
    tidemill_in(&folder.path(""), ["test"].iter().chain(arguments))
}

/// The example of the page, which was worked out by hand.
fn page_example() -> String {
    let page = workspace_file("docs/testing.md");
    let example = page.split("\n```toml\n").nth(1).unwrap().split("\n```").next().unwrap();
    example.replace("../operators/sum_by_key.wasm", "@sum-by-key")
}

#[test]
fn the_example_of_the_page_passes_and_fails_as_it_says() {
    let example = page_example();
    for arguments in [&["sum.toml"][..], &["sum.toml", "--restore-everywhere", "--parallelism", "2"]] {
        let ended = play(&[("sum.toml", &example)], arguments).well();
        assert_eq!(ended.stdout, "sum.toml: passed, 5 steps\n1 script: 1 passed\n");
    }
    let ended = play(&[("sum.toml", &example.replace("sum = 7", "sum = 8"))], &["sum.toml"]).with(1);
    let page = workspace_file("docs/testing.md");
    let shown = page.split("\n```text\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(ended.stdout, format!("{shown}1 script: 0 passed, 1 failed\n"));
    assert_eq!(ended.stderr, "tidemill: 1 script failed\n");
}

const COUNTING: &str = r#"
[operator]
component = "@count-by-key"
key = "who"
[inputs.rows]
fields = { who = "text" }
"#;

#[test]
fn what_comes_out_unasked_fails_the_step() {
    let script = format!(
        "{COUNTING}[[step]]\nrows = [ {{ who = \"ann\" }} ]\n[[step]]\nrows = [ {{}} ]\nexpect = \"any\"\n"
    );
    let ended = play(&[("tests/a.toml", &script)], &["tests", "--json"]).with(1);
    let failures = json!([{
        "step": 1, "line": 7, "of": "out", "missing": [], "unexpected": [{"who": "ann", "count": 1}],
    }]);
    let expected = json!([{"script": "tests/a.toml", "result": "failed", "steps": 2, "failures": failures}]);
    assert_eq!(ended.json(), expected);
}

#[test]
fn a_snapshot_is_gone_back_to_and_what_came_since_has_not_happened() {
    let script = format!(
        r#"{COUNTING}
        [[step]]
        rows = [ {{ who = "ann" }} ]
        expect = [ {{ who = "ann", count = 1 }} ]
        snapshot = "one"
        [[step]]
        rows = [ {{ who = "ann" }}, {{ who = "ann" }} ]
        expect_in_order = [ {{ who = "ann", count = 2 }}, {{ who = "ann", count = 3 }} ]
        [[step]]
        restore = "one"
        rows = [ {{ who = "ann" }} ]
        expect = [ {{ who = "ann", count = 2 }} ]
        [[step]]
        rows = [ {{ who = "ann" }}, {{ who = "ann" }} ]
        expect_in_order = [ {{ who = "ann", count = 4 }}, {{ who = "ann", count = 3 }} ]
        "#
    );
    let ended = play(&[("a.toml", &script)], &["a.toml"]).with(1);
    assert!(
        ended.stdout.contains("step 4 at a.toml:19: `out`: 2 rows missing, 2 rows unexpected"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_pipeline_is_played_without_its_sources_and_sinks() {
    let pipeline = r#"
        name = "p"
        [checkpoints]
        path = "nowhere"
        [sources.rows]
        type = "files"
        path = "there-is-no-such-file.csv"
        event_time = { field = "when" }
        fields = { who = "text", when = { type = "timestamp", unit = "s" } }
        [operators.totals]
        component = "@count"
        input = "rows"
        key = "who"
        window = { type = "tumbling", size = "1m" }
        [sinks.all]
        type = "files"
        input = "rows"
        path = "all-*.csv"
        [sinks.counts]
        type = "stdout"
        input = "totals"
        "#;
    let script = r#"
        pipeline = "../pipeline.toml"
        [[step]]
        rows = [ { who = "ann", when = 5 }, { who = "ann", when = 59 }, { who = "bob" } ]
        watermark = 1970-01-01T00:00:59.999Z
        expect.all = [ { who = "ann", when = 5000 }, { who = "ann", when = 1970-01-01T00:00:59Z, at = 59000 } ]
        expect.counts = [ { who = "ann", window_start = 0, window_end = 60000, count = 2, at = 59999 } ]
        expect_rejected = [ { who = "bob" } ]
        "#;
    let files = [("pipeline.toml", pipeline), ("tests/a.toml", script)];
    let ended = play(&files, &["tests/a.toml"]).well();
    assert_eq!(ended.stdout, "tests/a.toml: passed, 1 step\n1 script: 1 passed\n");
}

#[test]
fn a_row_that_an_operator_rejects_is_expected_with_its_reason() {
    let script = r#"
        [operator]
        component = "@sum-by-key"
        [[step]]
        rows = [ { amount = 9223372036854775807 }, { amount = 1 }, { amount = "none" } ]
        expect_rejected = [ { amount = 1, "$reason" = "64 bits" }, { amount = "none" } ]
        [[step]]
        end = true
        expect = [ { sum = 9223372036854775807 } ]
        "#;
    play(&[("a.toml", script)], &["a.toml"]).well();
}

#[test]
fn an_operator_that_fails_fails_its_step_and_ends_the_script() {
    let script = r#"
        [operator]
        component = "@hostile"
        settings = { do = "panic" }
        [[step]]
        rows = [ { line = "hello" } ]
        expect = [ { answer = "hello" } ]
        [[step]]
        note = "it panics"
        rows = [ { line = "now" } ]
        [[step]]
        rows = [ { line = "hello" } ]
        "#;
    let ended = play(&[("a.toml", script)], &["a.toml"]).with(1);
    assert!(
        ended.stdout.contains("step 2 at a.toml:8, it panics: the pipeline failed\n"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("step 3"), "{}", ended.stdout);
    let refused = script.replace("panic\"", "nothing\"");
    let ended = play(&[("a.toml", &refused)], &["a.toml"]).with(2);
    assert!(ended.stdout.contains("`nothing` is nothing that it does"), "{}", ended.stdout);
}

/// Checks that a script can't be played, and that the message says so.
#[track_caller]
fn check_wrong(script: &str, expected: &str) {
    let ended = play(&[("a.toml", script)], &["a.toml"]).with(2);
    assert!(ended.stdout.contains(expected), "{expected:?} is not in:\n{}", ended.stdout);
    assert!(ended.stdout.ends_with("1 script: 0 passed, 1 can't be played\n"), "{}", ended.stdout);
}

#[test]
fn a_wrong_script_is_refused_with_its_place() {
    let counting = |steps: &str| format!("{COUNTING}{steps}");
    check_wrong("[[step]]\n", "the script doesn't say what it tests");
    check_wrong(&counting(""), "the script has no steps");
    check_wrong(
        &counting("[[step]]\nrow = []"),
        "a.toml:8:1: unknown key `row` in [step]; did you mean `rows`?",
    );
    check_wrong(
        &counting("[[step]]\nrows = [ { whom = \"ann\" } ]"),
        "a.toml:8:10: the operator reads no field `whom`; did you mean `who`?",
    );
    check_wrong(
        &counting("[[step]]\nexpect = [ { counts = 1 } ]"),
        "a.toml:8:12: the rows of `out` have no field `counts`; did you mean `count`?",
    );
    check_wrong(
        &counting("[[step]]\nexpect.aut = [ { count = 1 } ]"),
        "there is no sink `aut`; did you mean `out`?",
    );
    check_wrong(
        &counting("[[step]]\nrows = \"\"\"\n  who\n  ann, bob\n\"\"\""),
        "a.toml:10:3: `rows` in [step]: the row has 2 values, and the first line names 1 fields",
    );
    check_wrong(
        &counting("[[step]]\nrestore = true"),
        "there is no step above whose end it could go on from",
    );
    check_wrong(
        &counting("[[step]]\n[[step]]\nrestore = \"x\""),
        "a.toml:9:11: no step above has `snapshot = \"x\"`",
    );
    check_wrong(
        &counting("[[step]]\nend = true\n[[step]]"),
        "the input ends in this step, so it must be the last",
    );
    check_wrong(&counting("[[step]]\ninput = \"rows\"\npartition = 1"), "`rows` has 1 partitions");
    check_wrong(
        &counting("[[step]]\ninput = \"rows\"\nend = true\n[[step]]\nrows = [ {} ]"),
        "partition 0 of `rows` has ended already",
    );
    check_wrong(
        &counting("[[step]]\ninput = \"rows\"\nend = true\n[[step]]\nadvance = \"1s\""),
        "a.toml:10:1: all inputs have ended in a step above",
    );
    check_wrong(&counting("[[step]]\n").replace("key = \"who\"", ""), "add `key = \"...\"`");
    check_wrong("pipeline = \"none.toml\"\n[[step]]\n", "cannot read none.toml");
}

#[test]
fn a_folder_without_scripts_is_refused() {
    let ended = play(&[("tests/pipeline.toml", "name = \"p\"\n")], &["tests"]).with(2);
    assert_eq!(ended.stderr, "tidemill: tests has no scripts: no file of TOML with a section [[step]]\n");
}
