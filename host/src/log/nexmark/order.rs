//! The order in which one partition's events come out, as event numbers.
//!
//! Events come in the order of (arrival, number); without out-of-orderness an event arrives when it
//! happens, and that is the order of the numbers. Whether an event is in this partition depends on
//! nothing but its number, so that other partitions' events cost one hash.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Options;
use super::event::{Clock, mix};

#[derive(Debug)]
pub(super) struct Order {
    share: Share,
    events: u64,
    /// The next number to look at.
    next: u64,
    delay: Option<Delay>,
}

impl Order {
    pub(super) fn new(options: &Options, clock: Clock, partition: u32) -> Self {
        Self {
            share: Share { partition: u64::from(partition), partitions: u64::from(options.partitions) },
            events: options.events.unwrap_or(u64::MAX),
            next: 0,
            delay: (options.out_of_orderness_ms > 0).then(|| Delay::new(clock)),
        }
    }

    /// Continues behind this event, as if it had been the last to come out.
    pub(super) fn seek(&mut self, after: u64) {
        match &mut self.delay {
            None => self.next = after.saturating_add(1),
            Some(delay) => {
                let released = (delay.clock.arrival(after), after);
                self.next = delay.clock.first_arriving_at(released.0);
                *delay = Delay { released: Some(released), ..Delay::new(delay.clock) };
            }
        }
    }

    /// Up to `count` more numbers; none at the end.
    pub(super) fn take(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(count);
        let Self { share, events, next, delay } = self;
        let mut own = std::iter::from_fn(|| {
            while *next < *events {
                let number = *next;
                *next += 1;
                if share.contains(number) {
                    return Some(number);
                }
            }
            None
        });
        match delay {
            None => numbers.extend(own.take(count)),
            Some(delay) => numbers.extend(std::iter::from_fn(|| delay.next(&mut own)).take(count)),
        }
        numbers
    }
}

/// Which events are in this partition.
#[derive(Clone, Copy, Debug)]
struct Share {
    partition: u64,
    partitions: u64,
}

impl Share {
    fn contains(self, number: u64) -> bool {
        // The division is the dearest step of skipping an event; one partition needs none, and
        // powers of two are the usual case.
        let of = match self.partitions {
            1 => return true,
            n if n.is_power_of_two() => mix(number) & (n - 1),
            n => mix(number) % n,
        };
        of == self.partition
    }
}

/// Events that happened and have not arrived, at most the out-of-orderness times the rate.
#[derive(Debug)]
struct Delay {
    clock: Clock,
    /// (arrival, number).
    waiting: BinaryHeap<Reverse<(u64, u64)>>,
    /// The event time of the last event looked at.
    now_ms: u64,
    /// The last event that a seek declared to be out: (arrival, number).
    released: Option<(u64, u64)>,
}

impl Delay {
    fn new(clock: Clock) -> Self {
        Self { clock, waiting: BinaryHeap::new(), now_ms: 0, released: None }
    }

    fn next(&mut self, own: &mut impl Iterator<Item = u64>) -> Option<u64> {
        while !self.is_due() {
            let Some(number) = own.next() else { break };
            let arrival = (self.clock.arrival(number), number);
            if self.released.is_none_or(|released| arrival > released) {
                self.waiting.push(Reverse(arrival));
            }
            self.now_ms = self.clock.time(number);
        }
        self.waiting.pop().map(|Reverse((_, number))| number)
    }

    /// Whether the first to arrive is certain: each event still to be looked at happens, and so arrives,
    /// now or later.
    fn is_due(&self) -> bool {
        self.waiting.peek().is_some_and(|Reverse((arrival, _))| *arrival < self.now_ms)
    }
}
