//! Rows in flight to a task: what still comes before the barriers of a checkpoint whose snapshot the task has taken
//! already is recorded beside its state; who goes on from that checkpoint processes it before anything else.

use std::ops::Range;
use std::sync::Arc;

use tidemill_flow::batch::Batch;
use tidemill_flow::in_flight::{ChannelTime, InFlight};
use tidemill_flow::storage::Storage;
use tidemill_flow::watermark::Combiner;

use super::JobError;
use super::state::Place;

/// What may be in flight to a task at a checkpoint. It is far more than fills the queues that lead to a task, even with
/// long rows and a hundred channels, so that more of it says that something else is wrong. The checkpoint is given up
/// then, and the next waits for all barriers.
pub(super) const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;

/// Records what is in flight to a task.
pub(super) struct Recorder {
    rows: InFlight,
    storage: Arc<dyn Storage>,
    groups: Range<u32>,
    key: Vec<usize>,
    /// The storage may have rows of a checkpoint.
    has_written: bool,
    recording: Option<Recording>,
}

/// What was recorded for a checkpoint so far.
struct Recording {
    channels: Vec<ChannelTime>,
    rows: u64,
    bytes: usize,
}

/// What was in flight to a task at the checkpoint that it goes on from.
pub(super) struct Remains {
    pub(super) rows: InFlight,
    pub(super) storage: Arc<dyn Storage>,
    /// The task's key groups.
    pub(super) groups: Range<u32>,
    /// These, by the task that had them, with how far time had come there: as no task waited for all barriers, that
    /// isn't the same everywhere.
    pub(super) ranges: Vec<(Range<u32>, i64)>,
}

impl Recorder {
    pub(super) fn new(rows: InFlight, place: &Place, key: &[usize]) -> Self {
        let (storage, groups) = (place.storage.clone(), place.groups.clone());
        Self { rows, storage, groups, key: key.to_vec(), has_written: false, recording: None }
    }

    /// Removes what was recorded for an earlier checkpoint. Its files were taken, or it was given up, as the next is about
    /// to be snapshot.
    pub(super) fn clear(&mut self) -> Result<(), JobError> {
        self.recording = None;
        if std::mem::take(&mut self.has_written) {
            self.storage.write(self.rows.remove(self.groups.clone()))?;
        }
        Ok(())
    }

    /// Begins to record for a checkpoint whose snapshot is taken now.
    pub(super) fn begin(&mut self, time: &Combiner, channels: usize) {
        let channel = |c| ChannelTime::new(time.watermark(), time.watermark_of_others(c));
        self.recording =
            Some(Recording { channels: (0..channels).map(channel).collect(), rows: 0, bytes: 0 });
    }

    /// Records rows that came over a channel. They belong to the epoch that was frozen, so the storage takes them at once.
    /// Says whether there is room for more.
    pub(super) fn record(&mut self, channel: usize, batch: &Batch) -> Result<bool, JobError> {
        let Some(recording) = &mut self.recording else { return Ok(true) };
        let watermarks = recording.channels[channel].of(batch);
        let writes = self.rows.write(batch, &self.key, &watermarks, recording.rows);
        recording.rows += batch.rows() as u64;
        recording.bytes += writes.bytes();
        self.has_written = true;
        self.storage.write(writes)?;
        Ok(recording.bytes <= IN_FLIGHT_BYTES_MAX)
    }

    /// Ends the recording: how many rows it has; none, if there is none.
    pub(super) fn end(&mut self) -> Option<u64> {
        self.recording.take().map(|recording| recording.rows)
    }
}
