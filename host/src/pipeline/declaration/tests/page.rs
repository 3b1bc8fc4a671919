//! The reference page says what the parser knows: its tables have the keys of `keys.rs`, in that order,
//! and its examples are files.

use crate::pipeline::declaration::{keys, parse};

const PAGE: &str = include_str!("../../../../../docs/pipeline-file.md");

/// The part of the page from a heading to the next.
fn below(heading: &str) -> &'static str {
    let (_, part) =
        PAGE.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    part.split("\n#").next().unwrap()
}

/// The contents of the page's code blocks in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let open = format!("\n```{language}\n");
    PAGE.split(open.as_str()).skip(1).map(|block| block.split("\n```").next().unwrap()).collect()
}

#[test]
fn every_known_key_stands_in_its_table_and_no_other_does() {
    for keys in keys::ALL {
        let rows = below(keys.heading).lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<Vec<_>>(), keys.names().collect::<Vec<_>>(), "{}", keys.heading);
    }
}

#[test]
fn keys_that_belong_to_some_types_only_say_so() {
    for keys in keys::ALL {
        for key in keys.keys.iter().filter(|key| !key.cases.is_empty()) {
            let row = below(keys.heading)
                .lines()
                .find(|line| line.starts_with(&format!("| `{}`", key.name)))
                .unwrap();
            let said = row.split('|').nth(2).unwrap().trim();
            assert_eq!(said, key.cases.join(", "), "{}: {}", keys.heading, key.name);
        }
    }
}

#[test]
fn the_examples_are_pipelines() {
    let blocks = blocks("toml");
    let (first, sections) = blocks.split_first().unwrap();
    parse("first.toml", first).unwrap_or_else(|errors| panic!("{errors}"));
    // The examples of the sections, one after the other, are a file too.
    parse("sections.toml", &sections.join("\n")).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn the_errors_that_are_shown_are_the_errors_that_are_found() {
    let first = blocks("toml")[0];
    let mistaken = [first.replace("window =", "windwo ="), format!("{first}\n[checkpoints]")];
    for (text, shown) in mistaken.iter().zip(blocks("text")) {
        assert_eq!(parse("pipeline.toml", text).unwrap_err().to_string(), shown);
    }
    assert_eq!(blocks("text").len(), mistaken.len());
}
