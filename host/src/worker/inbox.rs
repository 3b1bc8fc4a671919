//! The queues that feed a task, one from each task that feeds it: so that one of them can be held back while
//! others go on, and a watermark is known by its channel.

use std::task::Poll;

use tidemill_flow::checkpoint::alignment::{Aligned, Alignment};
use tokio::sync::mpsc;

use super::Signal;

/// Signals that wait in a queue. Enough that neither side waits for each batch of the other; few, because
/// each may hold a batch of hundreds of kilobytes and every pair of tasks has a queue.
pub(super) const SIGNALS_WAITING: usize = 4;

pub(super) struct Inbox {
    /// None: it has ended.
    channels: Vec<Option<mpsc::Receiver<Signal>>>,
    /// Whose barrier has come, and who waits for those of the others.
    alignment: Alignment,
    /// Where to look first, so that no channel is favoured.
    next: usize,
}

impl Inbox {
    pub(super) fn new(channels: Vec<mpsc::Receiver<Signal>>) -> Self {
        let alignment = Alignment::new(channels.len());
        Self { channels: channels.into_iter().map(Some).collect(), alignment, next: 0 }
    }

    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The next signal of any channel, with the channel's number; none when a channel closed without saying that
    /// it ends: whoever fed it has failed.
    pub(super) async fn next(&mut self) -> Option<(usize, Signal)> {
        std::future::poll_fn(|context| {
            let count = self.channels.len();
            for offset in 0..count {
                let channel = (self.next + offset) % count;
                if self.alignment.is_held(channel) {
                    continue;
                }
                let Some(queue) = &mut self.channels[channel] else { continue };
                match queue.poll_recv(context) {
                    Poll::Ready(Some(signal)) => {
                        self.next = (channel + 1) % count;
                        return Poll::Ready(Some((channel, signal)));
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// A barrier has come on a channel, which is then held until it has come on all. Says whether it has: if so, the
    /// checkpoint to snapshot for.
    pub(super) fn barrier(&mut self, channel: usize, checkpoint: u64) -> Option<u64> {
        snapshot(self.alignment.barrier(channel, checkpoint))
    }

    /// Listens no more to a channel that has ended. Says whether others are left, and the checkpoint to snapshot for if
    /// this was the one that a barrier waited for.
    pub(super) fn ended(&mut self, channel: usize) -> (bool, Option<u64>) {
        self.channels[channel] = None;
        (self.channels.iter().any(Option::is_some), snapshot(self.alignment.ended(channel)))
    }
}

fn snapshot(aligned: Aligned) -> Option<u64> {
    match aligned {
        Aligned::Snapshot(checkpoint) => Some(checkpoint),
        Aligned::GaveUp { snapshot, .. } => snapshot,
        Aligned::Held | Aligned::Nothing => None,
    }
}
