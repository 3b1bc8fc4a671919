//! A consumer that is pulled from, and what it says beside messages; see ADR-13.

use async_nats::header::{IntoHeaderName, NATS_LAST_CONSUMER, NATS_LAST_STREAM};
use async_nats::{Message, Request, Subscriber};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::{Instant, timeout};

use super::attach::{Attached, connects};
use super::handover::Connects;
use super::order::{Order, Stop};
use super::pulls::{Pull, Pulls};
use crate::connection::Connection;

/// A message's subject and acknowledgement subject have more: few pulls end by their count before they end by their bytes.
const MESSAGE_BYTES_MIN: usize = 48;
/// What the pulls under way can bring together fits into the channel of a subscription.
const BATCH_MAX: usize = 64 << 10;
/// How long a word to the client may take: its queue is full when the connection is lost.
const SEND_MAX: Duration = Duration::from_secs(1);
const PENDING_BYTES: &str = "Nats-Pending-Bytes";

/// A consumer.
pub(super) struct Feed {
    connection: Connection,
    stream: String,
    consumer: String,
    pub(super) subscription: Subscriber,
    inbox: String,
    pub(super) connects: Connects,
    heartbeat: Duration,
    /// How many messages a pull asks for.
    batch: usize,
    pub(super) pulls: Pulls,
    /// How many messages it has yet to send; none: it isn't known.
    pub(super) pending: Option<u64>,
    heard: Instant,
    /// It says that it has nothing, though it should have: it must be asked.
    pub(super) ask: bool,
}

impl Feed {
    /// A consumer that was just made, with this much room for what it sends.
    pub(super) fn new(
        connection: &Connection,
        stream: &str,
        attached: Attached,
        buffer_bytes: usize,
        heartbeat: Duration,
    ) -> Self {
        let Attached { subscription, inbox, consumer, connects, pending, position, end, batch_max, .. } =
            attached;
        let bytes = buffer_bytes / 4;
        let batch = (bytes / MESSAGE_BYTES_MIN).min(BATCH_MAX);
        Self {
            connection: connection.clone(),
            stream: stream.to_owned(),
            consumer,
            subscription,
            inbox,
            connects,
            heartbeat,
            batch: batch_max.map_or(batch, |max| batch.min(max)),
            pulls: Pulls::new(bytes),
            // In a cluster the consumer may be at a server that doesn't have all of the stream yet.
            pending: Some(pending).filter(|pending| *pending > 0 || end <= position.sequence),
            heard: Instant::now(),
            ask: false,
        }
    }

    /// Sends the pulls for which there is room.
    pub(super) async fn pull(&mut self, room: usize) -> Result<(), Stop> {
        loop {
            let were_under_way = self.pulls.are_under_way();
            let Some(pull) = self.pulls.next(room) else { return Ok(()) };
            if !were_under_way {
                // It owed us nothing until now.
                self.heard = Instant::now();
            }
            let (heartbeat_ns, expires_ns) = (self.heartbeat.as_nanos(), (self.heartbeat * 30).as_nanos());
            let what = match pull {
                Pull::Bytes(bytes) => format!(r#""batch":{},"max_bytes":{bytes}"#, self.batch),
                Pull::One => r#""batch":1"#.to_owned(),
            };
            let body = format!(r#"{{{what},"expires":{expires_ns},"idle_heartbeat":{heartbeat_ns}}}"#);
            let request = Request::new().inbox(self.inbox.clone()).payload(Bytes::from(body));
            let subject = format!("CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer);
            match timeout(SEND_MAX, self.connection.context().send_request(subject, request)).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(Stop::Lost(format!("it can't be asked for messages: {e}"))),
                Err(_) => return Err(Stop::Lost("it can't be asked for messages".to_owned())),
            }
        }
    }

    /// Something has come from it.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Whether it is to be waited for.
    pub(super) fn look(&self) -> Result<(), Stop> {
        if connects(&self.connection) != Some(self.connects) {
            return Err(Stop::Lost("the connection was lost".to_owned()));
        }
        let silence = self.heard.elapsed();
        if self.pulls.are_under_way() && silence > self.heartbeat * 5 / 2 {
            return Err(Stop::Lost(format!("the server has said nothing for {silence:.1?}")));
        }
        Ok(())
    }

    /// What it says beside messages.
    pub(super) fn hear(&mut self, order: &Order, message: &Message) -> Result<(), Stop> {
        let code = message.status.map_or(0, |status| status.as_u16());
        let description = message.description.as_deref().unwrap_or_default();
        let said = || Stop::Lost(format!("the server says: {code} {description}"));
        let left = || header(message, PENDING_BYTES).and_then(|left| usize::try_from(left).ok());
        match (code, description) {
            (100, _) => {
                let last = (header(message, NATS_LAST_STREAM), header(message, NATS_LAST_CONSUMER));
                let (Some(sequence), Some(consumer_sequence)) = last else { return Ok(()) };
                order.idle(sequence, consumer_sequence)?;
                self.ask = self.pending != Some(0);
            }
            (408, _) | (409, "Batch Completed") => self.pulls.ended(left().ok_or_else(said)?),
            (409, "Message Size Exceeds MaxBytes") => {
                self.pulls.ended_before_larger(left().ok_or_else(said)?);
            }
            _ => return Err(said()),
        }
        Ok(())
    }

    /// Asks whether nothing is pending, when the last message has told otherwise: those behind it may have been removed
    /// since. If there is no answer, it is asked again at the next heartbeat.
    pub(super) async fn ask(&mut self, order: &Order) {
        self.ask = false;
        let asked = async {
            let stream = self.connection.context().get_stream_no_info(&self.stream).await.ok()?;
            stream.consumer_info(&self.consumer).await.ok()
        };
        let Ok(Some(info)) = timeout(self.heartbeat, asked).await else { return };
        if info.num_pending == 0 && info.delivered.consumer_sequence == order.consumer_sequence() {
            self.pending = Some(0);
        }
    }

    /// Gives it up; none of its messages come any more.
    pub(super) fn give_up(self) -> Removal {
        Removal {
            subject: format!("CONSUMER.DELETE.{}.{}", self.stream, self.consumer),
            connection: self.connection,
        }
    }
}

/// A consumer that isn't needed any more.
#[must_use]
pub(super) struct Removal {
    connection: Connection,
    subject: String,
}

impl Removal {
    /// Removes it; if that fails, the server does when nobody has asked it for a while.
    pub(super) async fn send(self) {
        if connects(&self.connection).is_some() {
            let sent = self.connection.context().send_request(self.subject, Request::new());
            _ = timeout(SEND_MAX, sent).await;
        }
    }
}

fn header(message: &Message, name: impl IntoHeaderName) -> Option<u64> {
    message.headers.as_ref()?.get(name)?.as_str().parse().ok()
}
