//! What was written by any released version is read for good.

use std::fs;

use serde_json::json;
use tidemill_checkpoint::{
    FORMAT_IN_FLIGHT, Field, InFlight, Manifest, Offsets, Repeatable, Selector, Store,
};

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

/// Never edited: format 2 as its first version wrote it.
const FORMAT_2: &str = include_str!("../fixtures/manifest-format-2.json");

fn in_flight() -> Manifest {
    let mut manifest = full();
    let fields = vec![Field { name: "page".to_owned(), r#type: "text".to_owned(), nullable: true }];
    manifest.operators[0].in_flight = Some(InFlight { rows: 1_234, fields });
    Manifest { format: FORMAT_IN_FLIGHT, ..manifest }
}

#[test]
fn rows_in_flight_are_format_2() {
    let folder = Folder::new();
    drop(folder.open());
    fs::write(folder.store().join("checkpoints/0000000012-run3.json"), FORMAT_2).unwrap();
    let read = Store::look(&folder.store()).unwrap().read(&Selector::Checkpoint(12)).unwrap();
    assert_eq!((read.rows_in_flight(), read.is_unaligned()), (1_234, true));
    assert_eq!(read, in_flight());
    let written = seal(&(serde_json::to_string_pretty(&in_flight()).unwrap() + "\n"));
    assert_eq!(String::from_utf8(written).unwrap(), FORMAT_2, "a changed format needs a new number");
}

/// Versions that don't know rows in flight would forget them.
#[test]
fn rows_in_flight_under_the_number_of_format_1_are_refused() {
    let folder = Folder::new();
    drop(folder.open());
    let manifest = Manifest { format: 1, ..in_flight() };
    let text = seal(&(serde_json::to_string_pretty(&manifest).unwrap() + "\n"));
    fs::write(folder.store().join("checkpoints/0000000012-run3.json"), text).unwrap();
    let refused = Store::look(&folder.store()).unwrap().read(&Selector::Checkpoint(12)).unwrap_err();
    assert!(refused.to_string().contains("format 1 instead of 2"), "{refused}");
}

#[test]
fn what_a_host_has_made_of_a_pipeline_is_written_and_read() {
    let folder = Folder::new();
    let store = folder.open();
    let mut manifest = full();
    manifest.run = store.run();
    manifest.state.files.clear();
    manifest.generation = 4;
    manifest.components = [("by-page".to_owned(), "ab".repeat(32).parse().unwrap())].into();
    store.write_manifest(&manifest).unwrap();
    let read = store.read(&Selector::Checkpoint(manifest.checkpoint)).unwrap();
    assert_eq!((read.generation, &read.components), (4, &manifest.components));
}

#[test]
fn offsets_that_come_again_are_written_and_read() {
    let mut manifest = full();
    let partitions =
        vec![Offsets { before: vec![(3, 5), (5, 8)], from: 9 }, Offsets { before: Vec::new(), from: 0 }];
    manifest.sinks[0].repeatable = Some(Repeatable { log: "00c0ffee00c0ffee".to_owned(), partitions });
    let value = serde_json::to_value(&manifest).unwrap();
    let expected = json!({
        "log": "00c0ffee00c0ffee",
        "partitions": [{"before": [[3, 5], [5, 8]], "from": 9}, {"from": 0}]
    });
    assert_eq!(value["sinks"][0]["repeatable"], expected);

    let read = |value: &serde_json::Value| {
        let folder = Folder::new();
        drop(folder.open());
        let text = seal(&format!("{value:#}\n"));
        fs::write(folder.store().join("checkpoints/0000000012-run3.json"), text).unwrap();
        Store::look(&folder.store()).unwrap().read(&Selector::Checkpoint(12))
    };
    assert_eq!(read(&value).unwrap(), manifest);
    for (at, wrong, why) in [
        ("/sinks/0/repeatable/log", json!("c0ffee"), "isn't 16 hex digits"),
        (
            "/sinks/0/repeatable/partitions/0/before",
            json!([[3, 5], [4, 8]]),
            "offsets 4 to 8 behind 5, up to 9",
        ),
        ("/sinks/0/repeatable/partitions/0/before", json!([[3, 3]]), "offsets 3 to 3"),
        ("/sinks/0/repeatable/partitions/0/before", json!([[3, 10]]), "offsets 3 to 10 behind 0, up to 9"),
    ] {
        let mut value = value.clone();
        *value.pointer_mut(at).unwrap() = wrong;
        let error = read(&value).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
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
