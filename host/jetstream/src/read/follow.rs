//! The tokio task of a reader: it pulls messages, looks whether each follows the one before, and begins again behind
//! the last of them whenever something seems wrong. Only what can't be gone on with ends it.

use std::future::poll_fn;
use std::mem::{size_of, take};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::attach::{Attached, Place, attach, connects};
use super::check::{another, gone, missing};
use super::delivery::Delivery;
use super::feed::Feed;
use super::handover::{Handover, is_full};
use super::history::History;
use super::message::{Batch, Message};
use super::order::{Order, Stop};
use super::position::{Options, Position, Start};
use crate::connection::Connection;
use crate::error::Error;

/// Before a consumer is made again: 20 ms, 40 ms, and so on.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Follows a stream.
pub(super) struct Follower {
    connection: Connection,
    stream: String,
    options: Options,
    handover: Arc<Handover>,
    start: Place,
    order: Order,
    /// The last that was added to the handover.
    position: Position,
    history: History,
    received: Vec<Message>,
    received_bytes: usize,
    /// How often nothing was heard from a consumer since it was made.
    failures: u32,
    /// It was said that reading was interrupted.
    interrupted: bool,
}

impl Follower {
    pub(super) fn new(
        connection: Connection,
        stream: &str,
        start: Place,
        options: Options,
        handover: Arc<Handover>,
        attached: &Attached,
    ) -> Self {
        let place_is_known = !matches!(start, Place::Start(Start::Beginning | Start::Time { .. }));
        Self {
            connection,
            stream: stream.to_owned(),
            order: Order::new(attached.position.sequence, place_is_known, options.allow_gaps),
            options,
            handover,
            start,
            position: attached.position,
            history: attached.history.clone(),
            received: Vec::new(),
            received_bytes: 0,
            failures: 0,
            interrupted: false,
        }
    }

    /// Reads until the reader has gone or the stream can't be read on.
    pub(super) async fn run(mut self, attached: Attached) {
        let mut feed = self.feed(attached);
        loop {
            let why = match self.follow(&mut feed).await {
                Stop::Closed => return feed.give_up().send().await,
                Stop::Gap { expected, found } => {
                    self.handover.fail(self.gap(expected, found).await);
                    return feed.give_up().send().await;
                }
                Stop::Lost(why) => why,
            };
            self.handover.say(None);
            let removal = feed.give_up();
            feed = match self.attach_again(&why).await {
                Some(Ok(attached)) => self.feed(attached),
                Some(Err(error)) => return self.handover.fail(error),
                None => return removal.send().await,
            };
            removal.send().await;
        }
    }

    fn feed(&self, attached: Attached) -> Feed {
        let Options { buffer_bytes, heartbeat, .. } = self.options;
        Feed::new(&self.connection, &self.stream, attached, buffer_bytes, heartbeat)
    }

