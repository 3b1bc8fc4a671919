//! The head of a source's task: reads its partitions in the order of event time, and makes their watermarks.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use tidemill_flow::batch::{Batch, Position, record_batch};
use tidemill_flow::watermark::{BoundedOutOfOrderness, Combiner, Progress, WATERMARK_MAX, WATERMARK_MIN};

use super::JobError;
use crate::formats::Malformed;
use crate::log::{POLL_INTERVAL, Partition, PartitionState, Rows};
use crate::sink::{DeadLetter, DeadLetters, Place};
use crate::telemetry::Counters;

pub(super) struct SourceHead {
    id: String,
    source: usize,
    schema: SchemaRef,
    partitions: Vec<Reading>,
    combiner: Combiner,
    counters: Arc<Counters>,
    dead_letters: DeadLetters,
}

/// A partition that is being read.
struct Reading {
    id: String,
    partition: Partition,
    number: u32,
    /// None on a source without event time.
    watermarks: Option<BoundedOutOfOrderness>,
    /// What was read of it when it was counted last.
    counted: u64,
    ended: bool,
}

/// A partition that a task reads.
pub(super) struct Assigned {
    /// Its name in checkpoints.
    pub(super) id: String,
    pub(super) partition: Partition,
    pub(super) number: u32,
    pub(super) out_of_orderness_ms: Option<i64>,
    /// Where a checkpoint left it; the partition itself is there already.
    pub(super) state: Option<PartitionState>,
}

/// What came of reading on.
pub(super) enum Read {
    /// Rows of this partition, or its end.
    Rows(usize, Option<Box<Rows>>),
    /// Every partition has ended.
    End,
}

/// What goes on: rows, and how far time has come after them.
pub(super) struct Step {
    pub(super) batch: Option<Batch>,
    pub(super) watermark: Option<i64>,
}

impl SourceHead {
    pub(super) fn new(
        id: String,
        source: usize,
        schema: SchemaRef,
        assigned: Vec<Assigned>,
        counters: Arc<Counters>,
        dead_letters: DeadLetters,
    ) -> Self {
        let partitions: Vec<Reading> = assigned
            .into_iter()
            .map(|a| {
                let watermark = a.state.as_ref().and_then(|s| s.watermark).unwrap_or(WATERMARK_MIN);
                let watermarks = |bound| BoundedOutOfOrderness::resumed(bound, watermark);
                Reading {
                    id: a.id,
                    counted: a.partition.progress(),
                    partition: a.partition,
                    number: a.number,
                    watermarks: a.out_of_orderness_ms.map(watermarks),
                    ended: a.state.is_some_and(|s| s.ended),
                }
            })
            .collect();
        let mut combiner = Combiner::new(partitions.len());
        for (at, reading) in partitions.iter().enumerate() {
            combiner.advance(at, reading.reached());
        }
        Self { id, source, schema, partitions, combiner, counters, dead_letters }
    }

    /// How far time has come already, if a checkpoint says so.
    pub(super) fn watermark(&self) -> Option<i64> {
        Some(self.combiner.watermark()).filter(|w| *w > WATERMARK_MIN)
    }

    /// The source, and how far each of its partitions here was read.
    ///
    /// # Errors
    /// When what was read of a log can't be made to last.
    pub(super) fn state(&self) -> Result<(usize, Vec<PartitionState>), JobError> {
        let state = |r: &Reading| {
            Ok(PartitionState {
                name: r.id.clone(),
                position: r.partition.position()?,
                watermark: r.watermarks.as_ref().map(BoundedOutOfOrderness::watermark),
                ended: r.ended,
            })
        };
        Ok((self.source, self.partitions.iter().map(state).collect::<Result<_, JobError>>()?))
    }

    /// Reads on where time is furthest behind: the partition, and its rows unless it has ended. Nothing that was
    /// read is lost when this is dropped while it waits.
    pub(super) async fn read(&mut self) -> Result<Read, JobError> {
        loop {
            let open = self.furthest_behind_first();
            if open.is_empty() {
                return Ok(Read::End);
            }
            for at in open {
                // A log in which nobody writes must not hold up the others.
                let partition = &mut self.partitions[at].partition;
                if partition.is_ready()? {
                    let rows = partition.next().await?;
                    return Ok(Read::Rows(at, rows.map(Box::new)));
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Counts what was read, sets aside what is no row, and says what goes on.
    pub(super) async fn take(&mut self, at: usize, rows: Option<Box<Rows>>) -> Result<Step, JobError> {
        let reading = &mut self.partitions[at];
        let counters = &self.counters.sources[self.source];
        let progress = reading.partition.progress();
        counters.bytes.add(progress - reading.counted);
        reading.counted = progress;
        let Some(rows) = rows else {
            reading.ended = true;
            return Ok(Step { batch: None, watermark: watermark(self.combiner.advance(at, WATERMARK_MAX)) });
        };
        counters.rows.add(rows.count as u64);
        if !rows.malformed.is_empty() {
            counters.malformed.add(rows.malformed.len() as u64);
            self.set_aside(at, &rows.malformed).await?;
        }
        Ok(self.emit(at, *rows))
    }

    fn emit(&mut self, at: usize, rows: Rows) -> Step {
        let watermarks = &mut self.partitions[at].watermarks;
        let before = watermarks.as_mut().zip(rows.times.as_ref()).and_then(|(w, times)| w.observe(times));
        let after = watermarks.as_ref().map(BoundedOutOfOrderness::watermark);
        let others = self.combiner.watermark_of_others(at);
        let batch = (rows.count > 0).then(|| {
            let batch = Batch {
                columns: record_batch(self.schema.clone(), rows.columns, rows.count),
                times: rows.times.map(Into::into),
                watermarks: before.map(Into::into),
                positions: Some(rows.positions.into()),
            };
            batch.held_back_to(others)
        });
        Step { batch, watermark: after.and_then(|w| watermark(self.combiner.advance(at, w))) }
    }

    /// The partitions that haven't ended, the one to read next first: the one whose event time has come least far, so
    /// that few windows are open at once however partitions are cut; then the one that was read least.
    fn furthest_behind_first(&self) -> Vec<usize> {
        let progress = |p: &Reading| {
            (p.watermarks.as_ref().map(BoundedOutOfOrderness::watermark), p.partition.distance())
        };
        let mut open: Vec<usize> =
            (0..self.partitions.len()).filter(|&at| !self.partitions[at].ended).collect();
        open.sort_by_key(|&at| progress(&self.partitions[at]));
        open
    }

    async fn set_aside(&self, at: usize, malformed: &[Malformed]) -> Result<(), JobError> {
        let mut letters = Vec::new();
        for m in malformed {
            let position = Position { partition: self.partitions[at].number, record: m.line }.pack();
            let letter = DeadLetter {
                by: Place::Source(&self.id),
                reason: &m.reason,
                position: Some(position),
                time: None,
            };
            letters.push((letter, m.raw.as_slice()));
        }
        Ok(self.dead_letters.write_raw(&letters).await?)
    }
}

impl Reading {
    fn reached(&self) -> i64 {
        if self.ended {
            return WATERMARK_MAX;
        }
        self.watermarks.as_ref().map_or(WATERMARK_MIN, BoundedOutOfOrderness::watermark)
    }
}

fn watermark(progress: Option<Progress>) -> Option<i64> {
    match progress {
        Some(Progress::Watermark(w)) => Some(w),
        Some(Progress::Idle | Progress::Active) | None => None,
    }
}
