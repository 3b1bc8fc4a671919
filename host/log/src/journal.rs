//! The file `transactions`: which transactions were committed, and which run of each producer may write.
//!
//! Frames of a transaction carry its number and are seen when the journal has its entry. The file begins with
//! XXH3-64 of the rest of its header (8 bytes), `Txns`, the version (4), a generation (8) that changes when
//! the file is rewritten, and the number (8) up to which transactions had been committed then. Each entry:
//! XXH3-64 of the rest (8), `Txn.`, the length of what follows (4): what it is (1: commit 1, fence 2, what
//! had been known 3), number, run and epoch (8 each), and the producer's name.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{LogError, Result, damaged_file, io_error};
use crate::files::replace;

const NAME: &str = "transactions";
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 41;
const HEADER_MAGIC: [u8; 4] = *b"Txns";
const ENTRY_MAGIC: [u8; 4] = *b"Txn.";
const VERSION: u32 = 1;
/// No log has so many transactions; so sums of numbers from files don't overflow.
const NUMBER_MAX: u64 = 1 << 62;
/// A journal of less is never rewritten; of so much, it is when it has doubled since.
const REWRITE_BYTES: u64 = 1 << 20;
/// A producer's name has at most so many bytes.
pub const PRODUCER_BYTES_MAX: usize = 1_024;

/// What is known of a producer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// The run that may write; older ones are refused.
    pub run: u64,
    /// The last epoch that was committed, if one was.
    pub epoch: Option<u64>,
}

/// What the journal says.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    generation: u64,
    /// The number of the last transaction that was committed; the first is 1.
    pub(crate) number: u64,
    pub(crate) producers: BTreeMap<String, Producer>,
    /// The bytes of it that are whole.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Commit = 1,
    Fence = 2,
    Known = 3,
}

#[derive(Debug)]
struct Entry<'a> {
    kind: Kind,
    number: u64,
    run: u64,
    epoch: u64,
    producer: &'a str,
}

impl Entry<'_> {
    fn push(&self, out: &mut Vec<u8>, seed: u64) {
        let start = out.len();
        let length = u32::try_from(ENTRY_BYTES - 16 + self.producer.len()).expect("a name is short");
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&ENTRY_MAGIC);
        out.extend_from_slice(&length.to_le_bytes());
        out.push(self.kind as u8);
        for number in [self.number, self.run, self.epoch] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(self.producer.as_bytes());
        let checksum = xxh3_64_with_seed(&out[start + 8..], seed);
        out[start..start + 8].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn parse_entry(bytes: &[u8], seed: u64) -> Option<(Entry<'_>, usize)> {
    if bytes.get(8..12)? != ENTRY_MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(*bytes.get(12..)?.first_chunk()?) as usize;
    let end = length.checked_add(16).filter(|&end| end >= ENTRY_BYTES)?;
    let whole = bytes.get(8..end)?;
    if xxh3_64_with_seed(whole, seed) != number(bytes, 0)? {
        return None;
    }
    let kind = match bytes.get(16)? {
        1 => Kind::Commit,
        2 => Kind::Fence,
        3 => Kind::Known,
        _ => return None,
    };
    let producer = std::str::from_utf8(bytes.get(ENTRY_BYTES..end)?).ok()?;
    if number(bytes, 17)? > NUMBER_MAX {
        return None;
    }
    let entry = Entry {
        kind,
        number: number(bytes, 17)?,
        run: number(bytes, 25)?,
        epoch: number(bytes, 33)?,
        producer,
    };
    Some((entry, end))
}

