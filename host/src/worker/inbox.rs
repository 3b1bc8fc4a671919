//! The queues that feed a task, one from each task that feeds it: so that one of them can be held back while
//! others go on, and a watermark is known by its channel.

use std::task::Poll;

use tokio::sync::mpsc;

use super::Signal;

/// Signals that wait in a queue. Enough that neither side waits for each batch of the other; few, because
/// each may hold a batch of hundreds of kilobytes and every pair of tasks has a queue.
pub(super) const SIGNALS_WAITING: usize = 4;

pub(super) struct Inbox {
    /// None: it has ended.
    channels: Vec<Option<mpsc::Receiver<Signal>>>,
    /// Where to look first, so that no channel is favoured.
    next: usize,
}

impl Inbox {
    pub(super) fn new(channels: Vec<mpsc::Receiver<Signal>>) -> Self {
        Self { channels: channels.into_iter().map(Some).collect(), next: 0 }
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

    /// Listens no more to a channel that has ended. Says whether others are left.
    pub(super) fn ended(&mut self, channel: usize) -> bool {
        self.channels[channel] = None;
        self.channels.iter().any(Option::is_some)
    }
}
