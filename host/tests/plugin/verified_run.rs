//! A whole run that is verified: what it finds names the operator, the row of the source or the key, and the column; and
//! the run itself gives what it gives.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where and why")]

use std::path::Path;

use tidemill::pipeline::{check, declaration};
use tidemill::plugin::{Findings, Plugin};
use tidemill::worker::{Ended, Job};

use crate::kit::{component, runtime};

/// A transform, an aggregate over windows of both kinds and an operator with state and collections, one behind the other.
const PIPELINE: &str = r#"
    name = "p"
    [sources.lines]
    type = "files"
    path = "in.jsonl"
    event_time = { field = "at" }
    fields = { line = "text", seconds = "float", at = { type = "timestamp", unit = "s" } }
    [operators.answer]
    component = "hostile.wasm"
    input = "lines"
    settings = { do = "ANSWER" }
    [operators.mean]
    component = "hostile-aggregate.wasm"
    input = "lines"
    key = "line"
    window = { type = "tumbling", size = "2s" }
    settings = { do = "MEAN" }
    [operators.sittings]
    component = "visits-v2.wasm"
    input = "lines"
    key = "line"
    window = { type = "session", gap = "3s" }
    [operators.latest]
    component = "hostile-keyed.wasm"
    input = "lines"
    key = "line"
    settings = { do = "LATEST" }
    [sinks.answers]
    type = "files"
    input = "answer"
    path = "answers.jsonl"
    [sinks.means]
    type = "files"
    input = "mean"
    path = "means.jsonl"
    [sinks.sits]
    type = "files"
    input = "sittings"
    path = "sits.jsonl"
    [sinks.last]
    type = "files"
    input = "latest"
    path = "last.jsonl"
    "#;

/// Two words in turn: several batches, and some windows.
fn lines(words: [&str; 2]) -> String {
    let line = |at: usize| {
        let line = words[at % 2];
        format!("{{\"line\":\"{line}\",\"seconds\":0.5,\"at\":{}}}\n", at / 1_000)
    };
    (0..9_000).map(line).collect()
}

/// What a run over these words finds, if it is verified at all.
fn run(folder: &Path, words: [&str; 2], [answer, mean, latest]: [&str; 3], verify: bool) -> Vec<String> {
    let text = PIPELINE.replace("ANSWER", answer).replace("MEAN", mean).replace("LATEST", latest);
    std::fs::write(folder.join("in.jsonl"), lines(words)).unwrap();
    let data_plane = tokio::runtime::Runtime::new().unwrap();
    let declaration = declaration::parse("p.toml", &text).unwrap();
    data_plane.block_on(async {
        let mut plugins: Vec<Plugin> = Vec::new();
        for operator in &declaration.operators {
            let package = operator.component.value.file_stem().unwrap().to_str().unwrap();
            plugins.push(runtime().load(&component(package)).await.unwrap());
        }
        let mut plan =
            check::plan(&declaration, plugins, folder, 1).unwrap_or_else(|errors| panic!("{errors}"));
        let findings = Findings::default();
        plan.verify = verify.then(|| findings.clone());
        let job = Job::start(&plan, data_plane.handle(), None).await.unwrap();
        assert_eq!(job.wait().await.unwrap(), Ended::Finished);
        findings.all()
    })
}

fn written(folder: &Path) -> Vec<String> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    ["answers.jsonl", "means.jsonl", "sits.jsonl", "last.jsonl"].map(read).to_vec()
}

#[test]
fn what_remembers_is_named_with_its_row_or_key() {
    let folder = tempfile::tempdir().unwrap();
    let found = run(folder.path(), ["now", "then"], ["remember"; 3], true);
    let at = folder.path().join("in.jsonl").display().to_string();
    let begins = [
        // The first batch, of 4,096 rows, has nothing to remember; every other line is `now`.
        format!(
            "operator `answer`, row at {at}:4097 (row 0 of the call of `process`), column `answer`: \"2048\""
        ),
        format!("operator `latest`, row at {at}:4097 (row 0 of the call of `process`), column `count`: "),
        "operator `mean`, group with the key {\"line\":\"".to_owned(),
    ];
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for (finding, begins) in found.iter().zip(begins) {
        assert!(finding.starts_with(&begins), "{finding}");
        assert!(finding.contains(" on one instance, ") && finding.ends_with(" on a fresh one"), "{finding}");
    }
    assert!(found[2].contains("column `visits`: "), "{}", found[2]);
}

#[test]
fn what_is_well_behaved_gives_no_finding_and_the_same_output() {
    let (plain, verified) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Of these the first one is never told to.
    let (words, behaved) = (["here", "there"], ["spin", "not-a-number", "dawdle"]);
    assert!(run(plain.path(), words, behaved, false).is_empty());
    let found = run(verified.path(), words, behaved, true);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(written(plain.path()), written(verified.path()));
    assert!(!written(plain.path()).iter().any(String::is_empty));
}
