//! Which rows a stream has already, of those that come again when a pipeline goes on from a checkpoint: they are known by
//! their ids, and not published a second time. The server knows ids too, but only for a while.

use std::collections::{BTreeMap, HashSet};

use tidemill_jetstream::{Connection, Error, Options, Reader, Start};

use super::unmet::{Offsets, Repeatable};
use crate::nats::{patiently, wait};

/// The header with a message's id.
const ID: &str = "Nats-Msg-Id";

/// Reads the ids of the messages that a stream got behind a checkpoint. Another stream of the same name has none.
pub(super) fn behind(
    connection: &Connection,
    stream: &str,
    known: &Repeatable,
) -> Result<HashSet<i128>, Error> {
    let (connection, stream) = (connection.clone(), stream.to_owned());
    let (identity, from) = (known.log, first(known));
    wait(async move {
        let info = patiently(|| connection.stream(&stream)).await?;
        let state = &info.cached_info().state;
        let mut ids = HashSet::new();
        if state.last_sequence < from {
            return Ok(ids);
        }
        // What the stream dropped since is nobody's any more.
        let start = Start::Sequence(from.max(state.first_sequence));
        let options = Options { allow_gaps: true, ..Options::default() };
        let mut reader = patiently(|| Reader::open(&connection, &stream, start, options.clone())).await?;
        if reader.identity() != identity {
            return Ok(ids);
        }
        let end = reader.end_at_open();
        while reader.position().sequence < end {
            for message in reader.next().await?.messages {
                let id = message.headers.as_ref().and_then(|headers| headers.get(ID));
                ids.extend(id.and_then(|id| read_id(id.as_str())));
            }
        }
        Ok(ids)
    })
}

/// Where rows begin that may come again.
pub(super) fn first(known: &Repeatable) -> u64 {
    known.partitions.first().map_or(u64::MAX, |offsets| offsets.from)
}

/// An id as the server gets it: in hexadecimal.
pub(super) fn write_id(id: i128, into: &mut String) {
    use std::fmt::Write as _;
    write!(into, "{id:032x}").expect("a string takes text");
}

fn read_id(text: &str) -> Option<i128> {
    let is_one = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::cast_signed)
}

/// Where in a stream rows are that come again behind a checkpoint: those that were sent behind its barrier, some of them
/// before that had come from every task.
#[derive(Debug)]
pub(super) struct Behind {
    stream: u64,
    /// By the barrier behind which rows were sent: the first number that a message with such a row can have.
    from: BTreeMap<u64, u64>,
}

impl Behind {
    pub(super) fn new(stream: u64) -> Self {
        Self { stream, from: BTreeMap::new() }
    }

    /// Rows that were sent behind this barrier are about to be published; messages have numbers up to `last`.
    pub(super) fn publish(&mut self, barrier: u64, last: u64) {
        self.from.entry(barrier).or_insert(last + 1);
    }

    /// The barrier of a checkpoint has come from all tasks, and messages have numbers up to `last`: where rows begin that
    /// come again behind it. `unmet`: those of the life before that haven't come again begin there.
    pub(super) fn passed(&mut self, checkpoint: u64, last: u64, unmet: Option<u64>) -> Repeatable {
        self.from = self.from.split_off(&checkpoint);
        let from = self.from.values().copied().chain(unmet).min().unwrap_or(last + 1);
        Repeatable { log: self.stream, partitions: vec![Offsets { before: Vec::new(), from }] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written() {
        for id in [0, 1, -1, i128::MIN, i128::MAX] {
            let mut text = String::new();
            write_id(id, &mut text);
            assert_eq!(read_id(&text), Some(id), "{text}");
        }
        for text in ["", "0", "somebody-elses-id-of-32-characters", "+0000000000000000000000000000001"] {
            assert_eq!(read_id(text), None, "{text}");
        }
    }

    #[test]
    fn rows_behind_a_barrier_begin_before_it_has_come_from_all() {
        let mut behind = Behind::new(7);
        let from = |repeatable: Repeatable| repeatable.partitions[0].from;
        behind.publish(0, 10);
        // A task is past barrier 1 already.
        behind.publish(1, 20);
        behind.publish(0, 25);
        assert_eq!(from(behind.passed(1, 30, None)), 21);
        behind.publish(1, 30);
        assert_eq!(from(behind.passed(2, 40, None)), 41, "nothing was sent behind it");
        behind.publish(2, 40);
        behind.publish(3, 50);
        assert_eq!(from(behind.passed(2, 60, None)), 41, "barrier 2 was given up, and comes again");
        assert_eq!(from(behind.passed(2, 60, Some(7))), 7, "rows of the life before haven't come again");
    }
}
