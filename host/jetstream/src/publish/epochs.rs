//! Which messages of a stream belong to which epoch of a producer, for whoever reads the stream as it is.
//!
//! A batch is one piece of the stream, with its marker behind it. How many messages it has is how many more the marker
//! counts than the one before; a marker that was only written anew counts no more.

use std::collections::VecDeque;

use super::marker::{Marker, subject};
use crate::read::Message;

/// No server takes batches of more messages than this.
const BATCH_MESSAGES_MAX: usize = 16_384;

/// Finds the epochs of a producer among the messages of a stream.
#[derive(Debug)]
pub struct Epochs {
    subject: String,
    /// The last messages, of whomever.
    last: VecDeque<Message>,
    /// The last marker.
    marker: Option<Marker>,
}

/// What was committed with a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The epoch.
    pub epoch: u64,
    /// Its messages, perhaps not all of the epoch; none: some of them are gone from the stream.
    pub messages: Option<Vec<Message>>,
}

impl Epochs {
    /// Of a producer, as in "pipeline/sink".
    pub fn new(stream: &str, producer: &str) -> Self {
        Self { subject: subject(stream, producer), last: VecDeque::new(), marker: None }
    }

    /// Takes in the next message of the stream; with a marker says what it commits, if that is anything.
    ///
    /// # Errors
    /// When the marker can't be read: why.
    pub fn take(&mut self, message: Message) -> Result<Option<Committed>, String> {
        if message.subject.as_str() != self.subject {
            if self.last.len() == BATCH_MESSAGES_MAX {
                self.last.pop_front();
            }
            self.last.push_back(message);
            return Ok(None);
        }
        let marker = Marker::decode(&message.payload)?;
        let before = self.marker.replace(marker.clone());
        let Some(epoch) = marker.epoch else { return Ok(None) };
        let count = match before {
            Some(before) if before.epoch == Some(epoch) => marker.messages.saturating_sub(before.messages),
            Some(_) => marker.messages,
            // Whether it was written anew nobody knows.
            None => return Ok(Some(Committed { epoch, messages: None })),
        };
        if count == 0 {
            return Ok(None);
        }
        let first = usize::try_from(count).ok().and_then(|count| self.last.len().checked_sub(count));
        let messages: Option<Vec<Message>> = first.map(|first| self.last.drain(first..).collect());
        self.last.clear();
        let is_whole = |messages: &Vec<Message>| {
            messages.first().is_some_and(|first| first.sequence + count == message.sequence)
        };
        Ok(Some(Committed { epoch, messages: messages.filter(is_whole) }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const MARKER: &str = "tidemill.orders.shop_out.marker";

    fn message(sequence: u64, subject: &str, payload: impl Into<Bytes>) -> Message {
        Message { sequence, time_ms: 0, subject: subject.into(), headers: None, payload: payload.into() }
    }

    /// What becomes of messages, numbered from 1: a marker, or the message of another.
    fn check(messages: &[Option<&Marker>], expected: &[(u64, Option<&[u64]>)]) {
        let mut epochs = Epochs::new("orders", "shop/out");
        let mut found = Vec::new();
        for (sequence, marker) in (1..).zip(messages) {
            let message = match marker {
                Some(marker) => message(sequence, MARKER, marker.encode()),
                None => message(sequence, "orders.new", "x"),
            };
            let committed = epochs.take(message).unwrap();
            found.extend(committed.map(|c| {
                let numbers = |messages: Vec<Message>| messages.iter().map(|m| m.sequence).collect();
                (c.epoch, c.messages.map(numbers))
            }));
        }
        let expected: Vec<(u64, Option<Vec<u64>>)> =
            expected.iter().map(|(epoch, numbers)| (*epoch, numbers.map(<[u64]>::to_vec))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn messages_belong_to_the_marker_behind_them() {
        let none = Marker::new(1, "a".to_owned());
        let (third, fourth_begun) = (none.with(3, 2, 2), none.with(3, 2, 2).with(4, 1, 3));
        let fourth = fourth_begun.with(4, 3, 3);
        check(
            &[
                Some(&none),
                None,
                None,
                None,
                Some(&third),
                // Of another producer, and the run that comes next.
                None,
                Some(&third),
                None,
                Some(&fourth_begun),
                None,
                None,
                Some(&fourth),
            ],
            &[(3, Some(&[3, 4])), (4, Some(&[8])), (4, Some(&[10, 11]))],
        );
    }

    #[test]
    fn what_is_gone_from_the_stream_is_told() {
        let third = Marker::new(1, "a".to_owned()).with(3, 2, 2);
        check(&[None, Some(&third)], &[(3, None)]);
        check(&[Some(&third), None, Some(&third.with(4, 2, 2))], &[(3, None), (4, None)]);
        let mut epochs = Epochs::new("orders", "shop/out");
        assert!(epochs.take(message(1, MARKER, "?")).is_err());
    }
}
