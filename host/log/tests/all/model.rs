//! Whatever is done to a log, it has what a simple model of it has.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::support::{copy, folder};
use proptest::prelude::*;
use tidemill_log::{Begun, Log, LogError, Options, Outcome, Record, Writer};

const PARTITIONS: u32 = 2;
const IDS_RECORDS: u64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// Records as numbers; those with an id get it from the number.
    Append {
        partition: u32,
        records: Vec<(u8, Option<u8>)>,
    },
    Transaction {
        epoch: u64,
        records: Vec<(u32, u8)>,
        commit: bool,
    },
    Trim {
        partition: u32,
        share: u64,
    },
    Read {
        partition: u32,
        share: u64,
        records_max: usize,
        bytes_max: usize,
    },
    Close,
    /// The process dies, perhaps while it appends.
    Crash {
        partition: u32,
        torn: Vec<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let partition = || 0..PARTITIONS;
    prop_oneof![
        4 => (partition(), prop::collection::vec((any::<u8>(), prop::option::of(0..6u8)), 0..6))
            .prop_map(|(partition, records)| Step::Append { partition, records }),
        3 => (1..30u64, prop::collection::vec((partition(), any::<u8>()), 0..5), any::<bool>())
            .prop_map(|(epoch, records, commit)| Step::Transaction { epoch, records, commit }),
        1 => (partition(), 0..=100u64).prop_map(|(partition, share)| Step::Trim { partition, share }),
        3 => (partition(), 0..=100u64, 1..10usize, 0..40usize).prop_map(
            |(partition, share, records_max, bytes_max)| Step::Read { partition, share, records_max, bytes_max }
        ),
        1 => Just(Step::Close),
        1 => (partition(), prop::collection::vec(any::<u8>(), 0..70))
            .prop_map(|(partition, torn)| Step::Crash { partition, torn }),
    ]
}

/// What the log ought to have: all records ever appended, by offset.
#[derive(Default)]
struct Model {
    records: [Vec<(u8, Option<u8>)>; PARTITIONS as usize],
    last_epoch: Option<u64>,
}

impl Model {
    /// Appends records but for copies of those that the log has, from its first one on; says how many.
    fn append(&mut self, partition: u32, first: u64, records: &[(u8, Option<u8>)]) -> usize {
        let all = &mut self.records[partition as usize];
        let before = all.len();
        for record in records {
            let from = all.len().saturating_sub(IDS_RECORDS as usize).max(first as usize);
            if record.1.is_none() || all[from..].iter().all(|(_, id)| *id != record.1) {
                all.push(*record);
            }
        }
        all.len() - before
    }
}

fn value(number: u8) -> Vec<u8> {
    vec![number; usize::from(number) % 30]
}

struct Owned {
    id: Option<[u8; 1]>,
    value: Vec<u8>,
}

impl Owned {
    fn of((number, id): (u8, Option<u8>)) -> Self {
        Self { id: id.map(|id| [id]), value: value(number) }
    }

    fn lend(&self) -> Record<'_> {
        let id = self.id.as_ref().map(<[u8; 1]>::as_slice);
        Record { timestamp_ms: 1, key: Some(b"key"), id, value: &self.value }
    }
}

