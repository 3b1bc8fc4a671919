//! What is read.

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

use super::position::Position;

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number in the stream.
    pub sequence: u64,
    /// When the server has stored it, in milliseconds since 1970.
    pub time_ms: i64,
    /// Where it was published to.
    pub subject: Subject,
    /// Its headers, if it has any.
    pub headers: Option<HeaderMap>,
    /// Its payload.
    pub payload: Bytes,
}

/// Messages that follow each other in a stream; at least one.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The messages, in the stream's order.
    pub messages: Vec<Message>,
    /// How many more the stream had when the server sent the last of them; 0: it was the stream's last.
    pub pending: u64,
    /// The place behind the last of them.
    pub position: Position,
}
