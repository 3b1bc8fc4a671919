//! Records of several partitions that appear together or not at all.
//!
//! Its frames carry its number, and are synced before the journal's entry is written and synced. Readers look
//! for the entry; a writer that opens the log cuts off frames that have none.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use crate::error::{LogError, Result};
use crate::frame::Frame;
use crate::journal::Journal;
use crate::partition::{Mark, Partition};
use crate::record::Record;
use crate::recovery::each_id;
use crate::writer::{Writer, now_ms};

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed.
    Committed,
    /// The producer's epoch, or a later one, had been committed before; nothing was done.
    AlreadyCommitted {
        /// The last epoch that was.
        last_epoch: u64,
    },
}

/// A transaction that is under way. Nothing of it is seen by readers before [`Self::commit`] returns; when it
/// is dropped, it is undone.
#[derive(Debug)]
pub struct Transaction<'a> {
    writer: &'a Writer,
    journal: MutexGuard<'a, Journal>,
    producer: &'a str,
    run: u64,
    epoch: u64,
    touched: BTreeMap<u32, Touched<'a>>,
    records: u64,
    is_done: bool,
}

/// A partition that the transaction writes.
#[derive(Debug)]
struct Touched<'a> {
    partition: MutexGuard<'a, Partition>,
    /// Where it ended before.
    mark: Mark,
    /// Offsets and ids, to be remembered when it is committed.
    ids: Vec<(u64, Vec<u8>)>,
}

impl Touched<'_> {
    /// Keeps ids until the transaction is committed, and no more than will be remembered then.
    fn remember(&mut self, ids: impl IntoIterator<Item = (u64, Vec<u8>)>) {
        self.ids.extend(ids);
        let surplus = (self.ids.len() as u64).saturating_sub(self.partition.ids.records());
        self.ids.drain(..usize::try_from(surplus).unwrap_or(self.ids.len()));
    }
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(
        writer: &'a Writer,
        journal: MutexGuard<'a, Journal>,
        producer: &'a str,
        run: u64,
        epoch: u64,
    ) -> Self {
        Self { writer, journal, producer, run, epoch, touched: BTreeMap::new(), records: 0, is_done: false }
    }

    /// Adds records to a partition.
    ///
    /// # Errors
    /// As [`Writer::append`]. What was added before is still part of the transaction.
    pub fn append(&mut self, partition: u32, records: &[Record<'_>]) -> Result<()> {
        if records.is_empty() {
            return self.writer.log().check_partition(partition);
        }
        let tag = self.tag();
        let touched = self.touch(partition)?;
        let first = touched.partition.next;
        touched.partition.append_tagged(records, tag, now_ms())?;
        let ids = (first..).zip(records).filter_map(|(offset, r)| Some((offset, r.id?.to_vec())));
        touched.remember(ids);
        self.records += records.len() as u64;
        Ok(())
    }

    /// Adds the records of a frame that was staged; its bytes are overwritten.
    pub(crate) fn append_frame(&mut self, partition: u32, frame: &Frame, bytes: &mut [u8]) -> Result<()> {
        let tag = self.tag();
        let touched = self.touch(partition)?;
        if frame.has_ids {
            touched.remember(staged_ids(touched.partition.next, frame, bytes)?);
        }
        let records = u64::from(frame.records);
        touched.partition.write(bytes, records, tag, now_ms(), frame.has_ids)?;
        self.records += records;
        Ok(())
    }

    /// How many records were added.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Makes all of it last, and seen. Without records only the epoch is noted.
    ///
    /// # Errors
    /// When files can't be written. Then it is undone; or, when not even that can be known, nothing more can
    /// be written, and the last epoch tells when the log is opened again.
    pub fn commit(mut self) -> Result<Outcome> {
        for touched in self.touched.values_mut() {
            touched.partition.sync()?;
        }
        if let Err(error) = self.journal.commit(self.producer, self.run, self.epoch) {
            if let Some(reason) = self.journal.stopped.clone() {
                // Perhaps it is committed. Nothing may be undone, nor be written behind it.
                self.touched.values_mut().for_each(|t| t.partition.stop(&reason));
                self.is_done = true;
            }
            return Err(error);
        }
        self.is_done = true;
        for touched in self.touched.values_mut() {
            for (offset, id) in touched.ids.drain(..) {
                touched.partition.ids.add(offset, &id);
            }
            let next = touched.partition.next;
            touched.partition.ids.forget_old(next);
        }
        Ok(Outcome::Committed)
    }

    fn tag(&self) -> u64 {
        self.journal.state.number + 1
    }

    fn touch(&mut self, partition: u32) -> Result<&mut Touched<'a>> {
        use std::collections::btree_map::Entry;
        match self.touched.entry(partition) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let mut held = self.writer.partition(partition)?;
                held.retain_if_due(now_ms())?;
                let mark = held.mark();
                Ok(entry.insert(Touched { partition: held, mark, ids: Vec::new() }))
            }
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.touched.values_mut().for_each(|t| t.partition.go_back(&t.mark));
        }
    }
}

fn staged_ids(first: u64, frame: &Frame, bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut ids = Vec::new();
    let body = crate::frame::HEADER_BYTES..bytes.len();
    each_id(bytes, body, first, frame.records, |offset, id| ids.push((offset, id.to_vec())))
        .ok_or_else(|| LogError::Invalid { reason: "a staged frame isn't full of records".to_owned() })?;
    Ok(ids)
}
