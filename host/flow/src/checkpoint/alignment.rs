//! When the barriers of a checkpoint are together. A task's snapshot belongs to one point in all of its inputs, so a
//! channel on which the barrier has come is held until it has come on the others.
//!
//! Or nobody waits any longer ([`overtake`](Alignment::overtake)): the snapshot is taken at once, no channel is held,
//! and what comes over a channel before its barrier is recorded beside it, as data in flight. This is the recording of
//! Chandy and Lamport (*Distributed Snapshots*, 1985); what belongs to the checkpoint is the same in both cases: all
//! that came before the barriers, and nothing behind them.
//!
//! The rules are those of Flink (`AlignedCheckpointsTest`, `UnalignedCheckpointsTest`), but for one: a channel that has
//! ended counts as aligned, so that a checkpoint completes where Flink before 1.14 aborted it.

/// Aligns the barriers that come over a task's channels.
#[derive(Clone, Debug)]
pub struct Alignment {
    channels: Vec<Channel>,
    /// The checkpoint whose barrier has come on some channels, but not on all.
    open: Option<u64>,
    /// The snapshot for it is taken: no channel is held, and those that flow are recorded.
    recording: bool,
    /// Barriers of checkpoints up to this one are stale: it was snapshot, given up or cancelled.
    dealt_with: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Flowing,
    /// The barrier of the open checkpoint has come.
    Arrived,
    Ended,
}

/// What follows from a barrier, from the end of a channel, or from a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Aligned {
    /// The barrier hasn't come everywhere: this channel is held, unless the checkpoint is recorded; the others go on.
    Waiting,
    /// The barriers of this checkpoint are together: take the snapshot before anything else. No channel is held.
    Snapshot(u64),
    /// The barriers of this checkpoint, whose snapshot has been taken, are together: all that was in flight is recorded.
    Recorded(u64),
    /// A checkpoint was given up: the channels that it held were released, and what was recorded for it is of no use.
    GaveUp {
        /// The checkpoint that was given up.
        checkpoint: u64,
        /// The newer one whose barrier was the reason, when it is complete with that barrier: take its snapshot.
        /// Else the channel on which it came is held, if one came.
        snapshot: Option<u64>,
    },
    /// Nothing.
    Nothing,
}

impl Alignment {
    /// For this many channels, all of them flowing.
    pub fn new(channels: usize) -> Self {
        Self { channels: vec![Channel::Flowing; channels], open: None, recording: false, dealt_with: None }
    }

    /// A barrier has come over a channel. One of a checkpoint that isn't newer than the last one dealt with, and one
    /// that comes again, is ignored.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn barrier(&mut self, channel: usize, checkpoint: u64) -> Aligned {
        if self.channels[channel] == Channel::Ended || self.is_stale(checkpoint) {
            return Aligned::Nothing;
        }
        if self.open == Some(checkpoint) && self.channels[channel] == Channel::Arrived {
            return Aligned::Nothing;
        }
        let given_up = self.open.filter(|&open| open != checkpoint);
        if given_up.is_some() {
            self.release();
        }
        self.open = Some(checkpoint);
        self.channels[channel] = Channel::Arrived;
        match (given_up, self.complete()) {
            // The newer one can't have been recorded before its first barrier.
            (Some(given_up), complete) => {
                Aligned::GaveUp { checkpoint: given_up, snapshot: complete.map(|_| checkpoint) }
            }
            (None, Some(complete)) => complete,
            (None, None) => Aligned::Waiting,
        }
    }

    /// A channel has ended: no row and no barrier comes over it any more.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn ended(&mut self, channel: usize) -> Aligned {
        self.channels[channel] = Channel::Ended;
        self.complete().unwrap_or(Aligned::Nothing)
    }

    /// Nobody waits for the barriers that haven't come: the checkpoint whose snapshot has to be taken before anything
    /// else, after which no channel is held and [`records`](Self::records) says what is in flight. None: there is no
    /// checkpoint to wait for, or its snapshot has been taken.
    pub fn overtake(&mut self) -> Option<u64> {
        let open = self.open.filter(|_| !self.recording)?;
        self.recording = true;
        Some(open)
    }

    /// Whether rows that come over this channel now are in flight: their barrier comes behind them, and the snapshot
    /// has been taken without them.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn records(&self, channel: usize) -> bool {
        self.recording && self.channels[channel] == Channel::Flowing
    }

    /// The checkpoint whose snapshot was taken, and for which what is in flight is being recorded.
    pub fn recording(&self) -> Option<u64> {
        self.open.filter(|_| self.recording)
    }

    /// The coordinator has given a checkpoint up: whatever it, or an older one, holds is released, and its barriers
    /// are ignored from now on.
    pub fn cancel(&mut self, checkpoint: u64) -> Aligned {
        if self.is_stale(checkpoint) {
            return Aligned::Nothing;
        }
        let open = self.open.filter(|&open| open <= checkpoint);
        if open.is_some() {
            self.release();
        }
        self.dealt_with = Some(checkpoint);
        open.map_or(Aligned::Nothing, |checkpoint| Aligned::GaveUp { checkpoint, snapshot: None })
    }

    /// Whether nothing may be taken from this channel for now.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn is_held(&self, channel: usize) -> bool {
        !self.recording && self.channels[channel] == Channel::Arrived
    }

    /// The checkpoint whose barrier has come on some channels, but not on all.
    pub fn open(&self) -> Option<u64> {
        self.open
    }

    /// Whether all channels have ended.
    pub fn all_ended(&self) -> bool {
        self.channels.iter().all(|&c| c == Channel::Ended)
    }

    /// What is open is newer than all that was dealt with, so older barriers than the open one's are stale too.
    fn is_stale(&self, checkpoint: u64) -> bool {
        self.dealt_with.is_some_and(|done| checkpoint <= done)
            || self.open.is_some_and(|open| checkpoint < open)
    }

    fn complete(&mut self) -> Option<Aligned> {
        let open = self.open?;
        if self.channels.contains(&Channel::Flowing) {
            return None;
        }
        let complete = if self.recording { Aligned::Recorded(open) } else { Aligned::Snapshot(open) };
        self.release();
        Some(complete)
    }

    fn release(&mut self) {
        self.dealt_with = self.open.take().or(self.dealt_with);
        self.recording = false;
        for channel in &mut self.channels {
            if *channel == Channel::Arrived {
                *channel = Channel::Flowing;
            }
        }
    }
}

#[cfg(test)]
mod tests;
