//! What the server was asked for and hasn't sent yet.
//!
//! It is counted in bytes, as the server does: subject, reply subject, headers and payload of each message. A pull
//! ends when the next message doesn't fit into what is left of it, which the server says with the rest; or when the
//! rest is exactly 0, which it doesn't say. So a count of messages, or of pulls, would go wrong; that of bytes doesn't.
//! It is raised before a pull is sent, since messages can come before the sender is told that it was.
//!
//! The server serves its pulls in turn: two that are sent together end together. The next is sent when half of two is
//! left, so that the server always has one.

/// What is asked of the server, and has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pull {
    /// Messages of so many bytes together.
    Bytes(usize),
    /// The next message, of any size.
    One,
}

/// The pulls under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulls {
    /// The size of each.
    bytes: usize,
    outstanding: usize,
    one_outstanding: bool,
    /// The next message doesn't fit into a pull.
    next_is_large: bool,
}

impl Pulls {
    /// None are under way; each shall be of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, outstanding: 0, one_outstanding: false, next_is_large: false }
    }

    /// The next pull, which must be sent now; none: wait. There is room for so many bytes, those under way included.
    pub(super) fn next(&mut self, room: usize) -> Option<Pull> {
        if self.one_outstanding {
            return None;
        }
        if self.next_is_large {
            // Those of before go first: they end too, at the same message.
            if self.outstanding > 0 || room < self.bytes {
                return None;
            }
            self.next_is_large = false;
            self.one_outstanding = true;
            return Some(Pull::One);
        }
        if self.outstanding > self.bytes || room < self.outstanding + self.bytes {
            return None;
        }
        self.outstanding += self.bytes;
        Some(Pull::Bytes(self.bytes))
    }

    /// A message has come.
    pub(super) fn received(&mut self, bytes: usize) {
        if self.one_outstanding {
            self.one_outstanding = false;
        } else {
            self.outstanding = self.outstanding.saturating_sub(bytes);
        }
    }

    /// A pull has ended with so many bytes left.
    pub(super) fn ended(&mut self, left: usize) {
        // A pull for one message has no bytes that could be left.
        if self.one_outstanding {
            self.one_outstanding = false;
        } else {
            self.outstanding = self.outstanding.saturating_sub(left);
        }
    }

    /// A pull has ended with so many bytes left, because the next message has more.
    pub(super) fn ended_before_larger(&mut self, left: usize) {
        self.next_is_large |= left >= self.bytes;
        self.ended(left);
    }

    /// Whether the server owes something: messages, or a word from time to time that there are none.
    pub(super) fn are_under_way(&self) -> bool {
        self.outstanding > 0 || self.one_outstanding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SIZE: usize = 1000;

    /// The server's side, as `nextWaiting` in its consumer.go has it.
    #[derive(Default)]
    struct Server {
        /// What is left of each pull; none: it is for one message.
        waiting: VecDeque<Option<usize>>,
        sent: VecDeque<Sent>,
    }

    #[derive(Debug)]
    enum Sent {
        Message(usize),
        /// Ended at a message that is larger than what is left.
        Larger(usize),
        /// Ended otherwise, as by its time.
        Ended(usize),
    }

    impl Server {
        fn pull(&mut self, pull: Pull) {
            self.waiting.push_back(match pull {
                Pull::Bytes(bytes) => Some(bytes),
                Pull::One => None,
            });
        }

        /// Whether somebody got it.
        fn deliver(&mut self, bytes: usize) -> bool {
            while let Some(waiting) = self.waiting.pop_front() {
                match waiting {
                    None => {}
                    Some(left) if bytes > left => {
                        self.sent.push_back(Sent::Larger(left));
                        continue;
                    }
                    Some(left) if bytes == left => {}
                    Some(left) => self.waiting.push_back(Some(left - bytes)),
                }
                self.sent.push_back(Sent::Message(bytes));
                return true;
            }
            false
        }

        fn expire(&mut self) {
            if let Some(waiting) = self.waiting.pop_front() {
                self.sent.push_back(Sent::Ended(waiting.unwrap_or(0)));
            }
        }

        /// Granted, and not delivered or given back; what is on its way counts.
        fn outstanding(&self) -> usize {
            let waiting: usize = self.waiting.iter().flatten().sum();
            let sent = self.sent.iter().map(|sent| match sent {
                Sent::Message(bytes) | Sent::Larger(bytes) | Sent::Ended(bytes) => *bytes,
            });
            waiting + sent.sum::<usize>()
        }
    }

    fn hear(pulls: &mut Pulls, sent: &Sent) -> usize {
        match *sent {
            Sent::Message(bytes) => {
                pulls.received(bytes);
                return bytes;
            }
            Sent::Larger(left) => pulls.ended_before_larger(left),
            Sent::Ended(left) => pulls.ended(left),
        }
        0
    }

    #[test]
    fn the_server_always_has_a_pull() {
        let (mut pulls, mut server) = (Pulls::new(SIZE), Server::default());
        for _ in 0..10_000 {
            while let Some(pull) = pulls.next(4 * SIZE) {
                server.pull(pull);
            }
            assert!(server.deliver(100));
            while let Some(sent) = server.sent.pop_front() {
                hear(&mut pulls, &sent);
            }
        }
    }

    #[test]
    fn no_room_no_pull() {
        let mut pulls = Pulls::new(SIZE);
        assert_eq!(pulls.next(SIZE - 1), None);
        assert_eq!(pulls.next(SIZE), Some(Pull::Bytes(SIZE)));
        assert_eq!(pulls.next(2 * SIZE - 1), None);
        assert_eq!(pulls.next(2 * SIZE), Some(Pull::Bytes(SIZE)));
        assert_eq!(pulls.next(100 * SIZE), None);
    }

    #[test]
    fn a_message_larger_than_a_pull_is_asked_for_alone() {
        let mut pulls = Pulls::new(SIZE);
        assert_eq!(pulls.next(4 * SIZE), Some(Pull::Bytes(SIZE)));
        assert_eq!(pulls.next(4 * SIZE), Some(Pull::Bytes(SIZE)));
        pulls.received(300);
        pulls.ended_before_larger(SIZE - 300);
        pulls.ended_before_larger(SIZE);
        assert_eq!(pulls.next(4 * SIZE), Some(Pull::One));
        assert_eq!(pulls.next(4 * SIZE), None);
        pulls.received(50 * SIZE);
        assert_eq!(pulls.next(4 * SIZE), Some(Pull::Bytes(SIZE)));
    }

    proptest! {
        /// Whatever sizes messages have and however late their words come: the count is the server's, what may be kept
        /// is bounded, and nothing stands still.
        #[test]
        fn the_count_is_the_servers(
            sizes in prop::collection::vec(prop_oneof![1_usize..20, Just(SIZE / 4), 1..SIZE, SIZE..4 * SIZE], 1..300),
            steps in prop::collection::vec(0_u8..8, 0..2000),
        ) {
            let (mut pulls, mut server) = (Pulls::new(SIZE), Server::default());
            let room = 4 * SIZE;
            let (mut next, mut got, mut buffered) = (0, 0, 0_usize);
            // In the end everything is done that can be, in turn.
            let finish = std::iter::repeat_n([0, 2, 1, 3], 8 * sizes.len() + 8).flatten();
            for step in steps.into_iter().chain(finish) {
                match step {
                    0 => while let Some(pull) = pulls.next(room.saturating_sub(buffered)) {
                        server.pull(pull);
                    },
                    1 => if let Some(sent) = server.sent.pop_front() {
                        let bytes = hear(&mut pulls, &sent);
                        buffered += bytes;
                        got += usize::from(bytes > 0);
                    },
                    2 => if let Some(size) = sizes.get(next) {
                        next += usize::from(server.deliver(*size));
                    },
                    3 => buffered = 0,
                    4 => server.expire(),
                    5 => buffered /= 2,
                    _ => if let Some(sent) = server.sent.pop_front() {
                        let bytes = hear(&mut pulls, &sent);
                        buffered += bytes;
                        got += usize::from(bytes > 0);
                    },
                }
                // Those for one message have no bytes to count.
                if !pulls.one_outstanding {
                    prop_assert_eq!(pulls.outstanding, server.outstanding());
                }
                prop_assert!(pulls.outstanding <= 2 * SIZE);
                prop_assert!(buffered <= room + 4 * SIZE, "{} bytes are kept", buffered);
            }
            prop_assert_eq!(got, sizes.len());
        }
    }
}
