//! The reference page says what the parser knows, and its examples are scripts.

use super::super::keys;
use super::{Cell, parse};

const PAGE: &str = include_str!("../../../../../docs/testing.md");

#[test]
fn every_known_key_stands_in_its_table_and_no_other_does() {
    for keys in keys::OF_SCRIPTS {
        let (_, part) = PAGE.split_once(&format!("\n{}\n", keys.heading)).unwrap();
        let rows = part.split("\n#").next().unwrap().lines();
        let rows = rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<Vec<_>>(), keys.names().collect::<Vec<_>>(), "{}", keys.heading);
    }
}

#[test]
fn the_examples_are_scripts() {
    let blocks: Vec<&str> =
        PAGE.split("\n```toml\n").skip(1).map(|b| b.split("\n```").next().unwrap()).collect();
    let [operator, pipeline, rows] = blocks[..] else { panic!("{blocks:?}") };
    let script = parse("operator.toml", operator).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(script.steps.len(), 5);
    parse("pipeline.toml", pipeline).unwrap_or_else(|errors| panic!("{errors}"));
    let script = parse("rows.toml", &format!("pipeline = \"p\"\n[[step]]\n{rows}")).unwrap();
    let last = &script.steps[0].rows[1];
    let text = |text: &str| Cell::Text(text.to_owned());
    let time = text("2026-01-05T08:00:01Z");
    assert_eq!(last.cells, [("user".into(), text("bob")), ("amount".into(), text("")), ("at".into(), time)]);
    assert_eq!(script.file.place(last.span).line, 6);
}
