//! Opening, writing, keeping, removing and restoring.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use tidemill_checkpoint::{Error, Name, Progress, Selector, Store};

use crate::kit::{Folder, files, manifest, seal};

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[test]
fn two_processes_cannot_hold_a_store() {
    let folder = Folder::new();
    let store = folder.open();
    let error = Store::open(&folder.store(), "orders").unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::InUse { .. }));
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    // Whoever looks isn't kept out.
    assert_eq!(Store::look(&folder.store()).unwrap().pipeline(), "orders");
    drop(store);
    folder.open();
}

#[test]
fn runs_rise_and_an_older_run_may_not_write() {
    let folder = Folder::new();
    assert_eq!(folder.open().run(), 1);
    assert_eq!(folder.open().run(), 2);
    let store = folder.open();
    assert_eq!(store.run(), 3);
    folder.checkpoint(&store, 1, &[]);
    // As on a network file system whose lock was lost.
    fs::write(folder.store().join("runs/0000000004"), "").unwrap();
    let fenced = [
        store.write_manifest(&manifest(2, 3, Vec::new())).map(drop),
        store.begin_commit(1),
        store.retain(count(1)).map(drop),
    ];
    for result in fenced {
        assert!(matches!(result, Err(Error::Fenced { run: 3, newest: 4, .. })), "{result:?}");
    }
    assert!(store.commits_begun().unwrap().is_empty());
}

#[test]
fn lost_runs_are_counted_from_the_manifests() {
    let folder = Folder::new();
    drop((folder.open(), fs::remove_dir_all(folder.store().join("runs"))));
    drop(folder.open());
    let store = folder.open();
    folder.checkpoint(&store, 1, &[]);
    let run = store.run();
    drop(store);
    fs::remove_dir_all(folder.store().join("runs")).unwrap();
    assert_eq!(folder.open().run(), run + 1);
}

#[test]
fn old_runs_are_forgotten() {
    let folder = Folder::new();
    (0..40).for_each(|_| drop(folder.open()));
    assert_eq!(folder.open().run(), 41);
    assert_eq!(files(&folder.store().join("runs")).len(), 16);
}

#[test]
fn the_store_of_another_pipeline_is_refused() {
    let folder = Folder::new();
    drop(folder.open());
    let error = Store::open(&folder.store(), "payments").unwrap_err();
    assert!(matches!(&error, Error::OtherPipeline { found, .. } if found == "orders"), "{error:?}");
}

#[test]
fn a_folder_with_other_things_in_it_is_no_store() {
    let folder = Folder::new();
    fs::create_dir(folder.store()).unwrap();
    fs::write(folder.store().join("thesis.txt"), "years of work").unwrap();
    assert!(matches!(Store::open(&folder.store(), "orders"), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::look(&folder.store()), Err(Error::NotAStore { .. })));
    assert!(matches!(Store::look(&folder.restored()), Err(Error::NotAStore { .. })));
    assert_eq!(files(&folder.store()).len(), 1);
}

#[test]
fn an_immutable_file_is_linked_and_others_are_copied() {
    let folder = Folder::new();
    let store = folder.open();
    let [rows, current] = [folder.file("000001.sst", b"rows"), folder.file("CURRENT", b"now")];
    let manifest =
        manifest(1, 1, vec![store.put_file(&rows, true).unwrap(), store.put_file(&current, false).unwrap()]);
    let inode = |path| fs::metadata(path).unwrap().ino();
    let stored = |at: usize| store.location(&manifest.state.files[at]);
    assert_eq!(inode(rows), inode(stored(0).into()));
    assert_ne!(inode(current), inode(stored(1).into()));

    store.restore(&manifest, &folder.restored()).unwrap();
    assert_eq!(inode(folder.restored().join("000001.sst")), inode(stored(0).into()));
    assert_ne!(inode(folder.restored().join("CURRENT")), inode(stored(1).into()));
    assert_eq!(fs::read(folder.restored().join("CURRENT")).unwrap(), b"now");
    let again = store.restore(&manifest, &folder.restored()).unwrap_err().to_string();
    assert!(again.contains("it isn't empty"), "{again}");
}

#[test]
fn what_comes_again_is_not_hashed_again() {
    let folder = Folder::new();
    let store = folder.open();
    let path = folder.file("000001.sst", b"rows");
    let entry = store.put_file(&path, true).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    // Only somebody who cheats can show it: other bytes in the same file, with the old time.
    fs::write(&path, b"swor").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(store.put_file(&path, true).unwrap(), entry);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified + std::time::Duration::from_secs(1))
        .unwrap();
    assert_ne!(store.put_file(&path, true).unwrap(), entry);
}

