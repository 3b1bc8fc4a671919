//! A log, to be read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{LogError, Result};
use crate::header::{Header, Options};
use crate::index::Index;
use crate::journal::{self, Commits, Follower, Producer};
use crate::reader::{Position, Reader};
use crate::record::OwnedRecord;
use crate::segments::{self, Segment, partition_folder};

/// A log, to be read: by several at once, in any process, while it is written. Cheap to clone.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path().join("clicks");
/// use tidemill_log::{Log, Options, Record, Writer};
///
/// let writer = Writer::create(&folder, &Options::default())?;
/// writer.append(0, &[Record { value: b"hello", ..Record::default() }])?;
///
/// let log = Log::open(&folder)?;
/// let mut reader = log.reader(0, 0)?;
/// let batch = reader.read(4_096, 1 << 20)?;
/// assert_eq!(batch.get(0).map(|r| r.value), Some(b"hello".as_slice()));
/// assert!(reader.read(4_096, 1 << 20)?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    header: Header,
    index: Index,
}

/// What a log has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// By which the log is told from any other.
    pub identity: u64,
    /// What was chosen when it was created.
    pub options: Options,
    /// By number.
    pub partitions: Vec<PartitionInfo>,
}

/// What a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: u32,
    /// The offset of its first record, or `next_offset` if it has none.
    pub first_offset: u64,
    /// The offset that the next record will get: behind the last one that is committed.
    pub next_offset: u64,
    /// Of its files.
    pub bytes: u64,
    /// How many files those are.
    pub segments: usize,
    /// When the last batch was appended, in milliseconds since 1970; unknown if all
    /// were trimmed.
    pub last_written_ms: Option<i64>,
}

/// The partition that records with a key go to, so that they stay in order: XXH3-64 of the key, modulo the
/// number of partitions. This is fixed for good.
///
/// # Panics
/// If there are no partitions.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    u32::try_from(xxh3_64(key) % u64::from(partitions)).expect("less than the number of partitions")
}

