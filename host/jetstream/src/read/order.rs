//! Whether each message follows the one before: in the stream, and on its way from the consumer.

use super::delivery::Delivery;

/// Why a consumer isn't pulled from any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The reader has gone.
    Closed,
    /// Something seems wrong with it: another is made.
    Lost(String),
    /// Messages are missing from the stream.
    Gap { expected: u64, found: u64 },
}

/// The last message, which the next must follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    allow_gaps: bool,
    /// The next must follow: there was one, or the place was known.
    begun: bool,
    sequence: u64,
    /// Its number among those of the consumer.
    consumer_sequence: u64,
    gaps: u64,
}

impl Order {
    /// The next is behind this sequence; right behind it, if it has `begun`.
    pub(super) fn new(sequence: u64, begun: bool, allow_gaps: bool) -> Self {
        Self { allow_gaps, begun, sequence, consumer_sequence: 0, gaps: 0 }
    }

    /// Another consumer begins behind this sequence.
    pub(super) fn begin_again(&mut self, sequence: u64) {
        self.sequence = sequence;
        self.consumer_sequence = 0;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The last message; before the first, that before it.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many messages the consumer has sent.
    pub(super) fn consumer_sequence(&self) -> u64 {
        self.consumer_sequence
    }

    /// How many messages were missing.
    pub(super) fn gaps(&self) -> u64 {
        self.gaps
    }

    /// A message has come.
    pub(super) fn follow(&mut self, delivery: &Delivery) -> Result<(), Stop> {
        let Delivery { sequence, consumer_sequence, .. } = *delivery;
        if consumer_sequence != self.consumer_sequence.saturating_add(1) {
            return Err(Stop::Lost("a message was lost on the way".to_owned()));
        }
        let expected = self.sequence.saturating_add(1);
        if self.begun && sequence != expected {
            if sequence < expected {
                // One of a cluster's servers that hasn't all of the stream yet began too early.
                return Err(Stop::Lost(format!("message {sequence} has come again")));
            }
            if !self.allow_gaps {
                return Err(Stop::Gap { expected, found: sequence });
            }
            self.gaps += sequence - expected;
        }
        self.begun = true;
        self.sequence = sequence;
        self.consumer_sequence = consumer_sequence;
        Ok(())
    }

    /// The server has nothing to send behind this message, its consumer's `consumer_sequence`th.
    pub(super) fn idle(&self, sequence: u64, consumer_sequence: u64) -> Result<(), Stop> {
        if consumer_sequence != self.consumer_sequence {
            return Err(Stop::Lost("a message was lost on the way".to_owned()));
        }
        if self.begun && sequence > self.sequence && !self.allow_gaps {
            // It has passed over messages, and none has come since.
            return Err(Stop::Gap { expected: self.sequence + 1, found: sequence.saturating_add(1) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(sequence: u64, consumer_sequence: u64) -> Delivery {
        Delivery { sequence, consumer_sequence, time_ms: 0, pending: 0 }
    }

    #[test]
    fn each_follows_the_one_before() {
        let mut order = Order::new(10, true, false);
        order.follow(&delivery(11, 1)).unwrap();
        order.follow(&delivery(12, 2)).unwrap();
        order.begin_again(12);
        order.follow(&delivery(13, 1)).unwrap();
        assert_eq!((order.sequence(), order.consumer_sequence(), order.gaps()), (13, 1, 0));
    }

    #[test]
    fn the_first_may_be_any_where_no_place_is_known() {
        let mut order = Order::new(10, false, false);
        order.idle(20, 0).unwrap();
        order.follow(&delivery(15, 1)).unwrap();
        assert_eq!(order.follow(&delivery(17, 2)), Err(Stop::Gap { expected: 16, found: 17 }));
        assert_eq!(order.gaps(), 0);
    }

    #[test]
    fn a_message_that_was_lost_on_the_way_is_no_gap_of_the_stream() {
        let mut order = Order::new(10, true, true);
        assert!(matches!(order.follow(&delivery(12, 2)), Err(Stop::Lost(_))));
        assert!(matches!(order.follow(&delivery(10, 1)), Err(Stop::Lost(_))));
        assert!(matches!(order.idle(10, 1), Err(Stop::Lost(_))));
        assert_eq!((order.sequence(), order.gaps()), (10, 0));
    }

    #[test]
    fn gaps_are_counted_where_they_are_allowed() {
        let mut order = Order::new(10, true, true);
        order.follow(&delivery(14, 1)).unwrap();
        order.follow(&delivery(15, 2)).unwrap();
        order.follow(&delivery(17, 3)).unwrap();
        order.idle(20, 3).unwrap();
        assert_eq!((order.sequence(), order.gaps()), (17, 4));
    }

    #[test]
    fn what_was_passed_over_is_a_gap_though_nothing_comes() {
        let order = Order::new(10, true, false);
        order.idle(10, 0).unwrap();
        assert_eq!(order.idle(12, 0), Err(Stop::Gap { expected: 11, found: 13 }));
    }
}
