//! The comparison of two sets of rows, in which rows may occur several times.
//!
//! Rows are dealt into [`BUCKETS`] by the hash of what they are known by, so that rows which have to be compared lie in the
//! same bucket; a bucket that grows is written to a file. Then one bucket after the other is compared in memory. What is
//! held at once is [`BUFFER_BYTES`] for each bucket, and then all rows of one: about a 256th of all rows, unless many are
//! known by the same.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use std::path::PathBuf;

use xxhash_rust::xxh3::xxh3_64;

/// Ten gigabytes are compared with less than a hundred megabytes in memory, and few processes may have many more files.
const BUCKETS: usize = 256;
/// A write of so much is worth a call of the system.
const BUFFER_BYTES: usize = 64 << 10;
/// As many differing rows as a person looks at.
pub(super) const SAMPLES_MAX: usize = 20;

/// A row: its values as they were written, by field.
pub(super) type Row = BTreeMap<String, String>;

/// Whose row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Live = 0,
    Shadow = 1,
    /// The live pipeline has shown it behind the stretch.
    Later = 2,
}

/// Rows to be compared.
pub(super) struct Comparison {
    /// The fields by which a row is known; none: all of them.
    identity: Vec<String>,
    folder: PathBuf,
    buckets: Vec<Bucket>,
}

#[derive(Default)]
struct Bucket {
    buffer: Vec<u8>,
    file: Option<File>,
}

/// What a comparison has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Rows of the live pipeline in the stretch.
    pub(super) live: u64,
    pub(super) shadow: u64,
    pub(super) equal: u64,
    /// The shadow has them in the stretch, and the live pipeline shows them soon behind it.
    pub(super) later: u64,
    pub(super) added: u64,
    pub(super) missing: u64,
    pub(super) different: u64,
    /// Of each kind the first in the order of what they are known by.
    pub(super) samples: Vec<Difference>,
}

/// Rows that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// Only the shadow has it.
    Added(Row),
    /// Only the live pipeline has it.
    Missing(Row),
    /// Both are known by the same.
    Different { live: Row, shadow: Row },
}

impl Comparison {
    /// Of rows that are known by these fields; without any, by all. Large buckets are written into the folder, which must
    /// be there.
    pub(super) fn new(identity: Vec<String>, folder: PathBuf) -> Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self { identity, folder, buckets }
    }

    /// Takes in a row.
    ///
    /// # Errors
    /// When a bucket can't be written.
    pub(super) fn add(&mut self, side: Side, row: &Row) -> io::Result<()> {
        let hash = xxh3_64(known_by(row, &self.identity).join("\0").as_bytes());
        let at = usize::try_from(hash % BUCKETS as u64).unwrap_or_default();
        let bucket = &mut self.buckets[at];
        bucket.buffer.push(side as u8);
        push_number(&mut bucket.buffer, row.len());
        for text in row.iter().flat_map(|(field, value)| [field, value]) {
            push_number(&mut bucket.buffer, text.len());
            bucket.buffer.extend_from_slice(text.as_bytes());
        }
        if bucket.buffer.len() > BUFFER_BYTES {
            if bucket.file.is_none() {
                let path = self.folder.join(format!("bucket-{at}"));
                let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
                // It is there as long as it is open, and goes with the process.
                std::fs::remove_file(&path)?;
                bucket.file = Some(file);
            }
            if let Some(file) = &mut bucket.file {
                file.write_all(&bucket.buffer)?;
            }
            bucket.buffer.clear();
        }
        Ok(())
    }

    /// Compares all rows.
    ///
    /// # Errors
    /// When a bucket can't be read again.
    pub(super) fn finish(self) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut samples = Samples::default();
        for bucket in self.buckets {
            let mut groups: BTreeMap<Vec<String>, [Vec<Row>; 3]> = BTreeMap::new();
            for (side, row) in bucket.rows()? {
                let known_by = known_by(&row, &self.identity);
                groups.entry(known_by).or_default()[side as usize].push(row);
            }
            for (known_by, group) in groups {
                compare(&known_by, group, !self.identity.is_empty(), &mut outcome, &mut samples);
            }
        }
        outcome.samples = samples.into_all();
        Ok(outcome)
    }
}

/// What a row is known by.
fn known_by(row: &Row, identity: &[String]) -> Vec<String> {
    match identity {
        [] => row.iter().map(|(field, value)| format!("{field}\0{value}")).collect(),
        fields => fields.iter().map(|field| row.get(field).cloned().unwrap_or_default()).collect(),
    }
}

