//! An atomic batch: messages that a stream takes all at once with the marker behind them, or not at all.

use std::time::Duration;

use async_nats::Subscriber;
use async_nats::header::{self, HeaderMap, HeaderValue};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::answer::{Answer, BATCH_INCOMPLETE, BATCH_TOO_LARGE, Refusal};
use super::marker::Marker;
use super::outgoing::{Encoder, Outgoing};
use super::register::{Failure, Register};
use crate::error::Error;

/// How long to wait for what the server says about a message, when it has said that the batch is void.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Messages, with the marker; at least 2. A server takes 1,000 unless its configuration says otherwise (`jetstream {
    /// limits { batch { max_msgs } } }`); if it turns out to take fewer, batches become as small.
    pub messages_max: u64,
    /// Bytes; a single message may have more. A server holds a batch of a stream with replicas in memory.
    pub bytes_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { messages_max: 1_000, bytes_max: 16 << 20 }
    }
}

/// A batch that is being sent, and isn't committed.
pub(super) struct Batch<'a> {
    register: &'a Register,
    encoder: &'a mut Encoder,
    id: String,
    sent: u64,
    bytes: usize,
    /// Where the server says what it thinks of each message, if it is asked.
    answers: Option<(String, Subscriber)>,
}

/// A batch of which all but the marker is sent.
pub(super) struct Staged {
    id: String,
    /// Without the marker.
    pub(super) messages: u64,
    answers: Option<Subscriber>,
}

/// Why a batch is void.
#[derive(Debug)]
pub(super) enum Void {
    /// It has more messages than the server takes, which is so many.
    TooLarge(u64),
    /// A message is missing, or was refused without a word.
    Incomplete,
    Other(Failure),
}

impl From<Failure> for Void {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl<'a> Batch<'a> {
    /// Begins one; `asking`: the server is to say what it thinks of each message. It costs an answer for each, so it is
    /// done only when the server has said that something is wrong and not what.
    pub(super) async fn begin(
        register: &'a Register,
        encoder: &'a mut Encoder,
        id: String,
        asking: bool,
    ) -> Result<Self, Failure> {
        let answers = if asking {
            let inbox = register.client().new_inbox();
            let subscribed = register.client().subscribe(format!("{inbox}.*")).await;
            Some((inbox, subscribed.map_err(|e| Failure::Unclear(e.to_string()))?))
        } else {
            None
        };
        Ok(Self { register, encoder, id, sent: 0, bytes: 0, answers })
    }

    pub(super) fn has_room(&self, limits: BatchLimits) -> bool {
        // The marker comes in addition.
        self.sent + 1 < limits.messages_max && self.bytes < limits.bytes_max
    }

    pub(super) async fn send(&mut self, message: &Outgoing<'_>) -> Result<(), Failure> {
        let subject = self.encoder.subject(message).map_err(Failure::Fatal)?;
        let mut headers = Encoder::headers(message).map_err(Failure::Fatal)?;
        self.sent += 1;
        self.bytes += message.bytes();
        number(&mut headers, &self.id, self.sent);
        let reply = self.answers.as_ref().map(|(inbox, _)| format!("{inbox}.{}", self.sent));
        self.register.publish(subject, reply, headers, message.payload.clone()).await
    }

    pub(super) fn staged(self) -> Staged {
        Staged { id: self.id, messages: self.sent, answers: self.answers.map(|(_, answers)| answers) }
    }
}

impl Staged {
    /// Commits it with a marker if the last one is at this sequence, and says where the new one is.
    pub(super) async fn commit(
        self,
        register: &Register,
        expected: u64,
        marker: &Marker,
    ) -> Result<u64, Void> {
        let last = self.messages + 1;
        let mut headers = HeaderMap::new();
        number(&mut headers, &self.id, last);
        headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
        match register.send(expected, marker, headers).await {
            Ok(sequence) => Ok(sequence),
            // Neither says which message was the first that wasn't taken.
            Err(Failure::Refused(Refusal { code: BATCH_INCOMPLETE | BATCH_TOO_LARGE, .. })) => {
                match self.answers {
                    Some(answers) => Err(first_refusal(answers, &register.name).await),
                    None => Err(Void::Incomplete),
                }
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

fn number(headers: &mut HeaderMap, id: &str, sequence: u64) {
    headers.insert(header::NATS_BATCH_ID, id);
    headers.insert(header::NATS_BATCH_SEQUENCE, HeaderValue::from(sequence));
}

/// What the server said about the first message that it didn't take; all behind it are only incomplete.
async fn first_refusal(mut answers: Subscriber, stream: &str) -> Void {
    while let Ok(Some(message)) = timeout(ANSWERS_WITHIN, answers.next()).await {
        let sequence = message.subject.rsplit('.').next().and_then(|n| n.parse::<u64>().ok());
        match Answer::of(&message) {
            Answer::Taken => {}
            Answer::Refused(Refusal { code: BATCH_INCOMPLETE, .. }) => return Void::Incomplete,
            Answer::Refused(Refusal { code: BATCH_TOO_LARGE, .. }) => {
                return Void::TooLarge(sequence.unwrap_or(1).saturating_sub(1));
            }
            Answer::Refused(refusal) => return Void::Other(Failure::Refused(refusal)),
            Answer::Nobody => {
                return Void::Other(Failure::Unclear(
                    "no stream takes the subject of a message, or the one that does has no leader".to_owned(),
                ));
            }
            Answer::Stored { stream: other, .. } => {
                return Void::Other(Failure::Fatal(Error::Unfit {
                    stream: stream.to_owned(),
                    reason: format!("a message of the output belongs to the stream `{other}`"),
                    advice: "a batch goes to one stream: give the sink subjects that this one takes"
                        .to_owned(),
                }));
            }
        }
    }
    Void::Incomplete
}
