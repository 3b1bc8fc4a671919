//! Rows that are appended to a log at once, each with its id; those that the log has already are left out.
//!
//! What comes again when a pipeline goes on from checkpoint `n` is what tasks sent behind barrier `n`. So the writer
//! notes where the rows of each barrier are, and tells with checkpoint `n`
//!
//! 1. where those are that tasks sent behind barrier `n` while others hadn't sent theirs: those that were appended, and
//!    those that were known as copies, which come a third time,
//! 2. where the log ended when the last barrier came: all from there on is of later rows,
//! 3. where rows are that an earlier life has left and that haven't come again: they are still to come.
//!
//! The next life reads the ids at these places before its first row ([`Unmet`]). Nothing else is needed: what was
//! appended and lost with the power comes again and isn't there, so it is appended.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use tidemill_checkpoint::failpoint;
use tidemill_log::Record;

use super::log::{LogSink, Turn};
use super::unmet::{Offsets, Repeatable, Unmet, joined, row_id};
use super::{Block, Output, Part};

/// So many ranges of offsets are kept in a checkpoint for a partition: with 40 bytes each as JSON, 40 kB.
const RANGES_MAX: usize = 1_000;

/// When a run has appended so many rows, those of an earlier life that haven't come again won't: what made them can't
/// be reproduced, or it wasn't this pipeline. A partition of a source may be read last, so it mustn't be few.
const GIVE_UP_AFTER_ROWS: u64 = 1 << 26;

/// The writer of a log that recognizes rows.
pub(super) struct Recognizing {
    log: LogSink,
    turn: Turn,
    unmet: Unmet,
    /// Behind the last record of each partition.
    ends: Vec<u64>,
    /// By barrier, by partition: where rows are that tasks sent behind it, in the order in which they came.
    behind: BTreeMap<u64, Vec<Vec<Range<u64>>>>,
    /// Since the run began.
    appended: u64,
}

impl Recognizing {
    /// Reads which rows may come again: those of the checkpoint that the run goes on from; without it any that the log
    /// has.
    pub(super) fn new(log: LogSink, repeatable: Option<&Repeatable>) -> io::Result<Self> {
        let unmet = Unmet::read(log.writer().log(), repeatable).map_err(io::Error::other)?;
        let ends = log.writer().info().partitions.iter().map(|p| p.next_offset).collect();
        Ok(Self { log, turn: Turn::default(), unmet, ends, behind: BTreeMap::new(), appended: 0 })
    }

    fn offsets(&self) -> Vec<Offsets> {
        let mut before: Vec<Vec<Range<u64>>> = vec![Vec::new(); self.ends.len()];
        self.unmet.each(|partition, offset| push(&mut before[partition as usize], offset..offset + 1));
        for partitions in self.behind.values() {
            before.iter_mut().zip(partitions).for_each(|(all, ranges)| all.extend_from_slice(ranges));
        }
        let offsets = |(mut before, &from): (Vec<Range<u64>>, &u64)| {
            before.sort_unstable_by_key(|range| range.start);
            Offsets { before: joined(before, RANGES_MAX), from }
        };
        before.into_iter().zip(&self.ends).map(offsets).collect()
    }
}