/// Compares rows that are known by the same.
fn compare(
    known_by: &[String],
    [live, shadow, later]: [Vec<Row>; 3],
    can_differ: bool,
    outcome: &mut Outcome,
    samples: &mut Samples,
) {
    outcome.live += live.len() as u64;
    outcome.shadow += shadow.len() as u64;
    let (equal, live, shadow) = without_common(live, shadow);
    outcome.equal += equal;
    let (shown_later, _, shadow) = without_common(later, shadow);
    outcome.later += shown_later;
    let pairs = if can_differ { live.len().min(shadow.len()) } else { 0 };
    outcome.different += pairs as u64;
    outcome.missing += (live.len() - pairs) as u64;
    outcome.added += (shadow.len() - pairs) as u64;
    for at in 0..live.len().max(shadow.len()) {
        match (live.get(at), shadow.get(at)) {
            (Some(live), Some(shadow)) if at < pairs => {
                let (live, shadow) = (live.clone(), shadow.clone());
                samples.add(2, known_by, Difference::Different { live, shadow });
            }
            (live, shadow) => {
                live.iter().for_each(|&row| samples.add(1, known_by, Difference::Missing(row.clone())));
                shadow.iter().for_each(|&row| samples.add(0, known_by, Difference::Added(row.clone())));
            }
        }
    }
}

/// How many rows both have, each as often as both have it, and the others, sorted.
fn without_common(mut one: Vec<Row>, mut other: Vec<Row>) -> (u64, Vec<Row>, Vec<Row>) {
    one.sort_unstable();
    other.sort_unstable();
    let (mut ones, mut others) = (one.into_iter().peekable(), other.into_iter().peekable());
    let (mut common, mut only_one, mut only_other) = (0, Vec::new(), Vec::new());
    while let (Some(left), Some(right)) = (ones.peek(), others.peek()) {
        match left.cmp(right) {
            Ordering::Less => only_one.extend(ones.next()),
            Ordering::Greater => only_other.extend(others.next()),
            Ordering::Equal => {
                common += 1;
                ones.next();
                others.next();
            }
        }
    }
    only_one.extend(ones);
    only_other.extend(others);
    (common, only_one, only_other)
}

/// The first differences of each kind.
#[derive(Default)]
struct Samples([Vec<(Vec<String>, Difference)>; 3]);

impl Samples {
    fn add(&mut self, kind: usize, known_by: &[String], difference: Difference) {
        let of_kind = &mut self.0[kind];
        let at = of_kind.partition_point(|(other, _)| order(other, known_by) != Ordering::Greater);
        if at < SAMPLES_MAX {
            of_kind.insert(at, (known_by.to_vec(), difference));
            of_kind.truncate(SAMPLES_MAX);
        }
    }

    /// Those that differ first, as they tell most.
    fn into_all(self) -> Vec<Difference> {
        let [added, missing, different] = self.0;
        different.into_iter().chain(missing).chain(added).map(|(_, difference)| difference).collect()
    }
}

/// Numbers as numbers, all else as text.
fn order(one: &[String], other: &[String]) -> Ordering {
    let by_value = |(one, other): (&String, &String)| match (one.parse::<i64>(), other.parse::<i64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        _ => one.cmp(other),
    };
    let first = one.iter().zip(other).map(by_value).find(|order| order.is_ne());
    first.unwrap_or(one.len().cmp(&other.len()))
}

