//! The list of checkpoints, as a table.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidemill_checkpoint::{Digest, Listed, Manifest, Name};

use super::{name_as_json, size, time};
use crate::cli::summary::grouped;
use crate::cli::text::{age, lay_out};

const TITLES: [&str; 9] = ["", "run", "kind", "made", "age", "files", "bytes", "new", "state"];
/// Columns of numbers.
const RIGHT: [usize; 4] = [1, 5, 6, 7];

/// The table for people, with what is wrong below it.
pub(super) fn as_text(pipeline: &str, listed: &[Listed], commits: &[u64], now_ms: i64) -> String {
    if listed.is_empty() {
        return format!("pipeline {pipeline} has no checkpoints yet\n");
    }
    let new = new_bytes(listed);
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(listed.iter().zip(&new).map(|(listed, new)| row(listed, *new, commits, now_ms)));
    let mut text = lay_out(&rows, &RIGHT);
    for listed in listed {
        match (&listed.manifest, &listed.warning) {
            (Err(error), _) => text += &format!("{}: {error}\n", listed.name),
            (_, Some(warning)) => text += &format!("{}: {warning}\n", listed.name),
            _ => {}
        }
    }
    text
}

/// The list for programs.
pub(super) fn as_json(pipeline: &str, listed: &[Listed], commits: &[u64]) -> Value {
    let new = new_bytes(listed);
    let entry = |(listed, new): (&Listed, &Option<u64>)| {
        let manifest = listed.manifest.as_ref().ok();
        json!({
            "name": name_as_json(&listed.name),
            "checkpoint": manifest.map(|m| m.checkpoint),
            "run": manifest.map(|m| m.run),
            "kind": manifest.map(|m| m.kind),
            "created_ms": manifest.map(|m| m.created_ms),
            "duration_ms": manifest.map(|m| m.duration_ms),
            "files": manifest.map(|m| m.state.files.len()),
            "bytes": manifest.map(Manifest::state_bytes),
            "new_bytes": new,
            "commit_begun": commit_begun(listed, commits),
            "error": listed.manifest.as_ref().err().map(ToString::to_string),
            "warning": listed.warning,
        })
    };
    json!({ "pipeline": pipeline, "checkpoints": listed.iter().zip(&new).map(entry).collect::<Value>() })
}

fn row(listed: &Listed, new: Option<u64>, commits: &[u64], now_ms: i64) -> [String; 9] {
    let name = match &listed.name {
        Name::Checkpoint(name) => name.checkpoint.to_string(),
        Name::Savepoint(name) => name.to_string(),
    };
    let state = match (&listed.manifest, &listed.warning, commit_begun(listed, commits)) {
        (Err(_), ..) => "broken",
        (_, Some(_), _) => "one copy",
        (.., true) => "committed",
        (.., false) => "complete",
    };
    let Ok(manifest) = &listed.manifest else {
        let run = match &listed.name {
            Name::Checkpoint(name) => name.run.to_string(),
            Name::Savepoint(_) => String::new(),
        };
        let [kind, made, age, files, bytes, new] = std::array::from_fn(|_| String::new());
        return [name, run, kind, made, age, files, bytes, new, state.to_owned()];
    };
    let kind = match &listed.name {
        Name::Checkpoint(_) => manifest.kind.name().to_owned(),
        Name::Savepoint(_) => format!("savepoint of {}", manifest.checkpoint),
    };
    [
        name,
        manifest.run.to_string(),
        kind,
        time(manifest.created_ms),
        age(now_ms.saturating_sub(manifest.created_ms)),
        grouped(manifest.state.files.len() as u64),
        size(manifest.state_bytes()),
        new.map(size).unwrap_or_default(),
        state.to_owned(),
    ]
}

fn commit_begun(listed: &Listed, commits: &[u64]) -> bool {
    matches!(&listed.name, Name::Checkpoint(name) if commits.contains(&name.checkpoint))
}

/// How many bytes each checkpoint has that the one before didn't; unknown where one of the two can't be read or was
/// removed, and for savepoints, which share all of theirs with a checkpoint.
fn new_bytes(listed: &[Listed]) -> Vec<Option<u64>> {
    let is_first = |listed: &Listed| matches!(&listed.name, Name::Checkpoint(name) if name.checkpoint == 1);
    let mut before: Option<BTreeSet<Digest>> = listed.first().is_some_and(is_first).then(BTreeSet::new);
    let new_of = |listed: &Listed| {
        let (Name::Checkpoint(_), Ok(manifest)) = (&listed.name, &listed.manifest) else {
            before = None;
            return None;
        };
        let files = &manifest.state.files;
        let all = files.iter().map(|file| file.sha256).collect();
        let before = before.replace(all)?;
        Some(files.iter().filter(|file| !before.contains(&file.sha256)).map(|file| file.bytes).sum())
    };
    listed.iter().map(new_of).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tidemill_checkpoint::Store;

    use super::*;
    use crate::cli::checkpoint::show::tests::manifest;

    #[test]
    fn the_list_says_what_is_new_and_what_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), "orders").unwrap();
        let put = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            store.put_file(&path, false).unwrap()
        };
        for number in 1..=3 {
            let files = vec![put("000001.sst", "shared"), put("000002.sst", &format!("rows of {number}"))];
            store.write_manifest(&manifest(number, store.run(), files)).unwrap();
        }
        store.begin_commit(2).unwrap();
        store.keep(2, &"before-upgrade".parse().unwrap()).unwrap();
        let broken = folder.path().join("store/checkpoints-copy/0000000003-run1.json");
        fs::write(&broken, "torn").unwrap();
        let first = folder.path().join("store/checkpoints/0000000003-run1.json");
        fs::write(&first, "torn").unwrap();
        let text = as_text("orders", &store.list().unwrap(), &[2], 1_700_000_000_000 + 7_300_000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "                run  kind            made                  age  files  bytes   new  state",
                "1                 1  checkpoint      2023-11-14T22:13:20Z  2 h      2   15 B  15 B  complete",
                "2                 1  checkpoint      2023-11-14T22:13:20Z  2 h      2   15 B   9 B  committed",
                "3                 1                                                                 broken",
                "before-upgrade    1  savepoint of 2  2023-11-14T22:13:20Z  2 h      2   15 B        complete",
            ]
        );
        assert!(lines[5].contains(first.to_str().unwrap()), "{text}");
        let json = as_json("orders", &store.list().unwrap(), &[2]);
        assert_eq!(json["checkpoints"][1]["new_bytes"], 9);
        assert_eq!(json["checkpoints"][1]["commit_begun"], true);
        assert!(json["checkpoints"][2]["error"].is_string());
    }
}
