//! What isn't exactly what was written is never believed.

use std::fs;
use std::path::PathBuf;

use tidemill_checkpoint::{Contents, Error, Manifest, Problem, Selector, Store};

use crate::kit::{Folder, files, full, manifest, overwrite, seal};

const FIRST: Selector = Selector::Checkpoint(1);

fn one_checkpoint() -> (Folder, Manifest, [PathBuf; 2], Contents) {
    let folder = Folder::new();
    let store = folder.open();
    let manifest =
        folder.checkpoint(&store, 1, &[("000001.sst", b"rows"), ("CURRENT", b"MANIFEST-000001\n")]);
    drop(store);
    let copies =
        ["checkpoints", "checkpoints-copy"].map(|f| folder.store().join(f).join("0000000001-run1.json"));
    let contents = Store::look(&folder.store()).unwrap();
    (folder, manifest, copies, contents)
}

/// Every way to flip a byte that tests have the time for, and every truncation.
fn damaged(content: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flips = (0..content.len()).flat_map(move |at| {
        [0x01, 0x20, 0x80, 0xff].map(|mask| {
            let mut flipped = content.to_vec();
            flipped[at] ^= mask;
            flipped
        })
    });
    flips.chain((0..content.len()).map(|end| content[..end].to_vec()))
}

#[test]
fn a_damaged_manifest_is_named_and_the_other_copy_serves() {
    let (_folder, manifest, copies, contents) = one_checkpoint();
    let good = fs::read(&copies[0]).unwrap();
    for damaged in damaged(&good) {
        for (broken, whole) in [(0, 1), (1, 0)] {
            overwrite(&copies[broken], &damaged);
            overwrite(&copies[whole], &good);
            assert_eq!(contents.read(&FIRST).unwrap(), manifest);
            let listed = contents.list().unwrap().remove(0);
            let warning = listed.warning.unwrap();
            assert!(warning.contains(copies[broken].to_str().unwrap()), "{warning}");
        }
    }
}

#[test]
fn a_manifest_damaged_in_both_copies_is_refused_and_both_are_named() {
    let (_folder, _, copies, contents) = one_checkpoint();
    let good = fs::read(&copies[0]).unwrap();
    for damaged in damaged(&good) {
        copies.iter().for_each(|copy| overwrite(copy, &damaged));
        let error = contents.read(&FIRST).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Broken { .. }), "{error:?}");
        assert!(copies.iter().all(|copy| message.contains(copy.to_str().unwrap())), "{message}");
        assert!(contents.list().unwrap()[0].manifest.is_err());
    }
}