fn header(generation: u64, number: u64, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend_from_slice(&HEADER_MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    let checksum = xxh3_64_with_seed(&bytes[8..], seed);
    bytes[..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn parse_header(bytes: &[u8], seed: u64) -> Option<State> {
    let whole = bytes.get(..HEADER_BYTES)?;
    let right = whole.get(8..12)? == HEADER_MAGIC
        && whole.get(12..16)? == VERSION.to_le_bytes()
        && xxh3_64_with_seed(whole.get(8..)?, seed) == number(whole, 0)?
        && number(whole, 24)? <= NUMBER_MAX;
    let state = State {
        generation: number(whole, 16)?,
        number: number(whole, 24)?,
        producers: BTreeMap::new(),
        bytes: HEADER_BYTES as u64,
    };
    right.then_some(state)
}

impl State {
    /// Takes in the whole entries of bytes that begin at `self.bytes`. If something else follows them that
    /// isn't the torn end of the file, the journal is damaged.
    fn replay(&mut self, path: &Path, bytes: &[u8], seed: u64) -> Result<()> {
        let mut at = 0;
        while let Some((entry, length)) = parse_entry(bytes.get(at..).unwrap_or_default(), seed) {
            at += length;
            self.bytes += length as u64;
            let producer = self.producers.entry(entry.producer.to_owned()).or_default();
            producer.run = producer.run.max(entry.run);
            match entry.kind {
                Kind::Fence => {}
                Kind::Known => producer.epoch = Some(entry.epoch),
                Kind::Commit => {
                    self.number = entry.number;
                    producer.epoch = Some(entry.epoch);
                }
            }
        }
        let behind =
            (at + 1..bytes.len()).find(|&b| parse_entry(bytes.get(b..).unwrap_or_default(), seed).is_some());
        match behind {
            Some(_) => Err(damaged_file(path, self.bytes, "no whole entry is there, but behind it")),
            None => Ok(()),
        }
    }
}

/// Reads the journal of a log.
pub(crate) fn read(folder: &Path, seed: u64) -> Result<State> {
    let path = folder.join(NAME);
    let bytes = std::fs::read(&path).map_err(io_error("read", &path))?;
    let state = parse_header(&bytes, seed);
    let mut state = state.ok_or_else(|| damaged_file(&path, 0, "its header isn't as it was written"))?;
    state.replay(&path, bytes.get(HEADER_BYTES..).unwrap_or_default(), seed)?;
    Ok(state)
}

/// The transactions of a producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commits {
    /// Of transactions up to this number nobody knows any more who committed them: the journal was rewritten since.
    pub forgotten: u64,
    /// The producer's epochs, by the number of the transaction.
    pub epochs: BTreeMap<u64, u64>,
}

/// Reads which transactions a producer has committed.
pub(crate) fn commits(folder: &Path, seed: u64, producer: &str) -> Result<Commits> {
    let path = folder.join(NAME);
    let bytes = std::fs::read(&path).map_err(io_error("read", &path))?;
    let state = parse_header(&bytes, seed);
    let mut state = state.ok_or_else(|| damaged_file(&path, 0, "its header isn't as it was written"))?;
    let mut commits = Commits { forgotten: state.number, epochs: BTreeMap::new() };
    let entries = bytes.get(HEADER_BYTES..).unwrap_or_default();
    state.replay(&path, entries, seed)?;
    let mut at = 0;
    while let Some((entry, length)) = parse_entry(entries.get(at..).unwrap_or_default(), seed) {
        at += length;
        if entry.kind == Kind::Commit && entry.producer == producer {
            commits.epochs.insert(entry.number, entry.epoch);
        }
    }
    Ok(commits)
}

/// Makes the journal of a new log.
pub(crate) fn create(folder: &Path, seed: u64) -> Result<()> {
    replace(folder, NAME, &header(0, 0, seed))
}

/// The journal as its writer has it.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    path: PathBuf,
    seed: u64,
    file: File,
    pub(crate) state: State,
    rewrite_at: u64,
    /// Why nothing more may be written.
    pub(crate) stopped: Option<String>,
}

impl Journal {
    /// Opens the journal to write on. A torn end is cut off; `cut` tells from where, and how many bytes.
    /// After a writer that ended in order there must be as many transactions and bytes as `expected`.
    pub(crate) fn open(
        folder: &Path,
        seed: u64,
        expected: Option<(u64, u64)>,
        cut: impl FnOnce(&Path, u64, u64),
    ) -> Result<Self> {
        let state = read(folder, seed)?;
        let path = folder.join(NAME);
        if let Some((number, bytes)) = expected.filter(|&e| e != (state.number, state.bytes)) {
            let reason = format!(
                "the log was closed with {number} transactions in {bytes} bytes, found are {} in {}",
                state.number, state.bytes
            );
            return Err(damaged_file(&path, state.bytes, reason));
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
        let length = file.metadata().map_err(io_error("read", &path))?.len();
        if length > state.bytes {
            cut(&path, state.bytes, length - state.bytes);
            file.set_len(state.bytes).map_err(io_error("cut", &path))?;
        }
        // What was read may be in memory only, and what follows relies on it.
        file.sync_all().map_err(io_error("sync", &path))?;
        let rewrite_at = REWRITE_BYTES.max(2 * state.bytes);
        Ok(Self { folder: folder.to_path_buf(), path, seed, file, state, rewrite_at, stopped: None })
    }

    pub(crate) fn producer(&self, name: &str) -> Option<Producer> {
        self.state.producers.get(name).copied()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses runs that are older than the producer's.
    pub(crate) fn check(&self, producer: &str, run: u64) -> Result<()> {
        check_name(producer)?;
        match self.producer(producer) {
            Some(known) if known.run > run => {
                Err(LogError::Fenced { producer: producer.to_owned(), run, by: known.run })
            }
            _ => Ok(()),
        }
    }

    /// From now on, older runs are refused.
    pub(crate) fn fence(&mut self, producer: &str, run: u64) -> Result<()> {
        self.push(&Entry { kind: Kind::Fence, number: 0, run, epoch: 0, producer })?;
        self.state.producers.entry(producer.to_owned()).or_default().run = run;
        Ok(())
    }

    /// The next transaction is committed when this returns. After an error with [`Self::stopped`] set nobody
    /// knows whether it is.
    pub(crate) fn commit(&mut self, producer: &str, run: u64, epoch: u64) -> Result<()> {
        let number = self.state.number + 1;
        self.push(&Entry { kind: Kind::Commit, number, run, epoch, producer })?;
        self.state.number = number;
        self.state.producers.insert(producer.to_owned(), Producer { run, epoch: Some(epoch) });
        Ok(())
    }

    fn push(&mut self, entry: &Entry<'_>) -> Result<()> {
        if let Some(reason) = &self.stopped {
            return Err(LogError::Stopped { folder: self.folder.clone(), reason: reason.clone() });
        }
        let mut bytes = Vec::new();
        entry.push(&mut bytes, self.seed);
        if self.state.bytes > self.rewrite_at {
            self.rewrite()?;
        }
        let end = self.state.bytes;
        let written = self.file.seek(SeekFrom::Start(end)).and_then(|_| self.file.write_all(&bytes));
        if let Err(error) = written {
            if let Err(second) = self.file.set_len(end) {
                self.stopped = Some(format!("{}: {second}", self.path.display()));
            }
            return Err(io_error("write", &self.path)(error));
        }
        if let Err(error) = self.file.sync_data() {
            self.stopped = Some(format!("{}: {error}", self.path.display()));
            return Err(io_error("sync", &self.path)(error));
        }
        self.state.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is known of each producer, and nothing of how it came to be.
    fn rewrite(&mut self) -> Result<()> {
        let generation = self.state.generation.wrapping_add(1);
        let mut bytes = header(generation, self.state.number, self.seed);
        for (producer, known) in &self.state.producers {
            let kind = if known.epoch.is_some() { Kind::Known } else { Kind::Fence };
            let epoch = known.epoch.unwrap_or_default();
            Entry { kind, number: 0, run: known.run, epoch, producer }.push(&mut bytes, self.seed);
        }
        replace(&self.folder, NAME, &bytes)?;
        // The old file is gone; writing to it would be writing to nowhere.
        let file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(|error| {
            self.stopped = Some(format!("{}: {error}", self.path.display()));
            io_error("open", &self.path)(error)
        })?;
        self.file = file;
        self.state.generation = generation;
        self.state.bytes = bytes.len() as u64;
        self.rewrite_at = REWRITE_BYTES.max(2 * self.state.bytes);
        Ok(())
    }
}

/// Refuses what is no name for a producer.
pub(crate) fn check_name(producer: &str) -> Result<()> {
    if !producer.is_empty() && producer.len() <= PRODUCER_BYTES_MAX && !producer.contains(char::is_control) {
        return Ok(());
    }
    let reason = format!(
        "a producer's name has 1 to {PRODUCER_BYTES_MAX} bytes and no control characters; {producer:?} is none"
    );
    Err(LogError::Invalid { reason })
}

/// How far transactions are committed, as a reader follows it.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    seed: u64,
    state: State,
}

impl Follower {
    pub(crate) fn new(folder: &Path, seed: u64) -> Self {
        // Nothing is known until a frame asks for it.
        Self { path: folder.join(NAME), seed, state: State { generation: u64::MAX, ..State::default() } }
    }

    /// The number of the last transaction that is known to be committed.
    pub(crate) fn number(&self) -> u64 {
        self.state.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was added; says whether the number grew.
    pub(crate) fn refresh(&mut self) -> Result<bool> {
        let before = self.state.number;
        let error = |e| io_error("read", &self.path)(e);
        // Opened anew each time, as it may have been rewritten.
        let mut file = File::open(&self.path).map_err(error)?;
        let mut bytes = Vec::new();
        (&mut file).take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(error)?;
        let header = parse_header(&bytes, self.seed);
        let header =
            header.ok_or_else(|| damaged_file(&self.path, 0, "its header isn't as it was written"))?;
        if header.generation != self.state.generation {
            self.state = header;
        }
        bytes.clear();
        file.seek(SeekFrom::Start(self.state.bytes)).map_err(error)?;
        file.read_to_end(&mut bytes).map_err(error)?;
        self.state.replay(&self.path, &bytes, self.seed)?;
        Ok(self.state.number > before)
    }

    /// Makes what the journal says last.
    pub(crate) fn sync(&self) -> Result<()> {
        match File::open(&self.path).and_then(|f| f.sync_data()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("sync", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 5;

    fn open(folder: &Path) -> Journal {
        Journal::open(folder, SEED, None, |_, _, _| {}).unwrap()
    }

    fn new() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), SEED).unwrap();
        let journal = open(folder.path());
        (folder, journal)
    }

    #[test]
    fn what_was_committed_is_known_after_opening_again() {
        let (folder, mut journal) = new();
        journal.fence("a", 2).unwrap();
        journal.commit("b", 0, 7).unwrap();
        journal.commit("b", 1, 8).unwrap();
        let journal = open(folder.path());
        assert_eq!(journal.state.number, 2);
        assert_eq!(journal.producer("a"), Some(Producer { run: 2, epoch: None }));
        assert_eq!(journal.producer("b"), Some(Producer { run: 1, epoch: Some(8) }));
        assert_eq!(
            journal.check("a", 1).unwrap_err().to_string(),
            "run 1 of producer `a` may not write: run 2 has taken over; stop this one"
        );
        assert!(
            journal.check("a", 2).is_ok() && journal.check("new", 0).is_ok() && journal.check("", 0).is_err()
        );
    }

    #[test]
    fn each_prefix_of_the_file_has_the_entries_that_are_whole() {
        let (folder, mut journal) = new();
        let mut ends = vec![HEADER_BYTES as u64];
        for epoch in 0..4 {
            journal.commit("p", 0, epoch).unwrap();
            ends.push(journal.state.bytes);
        }
        let whole = std::fs::read(&journal.path).unwrap();
        for end in HEADER_BYTES..=whole.len() {
            std::fs::write(&journal.path, &whole[..end]).unwrap();
            let whole_entries = ends.iter().filter(|&&e| e <= end as u64).count() as u64 - 1;
            let opened = open(folder.path());
            assert_eq!(opened.state.number, whole_entries, "cut off at {end}");
            assert_eq!(std::fs::metadata(&journal.path).unwrap().len(), ends[whole_entries as usize]);
        }
        for bit in 0..(ends[3] as usize) * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&journal.path, &flipped).unwrap();
            assert!(matches!(read(folder.path(), SEED), Err(LogError::Damaged { .. })), "bit {bit}");
        }
    }

    #[test]
    fn a_reader_follows_through_rewriting() {
        let (folder, mut journal) = new();
        let mut follower = Follower::new(folder.path(), SEED);
        assert!(!follower.refresh().unwrap());
        journal.fence("only fenced", 9).unwrap();
        for epoch in 1..=10 {
            journal.commit("p", 3, epoch).unwrap();
            if epoch % 3 == 0 {
                journal.rewrite_at = 0;
            }
            assert!(follower.refresh().unwrap());
            assert_eq!(follower.number(), epoch);
        }
        assert!(journal.state.generation > 0, "it was rewritten");
        let opened = open(folder.path());
        assert_eq!(opened.state.number, 10);
        assert_eq!(opened.state.producers, journal.state.producers);
        assert_eq!(opened.producer("only fenced"), Some(Producer { run: 9, epoch: None }));
    }
}
