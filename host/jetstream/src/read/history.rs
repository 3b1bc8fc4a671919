//! What the last messages before a position were, in one number.
//!
//! Enough of them can be read again to see whether the stream still has them: at most [`MESSAGES_MAX`], with at most
//! [`BYTES_MAX`], or one if that is larger; and only such as follow each other without a gap. A hash of everything that
//! was ever read would say the same, since the server's times are in it, and could never be checked.

use std::collections::VecDeque;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::message::Message;

/// Messages that are read again before a reader goes on: they come in one round trip.
const MESSAGES_MAX: usize = 16;
/// Bytes of their payloads.
const BYTES_MAX: usize = 1 << 20;
/// The bits of the number that count the messages.
const COUNT_MASK: u64 = 31;

/// The last messages, each by its hash.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    messages: VecDeque<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    sequence: u64,
    hash: u64,
    bytes: usize,
}

impl History {
    /// Adds messages that come next. Only the last of them are hashed.
    pub(super) fn extend(&mut self, messages: &[Message]) {
        let begin = messages.len().saturating_sub(MESSAGES_MAX);
        for message in messages.get(begin..).unwrap_or_default() {
            let follows = self.messages.back().is_some_and(|last| last.sequence + 1 == message.sequence);
            if !follows {
                self.messages.clear();
            }
            if self.messages.len() == MESSAGES_MAX {
                self.messages.pop_front();
            }
            let (hash, bytes) = (hash(message), message.payload.len());
            self.messages.push_back(Seen { sequence: message.sequence, hash, bytes });
        }
    }

    /// The messages as a number: how many they are, and a hash of them. 0: there are none.
    pub(super) fn number(&self) -> u64 {
        let (mut bytes, mut count) = (0_usize, 0);
        let mut hashes = [0; MESSAGES_MAX * 8];
        for (seen, room) in self.messages.iter().rev().zip(hashes.chunks_exact_mut(8)) {
            bytes = bytes.saturating_add(seen.bytes);
            if count > 0 && bytes > BYTES_MAX {
                break;
            }
            room.copy_from_slice(&seen.hash.to_le_bytes());
            count += 1;
        }
        match count {
            0 => 0,
            _ => xxh3_64(hashes.get(..count * 8).unwrap_or_default()) & !COUNT_MASK | count as u64,
        }
    }
}

/// How many messages a number is made of.
pub(super) fn messages_count(number: u64) -> u64 {
    number & COUNT_MASK
}

fn hash(message: &Message) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&message.sequence.to_le_bytes());
    hash.update(&message.time_ms.to_le_bytes());
    hash.update(&(message.subject.len() as u64).to_le_bytes());
    hash.update(message.subject.as_bytes());
    hash.update(&message.payload);
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn message(sequence: u64, payload: &str) -> Message {
        Message {
            sequence,
            time_ms: 1_000 + sequence as i64,
            subject: "orders".into(),
            headers: None,
            payload: Bytes::from(payload.to_owned()),
        }
    }

    fn number(messages: &[Message]) -> u64 {
        let mut history = History::default();
        history.extend(messages);
        history.number()
    }

    #[test]
    fn nothing_read_is_nothing_known() {
        assert_eq!(History::default().number(), 0);
    }

    #[test]
    fn any_other_content_is_another_number() {
        let known = number(&[message(1, "a"), message(2, "b")]);
        assert_eq!(messages_count(known), 2);
        let changed: [fn(&mut Message); 4] = [
            |m| m.payload = Bytes::from_static(b"c"),
            |m| m.time_ms += 1,
            |m| m.subject = "order".into(),
            |m| m.subject = "ordersa".into(),
        ];
        for change in changed {
            let mut other = message(1, "a");
            change(&mut other);
            assert_ne!(number(&[other, message(2, "b")]), known);
        }
        // What is a subject's end and what a payload's begin isn't mixed up.
        let mut shifted = message(1, "");
        shifted.subject = "ordersa".into();
        assert_ne!(number(&[shifted, message(2, "b")]), known);
    }

    #[test]
    fn large_messages_count_fewer() {
        let large = "x".repeat(BYTES_MAX / 2);
        let messages: Vec<_> = (1..=5).map(|sequence| message(sequence, &large)).collect();
        assert_eq!(messages_count(number(&messages)), 2);
        assert_eq!(number(&messages), number(&messages[3..]));
        let huge = "x".repeat(2 * BYTES_MAX);
        assert_eq!(messages_count(number(&[message(1, "a"), message(2, &huge)])), 1);
    }

    #[test]
    fn a_gap_begins_anew() {
        let behind = [message(5, "c"), message(6, "d")];
        assert_eq!(
            number(&[message(1, "a"), message(2, "b"), message(5, "c"), message(6, "d")]),
            number(&behind)
        );
    }

    proptest! {
        /// What is read again is told by the number, whatever way it came in the first time.
        #[test]
        fn parts_are_as_the_whole(count in 1_u64..60, cuts in prop::collection::vec(0_usize..60, 0..8)) {
            let messages: Vec<_> = (1..=count).map(|sequence| message(sequence, "payload")).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(messages.len())).collect();
            cuts.extend([0, messages.len()]);
            cuts.sort_unstable();
            let mut history = History::default();
            cuts.windows(2).for_each(|cut| history.extend(&messages[cut[0]..cut[1]]));
            let known = history.number();
            prop_assert_eq!(known, number(&messages));
            let again = messages.len() - messages_count(known) as usize;
            prop_assert_eq!(known, number(&messages[again..]));
        }
    }
}
