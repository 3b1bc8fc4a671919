//! Exactly once: each epoch of a producer's output is in the stream once, whatever fails.
//!
//! Messages of an epoch and the marker that says so are one atomic batch, and the marker is written only if the last one
//! is where this run knows it (see [`marker`](super::marker)). From this follows all the rest:
//!
//! 1. A run takes over by writing the marker anew. From then on no batch of an older run commits: not one that waits in
//!    a client without a connection, not one that the server has half of.
//! 2. When the outcome of a batch is unknown, the same is done: the marker is written anew where it was known last. If
//!    that succeeds, the batch isn't committed and never will be, so its messages are sent again. If it is refused, the
//!    marker is elsewhere: by this batch, which is committed then, or by another run, and this one ends.
//! 3. A marker that is read from a deposed leader may be old. What is written on it is refused, and it is read again.
//!
//! An epoch that is larger than a batch may be goes out as several. Each marker says how many messages of the epoch are
//! committed, so who comes after a crash goes on behind them, with batches of whatever size. A reader may see the first
//! batches of an epoch before the last: only what a single batch holds appears at once.

mod settle;

use std::time::Duration;

use tokio::time::Instant;

use super::answer::BATCH_TOO_LARGE;
use super::batch::{BatchLimits, Void};
use super::effort::{Effort, PATIENCE, stream_info};
use super::marker::{Marker, Partial, Rest};
use super::outgoing::Epoch;
use super::register::{Failure, Register};
use super::sender::{Sender, Unsent};
use crate::connection::Connection;
use crate::error::Error;
use crate::fitness::check_transactions;

/// A marker is written anew when it has had so much of the time that the stream keeps it, in which nothing was published.
const RENEW_AFTER: f64 = 0.25;

/// What came of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is committed now.
    Committed,
    /// It was committed before; nothing was written.
    AlreadyCommitted,
}

/// The output of a producer in a stream, as transactions.
///
/// A call that is given up midway leaves the outcome unknown; the next call finds it out first.
pub struct Transactions {
    register: Register,
    producer: String,
    /// Where the marker is, and what it says, as far as is known.
    sequence: u64,
    marker: Marker,
    /// Something was sent of which the outcome isn't known.
    unsettled: bool,
    /// When the marker was written.
    written: Instant,
    /// How old a marker may become.
    renew_after: Option<Duration>,
    sender: Sender,
}

impl Transactions {
    /// Takes over the output of `producer` (as in "pipeline/sink"): from now on no older run writes it. `run` is higher
    /// than that of any run before.
    ///
    /// # Errors
    /// When the stream isn't fit for it, a higher run has it, or no server answers in a minute.
    pub async fn open(
        connection: &Connection,
        stream: &str,
        producer: &str,
        run: u64,
    ) -> Result<Self, Error> {
        let info = stream_info(connection, stream).await?;
        check_transactions(&info.config, producer)?;
        let inbox = connection.client().new_inbox();
        let owner = inbox.rsplit('.').next().unwrap_or(&inbox).to_owned();
        let age = info.config.max_age;
        let mut transactions = Self {
            register: Register::new(connection, stream, producer).await?,
            producer: producer.to_owned(),
            sequence: 0,
            marker: Marker::new(run, owner),
            unsettled: true,
            written: Instant::now(),
            renew_after: (!age.is_zero()).then(|| age.mul_f64(RENEW_AFTER)),
            sender: Sender::default(),
        };
        transactions.take_over().await?;
        Ok(transactions)
    }

    /// With other limits for batches.
    ///
    /// # Panics
    /// When a batch may have fewer than two messages.
    #[must_use]
    pub fn with_limits(mut self, limits: BatchLimits) -> Self {
        assert!(limits.messages_max >= 2, "a batch has a message and the marker");
        self.sender.limits = limits;
        self
    }

    /// The newest epoch that is committed whole.
    pub fn last_epoch(&self) -> Option<u64> {
        self.marker.last_epoch()
    }

    /// The epoch that is committed in part, if there is one: [`Self::publish`] takes it next, and no other.
    pub fn partial(&self) -> Option<Partial> {
        self.marker.partial()
    }

    /// How large batches are now.
    pub fn limits(&self) -> BatchLimits {
        self.sender.limits
    }