impl Bucket {
    fn rows(self) -> io::Result<Vec<(Side, Row)>> {
        let mut bytes = Vec::new();
        if let Some(mut file) = self.file {
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
        }
        bytes.extend_from_slice(&self.buffer);
        let mut rest = bytes.as_slice();
        let mut rows = Vec::new();
        while !rest.is_empty() {
            let row = take_row(&mut rest);
            rows.push(
                row.ok_or_else(|| io::Error::other("what was written to compare isn't there any more"))?,
            );
        }
        Ok(rows)
    }
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn take_row(rest: &mut &[u8]) -> Option<(Side, Row)> {
    let (side, tail) = rest.split_first()?;
    *rest = tail;
    let side = match side {
        0 => Side::Live,
        1 => Side::Shadow,
        2 => Side::Later,
        _ => return None,
    };
    let mut row = Row::new();
    for _ in 0..take_number(rest)? {
        let (field, value) = (take_text(rest)?, take_text(rest)?);
        row.insert(field, value);
    }
    Some((side, row))
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = take_number(rest)?;
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(key: u8, value: u8) -> Row {
        Row::from([("key".to_owned(), key.to_string()), ("value".to_owned(), value.to_string())])
    }

    fn outcome(identity: &[&str], rows: &[(Side, Row)]) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let identity = identity.iter().map(|f| (*f).to_owned()).collect();
        let mut comparison = Comparison::new(identity, folder.path().to_owned());
        rows.iter().for_each(|(side, row)| comparison.add(*side, row).unwrap());
        let outcome = comparison.finish().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "something is left in the folder");
        outcome
    }

    #[test]
    fn rows_that_are_known_by_the_same_differ_and_others_are_added_or_missing() {
        let rows = [
            (Side::Live, row(1, 1)),
            (Side::Live, row(2, 2)),
            (Side::Live, row(10, 3)),
            (Side::Shadow, row(1, 1)),
            (Side::Shadow, row(2, 9)),
            (Side::Shadow, row(4, 4)),
        ];
        let by_key = outcome(&["key"], &rows);
        assert_eq!((by_key.live, by_key.shadow, by_key.equal), (3, 3, 1));
        assert_eq!(
            by_key.samples,
            [
                Difference::Different { live: row(2, 2), shadow: row(2, 9) },
                Difference::Missing(row(10, 3)),
                Difference::Added(row(4, 4)),
            ]
        );
        let by_row = outcome(&[], &rows);
        assert_eq!((by_row.equal, by_row.different, by_row.missing, by_row.added), (1, 0, 2, 2));
    }

    #[test]
    fn a_row_that_the_live_pipeline_shows_soon_is_not_added() {
        let rows = [
            (Side::Shadow, row(1, 1)),
            (Side::Shadow, row(1, 1)),
            (Side::Shadow, row(1, 2)),
            (Side::Later, row(1, 1)),
            (Side::Later, row(7, 7)),
        ];
        let found = outcome(&["key"], &rows);
        assert_eq!((found.later, found.added, found.missing, found.live), (1, 2, 0, 0));
    }

    #[test]
    fn samples_are_the_first_by_number() {
        let rows: Vec<_> = (0..100).rev().map(|key| (Side::Shadow, row(key, 0))).collect();
        let found = outcome(&["key"], &rows);
        let expected: Vec<_> = (0..20).map(|key| Difference::Added(row(key, 0))).collect();
        assert_eq!((found.added, found.samples), (100, expected));
    }

    #[test]
    fn what_is_written_to_files_is_compared_as_what_is_not() {
        let long = "x".repeat(BUFFER_BYTES / 3);
        let row = |at: usize| {
            Row::from([("k".to_owned(), (at % 3).to_string()), ("v".to_owned(), format!("{at}{long}"))])
        };
        let mut rows: Vec<_> = (0..40).map(|at| (Side::Live, row(at))).collect();
        rows.extend((1..40).map(|at| (Side::Shadow, row(at))));
        let found = outcome(&["k"], &rows);
        assert_eq!((found.live, found.shadow, found.equal, found.missing), (40, 39, 39, 1));
    }

    proptest! {
        /// Against counting each row, and then each key's rows.
        #[test]
        fn counts_are_those_of_a_naive_comparison(
            rows in proptest::collection::vec((0..2_u8, 0..4_u8, 0..3_u8), 0..40)
        ) {
            let of = |side: u8| rows.iter().filter(move |r| r.0 == side).map(|r| (r.1, r.2));
            let mut left: Vec<(u8, u8)> = of(0).collect();
            let (mut equal, mut only_shadow) = (0, Vec::new());
            for pair in of(1) {
                match left.iter().position(|other| *other == pair) {
                    Some(at) => {
                        left.swap_remove(at);
                        equal += 1;
                    }
                    None => only_shadow.push(pair),
                }
            }
            let per_key = |rows: &[(u8, u8)], key| rows.iter().filter(|r| r.0 == key).count() as u64;
            let different: u64 = (0..4).map(|k| per_key(&left, k).min(per_key(&only_shadow, k))).sum();
            let (missing, added) = (left.len() as u64 - different, only_shadow.len() as u64 - different);
            let sides = [Side::Live, Side::Shadow];
            let all: Vec<_> = rows.iter().map(|r| (sides[usize::from(r.0)], row(r.1, r.2))).collect();
            let found = outcome(&["key"], &all);
            prop_assert_eq!(
                (found.equal, found.different, found.missing, found.added),
                (equal, different, missing, added)
            );
            let whole = outcome(&[], &all);
            prop_assert_eq!(
                (whole.equal, whole.different, whole.missing, whole.added),
                (equal, 0, missing + different, added + different)
            );
        }
    }
}
