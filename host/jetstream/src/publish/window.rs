//! Messages that are on their way, until they are confirmed.

use std::collections::VecDeque;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::time::Instant;

/// How much may be on its way unconfirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimits {
    /// Messages; more than 1,000 weren't faster. Beyond what the client takes without a connection (2,048) sending would
    /// wait there instead.
    pub messages_max: usize,
    /// Bytes; a single message may have more.
    pub bytes_max: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self { messages_max: 1_000, bytes_max: 16 << 20 }
    }
}

/// A message as it is sent, and sent again.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) subject: Subject,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
    pub(super) bytes: usize,
    pub(super) at: Instant,
}

/// Messages in the order in which they were sent, each with its number.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// The number of the first.
    first: u64,
    /// None: confirmed, but one before it isn't.
    sent: VecDeque<Option<Sent>>,
    unconfirmed: usize,
    bytes: usize,
}

impl Window {
    pub(super) fn is_full(&self, limits: WindowLimits) -> bool {
        self.sent.len() >= limits.messages_max || self.bytes >= limits.bytes_max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    /// Takes a message in; its number.
    pub(super) fn push(&mut self, message: Sent) -> u64 {
        self.bytes += message.bytes;
        self.unconfirmed += 1;
        self.sent.push_back(Some(message));
        self.first + self.sent.len() as u64 - 1
    }

    /// The first that isn't confirmed.
    pub(super) fn oldest(&self) -> Option<&Sent> {
        self.sent.front().and_then(Option::as_ref)
    }

    fn index(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())
    }

    pub(super) fn get(&self, number: u64) -> Option<&Sent> {
        self.sent.get(self.index(number)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Sent> {
        let index = self.index(number)?;
        self.sent.get_mut(index)?.as_mut()
    }

    /// Lets one go; whether it was there.
    pub(super) fn confirm(&mut self, number: u64) -> bool {
        let message = self.index(number).and_then(|index| self.sent.get_mut(index)).and_then(Option::take);
        let Some(message) = message else { return false };
        self.bytes -= message.bytes;
        self.unconfirmed -= 1;
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
        true
    }

    /// The numbers of those that aren't confirmed.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let numbered = (self.first..).zip(&self.sent);
        numbered.filter_map(|(number, sent)| sent.as_ref().map(|_| number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Sent {
        Sent { subject: "a".into(), headers: None, payload: Bytes::new(), bytes, at: Instant::now() }
    }

    #[test]
    fn a_window_moves_on_with_its_first_message() {
        let mut window = Window::default();
        let numbers: Vec<u64> = (1..=4).map(|bytes| window.push(message(bytes))).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert!(window.confirm(1) && !window.confirm(1) && !window.confirm(9));
        assert_eq!((window.sent.len(), window.bytes, window.numbers()), (4, 8, vec![0, 2, 3]));
        assert!(window.confirm(0));
        assert_eq!((window.sent.len(), window.bytes, window.numbers()), (2, 7, vec![2, 3]));
        assert!(window.get(1).is_none() && window.get(2).is_some_and(|sent| sent.bytes == 3));
        assert_eq!(window.push(message(5)), 4);
        assert!([2, 3, 4].into_iter().all(|number| window.confirm(number)) && window.is_empty());
        assert_eq!((window.push(message(1)), window.unconfirmed()), (5, 1));
    }

    #[test]
    fn a_window_is_full_by_messages_or_bytes() {
        let limits = WindowLimits { messages_max: 2, bytes_max: 10 };
        let mut window = Window::default();
        window.push(message(9));
        assert!(!window.is_full(limits));
        window.push(message(1));
        assert!(window.is_full(limits));
        window.confirm(1);
        assert!(window.is_full(limits), "a message behind the first waits with it");
        window.confirm(0);
        window.push(message(10));
        assert!(window.is_full(limits));
    }
}
