//! When the barriers of a checkpoint are together. A task's snapshot belongs to one point in all of its inputs, so a
//! channel on which the barrier has come is held until it has come on the others.
//!
//! The rules are those of Flink's aligned checkpoints (`AlignedCheckpointsTest`), but for one: a channel that has
//! ended counts as aligned, so that a checkpoint completes where Flink before 1.14 aborted it.

/// Aligns the barriers that come over a task's channels.
#[derive(Clone, Debug)]
pub struct Alignment {
    channels: Vec<Channel>,
    /// The checkpoint whose barrier has come on some channels, but not on all.
    open: Option<u64>,
    /// Barriers of checkpoints up to this one are stale: it was snapshot, given up or cancelled.
    dealt_with: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Flowing,
    /// The barrier of the open checkpoint has come.
    Held,
    Ended,
}

/// What follows from a barrier, from the end of a channel, or from a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Aligned {
    /// The barrier hasn't come everywhere: hold this channel, go on with the others.
    Held,
    /// The barriers of this checkpoint are together: take the snapshot before anything else. No channel is held.
    Snapshot(u64),
    /// A checkpoint was given up: the channels that it held were released.
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
        Self { channels: vec![Channel::Flowing; channels], open: None, dealt_with: None }
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
        if self.open == Some(checkpoint) && self.channels[channel] == Channel::Held {
            return Aligned::Nothing;
        }
        let given_up = self.open.filter(|&open| open != checkpoint);
        if given_up.is_some() {
            self.release();
        }
        self.open = Some(checkpoint);
        self.channels[channel] = Channel::Held;
        match (given_up, self.complete()) {
            (Some(given_up), snapshot) => Aligned::GaveUp { checkpoint: given_up, snapshot },
            (None, Some(checkpoint)) => Aligned::Snapshot(checkpoint),
            (None, None) => Aligned::Held,
        }
    }

    /// A channel has ended: no row and no barrier comes over it any more.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn ended(&mut self, channel: usize) -> Aligned {
        self.channels[channel] = Channel::Ended;
        self.complete().map_or(Aligned::Nothing, Aligned::Snapshot)
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
        self.channels[channel] == Channel::Held
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

    fn complete(&mut self) -> Option<u64> {
        let open = self.open?;
        if self.channels.contains(&Channel::Flowing) {
            return None;
        }
        self.release();
        Some(open)
    }

    fn release(&mut self) {
        self.dealt_with = self.open.take().or(self.dealt_with);
        for channel in &mut self.channels {
            if *channel == Channel::Held {
                *channel = Channel::Flowing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Aligned::{GaveUp, Held, Nothing, Snapshot};

    enum Step {
        /// A barrier: checkpoint, channel.
        Barrier(u64, usize),
        End(usize),
        Cancel(u64),
    }
    use Step::{Barrier as B, Cancel as C, End as E};

    /// Steps, what each leads to, and the channels that are held afterwards.
    fn check(channels: usize, steps: &[(Step, Aligned, &[usize])]) {
        let mut alignment = Alignment::new(channels);
        for (at, (step, expected, held)) in steps.iter().enumerate() {
            let got = match *step {
                B(checkpoint, channel) => alignment.barrier(channel, checkpoint),
                E(channel) => alignment.ended(channel),
                C(checkpoint) => alignment.cancel(checkpoint),
            };
            assert_eq!(got, *expected, "step {at}");
            let now: Vec<_> = (0..channels).filter(|&c| alignment.is_held(c)).collect();
            assert_eq!(now, *held, "held after step {at}");
            assert_eq!(alignment.open().is_some(), !held.is_empty(), "open after step {at}");
        }
    }

    fn gave_up(checkpoint: u64) -> Aligned {
        GaveUp { checkpoint, snapshot: None }
    }

    /// Flink's `testMultiChannelWithBarriers` and its successors, with our rule for the end of a channel.
    #[test]
    fn a_newer_barrier_cancels_the_older_checkpoint_and_an_ended_channel_counts_as_aligned() {
        check(
            3,
            &[
                (B(1, 1), Held, &[1]),
                (B(1, 2), Held, &[1, 2]),
                (B(1, 0), Snapshot(1), &[]),
                (B(2, 1), Held, &[1]),
                (B(2, 0), Held, &[0, 1]),
                (B(3, 2), gave_up(2), &[2]),
                (B(3, 0), Held, &[0, 2]),
                (B(4, 1), gave_up(3), &[1]),
                (E(0), Nothing, &[1]),
                (B(4, 2), Snapshot(4), &[]),
            ],
        );
    }

    #[test]
    fn the_end_of_the_last_channel_that_was_waited_for_completes_the_checkpoint() {
        check(
            3,
            &[(B(1, 0), Held, &[0]), (E(1), Nothing, &[0]), (E(2), Snapshot(1), &[]), (E(0), Nothing, &[])],
        );
        // A channel that ends while it is held isn't held any more, and still counts.
        let mut alignment = Alignment::new(2);
        assert_eq!((alignment.barrier(0, 1), alignment.ended(0)), (Held, Nothing));
        assert_eq!((alignment.open(), alignment.is_held(0)), (Some(1), false));
        assert_eq!(alignment.barrier(1, 1), Snapshot(1));
    }

    #[test]
    fn one_channel_needs_no_waiting() {
        check(1, &[(B(1, 0), Snapshot(1), &[]), (B(1, 0), Nothing, &[]), (B(5, 0), Snapshot(5), &[])]);
    }

    #[test]
    fn stale_and_repeated_barriers_hold_nothing() {
        check(
            2,
            &[
                (B(3, 0), Held, &[0]),
                (B(3, 0), Nothing, &[0]),
                (B(2, 1), Nothing, &[0]),
                (B(3, 1), Snapshot(3), &[]),
                (B(3, 1), Nothing, &[]),
                (B(2, 0), Nothing, &[]),
            ],
        );
    }

    #[test]
    fn a_newer_barrier_may_be_complete_at_once() {
        let mut alignment = Alignment::new(3);
        let _ = (alignment.barrier(0, 1), alignment.ended(1), alignment.ended(2));
        // The last two have ended, so 1 was complete with the end of the second.
        assert_eq!(alignment.open(), None);
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.barrier(0, 1), Held);
        assert_eq!(alignment.ended(0), Nothing);
        assert_eq!(alignment.barrier(1, 2), GaveUp { checkpoint: 1, snapshot: Some(2) });
        assert_eq!(alignment.open(), None);
    }

    #[test]
    fn cancellation_releases_and_outlasts_late_barriers() {
        check(
            2,
            &[
                (C(1), Nothing, &[]),
                (B(1, 0), Nothing, &[]),
                (B(2, 0), Held, &[0]),
                (C(1), Nothing, &[0]),
                (C(2), gave_up(2), &[]),
                (B(2, 1), Nothing, &[]),
                (B(3, 1), Held, &[1]),
                // One checkpoint is in flight at a time: word of 5 means that 3 is over as well.
                (C(5), gave_up(3), &[]),
                (B(4, 0), Nothing, &[]),
                (B(6, 0), Held, &[0]),
                (B(6, 1), Snapshot(6), &[]),
            ],
        );
    }
}
