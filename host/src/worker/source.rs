//! The head of a source's task: reads its partitions in the order of event time, and makes their watermarks.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow_schema::SchemaRef;
use tidemill_flow::batch::{Batch, Position, record_batch};
use tidemill_flow::row_id::PartitionIds;
use tidemill_flow::watermark::{
    Combiner, Idleness, Progress, Seen, Strategy, WATERMARK_MAX, WATERMARK_MIN, Watermarks,
};
use tokio::time::Instant;

use super::clock::ProcessingTime;
use super::drift::Membership;
use super::rate::Rate;
use super::{JobError, Signal};
use crate::formats::Malformed;
use crate::log::{Mark, POLL_INTERVAL, Partition, PartitionState, Rows};
use crate::sink::{DeadLetter, DeadLetters, Place};
use crate::telemetry::Counters;

/// How often time goes on by the clock alone, where rows happen when they arrive: so much later a window may fire, and
/// so many signals does a silent source cost.
const TICK: Duration = Duration::from_millis(100);

pub(super) struct SourceHead {
    id: String,
    source: usize,
    schema: SchemaRef,
    partitions: Vec<Reading>,
    combiner: Combiner,
    /// None: it keeps together with nobody.
    group: Option<Membership>,
    /// When the clock is looked at next, where rows happen when they arrive.
    tick_at: Option<Instant>,
    /// Idleness is told by a clock that doesn't jump; this is its zero.
    begun: Instant,
    clock: ProcessingTime,
    /// When it was last looked whether there is something to read, on that clock.
    looked_ms: u64,
    /// What is to be said before anything is read.
    begins_with: Vec<Progress>,
    /// None: it reads as fast as it can.
    rate: Option<Arc<Rate>>,
    counters: Arc<Counters>,
    dead_letters: DeadLetters,
}

/// A partition that is being read.
struct Reading {
    id: String,
    partition: Partition,
    number: u32,
    /// None: nobody asks for ids.
    ids: Option<PartitionIds>,
    /// None on a source without event time.
    watermarks: Option<Watermarks>,
    /// None: it holds time back however long it is silent.
    idleness: Option<Idleness>,
    /// How far time has come by the partition's own word.
    told: i64,
    /// By its own word it is idle.
    told_idle: bool,
    /// What was read of it when it was counted last.
    counted: u64,
    ended: bool,
    /// None: it is read to its end.
    cut: Option<Cut>,
    /// It was read as far as it is to be.
    is_cut: bool,
}

/// How a partition is left that isn't read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It isn't read at all, and nobody waits for its time.
    Unread,
    /// Where it was left, it has ended.
    Ended,
    /// It goes on, and its time is waited for.
    Active,
    /// It goes on, and its time isn't waited for.
    Idle,
}

/// A partition that a task reads.
pub(super) struct Assigned {
    /// Its name in checkpoints.
    pub(super) id: String,
    pub(super) partition: Partition,
    pub(super) number: u32,
    /// None: nobody asks for ids.
    pub(super) ids: Option<PartitionIds>,
    /// Where a checkpoint left it; the partition itself is there already.
    pub(super) state: Option<PartitionState>,
    /// None: it is read to its end.
    pub(super) cut: Option<Cut>,
}

/// How a source tells how far time has come.
pub(super) struct Time {
    /// None: its rows have no event time.
    pub(super) strategy: Option<Strategy>,
    /// After how long a silent partition is idle; none: never.
    pub(super) idle_after_ms: Option<u64>,
    /// With whom it keeps together.
    pub(super) group: Option<Membership>,
    /// When rows happen that happen when they arrive.
    pub(super) clock: ProcessingTime,
}

/// What came of reading on.
pub(super) enum Read {
    /// Rows of this partition, or its end.
    Rows(usize, Option<Box<Rows>>),
    /// No rows, but time has gone on.
    Time(Vec<Signal>),
    /// Every partition has ended.
    End,
}

