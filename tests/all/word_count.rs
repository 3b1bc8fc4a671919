//! The classic.

use tidemill_tests::{Folder, example, sorted, workspace_file};

const COUNTS: [&str; 6] = ["word,count", "hello,3", "world,3", "batch,2", "of,1", "processing,1"];

#[test]
fn words_of_a_file_are_counted() {
    let folder = Folder::with(&[("words.txt", &workspace_file("examples/word-count/words.txt"))]);
    let ended = folder
        .run_with(&pipeline("type = \"files\"\npath = \"words.txt\"\nformat = \"text\""), &["--quiet"])
        .well();
    assert_eq!(sorted(ended.stdout.lines()), sorted(COUNTS));
    assert_eq!(ended.stderr, "");
}

#[test]
fn words_of_the_standard_input_are_counted() {
    let folder = Folder::new();
    let words = workspace_file("examples/word-count/words.txt");
    let running =
        folder.start(&pipeline("type = \"stdin\"\nformat = \"text\""), &["--quiet"], words.as_bytes());
    assert_eq!(sorted(running.wait().well().stdout.lines()), sorted(COUNTS));
}

/// The example's, with another source.
fn pipeline(source: &str) -> String {
    let example = example("word-count/pipeline.toml");
    example.replace("type = \"files\"\npath = \"words.txt\"\nformat = \"text\"", source)
}
