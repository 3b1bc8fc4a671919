//! Frozen files keep what they hold, and a database is made of them or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidemill_flow::storage::{Storage, Write, Writes};
use tidemill_state::{Database, FrozenFile, RestoredFile};

use crate::{restored, settings};

fn row(n: u32) -> Vec<u8> {
    n.wrapping_mul(0x9e37_79b9).to_be_bytes().to_vec()
}

fn write(database: &Database, rows: std::ops::Range<u32>, fill: u8) {
    for n in rows.step_by(500) {
        let list = (n..n + 500).map(|n| Write::Put(row(n), vec![fill; 200])).collect();
        database.write(Writes { list }).unwrap();
    }
}

fn everything(database: &Database) -> Vec<(Vec<u8>, Vec<u8>)> {
    database.scan(&[], &[255; 5], usize::MAX).unwrap()
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_restored_database_equals_the_original_at_the_freeze() {
    let folder = tempfile::tempdir().unwrap();
    let original = Database::create(&settings(), &folder.path().join("work")).unwrap();
    write(&original, 0..20_000, 1);
    let then = everything(&original);
    let files = original.freeze(&folder.path().join("frozen")).unwrap();
    write(&original, 0..40_000, 2);
    let other = Database::restore(&settings(), &folder.path().join("other"), &restored(&files)).unwrap();
    write(&original, 0..40_000, 3);
    assert_eq!(everything(&other), then);
}

#[test]
fn frozen_files_never_change() {
    let folder = tempfile::tempdir().unwrap();
    let original = Database::create(&settings(), &folder.path().join("work")).unwrap();
    write(&original, 0..20_000, 1);
    let frozen = folder.path().join("frozen");
    let files = original.freeze(&frozen).unwrap();
    assert!(files.iter().filter(|f| f.immutable).count() > 1 && files.iter().any(|f| f.name == "CURRENT"));
    let then = contents(&frozen);
    let sizes: BTreeMap<_, _> =
        then.iter().map(|(name, content)| (name.clone(), content.len() as u64)).collect();
    assert_eq!(files.iter().map(|f| (f.name.clone(), f.bytes)).collect::<BTreeMap<_, _>>(), sizes);

    // Two databases from the same files, and the original: all overwrite and delete everything.
    let one = Database::restore(&settings(), &folder.path().join("one"), &restored(&files)).unwrap();
    let two = Database::restore(&settings(), &folder.path().join("two"), &restored(&files)).unwrap();
    for database in [&one, &two, &original] {
        for fill in 2..5 {
            write(database, 0..20_000, fill);
            database.freeze(&folder.path().join("again")).unwrap();
        }
        let list = vec![Write::DeleteRange(vec![], vec![255; 5])];
        database.write(Writes { list }).unwrap();
        database.freeze(&folder.path().join("again")).unwrap();
        assert_eq!(everything(database), []);
    }
    drop((one, two, original));
    Database::create(&settings(), &folder.path().join("one")).unwrap();
    assert!(contents(&frozen) == then);
}

#[test]
fn a_table_keeps_its_name_from_freeze_to_freeze() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&settings(), &folder.path().join("work")).unwrap();
    write(&database, 0..500, 1);
    let first = database.freeze(&folder.path().join("first")).unwrap();
    write(&database, 500..1000, 1);
    let second = database.freeze(&folder.path().join("second")).unwrap();
    let tables = |files: &[FrozenFile]| -> Vec<_> {
        files.iter().filter(|f| f.immutable).map(|f| (f.name.clone(), fs::read(&f.path).unwrap())).collect()
    };
    let (first, second) = (tables(&first), tables(&second));
    assert_eq!((first.len(), second.len()), (1, 2));
    assert!(second.contains(&first[0]));
}

