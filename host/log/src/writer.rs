//! A log, to be written: by one writer at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{LogError, Result, io_error};
use crate::files::sync_folder;
use crate::header::{Closed, Header, Options};
use crate::journal::{self, Journal, Producer};
use crate::log::{Info, Log, PartitionInfo};
use crate::partition::{Copies, Partition};
use crate::record::Record;
use crate::recovery::{self, Cut, Known};
use crate::segments::{self, partition_folder};
use crate::transaction::{Outcome, Transaction};

const LOCK: &str = "lock";

/// When what is appended is made to last. Transactions are, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before an append returns.
    EachAppend,
    /// When [`Writer::sync`] is called, a segment is full, or the writer is closed. What was appended since
    /// may be lost when the machine fails; when only the process does, nothing is. If parts of it are lost
    /// and later parts aren't, the log is reported as damaged.
    OnRequest,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record that was written, or would have been.
    pub first_offset: u64,
    /// How many were written, with offsets from there.
    pub records: u64,
    /// How many were dropped, because records with their ids were there.
    pub copies: u64,
}

/// A log, to be written. While it lives, nobody else can write it; threads share it.
///
/// When it is closed, or dropped, it makes everything last and leaves a note of how far each file goes.
/// Without the note (after a crash) the next writer cuts off a torn end: see [`Self::cuts`].
#[derive(Debug)]
pub struct Writer {
    log: Log,
    durability: Durability,
    /// Each held for the length of a write; together only with the journal's, which then is taken first.
    partitions: Vec<Mutex<Partition>>,
    /// Held for the length of a transaction, so there is one at a time.
    journal: Mutex<Journal>,
    cuts: Vec<Cut>,
    is_closed: bool,
    /// Its lock ends with it.
    _lock: File,
}

impl Writer {
    /// Makes a log in a folder that is empty or isn't there, and opens it.
    ///
    /// # Errors
    /// [`LogError::NotEmpty`]; [`LogError::Invalid`] if the options are; when files can't be written.
    pub fn create(folder: &Path, options: &Options) -> Result<Self> {
        options.check()?;
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        if fs::read_dir(folder).map_err(io_error("read", folder))?.next().is_some() {
            return Err(LogError::NotEmpty { folder: folder.to_path_buf() });
        }
        let lock = lock(folder)?;
        let header = Header::new(folder, *options);
        for partition in 0..options.partitions {
            let folder = partition_folder(folder, partition);
            fs::create_dir(&folder).map_err(io_error("create", &folder))?;
            segments::create(&folder, 0)?;
        }
        journal::create(folder, header.identity)?;
        // With this file it is a log.
        header.write(folder)?;
        if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        Self::open_locked(folder, lock)
    }

    /// Opens the log in a folder, to write it. What a crash left unfinished is cut off; see [`Self::cuts`].
    ///
    /// # Errors
    /// [`LogError::Locked`] if somebody else writes it; [`LogError::Damaged`] if more is wrong with it than a
    /// crash can explain; when files can't be read or written.
    pub fn open(folder: &Path) -> Result<Self> {
        Header::read(folder)?;
        Self::open_locked(folder, lock(folder)?)
    }

    fn open_locked(folder: &Path, lock: File) -> Result<Self> {
        let log = Log::open(folder)?;
        let closed = Closed::read(folder)?;
        let mut cuts = Vec::new();
        let expected = closed.as_ref().map(|c| (c.transaction, c.journal_bytes));
        let journal = Journal::open(folder, log.identity(), expected, |file, byte, bytes| {
            let reason = "an entry that is cut off".to_owned();
            cuts.push(Cut { file: file.to_path_buf(), byte, bytes, reason });
        })?;
        let committed = journal.state.number;
        let known = Known { folder, options: log.options(), committed, journal: journal.path() };
        let mut partitions = Vec::new();
        for (index, number) in (0..log.partitions()).enumerate() {
            let closed = closed.as_ref().and_then(|c| c.ends.get(index));
            let partition = recovery::open(known, number, log.seed(number), closed, log.index(), &mut cuts)?;
            partitions.push(Mutex::new(partition));
        }
        Closed::remove(folder)?;
        let journal = Mutex::new(journal);
        let durability = Durability::EachAppend;
        Ok(Self { log, durability, partitions, journal, cuts, is_closed: false, _lock: lock })
    }