impl SourceHead {
    /// # Panics
    /// When no partition is assigned: a task without any would hold back time until the end.
    pub(super) fn new(
        (id, source): (String, usize),
        schema: SchemaRef,
        assigned: Vec<Assigned>,
        time: Time,
        rate: Option<Arc<Rate>>,
        counters: Arc<Counters>,
        dead_letters: DeadLetters,
    ) -> Self {
        assert!(!assigned.is_empty(), "a source has no more tasks than partitions");
        let partitions: Vec<Reading> = assigned
            .into_iter()
            .map(|a| {
                let watermark = a.state.as_ref().and_then(|s| s.watermark).unwrap_or(WATERMARK_MIN);
                Reading {
                    id: a.id,
                    counted: a.partition.progress(),
                    partition: a.partition,
                    number: a.number,
                    ids: a.ids,
                    watermarks: time.strategy.map(|s| Watermarks::resumed(s, watermark)),
                    idleness: time.idle_after_ms.map(Idleness::new),
                    told: if time.strategy.is_none() { watermark } else { WATERMARK_MIN },
                    told_idle: false,
                    ended: a.state.is_some_and(|s| s.ended),
                    cut: a.cut,
                    is_cut: false,
                }
            })
            .collect();
        let mut combiner = Combiner::new(partitions.len());
        for (at, reading) in partitions.iter().enumerate() {
            combiner.advance(at, reading.reached());
        }
        let begun = Instant::now();
        let unread: Vec<usize> =
            (0..partitions.len()).filter(|&at| partitions[at].cut == Some(Cut::Unread)).collect();
        let mut head = Self {
            id,
            source,
            schema,
            partitions,
            combiner,
            group: time.group,
            tick_at: (time.strategy == Some(Strategy::Arrival) && time.clock.moves()).then_some(begun),
            begun,
            clock: time.clock,
            looked_ms: 0,
            begins_with: Vec::new(),
            rate,
            counters,
            dead_letters,
        };
        for at in unread {
            let progress = head.leave(at, Cut::Unread);
            head.begins_with.extend(progress);
        }
        head.report();
        head
    }

    /// How far time has come already, if a checkpoint says so.
    pub(super) fn watermark(&self) -> Option<i64> {
        Some(self.combiner.watermark()).filter(|w| *w > WATERMARK_MIN)
    }

    /// The source, and how far each of its partitions here was read.
    ///
    /// # Errors
    /// When what was read of a log can't be made to last.
    pub(super) fn state(&mut self) -> Result<(usize, Vec<PartitionState>), JobError> {
        let state = |r: &mut Reading| {
            Ok(PartitionState {
                name: r.id.clone(),
                position: r.partition.position()?,
                watermark: Some(r.time()).filter(|w| r.watermarks.is_some() || *w > WATERMARK_MIN),
                ended: r.ended,
            })
        };
        Ok((self.source, self.partitions.iter_mut().map(state).collect::<Result<_, JobError>>()?))
    }

    /// Whether partitions were left that haven't ended.
    pub(super) fn is_cut(&self) -> bool {
        self.partitions.iter().any(|p| p.is_cut)
    }

    /// A partition is read no further.
    fn leave(&mut self, at: usize, cut: Cut) -> Vec<Progress> {
        let reading = &mut self.partitions[at];
        match cut {
            Cut::Ended => {
                reading.ended = true;
                self.combiner.advance(at, WATERMARK_MAX)
            }
            Cut::Active => {
                reading.is_cut = true;
                Vec::new()
            }
            Cut::Idle | Cut::Unread => {
                reading.is_cut = true;
                self.combiner.idle(at)
            }
        }
    }

    /// Reads on where time is furthest behind: the partition, and its rows unless it has ended. Nothing that was
    /// read is lost when this is dropped while it waits.
    pub(super) async fn read(&mut self) -> Result<Read, JobError> {
        // Since the last look we were busy with something else.
        self.hold_back(self.looked_ms);
        let tick_at = self.tick_at;
        let read = tokio::select! {
            biased;
            () = sleep_until(tick_at) => Read::Time(signals(self.tick())),
            read = self.read_partitions() => read?,
        };
        self.hold_back(self.clock_ms());
        Ok(read)
    }

