//! What a log promises, one promise a test.

use std::fs;

use tidemill_log::{
    Appended, Durability, Log, LogError, Options, Outcome, OwnedRecord, Producer, Record, Retention, Writer,
};

use crate::support::{copy, folder};

fn value(value: &str) -> Record<'_> {
    Record { value: value.as_bytes(), ..Record::default() }
}

fn with_id<'a>(id: &'a str, value: &'a str) -> Record<'a> {
    Record { id: Some(id.as_bytes()), value: value.as_bytes(), ..Record::default() }
}

/// A segment for each append.
fn tiny(partitions: u32) -> Options {
    Options { partitions, segment_bytes: 1, ..Options::default() }
}

fn values(log: &Log, partition: u32) -> Vec<String> {
    let first = log.first_offset(partition).unwrap();
    let records = log.read(partition, first, usize::MAX, usize::MAX).unwrap();
    assert!(records.iter().zip(first..).all(|(r, offset)| r.offset == offset), "offsets are consecutive");
    records.iter().map(|r| String::from_utf8(r.value.clone()).unwrap()).collect()
}

#[test]
fn records_are_read_as_they_were_appended() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options { partitions: 2, ..Options::default() }).unwrap();
    let record = Record { timestamp_ms: -5, key: Some(b"k"), id: Some(b"i"), value: b"v" };
    let appended = writer.append(1, &[record, value("w")]).unwrap();
    assert_eq!(appended, Appended { first_offset: 0, records: 2, copies: 0 });
    assert_eq!(writer.append(1, &[value("x")]).unwrap().first_offset, 2);
    let read = Log::open(&folder).unwrap().read(1, 0, 10, 1_000).unwrap();
    let expected = [record, value("w"), value("x")]
        .iter()
        .zip(0..)
        .map(|(r, o)| OwnedRecord::of(o, r))
        .collect::<Vec<_>>();
    assert_eq!(read, expected);
    assert!(writer.log().read(0, 0, 10, 1_000).unwrap().is_empty());
}

#[test]
fn a_read_keeps_its_limits_and_goes_on_inside_a_batch() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options::default()).unwrap();
    let texts: Vec<String> = (0..100).map(|i| format!("{i:010}")).collect();
    let records: Vec<Record<'_>> = texts.iter().map(|t| value(t)).collect();
    writer.append(0, &records[..60]).unwrap();
    writer.append(0, &records[60..]).unwrap();
    let mut reader = writer.log().reader(0, 7).unwrap();
    let mut seen = Vec::new();
    for (records_max, bytes_max, expected) in
        [(5, 1_000, 5), (1_000, 35, 3), (0, 0, 1), (3, 5, 1), (1_000, 1_000, 83)]
    {
        let batch = reader.read(records_max, bytes_max).unwrap();
        assert_eq!(batch.len(), expected, "of {records_max} records, {bytes_max} bytes");
        assert_eq!(batch.records().len(), expected);
        seen.extend(
            batch.records().map(|(offset, r)| (offset, String::from_utf8(r.value.to_vec()).unwrap())),
        );
    }
    assert!(reader.read(1, 1).unwrap().is_empty());
    assert_eq!(seen, (7u64..100).zip(texts[7..].iter().cloned()).collect::<Vec<_>>());
    assert_eq!(reader.position().offset, 100);
    assert_eq!(writer.log().read(0, 98, 1_000, 1).unwrap().len(), 1, "one at least");
}

#[test]
fn everything_is_there_after_opening_again() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &tiny(1)).unwrap();
    let identity = writer.log().identity();
    writer.append(0, &[value("a")]).unwrap();
    writer.append(0, &[value("b"), value("c")]).unwrap();
    writer.close().unwrap();
    let writer = Writer::open(&folder).unwrap();
    assert!(writer.cuts().is_empty());
    assert_eq!(writer.append(0, &[value("d")]).unwrap().first_offset, 3);
    assert_eq!(writer.log().identity(), identity);
    assert_eq!(values(writer.log(), 0), ["a", "b", "c", "d"]);
    let info = writer.info();
    assert_eq!((info.partitions[0].segments, info.partitions[0].next_offset), (3, 4));
    assert_eq!(Log::open(&folder).unwrap().info().unwrap(), info, "who reads finds the same");
}