impl Log {
    /// Opens the log in a folder, to read it.
    ///
    /// # Errors
    /// When the folder has no log that can be read.
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self::of(folder, Header::read(folder)?))
    }

    pub(crate) fn of(folder: &Path, header: Header) -> Self {
        Self { shared: Arc::new(Shared { folder: folder.to_path_buf(), header, index: Index::default() }) }
    }

    /// The log's folder.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// By which the log is told from any other, as long as it exists.
    pub fn identity(&self) -> u64 {
        self.shared.header.identity
    }

    /// What was chosen when the log was created.
    pub fn options(&self) -> &Options {
        &self.shared.header.options
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        self.options().partitions
    }

    /// Checks that this is the log that positions were taken in.
    ///
    /// # Errors
    /// [`LogError::Recreated`] if it isn't.
    pub fn expect_identity(&self, expected: u64) -> Result<()> {
        let found = self.identity();
        if found == expected {
            return Ok(());
        }
        Err(LogError::Recreated { folder: self.folder().to_path_buf(), expected, found })
    }

    /// Reads a partition from an offset on: at least its first one, and at most the next one.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] or [`LogError::BeyondEnd`] if there is no such offset; when files can't be read
    /// or are damaged.
    pub fn reader(&self, partition: u32, offset: u64) -> Result<Reader> {
        self.check_partition(partition)?;
        self.check_is_same()?;
        // From the record before, because there must be one, and by it the history is known.
        let before = offset.saturating_sub(1);
        let folder = partition_folder(self.folder(), partition);
        let segments = segments::list(&folder)?;
        let Some(Segment { first, .. }) = segments.first() else {
            return Err(crate::error::damaged_file(&folder, 0, "it has no segment"));
        };
        if offset < *first {
            return Err(self.trimmed(partition, offset, *first));
        }
        let segment = segments.iter().rev().find(|s| s.first <= before).map_or(*first, |s| s.first);
        let place = self.index().find(partition, segment, before);
        let mut reader = match Reader::open(self, partition, segment, place) {
            Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(self.trimmed(partition, offset, self.first_offset(partition)?));
            }
            opened => opened?,
        };
        let next = reader.skip_to(offset)?;
        if next < offset {
            return Err(LogError::BeyondEnd {
                folder: self.folder().to_path_buf(),
                partition,
                expected: offset,
                next,
            });
        }
        Ok(reader)
    }

    /// Goes on where another reader of this partition was, if the records before are still those that it
    /// read.
    ///
    /// # Errors
    /// As [`Self::reader`]; [`LogError::OtherHistory`] if they aren't.
    pub fn resume(&self, partition: u32, position: Position) -> Result<Reader> {
        let reader = self.reader(partition, position.offset)?;
        let found = reader.position().history;
        // 0 if the records before were trimmed: nothing is known of them any more.
        if position.history != 0 && found != 0 && found != position.history {
            let (folder, offset) = (self.folder().to_path_buf(), position.offset);
            return Err(LogError::OtherHistory { folder, partition, offset });
        }
        Ok(reader)
    }

    /// Copies records of a partition from an offset on: at most `records_max`, and, but for the first, no
    /// more than `bytes_max` bytes of keys, ids and values. Whoever reads on and on takes a [`Reader`].
    ///
    /// # Errors
    /// As [`Self::reader`].
    pub fn read(
        &self,
        partition: u32,
        offset: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<OwnedRecord>> {
        let mut reader = self.reader(partition, offset)?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.len() < records_max && bytes < bytes_max {
            let batch = reader.read(records_max - records.len(), bytes_max - bytes)?;
            if batch.is_empty() {
                break;
            }
            for (offset, record) in batch.records() {
                if !records.is_empty() && bytes + record.bytes() > bytes_max {
                    return Ok(records);
                }
                bytes += record.bytes();
                records.push(OwnedRecord::of(offset, &record));
            }
        }
        Ok(records)
    }

    /// The first offset of a partition: of its first record, or of the next one if it has none.
    ///
    /// # Errors
    /// When the partition can't be read.
    pub fn first_offset(&self, partition: u32) -> Result<u64> {
        self.check_partition(partition)?;
        let folder = partition_folder(self.folder(), partition);
        let first = segments::list(&folder)?.first().map(|s| s.first);
        first.ok_or_else(|| crate::error::damaged_file(&folder, 0, "it has no segment"))
    }

    /// The offset that the next record of a partition will get, as it is now: a bounded source reads up to
    /// it.
    ///
    /// # Errors
    /// When files can't be read or are damaged.
    pub fn next_offset(&self, partition: u32) -> Result<u64> {
        Ok(self.partition_info(partition)?.next_offset)
    }

    /// What the log has. Each partition's last segment is read for it.
    ///
    /// # Errors
    /// When files can't be read or are damaged.
    pub fn info(&self) -> Result<Info> {
        let partitions = (0..self.partitions()).map(|p| self.partition_info(p)).collect::<Result<_>>()?;
        Ok(Info { identity: self.identity(), options: *self.options(), partitions })
    }

    fn partition_info(&self, partition: u32) -> Result<PartitionInfo> {
        self.check_partition(partition)?;
        self.check_is_same()?;
        let folder = partition_folder(self.folder(), partition);
        let segments = segments::list(&folder)?;
        let Some(first) = segments.first() else {
            return Err(crate::error::damaged_file(&folder, 0, "it has no segment"));
        };
        let mut info = PartitionInfo {
            partition,
            first_offset: first.first,
            next_offset: first.first,
            bytes: segments.iter().map(|s| s.bytes).sum(),
            segments: segments.len(),
            last_written_ms: None,
        };
        // From the last segment on: the ones before are whole, unless a transaction that isn't committed
        // reaches back.
        for segment in segments.iter().rev() {
            let place = self.index().find(partition, segment.first, u64::MAX);
            let mut reader = Reader::open(self, partition, segment.first, place)?;
            info.next_offset = reader.skip_to(u64::MAX)?;
            info.last_written_ms = reader.last_written_ms();
            if info.last_written_ms.is_some() {
                break;
            }
        }
        Ok(info)
    }

    /// What is known of a producer, if it ever wrote transactions or was fenced.
    ///
    /// # Errors
    /// When the journal of transactions can't be read or is damaged.
    pub fn producer(&self, name: &str) -> Result<Option<Producer>> {
        Ok(journal::read(self.folder(), self.identity())?.producers.get(name).copied())
    }

    /// The transactions that a producer has committed, as far as the journal remembers each of them.
    ///
    /// # Errors
    /// When the journal of transactions can't be read or is damaged.
    pub fn commits(&self, producer: &str) -> Result<Commits> {
        journal::commits(self.folder(), self.identity(), producer)
    }

    pub(crate) fn index(&self) -> &Index {
        &self.shared.index
    }

    pub(crate) fn seed(&self, partition: u32) -> u64 {
        self.shared.header.seed(partition)
    }

    pub(crate) fn follower(&self) -> Follower {
        Follower::new(self.folder(), self.identity())
    }

    /// Checks that the folder still has this log.
    pub(crate) fn check_is_same(&self) -> Result<()> {
        Self::open(self.folder())?.expect_identity(self.identity())
    }

    pub(crate) fn check_partition(&self, partition: u32) -> Result<()> {
        let partitions = self.partitions();
        if partition < partitions {
            return Ok(());
        }
        Err(LogError::NoPartition { folder: self.folder().to_path_buf(), partition, partitions })
    }

    pub(crate) fn trimmed(&self, partition: u32, expected: u64, first: u64) -> LogError {
        LogError::Trimmed { folder: self.folder().to_path_buf(), partition, expected, first }
    }
}
