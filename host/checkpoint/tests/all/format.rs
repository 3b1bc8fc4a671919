//! What was written by any released version is read for good.

use std::fs;

use tidemill_checkpoint::{Selector, Store};

use crate::kit::{Folder, full, seal};

/// Never edited: format 1 as its first version wrote it.
const FORMAT_1: &str = include_str!("../fixtures/manifest-format-1.json");

#[test]
fn format_1_is_read() {
    let folder = Folder::new();
    drop(folder.open());
    fs::write(folder.store().join("checkpoints/0000000012-run3.json"), FORMAT_1).unwrap();
    let contents = Store::look(&folder.store()).unwrap();
    assert_eq!(contents.read(&Selector::Checkpoint(12)).unwrap(), full());
}

#[test]
fn format_1_is_written_as_before() {
    let written = seal(&(serde_json::to_string_pretty(&full()).unwrap() + "\n"));
    assert_eq!(String::from_utf8(written).unwrap(), FORMAT_1, "a changed format needs a new number");

    let folder = Folder::new();
    let manifest = folder.checkpoint(&folder.open(), 1, &[("000001.sst", b"rows")]);
    let sealed = seal(&(serde_json::to_string_pretty(&manifest).unwrap() + "\n"));
    for copy in ["checkpoints", "checkpoints-copy"] {
        assert_eq!(fs::read(folder.store().join(copy).join("0000000001-run1.json")).unwrap(), sealed);
    }
}

#[test]
fn unknown_fields_are_passed_over() {
    let folder = Folder::new();
    drop(folder.open());
    let mut value = serde_json::to_value(full()).unwrap();
    value["new"] = true.into();
    value["state"]["files"][0]["new"] = 1.into();
    fs::write(folder.store().join("checkpoints/0000000012-run3.json"), seal(&format!("{value:#}\n")))
        .unwrap();
    let contents = Store::look(&folder.store()).unwrap();
    assert_eq!(contents.read(&Selector::Checkpoint(12)).unwrap(), full());
}