    async fn read_partitions(&mut self) -> Result<Read, JobError> {
        if !self.begins_with.is_empty() {
            return Ok(Read::Time(signals(std::mem::take(&mut self.begins_with))));
        }
        loop {
            let open = self.furthest_behind_first();
            if open.is_empty() {
                return Ok(Read::End);
            }
            if let Some(rate) = &self.rate {
                rate.wait().await;
            }
            self.looked_ms = self.clock_ms();
            let (mut silent, mut ahead) = (false, false);
            for at in open {
                if !self.lets_read(at) {
                    ahead = true;
                    self.see(at, Seen::HeldBack);
                    continue;
                }
                // A log in which nobody writes must not hold up the others.
                let is_ready = self.partitions[at].partition.is_ready()?;
                let is_silent = self.partitions[at].partition.is_silent();
                let seen = match (is_ready, is_silent) {
                    (true, _) => Seen::Pending,
                    (false, true) => Seen::Silent,
                    // Nobody knows what the log has.
                    (false, false) => Seen::HeldBack,
                };
                let progress = self.see(at, seen);
                if !progress.is_empty() {
                    return Ok(Read::Time(signals(progress)));
                }
                if is_ready {
                    let rows = self.partitions[at].partition.next().await?;
                    return Ok(Read::Rows(at, rows.map(Box::new)));
                }
                silent = true;
            }
            tokio::select! {
                () = told(&mut self.partitions) => {}
                () = tokio::time::sleep(POLL_INTERVAL), if silent => {}
                () = changed(self.group.as_mut()), if ahead => {}
            }
        }
    }

    /// Whether a partition may be read on, or has to wait for others of its group.
    fn lets_read(&mut self, at: usize) -> bool {
        let Some(group) = &mut self.group else { return true };
        group.lets_read(self.partitions[at].reached())
    }

    /// Tells the group how far this task has come: as far as the last of its partitions that isn't idle.
    fn report(&mut self) {
        let Some(group) = &mut self.group else { return };
        let active = self.partitions.iter().filter(|p| !p.is_idle());
        group.report(active.map(Reading::reached).min().unwrap_or(WATERMARK_MAX));
    }

    /// Something was seen of a partition; what that means for time.
    fn see(&mut self, at: usize, seen: Seen) -> Vec<Progress> {
        let now_ms = self.looked_ms;
        let idleness = self.partitions[at].idleness.as_mut();
        let Some(is_idle) = idleness.and_then(|i| i.see(now_ms, seen)) else { return Vec::new() };
        tracing::debug!(partition = self.partitions[at].id, is_idle, "a partition has become idle or active");
        self.report();
        if is_idle { self.combiner.idle(at) } else { self.combiner.wake(at) }
    }

    /// Nobody looks at the partitions from `now_ms` on.
    fn hold_back(&mut self, now_ms: u64) {
        for idleness in self.partitions.iter_mut().filter_map(|p| p.idleness.as_mut()) {
            idleness.see(now_ms, Seen::HeldBack);
        }
    }

    fn clock_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Time goes on by the clock.
    fn tick(&mut self) -> Vec<Progress> {
        self.tick_at = self.tick_at.map(|_| Instant::now() + TICK);
        let now_ms = self.clock.now_ms();
        let mut progress = Vec::new();
        for (at, reading) in self.partitions.iter_mut().enumerate().filter(|(_, r)| r.is_open()) {
            if let Some(Watermarks::Arrival(arrival)) = &mut reading.watermarks {
                arrival.observe(now_ms);
                progress.extend(self.combiner.advance(at, reading.reached()));
            }
        }
        progress
    }

    /// Takes every partition as ended where it stands; says what that means for time.
    pub(super) fn end(&mut self) -> Vec<Signal> {
        let mut progress = Vec::new();
        for at in 0..self.partitions.len() {
            self.partitions[at].ended = true;
            progress.extend(self.combiner.advance(at, WATERMARK_MAX));
        }
        self.report();
        signals(progress)
    }

    /// Counts what was read, sets aside what is no row, and says what goes on.
    pub(super) async fn take(&mut self, at: usize, rows: Option<Box<Rows>>) -> Result<Vec<Signal>, JobError> {
        let reading = &mut self.partitions[at];
        let counters = &self.counters.sources[self.source];
        let progress = reading.partition.progress();
        counters.bytes.add(progress - reading.counted);
        reading.counted = progress;
        let Some(rows) = rows else {
            let cut = reading.cut.unwrap_or(Cut::Ended);
            let progress = self.leave(at, cut);
            self.report();
            return Ok(signals(progress));
        };
        counters.rows.add(rows.count as u64);
        if let Some(rate) = &self.rate {
            rate.spend(rows.count);
        }
        if !rows.malformed.is_empty() {
            counters.malformed.add(rows.malformed.len() as u64);
            self.set_aside(at, &rows.malformed).await?;
        }
        Ok(self.emit(at, *rows))
    }

