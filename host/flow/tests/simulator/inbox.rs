//! A receiver's channels, and the alignment of their barriers.

use std::collections::VecDeque;

use tidemill_flow::checkpoint::alignment::{Aligned, Alignment};

use crate::bugs::Bug;
use crate::context::Context;
use crate::data::Row;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Row(Row),
    Watermark(i64),
    Barrier(u64),
    End,
}

/// A channel with more signals than this makes its sender wait before it takes more rows.
const ROOM: usize = 6;

pub(crate) struct Inbox {
    alignment: Alignment,
    channels: Vec<VecDeque<Signal>>,
    ended: usize,
    /// The last checkpoint of which a snapshot was taken, for those who don't align.
    last: u64,
    /// It waits for barriers so many signals long on average; none: until they have come.
    patience: Option<u64>,
}

impl Inbox {
    pub(crate) fn new(channels: usize, patience: Option<u64>) -> Self {
        let alignment = Alignment::new(channels);
        Self { alignment, channels: vec![VecDeque::new(); channels], ended: 0, last: 0, patience }
    }

    pub(crate) fn has_room(&self, channel: usize) -> bool {
        self.channels[channel].len() < ROOM
    }

    pub(crate) fn put(&mut self, channel: usize, signal: Signal, cx: &Context) {
        let overtakes = cx.has(Bug::BarrierOvertakesRows) && matches!(signal, Signal::Barrier(_));
        if overtakes {
            self.channels[channel].push_front(signal);
        } else {
            self.channels[channel].push_back(signal);
        }
    }

    /// Takes a signal from one of the channels that aren't held.
    pub(crate) fn take(&mut self, cx: &mut Context) -> Option<(usize, Signal)> {
        let count = self.channels.len();
        let first = cx.random.index(count);
        let mut order = (0..count).map(|at| (first + at) % count);
        let channel = order.find(|&c| !self.channels[c].is_empty() && !self.alignment.is_held(c))?;
        Some((channel, self.channels[channel].pop_front()?))
    }

    /// The checkpoint whose snapshot is taken now, though barriers are still to come. Not the last one's: what is
    /// processed behind it would never be committed.
    pub(crate) fn overtake(&mut self, last: u64, cx: &mut Context) -> Option<u64> {
        let may_overtake = |open: &u64| *open != last || cx.has(Bug::LastOvertaken);
        self.alignment.open().filter(may_overtake).filter(|_| self.alignment.recording().is_none())?;
        let patience = self.patience?;
        if !cx.random.one_in(patience) {
            return None;
        }
        cx.counts.overtaken += 1;
        self.alignment.overtake()
    }

    /// Whether what comes over a channel now is in flight.
    pub(crate) fn records(&self, channel: usize, cx: &Context) -> bool {
        let behind = cx.has(Bug::RecordedBehindBarrier) && self.alignment.recording().is_some();
        behind || self.alignment.records(channel)
    }

    pub(crate) fn is_recording(&self, checkpoint: u64) -> bool {
        self.alignment.recording() == Some(checkpoint)
    }

    /// The checkpoint whose snapshot is to be taken now.
    pub(crate) fn barrier(&mut self, channel: usize, checkpoint: u64, cx: &mut Context) -> Option<u64> {
        if cx.has(Bug::NoAlignment) {
            let first = checkpoint > self.last;
            self.last = self.last.max(checkpoint);
            return first.then_some(checkpoint);
        }
        let aligned = self.alignment.barrier(channel, checkpoint);
        cx.counts.barriers_cancelled += u64::from(matches!(aligned, Aligned::GaveUp { .. }));
        let snapshot = snapshot(aligned);
        cx.counts.ends_aligned += u64::from(snapshot.is_some() && self.ended > 0);
        snapshot
    }

    pub(crate) fn ended(&mut self, channel: usize, cx: &mut Context) -> Option<u64> {
        self.ended += 1;
        let snapshot = snapshot(self.alignment.ended(channel));
        cx.counts.ends_aligned += u64::from(snapshot.is_some());
        snapshot
    }

    pub(crate) fn cancel(&mut self, checkpoint: u64) {
        assert_eq!(snapshot(self.alignment.cancel(checkpoint)), None);
    }
}

fn snapshot(aligned: Aligned) -> Option<u64> {
    match aligned {
        Aligned::Snapshot(checkpoint) => Some(checkpoint),
        Aligned::GaveUp { snapshot, .. } => snapshot,
        Aligned::Recorded(_) | Aligned::Waiting | Aligned::Nothing => None,
    }
}
