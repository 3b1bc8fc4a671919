//! The file `log`, by which a folder is a log: what was chosen when it was created. And the file `closed`, by
//! which a writer that ended in order tells the next how far each file goes, so that not even the last record
//! can be lost unnoticed.

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{LogError, Result, damaged_file};
use crate::files::{fields, open_text, read_if_there, replace, seal_text};

const HEADER: &str = "log";
const CLOSED: &str = "closed";
const VERSION: &str = "tidemill-log 1";

/// More partitions than any machine has use for.
pub const PARTITIONS_MAX: u32 = 4_096;

/// What is chosen when a log is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many partitions it has, for ever: 1 to [`PARTITIONS_MAX`].
    pub partitions: u32,
    /// A segment that would become larger is followed by another. Whole segments are trimmed, and the last
    /// one of each partition is read when the log is opened.
    pub segment_bytes: u64,
    /// When segments are removed by themselves.
    pub retention: Retention,
    /// A record whose id is that of one of the last so many records of its partition, those that were trimmed
    /// left out, is a copy and is dropped. They are read when the log is opened, and an id in memory costs
    /// about 80 bytes.
    pub ids_records: u64,
}

/// When the log removes segments by itself. The last segment of a partition stays in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Never.
    None,
    /// When the other segments of the partition have at least this many bytes.
    Bytes(u64),
    /// When the segment behind it was begun, by the clock of the machine, more than this many milliseconds
    /// ago.
    AgeMs(u64),
}

impl Default for Options {
    /// One partition, segments of 64 MiB (the last is read within tens of milliseconds when a log is opened),
    /// no retention, ids of 65,536 records.
    fn default() -> Self {
        Self { partitions: 1, segment_bytes: 64 << 20, retention: Retention::None, ids_records: 1 << 16 }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        let reason = if !(1..=PARTITIONS_MAX).contains(&self.partitions) {
            format!("a log has 1 to {PARTITIONS_MAX} partitions, not {}", self.partitions)
        } else if self.segment_bytes == 0 {
            "a segment has at least one byte".to_owned()
        } else {
            return Ok(());
        };
        Err(LogError::Invalid { reason })
    }
}

/// What is known of a log by its file `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) identity: u64,
    pub(crate) options: Options,
}

impl Header {
    /// A header with an identity that no other log has.
    pub(crate) fn new(folder: &Path, options: Options) -> Self {
        // The standard library's hasher is keyed by the operating system's randomness; time and process are
        // there for a system that has little of it.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write(folder.as_os_str().as_encoded_bytes());
        hasher.write_u32(std::process::id());
        hasher.write_u128(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
        Self { identity: hasher.finish(), options }
    }

    /// The seed of the checksums of a partition.
    pub(crate) fn seed(&self, partition: u32) -> u64 {
        let mut bytes = self.identity.to_le_bytes().to_vec();
        bytes.extend_from_slice(&partition.to_le_bytes());
        xxh3_64(&bytes)
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let Options { partitions, segment_bytes, retention, ids_records } = self.options;
        let retention = match retention {
            Retention::None => "none".to_owned(),
            Retention::Bytes(bytes) => format!("bytes {bytes}"),
            Retention::AgeMs(age) => format!("age_ms {age}"),
        };
        let text = format!(
            "{VERSION}\nidentity {:016x}\npartitions {partitions}\nsegment_bytes {segment_bytes}\n\
             retention {retention}\nids_records {ids_records}\n",
            self.identity
        );
        replace(folder, HEADER, seal_text(text).as_bytes())
    }

    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let no_log =
            |reason: &str| LogError::NoLog { folder: folder.to_path_buf(), reason: reason.to_owned() };
        let bytes = read_if_there(&folder.join(HEADER))?
            .ok_or_else(|| no_log("it has no file `log`; `tidemill log create` makes one"))?;
        let Some(text) = open_text(&bytes) else {
            return Err(damaged_file(&folder.join(HEADER), 0, "its checksum is wrong"));
        };
        if !text.starts_with(&format!("{VERSION}\n")) {
            return Err(no_log(
                "its file `log` is of another version; use the version of tidemill that made it",
            ));
        }
        let header = parse(text).filter(|h| h.options.check().is_ok());
        header.ok_or_else(|| no_log("its file `log` says something that this version doesn't know"))
    }
}