fn run(folder: &Path, segment_bytes: u64, steps: Vec<Step>) {
    let options =
        Options { partitions: PARTITIONS, segment_bytes, ids_records: IDS_RECORDS, ..Options::default() };
    let mut folder = folder.to_path_buf();
    let mut writer = Writer::create(&folder, &options).unwrap();
    let mut model = Model::default();
    // A reader that lives as long as the log's folder, and what it has seen.
    let mut follower = Log::open(&folder).unwrap().reader(0, 0).unwrap();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Append { partition, records } => {
                let owned: Vec<Owned> = records.iter().copied().map(Owned::of).collect();
                let lent: Vec<Record<'_>> = owned.iter().map(Owned::lend).collect();
                let first = model.records[partition as usize].len() as u64;
                let has_from = writer.log().first_offset(partition).unwrap();
                let count = model.append(partition, has_from, &records) as u64;
                let appended = writer.append(partition, &lent).unwrap();
                assert_eq!((appended.first_offset, appended.records), (first, count), "step {number}");
                assert_eq!(appended.copies, records.len() as u64 - count);
            }
            Step::Transaction { epoch, records, commit } => match writer.begin("p", 0, epoch).unwrap() {
                Begun::AlreadyCommitted { last_epoch } => {
                    assert_eq!(Some(last_epoch), model.last_epoch);
                    assert!(epoch <= last_epoch);
                }
                Begun::Transaction(mut transaction) => {
                    assert!(model.last_epoch.is_none_or(|last| last < epoch));
                    for (partition, number) in &records {
                        let value = value(*number);
                        let record = Record { value: &value, ..Record::default() };
                        transaction.append(*partition, &[record]).unwrap();
                    }
                    if commit {
                        assert_eq!(transaction.commit().unwrap(), Outcome::Committed);
                        model.last_epoch = Some(epoch);
                        for (partition, number) in records {
                            model.records[partition as usize].push((number, None));
                        }
                    }
                }
            },
            Step::Trim { partition, share } => {
                let before = model.records[partition as usize].len() as u64 * share / 100;
                let first = writer.log().first_offset(partition).unwrap();
                writer.trim(partition, before).unwrap();
                let trimmed = writer.log().first_offset(partition).unwrap();
                assert!(first <= trimmed && trimmed <= before.max(first), "step {number}");
            }
            Step::Read { partition, share, records_max, bytes_max } => {
                let records = &model.records[partition as usize];
                let from = records.len() as u64 * share / 100;
                let log = Log::open(&folder).unwrap();
                match log.read(partition, from, records_max, bytes_max) {
                    Err(LogError::Trimmed { first, .. }) => assert!(from < first),
                    Err(error) => panic!("step {number}: {error}"),
                    Ok(read) => {
                        let expected = records[from as usize..].iter().take(read.len());
                        assert!(
                            read.iter()
                                .map(|r| &r.value)
                                .eq(expected.map(|r| value(r.0)).collect::<Vec<_>>().iter())
                        );
                        let left = records.len() - from as usize;
                        assert!(
                            read.len() <= records_max && (left == 0 || bytes_max == 0 || !read.is_empty())
                        );
                    }
                }
            }
            Step::Close => {
                writer.close().unwrap();
                writer = Writer::open(&folder).unwrap();
                assert!(writer.cuts().is_empty());
            }
            Step::Crash { partition, torn } => {
                let next = folder.with_extension(number.to_string());
                copy(&folder, &next);
                drop(writer);
                folder = next;
                let segments = crate::support::files(&folder.join(format!("partition-{partition}")));
                let last = segments.last().unwrap();
                OpenOptions::new().append(true).open(last).unwrap().write_all(&torn).unwrap();
                writer = Writer::open(&folder).unwrap();
                assert_eq!(writer.cuts().iter().map(|c| c.bytes).sum::<u64>(), torn.len() as u64);
                let at = follower.position();
                let first = writer.log().first_offset(0).unwrap();
                follower = match writer.log().resume(0, at) {
                    Err(LogError::Trimmed { .. }) => writer.log().reader(0, first).unwrap(),
                    resumed => resumed.unwrap(),
                };
            }
        }
        check(&writer, &model, number);
        follow(&mut follower, &writer, &model, number);
    }
}

fn check(writer: &Writer, model: &Model, number: usize) {
    assert_eq!(writer.last_epoch("p"), model.last_epoch);
    let info = writer.info();
    assert_eq!(writer.log().info().unwrap(), info, "step {number}: who reads finds the same");
    for (partition, expected) in info.partitions.iter().zip(&model.records) {
        assert_eq!(partition.next_offset, expected.len() as u64, "step {number}");
        let first = partition.first_offset as usize;
        let read = writer.log().read(partition.partition, first as u64, usize::MAX, usize::MAX).unwrap();
        let values: Vec<_> = read.into_iter().map(|r| r.value).collect();
        assert_eq!(values, expected[first..].iter().map(|r| value(r.0)).collect::<Vec<_>>(), "step {number}");
    }
}

/// Reads on, unless the log was trimmed past the reader.
fn follow(follower: &mut tidemill_log::Reader, writer: &Writer, model: &Model, number: usize) {
    loop {
        let at = follower.position().offset;
        match follower.read(3, 50) {
            Ok(batch) if batch.is_empty() => break,
            Ok(batch) => {
                for (offset, record) in batch.records() {
                    assert_eq!(record.value, value(model.records[0][offset as usize].0), "step {number}");
                }
            }
            Err(LogError::Trimmed { expected, first, .. }) => {
                assert!(expected == at && at < first, "step {number}");
                *follower = writer.log().reader(0, first).unwrap();
            }
            Err(error) => panic!("step {number}: {error}"),
        }
    }
    assert_eq!(follower.position().offset, model.records[0].len() as u64, "step {number}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_log_has_what_its_model_has(
        segment_bytes in prop_oneof![Just(1), Just(300u64), Just(1 << 20)],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let (_keep, folder) = folder();
        run(&folder, segment_bytes, steps);
    }
}