#[test]
fn a_log_has_one_writer_at_a_time() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options::default()).unwrap();
    let error = Writer::open(&folder).unwrap_err();
    let process = std::process::id();
    assert_eq!(
        error.to_string(),
        format!(
            "the log {} is being written by process {process}; a log has one writer at a time, readers need no lock",
            folder.display()
        )
    );
    Log::open(&folder).unwrap();
    drop(writer);
    Writer::open(&folder).unwrap();
    assert!(matches!(Writer::create(&folder, &Options::default()), Err(LogError::NotEmpty { .. })));
}

#[test]
fn a_reader_follows_a_writer_from_segment_to_segment() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options { segment_bytes: 200, ..Options::default() }).unwrap();
    let log = Log::open(&folder).unwrap();
    let mut reader = log.reader(0, 0).unwrap();
    for i in 0..50u64 {
        assert!(reader.read(10, 100).unwrap().is_empty());
        writer.append(0, &[value("some"), value("more")]).unwrap();
        let batch = reader.read(10, 100).unwrap();
        assert_eq!((batch.len(), batch.first_offset()), (2, 2 * i));
    }
    assert!(writer.info().partitions[0].segments > 10);
    reader.sync().unwrap();
}

#[test]
fn copies_are_dropped_as_long_as_ids_are_remembered() {
    let (_keep, folder) = folder();
    let options = Options { ids_records: 3, ..tiny(2) };
    let mut writer = Writer::create(&folder, &options).unwrap();
    writer.append(0, &[with_id("1", "a"), with_id("1", "copy"), with_id("2", "b"), value("c")]).unwrap();
    writer.append(1, &[with_id("1", "other partition")]).unwrap();
    for again in 0..2 {
        let appended = writer.append(0, &[with_id("2", "copy"), with_id("1", "copy")]).unwrap();
        assert_eq!(appended, Appended { first_offset: 3, records: 0, copies: 2 }, "{again}");
        writer.close().unwrap();
        writer = Writer::open(&folder).unwrap();
    }
    writer.append(0, &[value("d"), with_id("1", "too late to be a copy"), with_id("2", "copy")]).unwrap();
    assert_eq!(values(writer.log(), 0), ["a", "b", "c", "d", "too late to be a copy", "copy"]);
    assert_eq!(values(writer.log(), 1), ["other partition"]);
}

#[test]
fn ids_of_an_append_that_failed_are_not_remembered() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options::default()).unwrap();
    let large = vec![0; 16 << 20];
    let records = [with_id("1", "a"), Record { id: Some(b"2"), value: &large, ..Record::default() }];
    assert!(matches!(writer.append(0, &records), Err(LogError::TooLarge { .. })));
    assert_eq!(writer.append(0, &records[..1]).unwrap().records, 1);
    let many = [Record { value: &large, ..Record::default() }; 4];
    let error = writer.append(0, &many).unwrap_err().to_string();
    assert_eq!(error, "a batch of records has 67108944 bytes; at most 67108864 are possible");
    assert_eq!(writer.log().next_offset(0).unwrap(), 1);
}

#[test]
fn trimming_removes_whole_segments_and_keeps_offsets() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &tiny(1)).unwrap();
    for text in ["a", "b", "c"] {
        writer.append(0, &[value(text), value(text)]).unwrap();
    }
    let mut old = writer.log().reader(0, 0).unwrap();
    let position = {
        old.read(1, 1).unwrap();
        old.position()
    };
    assert_eq!(writer.trim(0, 3).unwrap(), 1, "offset 3 is in the second");
    assert_eq!(values(writer.log(), 0), ["b", "b", "c", "c"]);
    let error = writer.log().resume(0, position).unwrap_err().to_string();
    let expected =
        "was trimmed: expected offset 1, found 2 as the first; bring the log back from a copy, or go on at 2";
    assert!(error.contains(expected), "{error}");
    assert_eq!(old.read(1, 1).unwrap().len(), 1, "what it has open it reads");
    assert_eq!(writer.trim(0, 6).unwrap(), 2, "all of it");
    assert!(matches!(old.read(1, 1), Err(LogError::Trimmed { expected: 2, first: 6, .. })));
    assert!(values(writer.log(), 0).is_empty());
    assert!(matches!(writer.trim(0, 7), Err(LogError::BeyondEnd { expected: 7, next: 6, .. })));
    drop(writer);
    let writer = Writer::open(&folder).unwrap();
    assert_eq!(writer.append(0, &[value("d")]).unwrap().first_offset, 6);
    assert_eq!(values(writer.log(), 0), ["d"]);
}

