//! What is left of a log after a crash at any byte, and after any bit has flipped.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use crate::support::{copy, files, folder, values};
use proptest::prelude::*;
use tidemill_log::{Log, LogError, Options, Record, Writer};

fn value(value: &str) -> Record<'_> {
    Record { value: value.as_bytes(), ..Record::default() }
}

fn cut(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn only_segment(log: &Path) -> PathBuf {
    log.join("partition-0").join(format!("{:020}.segment", 0))
}

/// A log with three appends of one, two and three records; and where in its segment each ends.
fn three_appends(log: &Path) -> (Writer, Vec<u64>) {
    let writer = Writer::create(log, &Options::default()).unwrap();
    let mut ends = vec![0];
    for records in [&["a"][..], &["b", "b"], &["c", "c", "c"]] {
        let records: Vec<_> = records.iter().map(|r| value(r)).collect();
        writer.append(0, &records).unwrap();
        ends.push(fs::metadata(only_segment(log)).unwrap().len());
    }
    (writer, ends)
}

#[test]
fn each_prefix_of_the_last_segment_has_its_whole_appends() {
    let (_keep, log) = folder();
    let (_writer, ends) = three_appends(&log);
    let copied = log.with_extension("copy");
    let whole = ["a", "b", "b", "c", "c", "c"].map(|v| v.as_bytes().to_vec());
    for zeros in [false, true] {
        for bytes in 0..=ends[3] {
            copy(&log, &copied);
            cut(&only_segment(&copied), bytes);
            if zeros {
                // A file system may have noted the file's length and not its contents.
                cut(&only_segment(&copied), ends[3]);
            }
            let appends = ends.iter().filter(|&&end| end <= bytes).count() - 1;
            let expected = whole[..[0, 1, 3, 6][appends]].to_vec();
            assert_eq!(
                values(&Log::open(&copied).unwrap(), 0).unwrap(),
                expected,
                "{bytes} bytes, before recovery"
            );

            let writer = Writer::open(&copied).unwrap();
            let length = if zeros { ends[3] } else { bytes };
            let lost: u64 = writer.cuts().iter().map(|c| c.bytes).sum();
            assert_eq!(lost, length - ends[appends], "{bytes} bytes");
            let appended = writer.append(0, &[value("new")]).unwrap();
            assert_eq!(appended.first_offset, expected.len() as u64);
            let expected = [expected, vec![b"new".to_vec()]].concat();
            assert_eq!(values(writer.log(), 0).unwrap(), expected, "{bytes} bytes");
        }
    }
}

#[test]
fn a_bad_frame_before_good_ones_is_damage_and_nothing_is_touched() {
    let (_keep, log) = folder();
    let (writer, ends) = three_appends(&log);
    let copied = log.with_extension("copy");
    copy(&log, &copied);
    let segment = only_segment(&copied);
    let mut bytes = fs::read(&segment).unwrap();
    for byte in ends[0]..ends[2] {
        bytes[byte as usize] ^= 1 << (byte % 8);
        fs::write(&segment, &bytes).unwrap();
        let begin = if byte < ends[1] { ends[0] } else { ends[1] };
        for error in
            [Writer::open(&copied).unwrap_err(), values(&Log::open(&copied).unwrap(), 0).unwrap_err()]
        {
            let LogError::Damaged { file, byte: at, reason, .. } = &error else {
                panic!("byte {byte}: {error}")
            };
            assert_eq!((file, *at), (&segment, begin), "byte {byte}");
            assert!(reason.contains("a good frame follows at byte"), "{reason}");
        }
        assert_eq!(fs::read(&segment).unwrap(), bytes, "nothing was touched");
        bytes[byte as usize] ^= 1 << (byte % 8);
    }
    // In the last append damage can't be told from a crash, but it is said what was cut off.
    bytes[ends[2] as usize + 50] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let cuts = Writer::open(&copied).unwrap().cuts().to_vec();
    let expected = format!(
        "{} bytes were cut off {} at byte {}: the frame's checksum is wrong",
        ends[3] - ends[2],
        segment.display(),
        ends[2]
    );
    assert_eq!(cuts.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    drop(writer);
}

/// Files by name, without the lock.
fn contents(log: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files(log).into_iter().filter(|f| !f.ends_with("lock"));
    files.map(|f| (f.strip_prefix(log).unwrap().to_path_buf(), fs::read(&f).unwrap())).collect()
}

fn put(log: &Path, contents: &BTreeMap<PathBuf, Vec<u8>>) {
    let _ = fs::remove_dir_all(log);
    for (name, bytes) in contents {
        let path = log.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

const TRANSACTION: [(u32, &str); 5] = [(0, "t0"), (1, "t1"), (0, "t2"), (1, "t3"), (0, "t4")];

/// A log before and after a transaction that goes over several segments of two partitions.
fn before_and_after(segment_bytes: u64) -> [BTreeMap<PathBuf, Vec<u8>>; 2] {
    let (_keep, log) = folder();
    let writer =
        Writer::create(&log, &Options { partitions: 3, segment_bytes, ..Options::default() }).unwrap();
    writer.transaction("p", 0, 1, &[(0, &[value("before")]), (1, &[value("before")])]).unwrap();
    writer.append(0, &[value("plain")]).unwrap();
    let before = contents(&log);
    let records = TRANSACTION.map(|(partition, text)| (partition, [value(text)]));
    let records: Vec<(u32, &[Record<'_>])> = records.iter().map(|(p, r)| (*p, r.as_slice())).collect();
    writer.transaction("p", 0, 2, &records).unwrap();
    [before, contents(&log)]
}

/// Opens what a crash left and says whether the transaction is there; it is whole or not at all, for readers
/// before the recovery and after it.
fn is_committed(log: &Path, which: &str) -> bool {
    let mut before =
        [vec!["before", "plain"], vec!["before"], vec![]].map(|v| v.into_iter().map(str::to_owned).collect());
    let mut after: [Vec<String>; 3] = before.clone();
    TRANSACTION.iter().for_each(|(partition, text)| after[*partition as usize].push((*text).to_owned()));
    let read = |log: &Log| -> [Vec<String>; 3] {
        [0, 1, 2]
            .map(|p| values(log, p).unwrap().into_iter().map(|v| String::from_utf8(v).unwrap()).collect())
    };
    let unrecovered = Log::open(log).unwrap();
    let mut reader = unrecovered.reader(0, 2).unwrap();
    let seen = read(&unrecovered);
    let committed = seen == after;
    assert!(committed || seen == before, "{which}: {seen:?}");
    assert_eq!(reader.read(100, 100).unwrap().is_empty(), !committed);
    let next = |log: &Log| log.info().unwrap().partitions.iter().map(|p| p.next_offset).collect::<Vec<_>>();
    let expected = next(&unrecovered);

    let writer = Writer::open(log).unwrap();
    assert_eq!(read(writer.log()), seen, "{which}");
    assert_eq!(next(writer.log()), expected, "{which}");
    assert_eq!(
        writer.info().partitions.iter().map(|p| p.next_offset).collect::<Vec<_>>(),
        expected,
        "{which}"
    );
    assert_eq!(writer.last_epoch("p"), Some(if committed { 2 } else { 1 }), "{which}");
    // What was cut off doesn't come back with the next transaction, which has the same number.
    writer.transaction("p", 0, 3, &[(0, &[value("next")])]).unwrap();
    if !committed {
        assert_eq!(
            reader.read(1, 100).unwrap().get(0).unwrap().value,
            b"next",
            "{which}: a reader from before"
        );
    }
    let seen = if committed { &mut after } else { &mut before };
    seen[0].push("next".to_owned());
    assert_eq!(read(writer.log()), *seen, "{which}");
    drop(writer);
    assert!(Writer::open(log).unwrap().cuts().is_empty());
    committed
}

#[test]
fn a_transaction_is_whole_or_not_there_wherever_a_crash_cuts_it() {
    for segment_bytes in [1, 200, 1 << 20] {
        let [before, after] = before_and_after(segment_bytes);
        // In the order in which they are written: segments of the partitions, then the journal.
        let grown: Vec<_> = after.iter().filter(|(name, bytes)| before.get(*name) != Some(bytes)).collect();
        assert!(grown.last().unwrap().0.ends_with("transactions"));
        let (_keep, log) = folder();
        let mut committed = Vec::new();
        for (i, (name, bytes)) in grown.iter().enumerate() {
            let old = before.get(*name).map_or(0, Vec::len);
            for length in old..=bytes.len() {
                let mut state = before.clone();
                state.extend(grown[..i].iter().map(|(n, b)| ((*n).clone(), (*b).clone())));
                state.insert((*name).clone(), bytes[..length].to_vec());
                put(&log, &state);
                committed.push(is_committed(&log, &format!("{length} bytes of {}", name.display())));
            }
        }
        assert_eq!(committed.pop(), Some(true), "with the last byte");
        assert!(committed.iter().all(|c| !c), "and not before");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A machine that fails may keep any part of what wasn't synced: of each partition's last segment any
    /// prefix, with other bytes behind it.
    #[test]
    fn an_uncommitted_transaction_leaves_nothing_after_a_power_failure(
        keep in [0..=1_000usize, 0..=1_000], junk in [0..300usize, 0..300], byte: u8, journal in 0..1_000usize,
    ) {
        let [before, after] = before_and_after(1 << 20);
        let mut state = before.clone();
        for (name, bytes) in &after {
            let old = before.get(name).map_or(0, Vec::len);
            let part = |of: usize| old + (bytes.len() - old) * of / 1_000;
            let kept = match name.to_str().unwrap() {
                n if n.starts_with("partition-0") => [&bytes[..part(keep[0])], &vec![byte; junk[0]]].concat(),
                n if n.starts_with("partition-1") => [&bytes[..part(keep[1])], &vec![byte; junk[1]]].concat(),
                // The journal's entry was being written; without its last byte it is none.
                "transactions" if keep == [1_000, 1_000] => bytes[..part(journal).min(bytes.len() - 1)].to_vec(),
                _ => continue,
            };
            state.insert(name.clone(), kept);
        }
        let (_keep, log) = folder();
        put(&log, &state);
        prop_assert!(!is_committed(&log, "power failure"));
    }
}

#[test]
fn every_flipped_byte_of_a_closed_log_is_found() {
    let (_keep, log) = folder();
    let writer =
        Writer::create(&log, &Options { partitions: 2, segment_bytes: 150, ..Options::default() }).unwrap();
    for epoch in 1..3 {
        let records = [Record { id: Some(b"id"), ..value("t") }];
        writer.transaction("p", 0, epoch, &[(0, &records), (1, &records)]).unwrap();
        writer.append(0, &[value("a"), value("b")]).unwrap();
    }
    writer.fence("p", 7).unwrap();
    writer.close().unwrap();
    let whole = contents(&log);
    assert!(whole.len() > 5, "several segments");
    let read = |log: &Log| (0..2).try_for_each(|p| values(log, p).map(|_| ()));
    for (name, bytes) in &whole {
        let path = log.join(name);
        for byte in 0..bytes.len() {
            put(&log, &whole);
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << (byte * 7 % 8);
            fs::write(&path, &flipped).unwrap();
            if name.starts_with("partition-0") || name.starts_with("partition-1") || name.ends_with("log") {
                let read = Log::open(&log).and_then(|log| read(&log));
                assert!(read.is_err(), "byte {byte} of {}: read", name.display());
            }
            let written = Writer::open(&log).and_then(|writer| read(writer.log()));
            let Err(error) = written else { panic!("byte {byte} of {}: written", name.display()) };
            assert!(matches!(error, LogError::Damaged { .. }), "byte {byte} of {}: {error}", name.display());
        }
        // Nor may a byte be missing at the end, or a whole file.
        put(&log, &whole);
        cut(&path, bytes.len() as u64 - 1);
        assert!(Writer::open(&log).and_then(|w| read(w.log())).is_err(), "{} cut off", name.display());
        put(&log, &whole);
        fs::remove_file(&path).unwrap();
        let opened = Writer::open(&log).and_then(|w| read(w.log()));
        let may_be_gone = name.ends_with("closed")
            || *name == *whole.keys().find(|n| n.starts_with("partition-0")).unwrap();
        assert_eq!(opened.is_err(), !may_be_gone, "{} removed", name.display());
    }
}

#[test]
fn a_hole_between_segments_is_damage() {
    let (_keep, log) = folder();
    let writer = Writer::create(&log, &Options { segment_bytes: 1, ..Options::default() }).unwrap();
    for text in ["a", "b", "c", "d"] {
        writer.append(0, &[value(text)]).unwrap();
    }
    let mut reader = writer.log().reader(0, 0).unwrap();
    assert_eq!(reader.read(1, 1).unwrap().len(), 1);
    fs::remove_file(log.join("partition-0").join(format!("{:020}.segment", 1))).unwrap();
    let error = reader.read(1, 1).unwrap_err().to_string();
    assert!(
        error.contains("records that were there are missing; the next segment begins at offset 2"),
        "{error}"
    );
}

#[test]
fn a_journal_that_lost_transactions_is_damage() {
    let (_keep, log) = folder();
    let writer = Writer::create(&log, &Options::default()).unwrap();
    let begin = fs::read(log.join("transactions")).unwrap();
    for epoch in 1..3 {
        writer.transaction("p", 0, epoch, &[(0, &[value("t")])]).unwrap();
    }
    let copied = log.with_extension("copy");
    copy(&log, &copied);
    fs::write(copied.join("transactions"), begin).unwrap();
    let error = Writer::open(&copied).unwrap_err().to_string();
    assert!(error.contains("transactions is damaged at byte 0: it knows of 0 transactions, but "), "{error}");
}
