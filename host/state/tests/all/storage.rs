//! The database answers as the storage in memory does, whatever was written before, compacted or restored.

use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tidemill_flow::storage::{InMemory, Storage, Write, Writes};
use tidemill_state::{Database, FrozenFile, Settings};

use crate::{restored, settings};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Write>),
    /// Freezes, and goes on with a database that is restored from that.
    Freeze,
}

/// Few and short, so that they meet; ends that are prefixes, zero or full of ones are the ones where bounds go wrong.
fn address() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0u8), Just(1), Just(b'k'), Just(254), Just(255)], 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let write = prop_oneof![
        6 => (address(), vec(any::<u8>(), 0..20)).prop_map(|(a, v)| Write::Put(a, v)),
        2 => address().prop_map(Write::Delete),
        2 => (address(), address()).prop_map(|(a, b)| Write::DeleteRange(a, b)),
    ];
    prop_oneof![8 => vec(write, 0..12).prop_map(Step::Write), 1 => Just(Step::Freeze)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn it_answers_like_the_storage_in_memory(
        steps in vec(step(), 1..16),
        asked in vec(address(), 0..8),
        ranges in vec((address(), address(), 0usize..9), 4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let memory = InMemory::default();
        let mut database = Database::create(&settings(), &folder.path().join("work")).unwrap();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(list) => {
                    memory.write(Writes { list: list.clone() }).unwrap();
                    database.write(Writes { list }).unwrap();
                }
                Step::Freeze => {
                    let files = database.freeze(&folder.path().join(format!("frozen-{n}"))).unwrap();
                    let work = folder.path().join(n.to_string());
                    database = Database::restore(&settings(), &work, &restored(&files)).unwrap();
                }
            }
            prop_assert_eq!(database.read(&asked).unwrap(), memory.read(&asked).unwrap());
            for (from, end, limit) in &ranges {
                prop_assert_eq!(database.scan(from, end, *limit).unwrap(), memory.scan(from, end, *limit).unwrap());
            }
        }
        let everything = |storage: &dyn Storage| storage.scan(b"", &[255; 5], usize::MAX).unwrap();
        prop_assert_eq!(everything(&database), everything(&memory));
    }
}

fn row(n: u32, fill: u8) -> Write {
    Write::Put(n.to_be_bytes().to_vec(), vec![fill; 500])
}

/// Bytes of the tables of a folder.
fn tables(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .filter(|e| e.path().extension().is_some_and(|e| e == "sst"))
        .map(|e| e.metadata().unwrap().len())
        .sum()
}

/// More than the write buffers hold, so that there are tables on several levels.
fn many_rows(database: &Database, fill: u8) {
    for block in 0..60u32 {
        // In an order that makes tables overlap.
        let list = (0..1000).map(|n| row((n * 60 + block * 7 % 60) * 2, fill)).collect();
        database.write(Writes { list }).unwrap();
    }
}

#[test]
fn a_deleted_range_is_empty_and_its_neighbours_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&settings(), &folder.path().join("work")).unwrap();
    many_rows(&database, 1);
    let (from, end) = (100u32.to_be_bytes().to_vec(), 119_000u32.to_be_bytes().to_vec());
    database.write(Writes { list: vec![Write::DeleteRange(from, end), row(200, 3)] }).unwrap();
    let left = database.scan(&[], &[255], usize::MAX).unwrap();
    let expected: Vec<u32> = (0..50).chain([100]).chain(59_500..60_000).map(|n| n * 2).collect();
    let found: Vec<u32> =
        left.iter().map(|(a, _)| u32::from_be_bytes(a.as_slice().try_into().unwrap())).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_was_deleted_is_not_carried_along() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&settings(), &folder.path().join("work")).unwrap();
    many_rows(&database, 1);
    let frozen = folder.path().join("frozen");
    // A table that is being compacted isn't dropped: let that come to its end.
    let mut files = Vec::new();
    loop {
        let before = std::mem::replace(&mut files, database.freeze(&frozen).unwrap());
        let names = |files: &[FrozenFile]| -> Vec<_> {
            files.iter().filter(|f| f.immutable).map(|f| f.name.clone()).collect()
        };
        if names(&before) == names(&files) {
            break;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    // The last row, which ends a table, is not in the range; its table stays.
    let last = 119_998u32.to_be_bytes().to_vec();
    database.write(Writes { list: vec![Write::DeleteRange(vec![], last.clone())] }).unwrap();
    assert_eq!(database.scan(&[], &[255], 9).unwrap(), [(last.clone(), vec![1; 500])]);
    // Now it is, and the tables go.
    database
        .write(Writes { list: vec![Write::DeleteRange(vec![], [last.as_slice(), &[0]].concat())] })
        .unwrap();
    let later = folder.path().join("later");
    database.freeze(&later).unwrap();
    let (then, now) = (tables(&frozen), tables(&later));
    assert!(now < then / 2, "{now} of {then} bytes");

    // An earlier freeze still has it.
    let look = Database::read_only(&settings(), &folder.path().join("look"), &restored(&files)).unwrap();
    assert_eq!(look.scan(&[], &[255], usize::MAX).unwrap().len(), 60_000);
    let error = look.write(Writes { list: vec![row(1, 1)] }).unwrap_err().to_string();
    assert!(error.contains("cannot write the state"), "{error}");
}

#[test]
fn usage_follows_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&settings(), &folder.path().join("work")).unwrap();
    assert_eq!((database.usage().unwrap().disk_bytes, database.usage().unwrap().keys_estimate), (0, 0));
    database.write(Writes { list: (0..100).map(|n| row(n, 1)).collect() }).unwrap();
    let usage = database.usage().unwrap();
    assert!(usage.write_buffer_bytes >= 50_000 && usage.keys_estimate == 100, "{usage:?}");
    database.freeze(&folder.path().join("frozen")).unwrap();
    assert!(database.usage().unwrap().disk_bytes >= 50_000, "{:?}", database.usage());

    many_rows(&database, 1);
    let usage = database.usage().unwrap();
    assert!(usage.write_buffer_bytes + usage.block_cache_bytes <= settings().memory_bytes, "{usage:?}");
}

#[test]
fn what_was_in_the_folder_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    let database = Database::create(&settings(), &work).unwrap();
    database.write(Writes { list: vec![row(1, 1)] }).unwrap();
    // While it is in use, nobody else gets it.
    let error = Database::create(&settings(), &work).unwrap_err().to_string();
    assert!(
        error.contains("cannot empty the state folder") && error.to_lowercase().contains("lock"),
        "{error}"
    );
    database.freeze(&folder.path().join("frozen")).unwrap();
    drop(database);
    let database = Database::create(&settings(), &work).unwrap();
    assert_eq!(database.scan(&[], &[255], 9).unwrap(), []);
}

#[test]
fn settings_it_can_not_keep_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |settings: Settings, expected: &str| {
        let error = Database::create(&settings, &folder.path().join("work")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let usual = Settings::default();
    check(Settings { memory_bytes: 1000, ..usual.clone() }, "1000 bytes of memory; give it at least 4194304");
    check(Settings { threads: 1, ..usual.clone() }, "1 threads; give it at least 2");
    check(Settings { open_files: 19, ..usual }, "19 open files; give it at least 20");
    assert!(!folder.path().join("work").exists());
}