#[test]
fn a_freeze_replaces_one_that_did_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&settings(), &folder.path().join("work")).unwrap();
    let frozen = folder.path().join("deep/er/frozen");
    write(&database, 0..500, 1);
    database.freeze(&frozen).unwrap();
    fs::remove_file(frozen.join("CURRENT")).unwrap();
    let files = database.freeze(&frozen).unwrap();
    assert!(files.iter().any(|f| f.name == "CURRENT"), "{files:?}");

    // But it is no licence to delete what is somebody else's; and afterwards all goes on.
    fs::write(frozen.join("letter.txt"), "dear").unwrap();
    assert!(database.freeze(&frozen).unwrap_err().to_string().contains("letter.txt"));
    assert_eq!(everything(&database).len(), 500);
    database.freeze(&folder.path().join("next")).unwrap();
}

#[test]
fn others_read_and_write_while_it_freezes() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::create(&settings(), &folder.path().join("work")).unwrap();
    std::thread::scope(|scope| {
        for task in 0..2u32 {
            let database = database.clone();
            scope.spawn(move || {
                for round in 0..10 {
                    let rows = task * 100_000..task * 100_000 + 5_000;
                    write(&database, rows.clone(), round);
                    let asked: Vec<_> = rows.map(row).collect();
                    assert!(
                        database.read(&asked).unwrap().iter().all(|v| v.as_deref() == Some(&[round; 200]))
                    );
                }
            });
        }
        for n in 0..5 {
            let files = database.freeze(&folder.path().join(format!("frozen-{n}"))).unwrap();
            let look = folder.path().join(format!("look-{n}"));
            everything(&Database::read_only(&settings(), &look, &restored(&files)).unwrap());
        }
    });
}

/// Each file in turn is treated so; the database isn't opened, or a read says what is wrong, or nothing was.
fn damaged(damage: impl Fn(&FrozenFile, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let original = Database::create(&settings(), &folder.path().join("work")).unwrap();
    write(&original, 0..5_000, 1);
    let files = original.freeze(&folder.path().join("frozen")).unwrap();
    let whole = everything(&original);
    for (n, file) in files.iter().enumerate() {
        let mut given = restored(&files);
        given[n].path = folder.path().join("damaged");
        fs::copy(&file.path, &given[n].path).unwrap();
        damage(file, &given[n].path);
        let database = match Database::restore(&settings(), &folder.path().join("other"), &given) {
            Ok(database) => database,
            Err(error) => {
                assert!(error.to_string().contains("checkpoint"), "{error}");
                continue;
            }
        };
        match database.scan(&[], &[255; 5], usize::MAX) {
            Ok(rows) => assert!(rows == whole, "{} is damaged, and nobody noticed", file.name),
            Err(error) => assert!(error.to_string().contains("cannot read the state"), "{error}"),
        }
        let asked: Vec<_> = whole.iter().map(|(address, _)| address.clone()).collect();
        if let Ok(values) = database.read(&asked) {
            assert!(
                values.into_iter().map(Option::unwrap).eq(whole.iter().map(|(_, v)| v.clone())),
                "{}",
                file.name
            );
        }
    }
}

#[test]
fn a_missing_file_is_an_error() {
    damaged(|_, path| fs::remove_file(path).unwrap());
}

#[test]
fn a_file_cut_short_is_an_error() {
    for cut in [1, 100] {
        damaged(|file, path| {
            let length = file.bytes.saturating_sub(cut);
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
        });
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_harmless() {
    for place in [0.0, 0.3, 0.6, 0.9, 0.999] {
        damaged(|file, path| {
            let mut content = fs::read(path).unwrap();
            content[(file.bytes as f64 * place) as usize] ^= 0x10;
            fs::write(path, content).unwrap();
        });
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content");
    fs::write(&path, "x").unwrap();
    for name in ["../outside.sst", "/tmp/outside.sst", "", "LOCK"] {
        let files = [RestoredFile { name: name.into(), path: path.clone() }];
        let error =
            Database::restore(&settings(), &folder.path().join("work"), &files).unwrap_err().to_string();
        assert!(error.contains("no file of this name"), "{error}");
    }
}
