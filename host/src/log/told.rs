//! Partitions that are told what to read, record by record and mark by mark: the sources of a pipeline that goes through a
//! script. Nothing of the world is read.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tidemill_flow::batch::BATCH_ROWS_MAX;
use tokio::sync::{mpsc, oneshot};

use super::partition::Mark;
use crate::formats::{Decoded, Decoder};

/// What a partition is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Records as lines of JSON, at most as many as a batch has rows.
    Records(Vec<u8>),
    /// How far time has come, or that it hasn't to be waited for.
    Mark(Mark),
    /// Nothing more comes.
    End,
}

/// Told, and dropped when it has been read.
type Telling = (Told, oneshot::Sender<()>);

/// The ways to a source's partitions.
#[derive(Debug)]
pub struct Feeds {
    /// A short lock, to put a way in its place or to clone it; none before the partition is opened.
    ways: Mutex<Vec<Option<mpsc::UnboundedSender<Telling>>>>,
}

/// Two are equal if they are the same: whoever feeds one feeds the other.
impl PartialEq for Feeds {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Feeds {}

impl Feeds {
    /// For a source with so many partitions.
    pub fn new(partitions: usize) -> Self {
        Self { ways: Mutex::new(vec![None; partitions]) }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Tells a partition something, and waits until it has been read; for ever, if nobody reads the partition.
    ///
    /// # Panics
    /// When there is no such partition.
    pub async fn tell(&self, partition: usize, told: Told) {
        let (read, has_read) = oneshot::channel();
        let way = self.ways.lock().unwrap_or_else(PoisonError::into_inner)[partition].clone();
        if way.is_none_or(|way| way.send((told, read)).is_err()) {
            std::future::pending::<()>().await;
        }
        // It is dropped, and nothing is sent through it.
        let _ = has_read.await;
    }

    /// Opens a partition anew: what it was told and hasn't read is forgotten.
    pub(super) fn open(&self, partition: usize, decoder: Decoder) -> Listener {
        let (way, telling) = mpsc::unbounded_channel();
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)[partition] = Some(way);
        Listener { telling, waiting: None, decoder, records: 0 }
    }
}

/// A partition that is being told.
pub(super) struct Listener {
    telling: mpsc::UnboundedReceiver<Telling>,
    /// Has come, and is read next.
    waiting: Option<Telling>,
    decoder: Decoder,
    /// How many it has read.
    pub(super) records: u64,
}

/// What a [`Listener`] has read.
pub(super) enum Heard {
    Records(Decoded),
    Mark(Mark),
    End,
}

impl Listener {
    /// Goes on behind so many records.
    pub(super) fn resume(&mut self, records: u64) {
        self.records = records;
    }

    /// Whether there is something to read.
    pub(super) fn is_ready(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.poll_ready(&mut context).is_ready()
    }

    /// No rows.
    pub(super) fn nothing(&mut self) -> Decoded {
        self.decoder.take()
    }

    /// Waits until there is something to read.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_some() {
            return Poll::Ready(());
        }
        match self.telling.poll_recv(context) {
            Poll::Ready(Some(telling)) => {
                self.waiting = Some(telling);
                Poll::Ready(())
            }
            // Whoever told it is gone, and says nothing more, not even that this is the end.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// What it is told next. Nothing is lost when this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Heard, String> {
        std::future::poll_fn(|context| self.poll_ready(context)).await;
        // The task has this in its hands before it looks for a barrier again, which then comes behind it.
        let told = self.waiting.take().map(|(told, _read)| told);
        match told {
            None | Some(Told::End) => Ok(Heard::End),
            Some(Told::Mark(mark)) => Ok(Heard::Mark(mark)),
            Some(Told::Records(lines)) => {
                self.decoder.continue_at_line(self.records + 1, false);
                let read = self.decoder.decode(&lines, true, BATCH_ROWS_MAX).map_err(|e| e.to_string())?;
                assert_eq!(read, lines.len(), "no more records than a batch has rows");
                self.records = self.decoder.line() - 1;
                Ok(Heard::Records(self.decoder.take()))
            }
        }
    }
}