    /// Whether the stream has what the caller knows to be committed: this epoch, whole. A stream that was made anew, was
    /// restored from an older copy, or has evicted the marker by one of its limits doesn't.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn check_has(&self, committed: Option<u64>) -> Result<(), Error> {
        let Some(committed) = committed else { return Ok(()) };
        if self.last_epoch().is_some_and(|last| last >= committed) {
            return Ok(());
        }
        let found = match (self.partial(), self.last_epoch()) {
            (Some(Partial { epoch, messages, of }), _) => {
                format!("{messages} of {of} messages of epoch {epoch}")
            }
            (None, Some(last)) => format!("epoch {last} as the last"),
            (None, None) => "no marker of it".to_owned(),
        };
        Err(Error::Changed {
            stream: self.register.name.clone(),
            expected: format!("epoch {committed} of `{}`", self.producer),
            found,
            advice: "the stream was purged, made anew or restored, or its limits (max_age, max_bytes) have evicted the \
                     marker, so nobody can say what of the output it had; give the sink another stream, or start from \
                     the beginning"
                .to_owned(),
        })
    }

    /// Publishes an epoch whole, if it wasn't before. Epochs rise; those without messages can be left out, and write
    /// nothing. Connections that come and go, elections and servers that restart are ridden out.
    ///
    /// # Errors
    /// When another run has taken over ([`Error::Fenced`]), the server refuses it for good, or nothing was got on with
    /// for a minute ([`Error::Unavailable`]; it may be called again). Nothing, the first batches or all of the epoch is
    /// committed then.
    pub async fn publish(&mut self, epoch: u64, messages: &mut dyn Epoch) -> Result<Outcome, Error> {
        if self.unsettled {
            self.settle(Instant::now() + PATIENCE).await?;
        }
        let count = messages.count();
        if self.rest_of(epoch, count)? == Rest::Nothing {
            return Ok(Outcome::AlreadyCommitted);
        }
        if count == 0 {
            self.renew_if_old().await?;
            return Ok(Outcome::Committed);
        }
        let mut effort = Effort::new();
        while let Rest::From(first) = self.rest_of(epoch, count)? {
            let published = self.publish_from(first, epoch, messages).await;
            if self.marker.epoch == Some(epoch) && self.marker.messages > first {
                effort = Effort::new();
            }
            if let Err(void) = published {
                let why = self.learn(void, epoch)?;
                effort.pause(&self.action(&format!("publish epoch {epoch}")), &why).await?;
                self.settle(effort.deadline).await?;
            }
        }
        Ok(Outcome::Committed)
    }

    /// Writes the marker anew, so that a limit of the stream doesn't evict it while nothing is published.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn renew(&mut self) -> Result<(), Error> {
        self.settle(Instant::now() + PATIENCE).await
    }

    async fn renew_if_old(&mut self) -> Result<(), Error> {
        match self.renew_after {
            Some(age) if self.written.elapsed() >= age => self.renew().await,
            _ => Ok(()),
        }
    }

    fn rest_of(&self, epoch: u64, count: u64) -> Result<Rest, Error> {
        let wrong = |reason| Error::Epoch { producer: self.producer.clone(), epoch, reason };
        self.marker.rest_of(epoch, count).map_err(wrong)
    }

    /// Publishes the messages from this index on, batch by batch.
    async fn publish_from(&mut self, first: u64, epoch: u64, messages: &mut dyn Epoch) -> Result<(), Void> {
        let of = messages.count();
        let producer = self.producer.clone();
        let unreadable = move |reason: String| {
            Void::Other(Failure::Fatal(Error::Epoch { producer: producer.clone(), epoch, reason }))
        };
        messages.seek(first).map_err(|e| unreadable(e.to_string()))?;
        let mut done = first;
        let mut staged = self.sender.stage(&self.register, &self.marker.owner, messages, of - done).await;
        loop {
            let batch = staged.map_err(|why| match why {
                Unsent::Unreadable(reason) => unreadable(reason),
                Unsent::Failed(failure) => failure.into(),
            })?;
            done += batch.messages;
            let marker = self.marker.with(epoch, done, of);
            self.unsettled = true;
            let commit = batch.commit(&self.register, self.sequence, &marker);
            let (committed, next) = if done < of {
                // The next batch is sent while the server commits this one: it checks a batch when that is committed.
                let next = self.sender.stage(&self.register, &self.marker.owner, messages, of - done);
                let (committed, next) = tokio::join!(commit, next);
                (committed, Some(next))
            } else {
                (commit.await, None)
            };
            self.settled(committed?, marker);
            self.sender.asking = false;
            match next {
                Some(next) => staged = next,
                None => return Ok(()),
            }
        }
    }

    /// The marker is there, by us, and nothing that was sent before can change it.
    fn settled(&mut self, sequence: u64, marker: Marker) {
        assert!(sequence > self.sequence, "a marker at {sequence} came behind {}", self.sequence);
        (self.sequence, self.marker) = (sequence, marker);
        (self.unsettled, self.written) = (false, Instant::now());
    }

    /// What a batch that isn't committed teaches; why it wasn't, if it is worth another try.
    fn learn(&mut self, void: Void, epoch: u64) -> Result<String, Error> {
        let action = || self.action(&format!("publish epoch {epoch}"));
        match void {
            Void::TooLarge(most) if most >= 2 => {
                let stream = &self.register.name;
                tracing::info!("a batch may have {most} messages in the stream `{stream}`");
                self.sender.limits.messages_max = most;
                self.sender.asking = false;
                Ok(format!("a batch may have {most} messages"))
            }
            Void::TooLarge(most) => Err(Error::Refused {
                action: action(),
                code: BATCH_TOO_LARGE,
                reason: format!("a batch may have {most} messages"),
                advice: "raise max_msgs in the server's jetstream { limits { batch } }".to_owned(),
            }),
            Void::Incomplete => {
                self.sender.asking = true;
                Ok("messages of the batch are missing".to_owned())
            }
            Void::Other(Failure::Conflict) => Ok("the marker is elsewhere".to_owned()),
            Void::Other(Failure::Unclear(why)) => Ok(why),
            Void::Other(Failure::Refused(refusal)) if refusal.is_temporary() => Ok(refusal.reason),
            Void::Other(Failure::Refused(refusal)) => Err(refusal.into_error(action(), &self.register.name)),
            Void::Other(Failure::Fatal(error)) => Err(error),
        }
    }

    fn action(&self, what: &str) -> String {
        format!("{what} of `{}` in the stream `{}`", self.producer, self.register.name)
    }
}