impl Output for Recognizing {
    fn write(&mut self, block: &Block, barrier: u64) -> io::Result<()> {
        let Self { log, turn, unmet, ends, behind, appended } = self;
        let partitions = ends.len();
        turn.share_out(block, log.writer().log().partitions(), |partition, records| {
            let behind = behind.entry(barrier).or_insert_with(|| vec![Vec::new(); partitions]);
            let is_new = |record: &&Record<'_>| {
                let id = record.id.and_then(row_id).expect("the plan has rows carry ids to this sink");
                let met = unmet.meet(id);
                met.iter().for_each(|&(at, offset)| push(&mut behind[at as usize], offset..offset + 1));
                met.is_none()
            };
            let records: Vec<Record<'_>> = records.iter().filter(is_new).copied().collect();
            if records.is_empty() {
                return Ok(());
            }
            let written = log.writer().append_all(partition, &records)?;
            let end = written.first_offset + written.records;
            let at = partition as usize;
            ends[at] = end;
            *appended += written.records;
            push(&mut behind[at], written.first_offset..end);
            Ok(())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn passed(&mut self, checkpoint: u64) -> io::Result<Vec<Part>> {
        failpoint::at("sink.part")?;
        self.log.writer().sync().map_err(io::Error::other)?;
        self.behind = self.behind.split_off(&checkpoint);
        if self.appended >= GIVE_UP_AFTER_ROWS && self.unmet.left() > 0 {
            let count = self.unmet.give_up();
            tracing::warn!(
                "{count} rows that {} has of an earlier run haven't come again, and aren't looked for any more",
                self.log.folder().display()
            );
        }
        self.unmet.shrink();
        Ok(Vec::new())
    }

    fn repeatable(&self) -> Option<Repeatable> {
        Some(Repeatable { log: self.log.identity(), partitions: self.offsets() })
    }

    fn finish(&mut self) -> io::Result<()> {
        self.log.writer().sync().map_err(io::Error::other)
    }
}

/// Adds a range to others of the same barrier; mostly it goes on where the last one ends.
fn push(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use tidemill_log::Writer;

    use super::super::Beside;
    use super::*;

    struct Life {
        folder: tempfile::TempDir,
        writer: Option<Recognizing>,
    }

    impl Life {
        fn begin() -> Self {
            let mut life = Self { folder: tempfile::tempdir().unwrap(), writer: None };
            let path = life.folder.path().join("log");
            Writer::create(&path, &tidemill_log::Options::default()).and_then(Writer::close).unwrap();
            life.go_on(None);
            life
        }

        /// Another life, which goes on from a checkpoint.
        fn go_on(&mut self, from: Option<&Repeatable>) {
            // The log has one writer at a time.
            self.writer = None;
            let log = LogSink::open(&self.folder.path().join("log"), "p", "s", 1).unwrap();
            self.writer = Some(Recognizing::new(log, from).unwrap());
        }

        /// A task that has sent this barrier last sends rows.
        fn write(&mut self, barrier: u64, ids: &[i128]) {
            let lines = ids.iter().map(|id| format!("{id}\n")).collect::<String>();
            let beside = Beside { times: None, keys: None, ids: Some(ids.to_vec().into()) };
            let block = Block {
                bytes: lines.into_bytes(),
                rows: ids.len() as u64,
                beside: Some(beside),
                ..Block::default()
            };
            self.writer.as_mut().unwrap().write(&block, barrier).unwrap();
        }

        fn passed(&mut self, checkpoint: u64) -> Repeatable {
            let writer = self.writer.as_mut().unwrap();
            writer.passed(checkpoint).unwrap();
            writer.repeatable().unwrap()
        }

        #[track_caller]
        fn check(&self, expected: &[i128]) {
            let log = self.writer.as_ref().unwrap().log.writer().log();
            let read = log.read(0, 0, 1_000, 1 << 20).unwrap();
            let found: Vec<i128> = read.iter().map(|r| row_id(r.id.as_ref().unwrap()).unwrap()).collect();
            assert_eq!(found, expected);
        }
    }

    fn offsets(repeatable: &Repeatable) -> (String, u64) {
        let Offsets { before, from } = &repeatable.partitions[0];
        (before.iter().map(|r| format!("{}..{} ", r.start, r.end)).collect(), *from)
    }

    #[test]
    fn rows_behind_a_barrier_come_again_and_others_dont() {
        let mut life = Life::begin();
        life.write(0, &[1, 2]);
        // One task is ahead of the other.
        life.write(1, &[3]);
        life.write(0, &[4]);
        let first = life.passed(1);
        assert_eq!(offsets(&first), ("2..3 ".to_owned(), 4));
        life.write(1, &[5]);
        life.go_on(Some(&first));
        life.write(1, &[5, 6, 3]);
        life.check(&[1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_hasnt_come_again_is_still_looked_for_in_the_life_after() {
        let mut life = Life::begin();
        let first = life.passed(1);
        life.write(1, &[1, 2, 3, 4]);
        life.go_on(Some(&first));
        life.write(1, &[3]);
        let second = life.passed(2);
        assert_eq!(offsets(&second), ("0..2 3..4 ".to_owned(), 4));
        life.go_on(Some(&second));
        life.write(2, &[4, 1, 2, 5]);
        life.check(&[1, 2, 3, 4, 5]);
        assert_eq!(offsets(&life.passed(3)), (String::new(), 5));
    }

    #[test]
    fn a_copy_that_came_behind_a_barrier_comes_a_third_time() {
        let mut life = Life::begin();
        let first = life.passed(1);
        life.write(1, &[1, 2]);
        life.go_on(Some(&first));
        life.write(1, &[1]);
        life.write(2, &[2]);
        let second = life.passed(2);
        assert_eq!(offsets(&second), ("1..2 ".to_owned(), 2));
        life.go_on(Some(&second));
        life.write(2, &[2, 3]);
        life.check(&[1, 2, 3]);
    }

    #[test]
    fn rows_that_share_an_id_are_all_there() {
        let mut life = Life::begin();
        let first = life.passed(1);
        life.write(1, &[7, 7]);
        life.go_on(Some(&first));
        life.write(1, &[7, 7, 7]);
        life.check(&[7, 7, 7]);
    }

    #[test]
    fn without_a_checkpoint_all_that_is_there_is_known() {
        let mut life = Life::begin();
        life.write(0, &[1, 2]);
        life.go_on(None);
        life.write(0, &[1, 2, 3]);
        life.check(&[1, 2, 3]);
    }
}