#[test]
fn a_damaged_file_is_named() {
    let (folder, manifest, _, contents) = one_checkpoint();
    contents.verify(&manifest, &|_| ()).unwrap();
    for path in files(&folder.store().join("files")) {
        let good = fs::read(&path).unwrap();
        for damaged in damaged(&good) {
            overwrite(&path, &damaged);
            let problems = contents.verify(&manifest, &|_| ()).unwrap_err();
            assert_eq!(problems.len(), 1);
            assert!(matches!(problems[0], Problem::Content { .. } | Problem::Size { .. }), "{problems:?}");
            assert!(problems[0].to_string().contains(path.to_str().unwrap()), "{}", problems[0]);
        }
        fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        assert!(matches!(contents.verify(&manifest, &|_| ()).unwrap_err()[0], Problem::Size { .. }));
        fs::remove_file(&path).unwrap();
        assert!(matches!(contents.verify(&manifest, &|_| ()).unwrap_err()[0], Problem::Missing { .. }));
        fs::create_dir(&path).unwrap();
        assert!(matches!(contents.verify(&manifest, &|_| ()).unwrap_err()[0], Problem::Unreadable { .. }));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn a_broken_or_missing_copy_is_made_anew_with_a_warning() {
    let (folder, _, copies, _) = one_checkpoint();
    let good = fs::read(&copies[0]).unwrap();
    fs::write(&copies[1], b"{}").unwrap();
    let store = folder.open();
    assert_eq!(store.warnings().len(), 1);
    assert!(store.warnings()[0].contains("checkpoints-copy/0000000001-run1.json"), "{:?}", store.warnings());
    assert_eq!(fs::read(&copies[1]).unwrap(), good);
    drop(store);
    fs::remove_file(&copies[0]).unwrap();
    let store = folder.open();
    assert!(store.warnings()[0].contains("it is missing"), "{:?}", store.warnings());
    assert_eq!(fs::read(&copies[0]).unwrap(), good);
    drop(store);
    assert!(folder.open().warnings().is_empty());
}

#[test]
fn a_manifest_under_another_name_or_of_another_pipeline_is_refused() {
    let (folder, _, copies, contents) = one_checkpoint();
    let other = folder.store().join("checkpoints/0000000002-run1.json");
    fs::copy(&copies[0], &other).unwrap();
    let error = contents.read(&Selector::Checkpoint(2)).unwrap_err().to_string();
    assert!(error.contains("the content of checkpoint 1 (run 1)"), "{error}");
    let mut foreign = manifest(2, 1, Vec::new());
    foreign.pipeline = "payments".to_owned();
    fs::write(&other, seal(&(serde_json::to_string(&foreign).unwrap() + "\n"))).unwrap();
    let error = contents.read(&Selector::Checkpoint(2)).unwrap_err().to_string();
    assert!(error.contains("pipeline `payments`"), "{error}");
}

#[test]
fn copies_that_differ_are_refused_though_each_is_whole() {
    let (_folder, mut manifest, copies, contents) = one_checkpoint();
    manifest.duration_ms += 1;
    fs::write(&copies[1], seal(&(serde_json::to_string(&manifest).unwrap() + "\n"))).unwrap();
    let error = contents.read(&FIRST).unwrap_err().to_string();
    assert!(error.contains("they differ"), "{error}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (_folder, manifest, copies, contents) = one_checkpoint();
    let mut newer = serde_json::to_value(&manifest).unwrap();
    newer["format"] = 3.into();
    newer["kind"] = "something new".into();
    copies.iter().for_each(|copy| fs::write(copy, seal(&format!("{newer:#}\n"))).unwrap());
    let error = contents.read(&FIRST).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 3, known: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("use a newer tidemill"), "{error}");
}

#[test]
fn a_crafted_manifest_leads_nowhere_outside() {
    let (_folder, _, copies, contents) = one_checkpoint();
    let mut base = full();
    (base.checkpoint, base.run) = (1, 1);
    let crafted = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(&base).unwrap();
        change(&mut value);
        copies.iter().for_each(|copy| fs::write(copy, seal(&format!("{value:#}\n"))).unwrap());
        contents.read(&FIRST)
    };
    crafted(&|_| ()).unwrap();
    for name in ["../../evil", "/tmp/evil", "a/b", "..", "", ".", "a\\b", "nul\0"] {
        let read = crafted(&|value| value["state"]["files"][0]["name"] = name.into());
        assert!(matches!(read, Err(Error::Broken { .. })), "{name:?}: {read:?}");
    }
    for path in ["../evil", "/tmp/evil", "a/../../b", "", "a//b"] {
        for field in ["staged", "committed"] {
            let read = crafted(&|value| value["sinks"][0]["parts"][0][field] = path.into());
            assert!(matches!(read, Err(Error::Broken { .. })), "{field} {path:?}: {read:?}");
        }
    }
    for digest in ["../../../../etc/passwd", "", "EF", &"g".repeat(64)] {
        let read = crafted(&|value| value["state"]["files"][0]["sha256"] = digest.into());
        assert!(matches!(read, Err(Error::Broken { .. })), "{digest:?}: {read:?}");
    }
    type Change = fn(&mut serde_json::Value);
    let contradictions: [Change; 8] = [
        |v| v["savepoint"] = "kept".into(),
        |v| v["operators"][0]["watermarks"][1]["end"] = 721.into(),
        |v| v["operators"][0]["watermarks"][1]["first"] = 359.into(),
        |v| v["operators"][0]["watermarks"][0]["end"] = 0.into(),
        |v| v["sources"][0]["partitions"][0]["position"]["tail_bytes"] = u64::MAX.into(),
        |v| v["sources"][0]["partitions"][0]["position"]["tail_hash"] = "é".into(),
        |v| v["sources"][1]["id"] = "clicks".into(),
        |v| v["format"] = 0.into(),
    ];
    for (at, change) in contradictions.iter().enumerate() {
        let read = crafted(change);
        assert!(matches!(read, Err(Error::Broken { .. })), "{at}: {read:?}");
    }
    let twice = crafted(&|value| {
        let file = value["state"]["files"][0].clone();
        value["state"]["files"].as_array_mut().unwrap().push(file);
    });
    assert!(twice.unwrap_err().to_string().contains("file 000012.sst stands there twice"));
}

#[test]
fn a_link_out_of_the_store_is_not_restored() {
    let (folder, manifest, _, contents) = one_checkpoint();
    let outside = folder.file("outside", b"rows");
    let stored = files(&folder.store().join("files"));
    let stored = stored.iter().find(|path| fs::read(path).unwrap() == b"rows").unwrap();
    fs::remove_file(stored).unwrap();
    std::os::unix::fs::symlink(&outside, stored).unwrap();
    assert!(contents.restore(&manifest, &folder.restored()).is_err());
}
