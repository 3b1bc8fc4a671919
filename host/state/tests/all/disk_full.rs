//! A disk that takes no more, as a limit on the length of files makes it for a process.
#![cfg(unix)]

use std::process::Command;

use tidemill_flow::storage::{Storage, Write, Writes};
use tidemill_state::Database;

use crate::settings;

const FOLDER: &str = "TIDEMILL_TEST_FULL_DISK";

/// The test starts itself again with files of at most 64 KiB, where a longer write fails with "file too large".
#[test]
fn after_a_failed_write_every_call_fails_alike() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return on_a_full_disk(folder.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    // POSIX counts in 512 bytes, bash in 1024. The signal would end the process before it saw the error.
    let script = r#"trap '' XFSZ; ulimit -f 64; exec "$0" "$@""#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk_full::after_a_failed_write_every_call_fails_alike"])
        .env(FOLDER, folder.path().join("work"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn on_a_full_disk(folder: &std::path::Path) {
    let database = Database::create(&settings(), folder).unwrap();
    let block = |n: u32| Writes {
        list: (n * 100..n * 100 + 100).map(|n| Write::Put(n.to_be_bytes().to_vec(), vec![1; 1000])).collect(),
    };
    database.write(block(0)).unwrap();
    let frozen = folder.with_extension("frozen");
    let first = database.freeze(&frozen).unwrap_err().to_string();
    assert!(first.contains("cannot write out the state in") && first.contains("recovers from"), "{first}");
    let fails = |result: Result<(), tidemill_flow::storage::StorageError>| {
        assert_eq!(result.unwrap_err().to_string(), first);
    };
    fails(database.write(block(1)));
    fails(database.read(&[vec![1]]).map(drop));
    fails(database.scan(&[], &[255], 1).map(drop));
    fails(database.freeze(&frozen).map(drop));
    database.usage().unwrap();
    drop(database);

    // Without a freeze, the write buffers fill until the failure in the background is met.
    let database = Database::create(&settings(), folder).unwrap();
    let failed =
        (0..1000).find_map(|n| database.write(block(n)).err()).expect("100 MB don't fit").to_string();
    assert!(failed.contains("cannot write the state in"), "{failed}");
    assert_eq!(database.read(&[vec![1]]).unwrap_err().to_string(), failed);
}