#[test]
fn retention_by_bytes_keeps_so_many() {
    let (_keep, folder) = folder();
    let frame = 48 + 20 + 1;
    let options = Options { retention: Retention::Bytes(3 * frame), ..tiny(1) };
    let writer = Writer::create(&folder, &options).unwrap();
    for _ in 0..10 {
        writer.append(0, &[value("x")]).unwrap();
    }
    let partition = writer.info().partitions[0];
    assert_eq!((partition.segments, partition.bytes, partition.first_offset), (4, 4 * frame, 6));
    assert_eq!(writer.retain(0).unwrap(), 1, "looked after now, not with the next append");
}

#[test]
fn retention_by_age_keeps_what_is_younger() {
    let (_keep, folder) = folder();
    let options = Options { retention: Retention::AgeMs(60_000), ..tiny(1) };
    let writer = Writer::create(&folder, &options).unwrap();
    for _ in 0..5 {
        writer.append(0, &[value("x")]).unwrap();
    }
    let last = writer.info().partitions[0].last_written_ms.unwrap();
    assert_eq!(writer.retain(last + 50_000).unwrap(), 0);
    assert_eq!(writer.retain(last + 60_001).unwrap(), 4, "the last segment stays");
    assert_eq!(writer.retain(i64::MAX).unwrap(), 0);
}

#[test]
fn a_transaction_is_committed_once() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &tiny(3)).unwrap();
    let commit = |writer: &Writer, epoch, text| {
        let records = [value(text)];
        writer.transaction("sink", 1, epoch, &[(0, &records), (2, &records), (0, &records)]).unwrap()
    };
    assert_eq!(writer.last_epoch("sink"), None);
    assert_eq!(commit(&writer, 4, "a"), Outcome::Committed);
    assert_eq!(commit(&writer, 4, "again"), Outcome::AlreadyCommitted { last_epoch: 4 });
    assert_eq!(commit(&writer, 3, "older"), Outcome::AlreadyCommitted { last_epoch: 4 });
    drop(writer);
    let writer = Writer::open(&folder).unwrap();
    assert_eq!(commit(&writer, 4, "again"), Outcome::AlreadyCommitted { last_epoch: 4 });
    assert_eq!(writer.transaction("sink", 1, 5, &[]).unwrap(), Outcome::Committed, "without records");
    assert_eq!(commit(&writer, 6, "b"), Outcome::Committed);
    assert_eq!(writer.last_epoch("sink"), Some(6));
    assert_eq!(writer.log().producer("sink").unwrap(), Some(Producer { run: 1, epoch: Some(6) }));
    let log = Log::open(&folder).unwrap();
    assert_eq!(values(&log, 0), ["a", "a", "b", "b"]);
    assert_eq!(values(&log, 2), ["a", "b"]);
}

#[test]
fn an_older_run_is_fenced_off() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options::default()).unwrap();
    assert_eq!(writer.fence("sink", 2).unwrap(), Producer { run: 2, epoch: None });
    let commit = |run, epoch| writer.transaction("sink", run, epoch, &[(0, &[value("x")])]);
    assert!(matches!(commit(1, 1), Err(LogError::Fenced { run: 1, by: 2, .. })));
    commit(2, 1).unwrap();
    commit(3, 2).unwrap();
    assert!(matches!(commit(2, 3), Err(LogError::Fenced { by: 3, .. })), "a newer run has committed");
    assert!(matches!(writer.fence("sink", 2), Err(LogError::Fenced { by: 3, .. })));
    assert_eq!(writer.fence("sink", 3).unwrap(), Producer { run: 3, epoch: Some(2) });
    writer.transaction("another", 0, 1, &[(0, &[value("y")])]).unwrap();
    assert_eq!(values(writer.log(), 0), ["x", "x", "y"]);
}