    /// Chooses when appends are made to last; before each returns, if nothing else is chosen.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The log, to be read.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What was cut off when this writer opened the log: bytes that a crash left, of appends that never
    /// returned and transactions that weren't committed.
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// Appends records to a partition, all or none of them, but for copies: a record whose id is that of one
    /// of the last [`Options::ids_records`] records of the partition is dropped. After an error of the file
    /// system it may be that the records are there nevertheless when the log is opened again.
    ///
    /// # Errors
    /// When there is no such partition, the records are too large together
    /// ([`BATCH_BYTES_MAX`](crate::BATCH_BYTES_MAX)), or files can't be written.
    pub fn append(&self, partition: u32, records: &[Record<'_>]) -> Result<Appended> {
        self.append_with(partition, records, Copies::Drop)
    }

    /// Appends records to a partition, all or none of them, also those whose ids are there: for whoever knows copies by
    /// other means. The ids are remembered.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_all(&self, partition: u32, records: &[Record<'_>]) -> Result<Appended> {
        self.append_with(partition, records, Copies::Keep)
    }

    fn append_with(&self, partition: u32, records: &[Record<'_>], copies: Copies) -> Result<Appended> {
        let mut held = self.partition(partition)?;
        let written = held.append(records, copies, now_ms())?;
        if self.durability == Durability::EachAppend {
            held.sync()?;
        }
        if let Some((segment, place)) = written.frame {
            self.log.index().note(partition, segment, place);
        }
        let copies = records.len() as u64 - written.records;
        Ok(Appended { first_offset: written.first, records: written.records, copies })
    }

    /// Makes everything that was appended last.
    ///
    /// # Errors
    /// When the file system can't.
    pub fn sync(&self) -> Result<()> {
        self.partitions.iter().try_for_each(|p| hold(p).sync())
    }

    /// From now on, transactions of older runs of the producer are refused. Gives what is known of the
    /// producer.
    ///
    /// # Errors
    /// [`LogError::Fenced`] if a newer run has done so; when the journal can't be written.
    pub fn fence(&self, producer: &str, run: u64) -> Result<Producer> {
        let mut journal = self.journal();
        journal.check(producer, run)?;
        if journal.producer(producer).is_none_or(|known| known.run < run) {
            journal.fence(producer, run)?;
        }
        Ok(journal.producer(producer).unwrap_or_default())
    }

    /// The last epoch of the producer that was committed, if one was.
    pub fn last_epoch(&self, producer: &str) -> Option<u64> {
        self.journal().producer(producer).and_then(|known| known.epoch)
    }

    /// Begins the transaction of a producer's epoch, unless that epoch or a later one was committed. Until it
    /// is committed or dropped, no other can begin, and appends to the partitions that it writes wait. A run
    /// that is newer than the producer's fences the older ones off when it commits.
    ///
    /// # Errors
    /// [`LogError::Fenced`]; [`LogError::Invalid`] if it is no name for a producer.
    pub fn begin<'a>(&'a self, producer: &'a str, run: u64, epoch: u64) -> Result<Begun<'a>> {
        let journal = self.journal();
        journal.check(producer, run)?;
        match journal.producer(producer).and_then(|known| known.epoch) {
            Some(last_epoch) if last_epoch >= epoch => Ok(Begun::AlreadyCommitted { last_epoch }),
            _ => Ok(Begun::Transaction(Transaction::new(self, journal, producer, run, epoch))),
        }
    }

    /// Appends records to several partitions, all or none of them, as the producer's epoch. Ids aren't looked
    /// at, but remembered.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Self::append`].
    pub fn transaction(
        &self,
        producer: &str,
        run: u64,
        epoch: u64,
        records: &[(u32, &[Record<'_>])],
    ) -> Result<Outcome> {
        match self.begin(producer, run, epoch)? {
            Begun::AlreadyCommitted { last_epoch } => Ok(Outcome::AlreadyCommitted { last_epoch }),
            Begun::Transaction(mut transaction) => {
                for (partition, records) in records {
                    transaction.append(*partition, records)?;
                }
                transaction.commit()
            }
        }
    }

    /// Removes whole segments of a partition whose records are all before an offset; says how many. The
    /// records from there on stay, and perhaps some before.
    ///
    /// # Errors
    /// [`LogError::BeyondEnd`] if the offset is behind the next one; when files can't be removed.
    pub fn trim(&self, partition: u32, before: u64) -> Result<usize> {
        let mut held = self.partition(partition)?;
        let next = held.next;
        if before > next {
            let folder = self.log.folder().to_path_buf();
            return Err(LogError::BeyondEnd { folder, partition, expected: before, next });
        }
        held.trim(before)
    }

    /// Removes what the retention doesn't keep; says how many segments. It happens by itself before
    /// the append that follows the begin of a segment; the time is given in milliseconds since 1970.
    ///
    /// # Errors
    /// When files can't be removed.
    pub fn retain(&self, now_ms: i64) -> Result<usize> {
        self.partitions.iter().map(|p| hold(p).retain(now_ms)).sum()
    }

    /// What the log has. Waits for a transaction that is under way.
    pub fn info(&self) -> Info {
        let info = |(partition, held): (u32, &Mutex<Partition>)| {
            let held = hold(held);
            PartitionInfo {
                partition,
                first_offset: held.first_offset(),
                next_offset: held.next,
                bytes: held.bytes(),
                segments: held.segments.len(),
                last_written_ms: held.last_written_ms,
            }
        };
        let partitions = (0..).zip(&self.partitions).map(info).collect();
        Info { identity: self.log.identity(), options: *self.log.options(), partitions }
    }

    /// Makes everything last and leaves a note of it, by which the next writer can tell damage from a crash.
    /// Dropping does so too, but can't say when it fails.
    ///
    /// # Errors
    /// When the file system can't.
    pub fn close(mut self) -> Result<()> {
        self.close_once()
    }

    fn close_once(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_closed, true) {
            return Ok(());
        }
        self.sync()?;
        let journal = self.journal();
        if let Some(reason) = &journal.stopped {
            let folder = self.log.folder().to_path_buf();
            return Err(LogError::Stopped { folder, reason: reason.clone() });
        }
        let ends = self.partitions.iter().map(|p| hold(p).end()).collect();
        let (transaction, journal_bytes) = (journal.state.number, journal.state.bytes);
        Closed { transaction, journal_bytes, ends }.write(self.log.folder())
    }

    pub(crate) fn partition(&self, number: u32) -> Result<MutexGuard<'_, Partition>> {
        self.log.check_partition(number)?;
        Ok(hold(&self.partitions[number as usize]))
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        hold(&self.journal)
    }
}

/// What is held is as it should be between any two steps, so a panic elsewhere doesn't matter.
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A panic may have left anything; the next writer looks for itself.
        if !std::thread::panicking() {
            let _ = self.close_once();
        }
    }
}

/// What [`Writer::begin`] gives.
#[derive(Debug)]
pub enum Begun<'a> {
    /// The transaction is to be written.
    Transaction(Transaction<'a>),
    /// It was committed before, and nothing is to be done.
    AlreadyCommitted {
        /// The last epoch that was.
        last_epoch: u64,
    },
}

/// By the clock of the machine.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Takes the log's lock, which ends with the file that is given back, however the process ends.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {
            let process = std::process::id().to_string();
            let written = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(process.as_bytes()));
            written.map_err(io_error("write", &path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(locked(folder, &mut file)),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

fn locked(folder: &Path, file: &mut File) -> LogError {
    let mut process = String::new();
    let _ = file.take(20).read_to_string(&mut process);
    LogError::Locked { folder: PathBuf::from(folder), process: process.parse().ok() }
}
