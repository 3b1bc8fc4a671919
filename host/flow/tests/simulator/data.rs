//! The world's pipeline, what flows through it, and what has to come out of it.
//!
//! Sources, each one partition → a stage that counts by key and side and fires windows with timers → perhaps a second
//! stage that counts what the first emits → sinks. Which rows come out doesn't depend on how the sources interleave.

use std::collections::BTreeMap;

use tidemill_flow::key::key_group;
use xxhash_rust::xxh3::xxh3_64;

use crate::random::{Random, mix};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Row number `n` of partition `side`.
    Input,
    /// The `n`-th row of a key and side.
    Count,
    /// The number of rows of a key in the window that begins at `time`.
    Window,
    /// The `n`-th row that the second stage has seen of a key.
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) key: u8,
    pub(crate) side: u8,
    pub(crate) time: u32,
    pub(crate) n: u32,
}

pub(crate) const ROW_BYTES: usize = 11;
pub(crate) const WINDOW: u32 = 8;

impl Row {
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&[self.kind as u8, self.key, self.side]);
        to.extend_from_slice(&self.time.to_be_bytes());
        to.extend_from_slice(&self.n.to_be_bytes());
    }

    /// Nothing of a torn row.
    pub(crate) fn read(from: &[u8]) -> Option<Row> {
        let (head, rest) = from.split_first_chunk::<3>()?;
        let (time, rest) = rest.split_first_chunk::<4>()?;
        let n = rest.first_chunk::<4>()?;
        let kind = [Kind::Input, Kind::Count, Kind::Window, Kind::Second].get(usize::from(head[0]))?;
        let (time, n) = (u32::from_be_bytes(*time), u32::from_be_bytes(*n));
        Some(Row { kind: *kind, key: head[1], side: head[2], time, n })
    }
}

/// A key's hash, as in a real pipeline with one column of bytes.
pub(crate) fn hash(key: u8) -> u64 {
    xxh3_64(&[1, 1, 0, 0, 0, key])
}

pub(crate) fn group(key: u8) -> u32 {
    key_group(hash(key))
}

/// What doesn't change from run to run.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) seed: u64,
    pub(crate) rows: Vec<u32>,
    pub(crate) keys: u64,
    pub(crate) two_sides: bool,
    pub(crate) two_stages: bool,
}

impl Pipeline {
    pub(crate) fn new(seed: u64, random: &mut Random) -> Self {
        let rows = (0..random.between(1, 3)).map(|_| random.between(0, 40) as u32).collect();
        let keys = random.between(1, 6);
        Self { seed, rows, keys, two_sides: random.one_in(2), two_stages: random.one_in(2) }
    }

    /// A row of a source's partition. Times never go back.
    pub(crate) fn input(&self, source: usize, n: u32) -> Row {
        let chance = mix(self.seed ^ mix(((source as u64) << 32) | u64::from(n)));
        let side = if self.two_sides { (source % 2) as u8 } else { 0 };
        let time = n * 2 + (chance >> 32) as u32 % 3;
        Row { kind: Kind::Input, key: (chance % self.keys) as u8, side, time, n }
    }

    /// The key by which the second stage counts.
    pub(crate) fn second_key(row: &Row) -> u8 {
        (row.key + row.kind as u8) % 3
    }

    /// What an uninterrupted run publishes, sorted.
    pub(crate) fn expected(&self) -> Vec<Row> {
        let mut counts = BTreeMap::<(u8, u8), u32>::new();
        let mut windows = BTreeMap::<(u8, u32), u32>::new();
        let mut out = Vec::new();
        for (source, rows) in self.rows.iter().enumerate() {
            for row in (0..*rows).map(|n| self.input(source, n)) {
                let n = counts.entry((row.key, row.side)).or_default();
                *n += 1;
                out.push(Row { kind: Kind::Count, time: 0, n: *n, ..row });
                *windows.entry((row.key, row.time / WINDOW * WINDOW)).or_default() += 1;
            }
        }
        let window = |((key, time), n)| Row { kind: Kind::Window, key, side: 0, time, n };
        out.extend(windows.into_iter().map(window));
        if self.two_stages {
            let mut seconds = BTreeMap::<u8, u32>::new();
            for at in 0..out.len() {
                let key = Self::second_key(&out[at]);
                let n = seconds.entry(key).or_default();
                *n += 1;
                out.push(Row { kind: Kind::Second, key, side: 0, time: 0, n: *n });
            }
        }
        out.sort_unstable();
        out
    }
}
