//! The queues that feed a task, one from each task that feeds it: so that one of them can be held back while
//! others go on, and a watermark is known by its channel.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidemill_flow::batch::Batch;
use tidemill_flow::checkpoint::alignment::{Aligned, Alignment};
use tokio::sync::mpsc;

use super::{Barrier, Signal};

/// Signals that wait in a queue. Enough that neither side waits for each batch of the other; few, because
/// each may hold a batch of hundreds of kilobytes and every pair of tasks has a queue.
pub(super) const SIGNALS_WAITING: usize = 4;

pub(super) struct Inbox {
    channels: Vec<Channel>,
    /// Whose barrier has come, and who waits for those of the others.
    alignment: Alignment,
    /// Where to look first, so that no channel is favoured.
    next: usize,
    /// How long the barriers of other channels are waited for; none: until they have come.
    patience: Option<Duration>,
    /// The barrier that waits for others, and since when.
    waiting: Option<(Barrier, Instant)>,
    /// Too much was in flight at the last checkpoint: the next one's barriers are waited for.
    is_patient: bool,
}

struct Channel {
    /// None: it has ended.
    queue: Option<mpsc::Receiver<Signal>>,
    /// The input of the first operator that it feeds: 1 for the second one of a join.
    input: usize,
    /// What was read ahead of its turn, to find the barrier behind it: at most what is recorded.
    ahead: VecDeque<Signal>,
    /// How many signals of these have been looked at for the checkpoint that is recorded.
    seen: usize,
}

/// A signal, and where it came from.
pub(super) struct Taken {
    pub(super) channel: usize,
    pub(super) signal: Signal,
    /// It was read ahead, and recorded then if it had to be.
    pub(super) was_ahead: bool,
}

/// What reading ahead has found.
pub(super) struct Ahead {
    /// Rows in flight, with their channels.
    pub(super) in_flight: Vec<(usize, Batch)>,
    /// What follows from the barriers.
    pub(super) aligned: Aligned,
}

impl Inbox {
    /// Queues, each with the input that it feeds. `patience`: how long the barriers of other channels are waited for, if
    /// not until they have come.
    pub(super) fn new(queues: Vec<(usize, mpsc::Receiver<Signal>)>, patience: Option<Duration>) -> Self {
        let channel = |(input, queue)| Channel { queue: Some(queue), input, ahead: VecDeque::new(), seen: 0 };
        Self {
            alignment: Alignment::new(queues.len()),
            channels: queues.into_iter().map(channel).collect(),
            next: 0,
            patience,
            waiting: None,
            is_patient: false,
        }
    }

