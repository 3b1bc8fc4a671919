//! Where a reader takes what its task has received. It is bounded by the task, which asks for no more than has room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::message::{Batch, Message};
use crate::error::Error;

/// A batch has no more messages, and no more bytes unless it is one message.
const BATCH_MESSAGES_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 2 << 20;

/// The connection at a time: how often it was made.
pub(super) type Connects = u64;

/// What a reader and its task share.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Held to add or take a batch; nothing is copied but messages by their handles.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Part>,
    bytes: usize,
    /// By which connection the server has said that nothing is pending; none: it is not known.
    caught_up: Option<Connects>,
    /// The reader doesn't know of that word yet.
    untold: bool,
    /// Nothing comes behind the batches but this.
    failed: Option<Error>,
    /// The reader has gone.
    closed: bool,
    reader: Option<Waker>,
    /// The task, if it waits for room.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Part {
    batch: Batch,
    gaps: u64,
    bytes: usize,
}

impl Handover {
    /// Adds messages. `gaps`: how many were missing before the last of them; `caught_up`: nothing is pending behind it.
    pub(super) fn add(&self, batch: Batch, gaps: u64, bytes: usize, caught_up: Option<Connects>) {
        let reader = {
            let mut state = self.state();
            state.bytes += bytes;
            state.caught_up = caught_up;
            match state.batches.back_mut() {
                Some(last) if last.takes(&batch, bytes) => last.append(batch, gaps, bytes),
                _ => state.batches.push_back(Part { batch, gaps, bytes }),
            }
            state.reader.take()
        };
        wake(reader);
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Has the task woken when something is taken or the reader has gone.
    pub(super) fn wake_task(&self, context: &Context<'_>) {
        self.state().task = Some(context.waker().clone());
    }

    /// Nothing is pending at the server behind what was added, or that isn't known.
    pub(super) fn say(&self, caught_up: Option<Connects>) {
        let reader = {
            let mut state = self.state();
            let news = caught_up.is_some() && state.caught_up != caught_up;
            state.caught_up = caught_up;
            state.untold |= news;
            if news { state.reader.take() } else { None }
        };
        wake(reader);
    }

    /// Ends it behind what was added.
    pub(super) fn fail(&self, error: Error) {
        let reader = {
            let mut state = self.state();
            state.caught_up = None;
            state.failed.get_or_insert(error);
            state.reader.take()
        };
        wake(reader);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Ends it from the reader's side.
    pub(super) fn close(&self) {
        let task = {
            let mut state = self.state();
            state.closed = true;
            state.task.take()
        };
        wake(task);
    }

    /// The next messages, with how many were missing so far.
    pub(super) fn take(&self) -> Result<Option<(Batch, u64)>, Error> {
        let (taken, task) = {
            let mut state = self.state();
            state.untold = false;
            let taken = state.batches.pop_front();
            if let Some(part) = &taken {
                state.bytes = state.bytes.saturating_sub(part.bytes);
            }
            match (&taken, &state.failed) {
                (None, Some(error)) => return Err(error.clone()),
                (None, None) => return Ok(None),
                (Some(_), _) => {}
            }
            (taken, state.task.take())
        };
        wake(task);
        Ok(taken.map(|Part { batch, gaps, .. }| (batch, gaps)))
    }

    /// Waits for what [`Self::take`] would have, or for the word that nothing is pending.
    pub(super) fn poll_ready(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.batches.is_empty() || state.failed.is_some() || state.untold {
            return Poll::Ready(());
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// As [`Self::take`], when there is something.
    pub(super) fn poll_take(&self, context: &Context<'_>) -> Poll<Result<(Batch, u64), Error>> {
        // Taken first: the word that nothing is pending would be ready, and isn't waited for.
        match self.take() {
            Ok(Some(taken)) => return Poll::Ready(Ok(taken)),
            Ok(None) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        match self.poll_ready(context) {
            // It came just now.
            Poll::Ready(()) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// By which connection the server has said that everything was taken.
    pub(super) fn caught_up(&self) -> Option<Connects> {
        let state = self.state();
        if state.batches.is_empty() { state.caught_up } else { None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that panics is done while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn takes(&self, more: &Batch, bytes: usize) -> bool {
        self.batch.messages.len() + more.messages.len() <= BATCH_MESSAGES_MAX
            && self.bytes + bytes <= BATCH_BYTES_MAX
    }

    fn append(&mut self, Batch { mut messages, pending, position }: Batch, gaps: u64, bytes: usize) {
        self.batch.messages.append(&mut messages);
        self.batch.pending = pending;
        self.batch.position = position;
        self.gaps = gaps;
        self.bytes += bytes;
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Whether messages that were received are a whole batch.
pub(super) fn is_full(messages: &[Message], bytes: usize) -> bool {
    messages.len() >= BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::super::position::Position;
    use super::*;
    use bytes::Bytes;
    use futures_util::task::noop_waker_ref;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    fn batch(sequences: std::ops::RangeInclusive<u64>, pending: u64) -> Batch {
        let message = |sequence| Message {
            sequence,
            time_ms: 0,
            subject: "s".into(),
            headers: None,
            payload: Bytes::new(),
        };
        let position = Position { identity: 1, sequence: *sequences.end(), history: 0 };
        Batch { messages: sequences.map(message).collect(), pending, position }
    }

    fn sequences(taken: Option<(Batch, u64)>) -> Vec<u64> {
        taken.map(|(batch, _)| batch.messages.iter().map(|m| m.sequence).collect()).unwrap_or_default()
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn small_parts_become_one_batch_and_large_ones_stay_apart() {
        let handover = Handover::default();
        handover.add(batch(1..=2, 7), 0, 100, None);
        handover.add(batch(3..=3, 6), 4, 100, None);
        handover.add(batch(4..=4, 5), 4, BATCH_BYTES_MAX, None);
        let (first, gaps) = handover.take().unwrap().unwrap();
        assert_eq!((first.messages.len(), first.pending, first.position.sequence, gaps), (3, 6, 3, 4));
        assert_eq!(handover.bytes(), BATCH_BYTES_MAX);
        assert_eq!(sequences(handover.take().unwrap()), [4]);
        assert_eq!((handover.bytes(), sequences(handover.take().unwrap())), (0, vec![]));
    }

    #[test]
    fn an_error_comes_behind_the_messages_and_stays() {
        let handover = Handover::default();
        handover.add(batch(1..=1, 0), 0, 10, Some(1));
        handover.fail(Error::NoStream { stream: "s".to_owned() });
        assert_eq!(handover.caught_up(), None);
        assert_eq!(sequences(handover.take().unwrap()), [1]);
        assert!(handover.take().is_err());
        assert!(handover.take().is_err());
        assert_eq!(handover.caught_up(), None);
    }

    #[test]
    fn caught_up_is_known_when_all_was_taken() {
        let handover = Handover::default();
        handover.add(batch(1..=1, 0), 0, 10, Some(3));
        assert_eq!(handover.caught_up(), None);
        handover.take().unwrap();
        assert_eq!(handover.caught_up(), Some(3));
        handover.add(batch(2..=2, 5), 0, 10, None);
        handover.take().unwrap();
        assert_eq!(handover.caught_up(), None);
    }

    #[test]
    fn the_word_that_nothing_is_pending_is_told_once() {
        let handover = Handover::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let context = Context::from_waker(&waker);
        assert!(handover.poll_ready(&context).is_pending());
        handover.say(Some(1));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(handover.poll_ready(&context).is_ready());
        assert!(handover.take().unwrap().is_none());
        assert!(handover.poll_ready(&context).is_pending());
        handover.say(Some(1));
        assert!(handover.poll_ready(&context).is_pending());
        handover.say(None);
        assert!(handover.poll_ready(&context).is_pending());
        handover.say(Some(2));
        assert!(handover.poll_ready(&context).is_ready());
    }

    #[test]
    fn taking_and_closing_wake_the_task_that_waits() {
        let handover = Handover::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        handover.add(batch(1..=1, 0), 0, 10, None);
        handover.wake_task(&Context::from_waker(&waker));
        handover.take().unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        handover.wake_task(&Context::from_waker(&waker));
        handover.close();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(handover.is_closed());
    }

    #[test]
    fn next_waits_for_messages_only() {
        let handover = Handover::default();
        let context = Context::from_waker(noop_waker_ref());
        handover.say(Some(1));
        assert!(handover.poll_take(&context).is_pending());
        handover.add(batch(1..=1, 0), 0, 10, Some(1));
        assert!(handover.poll_take(&context).is_ready());
    }
}