    fn emit(&mut self, at: usize, mut rows: Rows) -> Vec<Signal> {
        let ids = self.partitions[at].ids.filter(|_| rows.count > 0).map(|ids| ids.rows(&rows.positions));
        let before = match (&mut self.partitions[at].watermarks, &rows.times) {
            (Some(Watermarks::Bounded(bounded)), Some(times)) => bounded.observe(times),
            (Some(Watermarks::Punctuated(punctuated)), Some(times)) => {
                let said = rows.said.as_ref().expect("its records say how far time has come");
                punctuated.observe(times, said)
            }
            (Some(Watermarks::Arrival(arrival)), None) => {
                rows.times = Some(vec![arrival.observe(self.clock.now_ms()); rows.count]);
                None
            }
            // Rows may have times, and only who feeds the partition says how far time has come.
            (None, _) => None,
            (watermarks, times) => unreachable!("{watermarks:?} for times: {}", times.is_some()),
        };
        let others = self.combiner.watermark_of_others(at);
        let batch = (rows.count > 0).then(|| {
            let batch = Batch {
                columns: record_batch(self.schema.clone(), rows.columns, rows.count),
                times: rows.times.map(Into::into),
                watermarks: before.map(Into::into),
                positions: Some(rows.positions.into()),
                ids,
            };
            Signal::Batch(batch.held_back_to(others))
        });
        let progress = match rows.mark {
            Some(mark) => self.mark(at, mark),
            None => self.combiner.advance(at, self.partitions[at].reached()),
        };
        self.report();
        batch.into_iter().chain(signals(progress)).collect()
    }

    /// A partition says something itself.
    fn mark(&mut self, at: usize, mark: Mark) -> Vec<Progress> {
        let reading = &mut self.partitions[at];
        match mark {
            // As of a channel that is idle.
            Mark::Watermark(_) if reading.told_idle => Vec::new(),
            Mark::Watermark(watermark) => {
                reading.told = reading.told.max(watermark);
                self.combiner.advance(at, reading.reached())
            }
            Mark::Idle => {
                reading.told_idle = true;
                self.combiner.idle(at)
            }
            Mark::Active => {
                reading.told_idle = false;
                self.combiner.wake(at)
            }
            Mark::Clock => self.tick(),
        }
    }

    /// The partitions that haven't ended, the one to read next first: the one whose event time has come least far, so
    /// that few windows are open at once however partitions are cut; then the one that was read least.
    fn furthest_behind_first(&self) -> Vec<usize> {
        let progress =
            |p: &Reading| (p.watermarks.as_ref().map(Watermarks::watermark), p.partition.distance());
        let mut open: Vec<usize> =
            (0..self.partitions.len()).filter(|&at| self.partitions[at].is_open()).collect();
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
    /// Whether it is read on.
    fn is_open(&self) -> bool {
        !self.ended && !self.is_cut
    }

    fn reached(&self) -> i64 {
        if self.ended { WATERMARK_MAX } else { self.time() }
    }

    /// How far time has come by the rows that were read and by the partition's own word.
    fn time(&self) -> i64 {
        self.watermarks.as_ref().map_or(WATERMARK_MIN, Watermarks::watermark).max(self.told)
    }

    fn is_idle(&self) -> bool {
        self.idleness.as_ref().is_some_and(Idleness::is_idle)
    }
}

fn signals(progress: Vec<Progress>) -> Vec<Signal> {
    progress.into_iter().map(Signal::from).collect()
}

/// At once, if that has passed; never, if there is no such time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When the group's minimum is another one; never, without a group.
async fn changed(group: Option<&mut Membership>) {
    match group {
        Some(group) => group.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits until a partition is told something; for ever, if none is told what it reads.
async fn told(partitions: &mut [Reading]) {
    std::future::poll_fn(|context| {
        let mut open = partitions.iter_mut().filter(|p| p.is_open());
        let any = open.any(|p| p.partition.poll_told(context).is_ready());
        if any { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