    /// The input of the first operator that a channel feeds.
    pub(super) fn input(&self, channel: usize) -> usize {
        self.channels[channel].input
    }

    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The next signal of any channel; none when a channel closed without saying that it ends: whoever fed it has failed.
    pub(super) async fn next(&mut self) -> Option<Taken> {
        std::future::poll_fn(|context| {
            let count = self.channels.len();
            for offset in 0..count {
                let channel = (self.next + offset) % count;
                if self.alignment.is_held(channel) {
                    continue;
                }
                let Channel { queue, ahead, seen, .. } = &mut self.channels[channel];
                if let Some(signal) = ahead.pop_front() {
                    *seen = seen.saturating_sub(1);
                    self.next = (channel + 1) % count;
                    return Poll::Ready(Some(Taken { channel, signal, was_ahead: true }));
                }
                let Some(queue) = queue else { continue };
                match queue.poll_recv(context) {
                    Poll::Ready(Some(signal)) => {
                        self.next = (channel + 1) % count;
                        return Poll::Ready(Some(Taken { channel, signal, was_ahead: false }));
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// A barrier has come on a channel, which is then held until it has come on all, or for as long as patience lasts.
    pub(super) fn barrier(&mut self, channel: usize, barrier: Barrier) -> Aligned {
        let aligned = self.alignment.barrier(channel, barrier.checkpoint);
        self.note(aligned, Some(barrier));
        aligned
    }

    /// Listens no more to a channel that has ended. Says whether others are left, and what follows if this was the one that
    /// a barrier waited for.
    pub(super) fn ended(&mut self, channel: usize) -> (bool, Aligned) {
        self.channels[channel].queue = None;
        let aligned = self.alignment.ended(channel);
        self.note(aligned, None);
        (self.channels.iter().any(|c| c.queue.is_some()), aligned)
    }

    /// When patience ends, if a barrier waits for others. Behind the last one comes nothing that could still be committed,
    /// and behind that of a swap rows are for another version: so these wait in any case.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        let (barrier, since) = self.waiting.filter(|_| !self.is_patient)?;
        since.checked_add(self.patience?).filter(|_| !barrier.last && !barrier.swap)
    }

    /// The barrier that has waited for long enough: the snapshot for it has to be taken now, and what
    /// [`read_ahead`](Self::read_ahead) finds, or is [in flight](Self::is_in_flight), recorded.
    pub(super) fn overtake(&mut self) -> Option<Barrier> {
        self.patience_ends().filter(|end| *end <= Instant::now())?;
        let (barrier, _) = self.waiting.take()?;
        self.channels.iter_mut().for_each(|c| c.seen = 0);
        self.alignment.overtake().map(|_| barrier)
    }

    /// Whether rows that come over this channel in their turn are in flight.
    pub(super) fn is_in_flight(&self, channel: usize) -> bool {
        self.alignment.records(channel)
    }

    /// Looks for the barriers that haven't come, behind the rows that stand in the queues before them. These keep their
    /// turn; without their room taken, whoever waited to send the barrier sends it.
    pub(super) fn read_ahead(&mut self) -> Ahead {
        let mut found = Ahead { in_flight: Vec::new(), aligned: Aligned::Nothing };
        for channel in 0..self.channels.len() {
            // More than that has come meanwhile, and may come for ever.
            for _ in 0..=SIGNALS_WAITING {
                let Some(recording) = self.alignment.recording().filter(|_| self.alignment.records(channel))
                else {
                    break;
                };
                let at = &mut self.channels[channel];
                for signal in at.ahead.iter().skip(at.seen) {
                    if let Signal::Batch(batch) = signal {
                        found.in_flight.push((channel, batch.clone()));
                    }
                }
                at.seen = at.ahead.len();
                // Behind the end comes nothing, and behind another barrier rows of another checkpoint.
                if matches!(at.ahead.back(), Some(Signal::Barrier(_) | Signal::End)) {
                    break;
                }
                match at.queue.as_mut().map(mpsc::Receiver::try_recv) {
                    Some(Ok(Signal::Barrier(barrier))) if barrier.checkpoint == recording => {
                        found.aligned = self.barrier(channel, barrier);
                    }
                    Some(Ok(signal)) => at.ahead.push_back(signal),
                    Some(Err(_)) | None => break,
                }
            }
        }
        found
    }

    /// Too much is in flight: what was recorded for the checkpoint is of no use, and the next one's barriers are waited for.
    pub(super) fn give_up(&mut self) {
        if let Some(recording) = self.alignment.recording() {
            let _ = self.alignment.cancel(recording);
            self.is_patient = true;
        }
    }

    fn note(&mut self, aligned: Aligned, barrier: Option<Barrier>) {
        match aligned {
            Aligned::Waiting if self.alignment.recording().is_none() => {
                self.waiting = self.waiting.or(barrier.map(|b| (b, Instant::now())));
            }
            Aligned::GaveUp { snapshot: None, .. } => self.waiting = barrier.map(|b| (b, Instant::now())),
            Aligned::GaveUp { snapshot: Some(_), .. } | Aligned::Snapshot(_) | Aligned::Recorded(_) => {
                (self.waiting, self.is_patient) = (None, false);
            }
            Aligned::Waiting | Aligned::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;
    use tidemill_flow::batch::record_batch;

    use super::*;

    fn rows(count: usize) -> Signal {
        let columns = record_batch(Arc::new(Schema::empty()), vec![], count);
        Signal::Batch(Batch { columns, times: None, watermarks: None, positions: None, ids: None })
    }

    fn barrier(checkpoint: u64) -> Signal {
        Signal::Barrier(Barrier { checkpoint, last: false, swap: false })
    }

    fn inbox(patience: Option<Duration>) -> (Vec<mpsc::Sender<Signal>>, Inbox) {
        let (senders, queues): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel(SIGNALS_WAITING)).unzip();
        let queues = queues.into_iter().map(|queue| (0, queue)).collect();
        (senders, Inbox::new(queues, patience))
    }

    /// Takes what is there: channel, and rows or the letter of what else it is.
    async fn take(inbox: &mut Inbox) -> (usize, String) {
        let Taken { channel, signal, .. } = inbox.next().await.unwrap();
        let told = match signal {
            Signal::Batch(batch) => batch.rows().to_string(),
            Signal::Barrier(barrier) => {
                let _ = inbox.barrier(channel, barrier);
                format!("B{}", barrier.checkpoint)
            }
            other => format!("{other:?}"),
        };
        (channel, told)
    }

    fn sizes(ahead: &Ahead) -> Vec<(usize, usize)> {
        ahead.in_flight.iter().map(|(channel, batch)| (*channel, batch.rows())).collect()
    }

    #[tokio::test]
    async fn reading_ahead_finds_the_barrier_and_keeps_the_turn_of_what_stands_before_it() {
        let (senders, mut inbox) = inbox(Some(Duration::ZERO));
        for signal in [rows(1), Signal::Watermark(7), rows(2), barrier(4)] {
            senders[1].try_send(signal).unwrap();
        }
        senders[0].try_send(barrier(4)).unwrap();
        senders[0].try_send(rows(9)).unwrap();
        assert_eq!(take(&mut inbox).await, (0, "B4".to_owned()));
        assert_eq!(inbox.overtake(), Some(Barrier { checkpoint: 4, last: false, swap: false }));
        let ahead = inbox.read_ahead();
        assert_eq!((sizes(&ahead), ahead.aligned), (vec![(1, 1), (1, 2)], Aligned::Recorded(4)));
        senders[1].try_send(rows(3)).unwrap();
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(take(&mut inbox).await);
        }
        let of =
            |channel| all.iter().filter(|(c, _)| *c == channel).map(|(_, told)| &**told).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), (vec!["9"], vec!["1", "Watermark(7)", "2", "3"]));
    }

    #[tokio::test]
    async fn what_was_read_ahead_for_one_checkpoint_is_in_flight_to_the_next_too() {
        let (senders, mut inbox) = inbox(Some(Duration::ZERO));
        senders[0].try_send(barrier(1)).unwrap();
        [rows(1), rows(2)].into_iter().for_each(|s| senders[1].try_send(s).unwrap());
        assert_eq!(take(&mut inbox).await.1, "B1");
        assert!(inbox.overtake().is_some());
        assert_eq!(sizes(&inbox.read_ahead()), [(1, 1), (1, 2)]);
        assert_eq!(sizes(&inbox.read_ahead()), []);
        assert_eq!(take(&mut inbox).await, (1, "1".to_owned()));
        // A newer barrier ends the recording, and begins another.
        senders[0].try_send(barrier(2)).unwrap();
        assert_eq!(take(&mut inbox).await.1, "B2");
        assert_eq!(inbox.overtake().map(|b| b.checkpoint), Some(2));
        senders[1].try_send(barrier(2)).unwrap();
        let ahead = inbox.read_ahead();
        assert_eq!((sizes(&ahead), ahead.aligned), (vec![(1, 2)], Aligned::Recorded(2)));
        assert_eq!(take(&mut inbox).await, (1, "2".to_owned()));
    }

    #[tokio::test]
    async fn patience_is_for_ever_unless_it_ends_and_for_the_last_barrier() {
        for (patience, last) in [(None, false), (Some(Duration::ZERO), true), (Some(Duration::MAX), false)] {
            let (senders, mut inbox) = inbox(patience);
            senders[0].try_send(Signal::Barrier(Barrier { checkpoint: 1, last, swap: false })).unwrap();
            take(&mut inbox).await;
            assert_eq!(inbox.overtake(), None, "{patience:?}");
        }
        // Who has had too much in flight waits once.
        let (senders, mut inbox) = inbox(Some(Duration::ZERO));
        senders[0].try_send(barrier(1)).unwrap();
        take(&mut inbox).await;
        assert!(inbox.overtake().is_some());
        inbox.give_up();
        [1, 2].into_iter().for_each(|n| senders[1].try_send(barrier(n)).unwrap());
        assert_eq!(take(&mut inbox).await.1, "B1");
        assert_eq!(take(&mut inbox).await.1, "B2");
        assert_eq!(inbox.overtake(), None);
        [2, 3].into_iter().for_each(|n| senders[0].try_send(barrier(n)).unwrap());
        take(&mut inbox).await;
        take(&mut inbox).await;
        assert_eq!(inbox.overtake().map(|b| b.checkpoint), Some(3));
    }
}