fn parse(text: &str) -> Option<Header> {
    let value = |name| fields(text).find(|(n, _)| *n == name).map(|(_, v)| v);
    let number = |name| value(name)?.parse::<u64>().ok();
    let retention = match value("retention")?.split_once(' ') {
        None if value("retention") == Some("none") => Retention::None,
        Some(("bytes", bytes)) => Retention::Bytes(bytes.parse().ok()?),
        Some(("age_ms", age)) => Retention::AgeMs(age.parse().ok()?),
        _ => return None,
    };
    let options = Options {
        partitions: u32::try_from(number("partitions")?).ok()?,
        segment_bytes: number("segment_bytes")?,
        retention,
        ids_records: number("ids_records")?,
    };
    Some(Header { identity: u64::from_str_radix(value("identity")?, 16).ok()?, options })
}

/// How far each file of a log goes that was closed in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The number of the last transaction, and the bytes of the journal.
    pub(crate) transaction: u64,
    pub(crate) journal_bytes: u64,
    /// Of each partition the last segment's first offset, its bytes, and the next offset.
    pub(crate) ends: Vec<End>,
}

/// The end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) segment: u64,
    pub(crate) bytes: u64,
    pub(crate) next: u64,
}

impl Closed {
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let mut text = format!("closed {} {}\n", self.transaction, self.journal_bytes);
        for End { segment, bytes, next } in &self.ends {
            let _ = writeln!(text, "end {segment} {bytes} {next}");
        }
        replace(folder, CLOSED, seal_text(text).as_bytes())
    }

    /// What the last writer said, if it ended in order and no other has begun.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CLOSED);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let closed = open_text(&bytes).and_then(|text| {
            let (_, journal) = fields(text).next().filter(|(n, _)| *n == "closed")?;
            let (transaction, journal_bytes) = journal.split_once(' ')?;
            let end = |line: &str| {
                let mut numbers = line.split(' ').map(|n| n.parse::<u64>().ok());
                Some(End { segment: numbers.next()??, bytes: numbers.next()??, next: numbers.next()?? })
            };
            let ends = fields(text).skip(1).map(|(_, line)| end(line)).collect::<Option<_>>()?;
            Some(Self {
                transaction: transaction.parse().ok()?,
                journal_bytes: journal_bytes.parse().ok()?,
                ends,
            })
        });
        closed.map(Some).ok_or_else(|| {
            let reason = "its checksum is wrong".to_owned();
            let advice = "if the other files of the log are right, remove this one".to_owned();
            LogError::Damaged { file: path, byte: 0, reason, advice }
        })
    }

    /// A writer has begun; what was said counts no more.
    pub(crate) fn remove(folder: &Path) -> Result<()> {
        let path = folder.join(CLOSED);
        match std::fs::remove_file(&path) {
            Ok(()) => crate::files::sync_folder(folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(crate::error::io_error("remove", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for retention in [Retention::None, Retention::Bytes(5), Retention::AgeMs(7)] {
            let options = Options { partitions: 3, retention, ..Options::default() };
            let header = Header::new(folder.path(), options);
            header.write(folder.path()).unwrap();
            assert_eq!(Header::read(folder.path()).unwrap(), header);
        }
        assert_ne!(
            Header::new(folder.path(), Options::default()),
            Header::new(folder.path(), Options::default())
        );
    }

    #[test]
    fn what_is_no_log_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Header::read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("it has no file `log`; `tidemill log create` makes one"), "{error}");
        std::fs::write(folder.path().join("log"), seal_text("tidemill-log 2\n".into())).unwrap();
        assert!(Header::read(folder.path()).unwrap_err().to_string().contains("another version"));
        std::fs::write(folder.path().join("log"), seal_text(format!("{VERSION}\npartitions 0\n"))).unwrap();
        assert!(Header::read(folder.path()).unwrap_err().to_string().contains("doesn't know"));
    }

    #[test]
    fn the_end_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Closed::read(folder.path()).unwrap(), None);
        let ends = vec![End { segment: 0, bytes: 9, next: 2 }, End { segment: 5, bytes: 0, next: 5 }];
        let closed = Closed { transaction: 4, journal_bytes: 99, ends };
        closed.write(folder.path()).unwrap();
        assert_eq!(Closed::read(folder.path()).unwrap(), Some(closed));
        Closed::remove(folder.path()).unwrap();
        assert_eq!(Closed::read(folder.path()).unwrap(), None);
    }
}