#[test]
fn what_comes_again_but_is_gone_from_the_store_is_put_again() {
    let folder = Folder::new();
    let store = folder.open();
    let path = folder.file("000001.sst", b"rows");
    let entry = store.put_file(&path, true).unwrap();
    store.abandon();
    assert_eq!(store.retain(count(1)).unwrap().files_count, 1);
    assert_eq!(store.put_file(&path, true).unwrap(), entry);
    store.write_manifest(&manifest(1, 1, vec![entry])).unwrap();
    store.verify(&store.read(&Selector::Checkpoint(1)).unwrap(), &|_| ()).unwrap();
}

#[test]
fn a_broken_file_in_the_store_is_replaced_when_it_comes_again() {
    let folder = Folder::new();
    let store = folder.open();
    let manifest = folder.checkpoint(&store, 1, &[("CURRENT", b"now")]);
    fs::write(store.location(&manifest.state.files[0]), b"own").unwrap();
    assert!(store.verify(&manifest, &|_| ()).is_err());
    folder.checkpoint(&store, 2, &[("CURRENT", b"now")]);
    store.verify(&manifest, &|_| ()).unwrap();
}

#[test]
fn a_manifest_needs_its_files_its_run_and_a_new_number() {
    let folder = Folder::new();
    let store = folder.open();
    let first = folder.checkpoint(&store, 5, &[("000001.sst", b"rows")]);
    for number in [5, 4] {
        let again = store.write_manifest(&manifest(number, 1, Vec::new()));
        assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    }
    let of_another_run = store.write_manifest(&manifest(6, 2, Vec::new()));
    assert!(matches!(of_another_run, Err(Error::Invalid(_))), "{of_another_run:?}");
    fs::remove_file(store.location(&first.state.files[0])).unwrap();
    let without_file = store.write_manifest(&manifest(6, 1, first.state.files));
    assert!(matches!(without_file, Err(Error::Broken { .. })), "{without_file:?}");
    assert_eq!(store.numbers_seen().unwrap(), [5]);
}

#[test]
fn the_manifest_of_a_zombie_neither_blocks_nor_outlives_those_of_the_newer_run() {
    let folder = Folder::new();
    let store = folder.open();
    folder.checkpoint(&store, 1, &[("000001.sst", b"rows")]);
    drop(store);
    let store = folder.open();
    let zombie = |number: u64| {
        let text = serde_json::to_string(&manifest(number, 1, Vec::new())).unwrap() + "\n";
        let path = format!("checkpoints/{number:010}-run1.json");
        fs::write(folder.store().join(path), seal(&text)).unwrap();
    };
    zombie(2);
    zombie(3);
    folder.checkpoint(&store, 2, &[("000001.sst", b"rows")]);
    zombie(4);
    let of_the_past = store.write_manifest(&manifest(1, 2, Vec::new()));
    assert!(matches!(of_the_past, Err(Error::Exists { .. })), "{of_the_past:?}");
    store.retain(count(2)).unwrap();
    let names: Vec<String> = store.list().unwrap().iter().map(|listed| listed.name.to_string()).collect();
    assert_eq!(names, ["checkpoint 1 (run 1)", "checkpoint 2 (run 2)"]);
    assert_eq!(files(&folder.store().join("set-aside")).len(), 3);
}

#[test]
fn the_newest_are_retained_and_what_nothing_needs_goes() {
    let folder = Folder::new();
    let store = folder.open();
    for number in 1..=5 {
        let own = format!("rows of {number}");
        folder.checkpoint(&store, number, &[("000001.sst", b"shared"), ("000002.sst", own.as_bytes())]);
        store.begin_commit(number).unwrap();
    }
    store.keep(2, &"before-upgrade".parse().unwrap()).unwrap();
    let collected = store.retain(count(2)).unwrap();
    assert_eq!(collected.manifests.len(), 3);
    assert_eq!((collected.files_count, collected.bytes), (2, 2 * "rows of 1".len() as u64));
    let names: Vec<String> = store.list().unwrap().iter().map(|listed| listed.name.to_string()).collect();
    assert_eq!(names, ["checkpoint 4 (run 1)", "checkpoint 5 (run 1)", "savepoint before-upgrade"]);
    assert_eq!(store.commits_begun().unwrap(), [4, 5]);
    for listed in store.list().unwrap() {
        store.verify(&listed.manifest.unwrap(), &|_| ()).unwrap();
    }
    assert_eq!(store.retain(count(2)).unwrap(), Default::default());
}