    /// Pulls from a consumer.
    async fn follow(&mut self, feed: &mut Feed) -> Stop {
        let mut tick = interval(self.options.heartbeat / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.say(feed);
        loop {
            if let Err(stop) = feed.pull(self.room()).await {
                return stop;
            }
            if let Err(stop) = poll_fn(|context| self.poll(feed, &mut tick, context)).await {
                return stop;
            }
            if feed.ask {
                feed.ask(&self.order).await;
                self.say(feed);
            }
        }
    }

    /// Tells that nothing is pending.
    fn say(&self, feed: &Feed) {
        if feed.pending == Some(0) {
            self.handover.say(Some(feed.connects));
        }
    }

    /// How many bytes may be under way.
    fn room(&self) -> usize {
        self.options.buffer_bytes.saturating_sub(self.handover.bytes())
    }

    /// Takes what has come and hands it over at once, without waiting for more.
    fn poll(
        &mut self,
        feed: &mut Feed,
        tick: &mut Interval,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Stop>> {
        let (mut heard, mut result) = (false, Ok(()));
        while result.is_ok() && !is_full(&self.received, self.received_bytes) {
            match feed.subscription.poll_next_unpin(context) {
                Poll::Ready(Some(message)) => {
                    heard = true;
                    result = self.receive(feed, message);
                }
                Poll::Ready(None) => result = Err(Stop::Lost("the connection was closed".to_owned())),
                Poll::Pending => break,
            }
        }
        self.hand_over(feed);
        if result.is_err() {
            return Poll::Ready(result);
        }
        if heard {
            feed.heard();
            self.failures = 0;
            if take(&mut self.interrupted) {
                tracing::info!("reading the stream `{}` goes on", self.stream);
            }
            return Poll::Ready(Ok(()));
        }
        if tick.poll_tick(context).is_ready() {
            return Poll::Ready(if self.handover.is_closed() { Err(Stop::Closed) } else { feed.look() });
        }
        if { feed.pulls }.next(usize::MAX).is_some() {
            // It is held back. What was taken before it asked to be woken isn't missed.
            self.handover.wake_task(context);
            if self.handover.is_closed() {
                return Poll::Ready(Err(Stop::Closed));
            }
            if { feed.pulls }.next(self.room()).is_some() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    fn receive(&mut self, feed: &mut Feed, message: async_nats::Message) -> Result<(), Stop> {
        if message.status.is_some() {
            return feed.hear(&self.order, &message);
        }
        let Some(delivery) = message.reply.as_deref().and_then(Delivery::parse) else {
            tracing::debug!("a message that is none of the stream `{}` has come to its reader", self.stream);
            return Ok(());
        };
        self.order.follow(&delivery)?;
        feed.pending = Some(delivery.pending);
        feed.pulls.received(message.length);
        self.received_bytes += message.length + size_of::<Message>();
        let async_nats::Message { subject, payload, headers, .. } = message;
        let Delivery { sequence, time_ms, .. } = delivery;
        self.received.push(Message { sequence, time_ms, subject, headers, payload });
        Ok(())
    }

    /// Adds what was received to the handover.
    fn hand_over(&mut self, feed: &Feed) {
        if self.received.is_empty() {
            return;
        }
        self.history.extend(&self.received);
        let (sequence, history) = (self.order.sequence(), self.history.number());
        self.position = Position { sequence, history, ..self.position };
        let pending = feed.pending.unwrap_or_default();
        let batch = Batch { messages: take(&mut self.received), pending, position: self.position };
        let caught_up = (pending == 0).then_some(feed.connects);
        self.handover.add(batch, self.order.gaps(), take(&mut self.received_bytes), caught_up);
    }

    /// Why messages are missing.
    async fn gap(&self, expected: u64, found: u64) -> Error {
        let first = match self.connection.stream(&self.stream).await {
            Ok(stream) => stream.cached_info().state.first_sequence,
            Err(_) => 0,
        };
        if first > expected {
            gone(&self.stream, expected, first)
        } else {
            missing(&self.stream, expected, found)
        }
    }

    /// Makes another consumer, however long it takes; none: the reader has gone.
    async fn attach_again(&mut self, why: &str) -> Option<Result<Attached, Error>> {
        if !self.interrupted {
            self.interrupted = true;
            let (stream, sequence) = (&self.stream, self.order.sequence());
            tracing::warn!(
                "reading the stream `{stream}` was interrupted behind message {sequence}: {why}; it is tried again"
            );
        }
        let mut doubtful: Option<Instant> = None;
        loop {
            sleep(self.delay()).await;
            self.failures += 1;
            if self.handover.is_closed() {
                return None;
            }
            if connects(&self.connection).is_none() {
                // However long it takes: it is noticed soon when it is there.
                self.failures = 3;
                continue;
            }
            let place = if self.order.has_begun() { Place::Behind(self.position) } else { self.start };
            match self.attempt(&place).await {
                Ok(attached) if attached.position.identity != self.position.identity => {
                    return Some(Err(another(&self.stream, self.order.sequence())));
                }
                Ok(attached) => {
                    self.position = attached.position;
                    self.order.begin_again(attached.position.sequence);
                    return Some(Ok(attached));
                }
                Err(error) if error.is_temporary() => {
                    tracing::debug!("{error}");
                    doubtful = None;
                }
                Err(error) => {
                    // A server that was just elected may not know everything yet.
                    let since = *doubtful.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.options.confirm {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// As [`attach`], given up when the connection is lost meanwhile: its answers would be waited for in vain.
    async fn attempt(&self, place: &Place) -> Result<Attached, Error> {
        let by = connects(&self.connection);
        let mut attached = pin!(attach(&self.connection, &self.stream, place, &self.options));
        loop {
            tokio::select! {
                done = &mut attached => return done,
                () = sleep(self.options.heartbeat / 4) => {
                    if connects(&self.connection) != by || self.handover.is_closed() {
                        let action = format!("read the stream `{}`", self.stream);
                        return Err(Error::Unavailable { action, reason: "the connection was lost".to_owned() });
                    }
                }
            }
        }
    }

    fn delay(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => RETRY_MIN.saturating_mul(1 << (failures - 1).min(10)).min(RETRY_MAX),
        }
    }
}

impl Drop for Follower {
    /// Whoever waits is told, though the task was ended with its runtime; an error of before stays.
    fn drop(&mut self) {
        self.handover.fail(Error::Unavailable {
            action: format!("read the stream `{}`", self.stream),
            reason: "its task has ended".to_owned(),
        });
    }
}
