//! Records that are staged with a checkpoint and published once.

use std::fs;
use std::path::Path;

use crate::support::{folder, values};
use tidemill_log::{LogError, Options, Outcome, Record, Stage, Staged, Writer, stage, staged};

fn of(run: u64, epoch: u64, part: u32) -> Stage {
    Stage { producer: "jobs/orders: totals".to_owned(), run, epoch, part }
}

fn finished(folder: &Path, run: u64, epoch: u64, part: u32) -> Staged {
    let mut staging = stage(folder, of(run, epoch, part)).unwrap();
    for partition in [0, 1] {
        let value = format!("{epoch} {part}");
        let record = Record { id: Some(value.as_bytes()), value: value.as_bytes(), ..Record::default() };
        staging.append(partition, &[record, record]).unwrap();
        staging.append(partition, &[]).unwrap();
    }
    assert_eq!(staging.records(), 4);
    staging.finish().unwrap()
}

fn log() -> (tempfile::TempDir, Writer, std::path::PathBuf) {
    let (keep, folder) = folder();
    let writer = Writer::create(&folder, &Options { partitions: 2, ..Options::default() }).unwrap();
    (keep, writer, folder.with_extension("staged"))
}

#[test]
fn what_was_staged_is_published_once_and_in_the_order_of_parts() {
    let (_keep, writer, folder) = log();
    let files = [finished(&folder, 1, 5, 1), finished(&folder, 1, 5, 0)];
    assert_eq!(writer.log().next_offset(0).unwrap(), 0, "not yet");
    assert_eq!(writer.publish(1, &files).unwrap(), Outcome::Committed);
    // The process dies before it notes that; a later run does it again.
    writer.fence("jobs/orders: totals", 2).unwrap();
    let found = staged(&folder, "jobs/orders: totals").unwrap();
    assert_eq!(found, [files[1].clone(), files[0].clone()]);
    assert_eq!(writer.publish(2, &found).unwrap(), Outcome::AlreadyCommitted { last_epoch: 5 });
    for partition in [0, 1] {
        let values = values(writer.log(), partition).unwrap();
        assert_eq!(values, ["5 0", "5 0", "5 1", "5 1"].map(|v| v.as_bytes().to_vec()));
    }
    let copy = [Record { id: Some(b"5 0"), ..Record::default() }];
    assert_eq!(writer.append(0, &copy).unwrap().copies, 1, "ids are remembered");
    found.into_iter().for_each(|f| f.remove().unwrap());
    files.into_iter().for_each(|f| f.remove().unwrap());
    assert_eq!(staged(&folder, "jobs/orders: totals").unwrap(), []);
    let next = finished(&folder, 2, 6, 0);
    assert!(matches!(writer.publish(1, std::slice::from_ref(&next)), Err(LogError::Fenced { .. })));
    assert_eq!(writer.publish(2, &[next]).unwrap(), Outcome::Committed);
}

#[test]
fn only_what_was_finished_is_found() {
    let (_keep, _writer, folder) = log();
    assert_eq!(staged(&folder, "nobody").unwrap(), []);
    drop(stage(&folder, of(1, 1, 0)).unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "dropped");
    let mut crashed = stage(&folder, of(1, 1, 0)).unwrap();
    crashed.append(0, &[Record::default()]).unwrap();
    std::mem::forget(crashed);
    let empty = stage(&folder, of(1, 2, 0)).unwrap().finish().unwrap();
    let other = stage(&folder, Stage { producer: "other".into(), ..of(1, 1, 0) }).unwrap().finish().unwrap();
    assert_eq!(staged(&folder, "jobs/orders: totals").unwrap(), [empty]);
    assert_eq!(staged(&folder, "other").unwrap(), [other]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "what was unfinished is removed");
    assert!(matches!(
        stage(&folder, Stage { producer: String::new(), ..of(1, 1, 0) }),
        Err(LogError::Invalid { .. })
    ));
}

#[test]
fn a_damaged_file_publishes_nothing() {
    let (_keep, writer, folder) = log();
    let file = finished(&folder, 1, 1, 0);
    let whole = fs::read(file.path()).unwrap();
    let publish = || {
        let file = Staged::open(file.path())?;
        writer.publish(1, &[file])
    };
    for byte in (0..300).chain(2_000..whole.len()) {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(file.path(), flipped).unwrap();
        assert!(matches!(publish(), Err(LogError::Damaged { .. })), "byte {byte}");
    }
    for end in [0, 100, 2_048, 2_100, whole.len() - 1] {
        fs::write(file.path(), &whole[..end]).unwrap();
        assert!(matches!(publish(), Err(LogError::Damaged { .. })), "cut off at {end}");
    }
    // Even if it is cut off between two frames.
    let frame = (whole.len() - 2_048) / 2;
    fs::write(file.path(), &whole[..2_048 + frame]).unwrap();
    let error = publish().unwrap_err().to_string();
    assert!(error.contains("expected 4 records, found 2"), "{error}");
    assert_eq!(writer.log().info().unwrap().partitions[0].next_offset, 0);
    fs::write(file.path(), &whole).unwrap();
    assert_eq!(publish().unwrap(), Outcome::Committed);
}

#[test]
fn files_of_several_epochs_are_refused() {
    let (_keep, writer, folder) = log();
    let files = [finished(&folder, 1, 1, 0), finished(&folder, 1, 2, 0)];
    assert!(matches!(writer.publish(1, &files), Err(LogError::Invalid { .. })));
    assert!(matches!(writer.publish(1, &[]), Err(LogError::Invalid { .. })));
}