#[test]
fn as_long_as_a_manifest_cannot_be_read_no_file_is_removed() {
    let folder = Folder::new();
    let store = folder.open();
    for number in 1..=3 {
        folder.checkpoint(&store, number, &[("000001.sst", format!("rows of {number}").as_bytes())]);
    }
    for copy in ["checkpoints", "checkpoints-copy"] {
        fs::write(folder.store().join(copy).join("0000000003-run1.json"), "torn").unwrap();
    }
    let collected = store.retain(count(1)).unwrap();
    let waiting = collected.waiting.unwrap();
    assert!(waiting.contains("0000000003-run1.json"), "{waiting}");
    assert_eq!((collected.manifests.len(), collected.files_count), (1, 0), "1 is old; 3 may be repaired");
    let broken = store.list().unwrap().remove(1);
    let Name::Checkpoint(broken) = broken.name else { panic!("{broken:?}") };
    store.set_aside(broken).unwrap();
    assert_eq!(store.retain(count(1)).unwrap().files_count, 2);
    assert_eq!(store.numbers_seen().unwrap(), [2, 3], "a number isn't used again");
    assert_eq!(fs::read(folder.store().join("set-aside/0000000003-run1.json")).unwrap(), b"torn");
}

#[test]
fn a_person_keeps_and_deletes_while_the_pipeline_runs() {
    let folder = Folder::new();
    let store = folder.open();
    let name: Selector = "before-upgrade".parse().unwrap();
    for number in 1..=2 {
        folder.checkpoint(&store, number, &[("000001.sst", format!("rows of {number}").as_bytes())]);
    }
    let contents = Store::look(&folder.store()).unwrap();
    contents.keep(1, &"before-upgrade".parse().unwrap()).unwrap();
    let again = contents.keep(2, &"before-upgrade".parse().unwrap());
    assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
    assert_eq!(contents.read(&name).unwrap().checkpoint, 1);
    assert!(matches!(contents.delete(&Selector::Checkpoint(2)), Err(Error::Newest { .. })));
    assert!(matches!(contents.delete(&Selector::Checkpoint(3)), Err(Error::Missing { .. })));
    contents.delete(&Selector::Checkpoint(1)).unwrap();
    contents.verify(&contents.read(&name).unwrap(), &|_| ()).unwrap();
    let deleted = contents.delete(&name).unwrap();
    assert!(deleted.waiting.is_some_and(|why| why.contains("runs the pipeline")));
    assert_eq!(store.retain(count(2)).unwrap().files_count, 1);
    drop(store);
    // Nobody runs it: what isn't needed goes at once.
    let store = folder.open();
    folder.checkpoint(&store, 3, &[("000001.sst", b"rows of 3")]);
    drop(store);
    assert_eq!(contents.delete(&Selector::Checkpoint(2)).unwrap().files_count, 1);
}

#[test]
fn what_died_half_written_is_removed_at_the_next_start() {
    let folder = Folder::new();
    drop(folder.open());
    fs::write(folder.store().join("tmp/7-1-0"), "half a fil").unwrap();
    drop(folder.open());
    assert!(files(&folder.store().join("tmp")).is_empty());
}

#[test]
fn verifying_tells_how_far_it_has_come() {
    let folder = Folder::new();
    let store = folder.open();
    let large = vec![7; 1 << 20];
    let manifest =
        folder.checkpoint(&store, 1, &[("000001.sst", &large), ("000002.sst", b"rows"), ("CURRENT", b"now")]);
    let seen: Mutex<Vec<Progress>> = Mutex::default();
    let report = store.verify(&manifest, &|progress| seen.lock().unwrap().push(progress)).unwrap();
    assert_eq!((report.files_count, report.bytes), (3, (1 << 20) + 7));
    let seen = seen.into_inner().unwrap();
    let end = seen.iter().max_by_key(|progress| (progress.bytes_done, progress.files_done)).unwrap();
    assert_eq!((end.files_done, end.bytes_done), (end.files_count, end.bytes_count));
    assert!(seen.len() > 4, "{seen:?}");
}

#[test]
fn a_name_that_would_not_be_restored_is_not_put() {
    let folder = Folder::new();
    let store = folder.open();
    for name in [".hidden", "with space"] {
        let put = store.put_file(&folder.file(name, b"rows"), true);
        assert!(matches!(put, Err(Error::Invalid(_))), "{put:?}");
    }
    assert!(matches!(store.put_file(&folder.store().join("files"), true), Err(Error::Io { .. })));
}
