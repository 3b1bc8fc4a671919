//! The ids of rows: 128 bits that a replay makes again, however rows are cut into batches and shared out among tasks.
//! By them a sink recognizes rows that it has written before.
//!
//! An id is XXH3-128 with seed 0 of the bytes below; integers are little-endian. All of it is fixed for good, because
//! logs hold ids that were made so. The first byte keeps the kinds apart, and what has no fixed length stands last or
//! behind its length (4 bytes), so that no two different things are written alike.
//!
//! | what | bytes |
//! |---|---|
//! | a partition | `00`, length and pipeline's name, length and source's id, the partition's name |
//! | an operator | `01`, length and pipeline's name, the operator's id |
//! | a source's row | `02`, the partition (16), the record's number in it (8) |
//! | a row that came of a row | `03`, the operator (16), the id of that row (16), ordinal (4) |
//! | a window's result | `04`, the operator (16), start (8), end (8), firing (8), ordinal (4), the key |
//! | a row that came of a timer | `05`, the operator (16), clock (1), its time (8), ordinal (4), length and name, the key |
//!
//! The *ordinal* is the number, from 0, among the rows that came of the same row, the same result or the same timer;
//! the *firing* is how often the window had given a result for the key before. Keys are written as
//! [`key`](crate::key) says.
//!
//! With 128 bits two of a trillion rows have the same id with a chance of about 10⁻¹⁵; with 64 bits two of ten billion
//! would in most cases.

use std::collections::BTreeMap;

use arrow_buffer::ScalarBuffer;
use xxhash_rust::xxh3::xxh3_128;

use crate::batch::Position;
use crate::timers::Clock;
use crate::window::Bounds;

/// The ids of a batch's rows, their bits as Arrow has them.
pub type Ids = ScalarBuffer<i128>;

/// Makes the ids of rows that are read from a partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionIds(u128);

impl PartitionIds {
    /// Of the partition with this name, of a pipeline's source.
    pub fn new(pipeline: &str, source: &str, partition: &str) -> Self {
        let mut bytes = vec![0];
        push_text(&mut bytes, pipeline);
        push_text(&mut bytes, source);
        bytes.extend_from_slice(partition.as_bytes());
        Self(xxh3_128(&bytes))
    }

    /// Of rows at these packed [`Position`]s, of which only the records count.
    pub fn rows(&self, positions: &[u64]) -> Ids {
        let mut bytes = vec![2];
        bytes.extend_from_slice(&self.0.to_le_bytes());
        let start = bytes.len();
        let id = |&position: &u64| {
            bytes.truncate(start);
            bytes.extend_from_slice(&Position::unpack(position).record.to_le_bytes());
            id_of(&bytes)
        };
        positions.iter().map(id).collect()
    }
}

/// Makes the ids of rows that come out of an operator.
#[derive(Clone, Copy, Debug)]
pub struct OperatorIds(u128);

impl OperatorIds {
    /// Of a pipeline's operator.
    pub fn new(pipeline: &str, operator: &str) -> Self {
        let mut bytes = vec![1];
        push_text(&mut bytes, pipeline);
        bytes.extend_from_slice(operator.as_bytes());
        Self(xxh3_128(&bytes))
    }

    /// Of rows that came of rows with the ids `inputs`, each of the one that `origins` says; `None`: row i of row i.
    ///
    /// # Panics
    /// When an origin is no row of the input.
    pub fn rows(&self, inputs: &[i128], origins: Option<&[u32]>, rows: usize) -> Ids {
        let mut bytes = vec![3];
        bytes.extend_from_slice(&self.0.to_le_bytes());
        let start = bytes.len();
        each(origins, rows, |input, ordinal| {
            bytes.truncate(start);
            bytes.extend_from_slice(&inputs[input].to_le_bytes());
            bytes.extend_from_slice(&ordinal.to_le_bytes());
            id_of(&bytes)
        })
    }

    /// Of the results of a window's groups: row i is of the group `origins[i]`, whose key `key_of` gives; `None`: of
    /// group i. `firing` is how often the window had fired for them before.
    pub fn results<'k>(
        &self,
        window: Bounds,
        firing: u64,
        key_of: impl Fn(usize) -> &'k [u8],
        origins: Option<&[u32]>,
        rows: usize,
    ) -> Ids {
        let mut bytes = vec![4];
        bytes.extend_from_slice(&self.0.to_le_bytes());
        bytes.extend_from_slice(&window.start.to_le_bytes());
        bytes.extend_from_slice(&window.end.to_le_bytes());
        bytes.extend_from_slice(&firing.to_le_bytes());
        let start = bytes.len();
        each(origins, rows, |group, ordinal| {
            bytes.truncate(start);
            bytes.extend_from_slice(&ordinal.to_le_bytes());
            bytes.extend_from_slice(key_of(group));
            id_of(&bytes)
        })
    }

    /// Of rows that came of timers of one clock: row i of the timer `origins[i]`, of which `timer` tells key, name and
    /// time; `None`: of timer i.
    pub fn of_timers<'t>(
        &self,
        clock: Clock,
        timer: impl Fn(usize) -> (&'t [u8], &'t str, i64),
        origins: Option<&[u32]>,
        rows: usize,
    ) -> Ids {
        let mut bytes = vec![5];
        bytes.extend_from_slice(&self.0.to_le_bytes());
        bytes.push(clock.number());
        let start = bytes.len();
        each(origins, rows, |at, ordinal| {
            let (key, name, due) = timer(at);
            bytes.truncate(start);
            bytes.extend_from_slice(&due.to_le_bytes());
            bytes.extend_from_slice(&ordinal.to_le_bytes());
            push_text(&mut bytes, name);
            bytes.extend_from_slice(key);
            id_of(&bytes)
        })
    }
}

/// An id for each row, of its origin and its ordinal.
fn each(origins: Option<&[u32]>, rows: usize, mut id: impl FnMut(usize, u32) -> i128) -> Ids {
    match origins {
        None => (0..rows).map(|row| id(row, 0)).collect(),
        Some(origins) => {
            let ordinals = ordinals(origins);
            origins.iter().zip(ordinals).map(|(&origin, ordinal)| id(origin as usize, ordinal)).collect()
        }
    }
}

/// For each row its number among those of the same origin.
fn ordinals(origins: &[u32]) -> Vec<u32> {
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut last, mut ordinal) = (None, 0);
    let number = |&origin: &u32| {
        // Rows of one origin mostly stand together.
        if last != Some(origin) {
            if let Some(last) = last {
                next.insert(last, ordinal);
            }
            (last, ordinal) = (Some(origin), next.get(&origin).copied().unwrap_or(0));
        }
        ordinal += 1;
        ordinal - 1
    };
    origins.iter().map(number).collect()
}

fn id_of(bytes: &[u8]) -> i128 {
    xxh3_128(bytes).cast_signed()
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a name is short");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