#[test]
fn a_transaction_that_is_dropped_was_never_there() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &tiny(2)).unwrap();
    writer.append(0, &[value("before")]).unwrap();
    let log = Log::open(&folder).unwrap();
    let mut readers = [log.reader(0, 1).unwrap(), log.reader(1, 0).unwrap()];
    for _ in 0..3 {
        let tidemill_log::Begun::Transaction(mut transaction) = writer.begin("p", 0, 1).unwrap() else {
            panic!()
        };
        for _ in 0..3 {
            transaction.append(0, &[with_id("id", "undone")]).unwrap();
            transaction.append(1, &[value("undone")]).unwrap();
            for reader in &mut readers {
                assert!(reader.read(10, 100).unwrap().is_empty());
            }
        }
        assert_eq!(transaction.records(), 6);
        assert!(matches!(transaction.append(2, &[value("x")]), Err(LogError::NoPartition { .. })));
    }
    assert_eq!(log.info().unwrap().partitions[0].next_offset, 1);
    assert_eq!(
        writer.append(0, &[with_id("id", "after")]).unwrap(),
        Appended { first_offset: 1, records: 1, copies: 0 }
    );
    writer.transaction("p", 0, 1, &[(1, &[with_id("id", "done")])]).unwrap();
    assert_eq!(writer.append(1, &[with_id("id", "copy")]).unwrap().copies, 1);
    for (reader, expected) in readers.iter_mut().zip(["after", "done"]) {
        let batch = reader.read(10, 100).unwrap();
        assert_eq!(batch.get(0).unwrap().value, expected.as_bytes());
    }
    drop(writer);
    let writer = Writer::open(&folder).unwrap();
    assert!(writer.cuts().is_empty());
    assert_eq!(values(writer.log(), 0), ["before", "after"]);
    assert_eq!(values(writer.log(), 1), ["done"]);
}

#[test]
fn a_position_is_told_when_the_log_is_another() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options::default()).unwrap();
    writer.append(0, &[value("a")]).unwrap();
    copy(&folder, &folder.with_extension("copy"));
    writer.append(0, &[value("b")]).unwrap();
    let (identity, mut reader) = (writer.log().identity(), writer.log().reader(0, 0).unwrap());
    reader.read(10, 10).unwrap();
    let position = reader.position();
    assert_eq!(writer.log().resume(0, position).unwrap().position(), position);
    drop(writer);

    let regressed = folder.with_extension("copy");
    let error = Log::open(&regressed).unwrap().resume(0, position).unwrap_err();
    assert!(matches!(error, LogError::BeyondEnd { expected: 2, next: 1, .. }), "{error}");
    let writer = Writer::open(&regressed).unwrap();
    writer.append(0, &[value("not b")]).unwrap();
    let error = writer.log().resume(0, position).unwrap_err();
    assert!(matches!(error, LogError::OtherHistory { offset: 2, .. }), "{error}");
    drop(writer);

    fs::remove_dir_all(&folder).unwrap();
    let old = reader.log().clone();
    Writer::create(&folder, &Options::default()).unwrap();
    assert!(matches!(old.reader(0, 0), Err(LogError::Recreated { .. })));
    assert!(matches!(old.next_offset(0), Err(LogError::Recreated { .. })));
    let error = Log::open(&folder).unwrap().expect_identity(identity).unwrap_err().to_string();
    assert!(error.contains(&format!("expected identity {identity:016x}")), "{error}");
    assert!(matches!(reader.read(1, 1), Err(LogError::Recreated { .. })), "who is reading is told too");
}

#[test]
fn keys_keep_their_partitions_for_good() {
    let partitions = ["EWR", "JFK", "LGA", ""].map(|key| tidemill_log::partition_of(key.as_bytes(), 8));
    assert_eq!(partitions, [2, 7, 6, 2]);
}

#[test]
fn what_is_appended_on_request_is_there_after_a_sync() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options::default()).unwrap().with_durability(Durability::OnRequest);
    writer.append(0, &[value("a")]).unwrap();
    writer.sync().unwrap();
    assert_eq!(values(writer.log(), 0), ["a"]);
}

#[test]
fn many_transactions_keep_the_journal_small() {
    let (_keep, folder) = folder();
    let writer = Writer::create(&folder, &Options::default()).unwrap();
    let name = "n".repeat(1_024);
    for epoch in 1..=1_500 {
        writer.transaction(&name, 0, epoch, &[]).unwrap();
    }
    let journal = folder.join("transactions");
    assert!(fs::metadata(&journal).unwrap().len() < 1 << 20, "it was rewritten");
    drop(writer);
    assert_eq!(Writer::open(&folder).unwrap().last_epoch(&name), Some(1_500));
}
