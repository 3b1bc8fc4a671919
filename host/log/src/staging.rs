//! Records that wait in a file until the checkpoint that they belong to is true, and are then published as
//! one transaction.
//!
//! A sink stages what it is given in an epoch, and [finishes](Staging::finish) when the epoch's barrier
//! comes: from then on the records survive a crash. When the checkpoint is complete, [`Writer::publish`]
//! commits what all of the sink's tasks staged, and the files can be removed. After a restart [`staged`]
//! finds what is left: of the checkpoint that was restored and those before it, it is published again (which
//! does nothing if it had been), the rest is removed.
//!
//! A file begins with 2,048 bytes of text: what it is for, how much follows, and a checksum. Then come frames
//! as in a segment, but for their tag, which is the partition that the records are for.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::error::{LogError, Result, damaged_file, io_error};
use crate::files::{fields, open_text, seal_text, sync_folder};
use crate::frame::{self, Frame};
use crate::journal::check_name;
use crate::record::{self, Record};
use crate::scan::{Found, Scanner};
use crate::staged_reader::StagedReader;
use crate::transaction::Outcome;
use crate::writer::{Begun, Writer, now_ms};

const HEADER_BYTES: usize = 2_048;
const SUFFIX: &str = ".staged";
const SUFFIX_UNFINISHED: &str = ".staging";
const VERSION: &str = "tidemill-staged 1";

/// Whose records, and when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage {
    /// Who writes: the same for all tasks of a sink, in all runs.
    pub producer: String,
    /// The run that staged them. Files of several runs may be there for the same epoch; the checkpoint knows
    /// which belong to it.
    pub run: u64,
    /// The checkpoint that they belong to.
    pub epoch: u64,
    /// The task. In a transaction, lower ones come first.
    pub part: u32,
}

impl Stage {
    /// The name of the file, without its suffix.
    fn name(&self) -> String {
        let Self { producer, run, epoch, part } = self;
        format!("{:016x}-{run}-{epoch}-{part}", xxh3_64(producer.as_bytes()))
    }

    fn seed(&self) -> u64 {
        xxh3_64(self.name().as_bytes())
    }
}

/// A file that records are being staged in. When it is dropped unfinished, it is removed.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    path: PathBuf,
    stage: Stage,
    file: BufWriter<File>,
    totals: Totals,
    buffer: Vec<u8>,
    is_finished: bool,
}

/// What a staged file has.
#[derive(Clone, Default)]
struct Totals {
    records: u64,
    bytes: u64,
    /// Of the checksums of all frames.
    checksum: Xxh3,
}

impl std::fmt::Debug for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records, {} bytes", self.records, self.bytes)
    }
}

impl Totals {
    fn add(&mut self, frame: &Frame) {
        self.records += u64::from(frame.records);
        self.bytes += frame.bytes() as u64;
        self.checksum.update(&frame.checksum.to_le_bytes());
    }
}

/// Begins a file in the folder for what is staged. One of the same name that was never finished is
/// overwritten.
///
/// # Errors
/// [`LogError::Invalid`] if it is no name for a producer; when the file can't be written.
pub fn stage(folder: &Path, stage: Stage) -> Result<Staging> {
    check_name(&stage.producer)?;
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    let path = folder.join(stage.name() + SUFFIX_UNFINISHED);
    let file = File::create(&path).map_err(io_error("create", &path))?;
    let mut file = BufWriter::new(file);
    file.write_all(&[b'\n'; HEADER_BYTES]).map_err(io_error("write", &path))?;
    let (totals, buffer) = (Totals::default(), Vec::new());
    Ok(Staging { folder: folder.to_path_buf(), path, stage, file, totals, buffer, is_finished: false })
}

impl Staging {
    /// Adds records for a partition.
    ///
    /// # Errors
    /// When they are too large together ([`BATCH_BYTES_MAX`](crate::BATCH_BYTES_MAX)) or can't be written.
    pub fn append(&mut self, partition: u32, records: &[Record<'_>]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        frame::begin(&mut self.buffer);
        records.iter().try_for_each(|record| record::push(&mut self.buffer, record))?;
        let has_ids = records.iter().any(|r| r.id.is_some());
        let (seed, first) = (self.stage.seed(), self.totals.records);
        let frame =
            frame::seal(&mut self.buffer, seed, first, partition.into(), now_ms(), records.len(), has_ids)?;
        self.file.write_all(&self.buffer).map_err(io_error("write", &self.path))?;
        self.totals.add(&frame);
        Ok(())
    }

    /// How many records were added.
    pub fn records(&self) -> u64 {
        self.totals.records
    }

    /// Makes the file last, and gives it the name by which it is found.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(mut self) -> Result<Staged> {
        let Stage { producer, run, epoch, part } = &self.stage;
        let Totals { records, bytes, checksum } = &self.totals;
        let checksum = checksum.digest();
        let text = format!(
            "{VERSION}\nproducer {producer}\nrun {run}\nepoch {epoch}\npart {part}\nrecords {records}\n\
             bytes {bytes}\nframes {checksum:016x}\n"
        );
        let header = seal_text(text);
        assert!(
            header.len() <= HEADER_BYTES,
            "a producer's name is short, and all else too: {}",
            header.len()
        );
        let error = |e| io_error("write", &self.path)(e);
        self.file.rewind().map_err(error)?;
        self.file.write_all(header.as_bytes()).map_err(error)?;
        self.file.flush().map_err(error)?;
        self.file.get_ref().sync_all().map_err(error)?;
        let path = self.folder.join(self.stage.name() + SUFFIX);
        fs::rename(&self.path, &path).map_err(io_error("rename", &self.path))?;
        self.is_finished = true;
        sync_folder(&self.folder)?;
        Ok(Staged { path, stage: self.stage.clone(), records: *records, bytes: *bytes, checksum })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_finished {
            // Left over, it would be overwritten or removed later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file of records that were staged and finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    path: PathBuf,
    stage: Stage,
    records: u64,
    bytes: u64,
    checksum: u64,
}

impl Staged {
    /// Opens a file that was finished.
    ///
    /// # Errors
    /// When it can't be read or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let mut header = Vec::new();
        let file = File::open(path).map_err(io_error("open", path))?;
        file.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(io_error("read", path))?;
        parse(path, &header)
            .ok_or_else(|| damaged_file(path, 0, "its first 2,048 bytes aren't as they were written"))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose records they are, and when.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// How many records it has.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// A checksum of all of them, by which a checkpoint can tell this file from another.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// Reads its records.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn reader(&self) -> Result<StagedReader> {
        let scanner = Scanner::open(&self.path, HEADER_BYTES as u64, self.stage.seed())?;
        Ok(StagedReader::new(self.clone(), scanner))
    }

    /// Removes the file: its records were published, or never will be. It is no error if it is gone.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_error("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Hands over its frames and checks that they are all there.
    fn each(&self, mut take: impl FnMut(u32, &Frame, &mut [u8]) -> Result<()>) -> Result<()> {
        let mut scanner = Scanner::open(&self.path, HEADER_BYTES as u64, self.stage.seed())?;
        let mut totals = Totals::default();
        let mut bytes = Vec::new();
        loop {
            match scanner.next()? {
                Found::Frame(frame) => {
                    let wrong = || damaged_file(&self.path, scanner.byte(), "it has an impossible partition");
                    let partition = u32::try_from(frame.tag).map_err(|_| wrong())?;
                    let body = scanner.buffer().get(scanner.body(&frame)).unwrap_or_default();
                    frame::begin(&mut bytes);
                    bytes.extend_from_slice(body);
                    take(partition, &frame, &mut bytes)?;
                    totals.add(&frame);
                    scanner.pass(&frame);
                }
                Found::Torn(reason) => return Err(damaged_file(&self.path, scanner.byte(), reason)),
                Found::End => break,
            }
        }
        if (totals.records, totals.bytes, totals.checksum.digest())
            != (self.records, self.bytes, self.checksum)
        {
            let reason = format!("expected {} records, found {}", self.records, totals.records);
            return Err(damaged_file(&self.path, scanner.byte(), reason));
        }
        Ok(())
    }
}

fn parse(path: &Path, header: &[u8]) -> Option<Staged> {
    let padding = header.iter().rev().take_while(|b| **b == b'\n').count().checked_sub(1)?;
    let text = open_text(header.get(..HEADER_BYTES.checked_sub(padding)?)?)?;
    text.strip_prefix(VERSION)?;
    let value = |name| fields(text).find(|(n, _)| *n == name).map(|(_, v)| v);
    let number = |name| value(name)?.parse::<u64>().ok();
    let stage = Stage {
        producer: value("producer")?.to_owned(),
        run: number("run")?,
        epoch: number("epoch")?,
        part: u32::try_from(number("part")?).ok()?,
    };
    let checksum = u64::from_str_radix(value("frames")?, 16).ok()?;
    let (records, bytes) = (number("records")?, number("bytes")?);
    Some(Staged { path: path.to_path_buf(), stage, records, bytes, checksum })
}

/// The finished files of a producer in a folder, by run, epoch and part. What it left unfinished is removed:
/// so it must not be staging now.
///
/// # Errors
/// When the folder or a file can't be read, or a file is damaged.
pub fn staged(folder: &Path, producer: &str) -> Result<Vec<Staged>> {
    let mut files = Vec::new();
    if !folder.exists() {
        return Ok(files);
    }
    let prefix = format!("{:016x}-", xxh3_64(producer.as_bytes()));
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let path = entry.map_err(io_error("read", folder))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if !name.starts_with(&prefix) {
            continue;
        }
        if name.ends_with(SUFFIX_UNFINISHED) {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        } else if name.ends_with(SUFFIX) {
            files.push(Staged::open(&path)?);
        }
    }
    files.sort_by(|a, b| a.stage.cmp(&b.stage));
    Ok(files)
}

impl Writer {
    /// Appends what was staged for one epoch of a producer, all of it or nothing, in the order of the parts.
    /// `run` is the run that publishes, which may be a later one than that which staged. Published again,
    /// nothing is done. The files stay; they can be removed then.
    ///
    /// # Errors
    /// As [`Writer::begin`]; [`LogError::Invalid`] if the files are of several producers or epochs, or are
    /// for partitions that the log doesn't have; when a file can't be read or is damaged; when the log can't
    /// be written.
    pub fn publish(&self, run: u64, files: &[Staged]) -> Result<Outcome> {
        let mut files: Vec<&Staged> = files.iter().collect();
        files.sort_by_key(|f| f.stage.part);
        let Some(first) = files.first() else {
            return Err(LogError::Invalid {
                reason: "nothing was staged that could be published".to_owned(),
            });
        };
        let stage = &first.stage;
        if files.iter().any(|f| f.stage.producer != stage.producer || f.stage.epoch != stage.epoch) {
            let reason = "one transaction publishes one epoch of one producer".to_owned();
            return Err(LogError::Invalid { reason });
        }
        match self.begin(&stage.producer, run, stage.epoch)? {
            Begun::AlreadyCommitted { last_epoch } => Ok(Outcome::AlreadyCommitted { last_epoch }),
            Begun::Transaction(mut transaction) => {
                for file in files {
                    file.each(|partition, frame, bytes| transaction.append_frame(partition, frame, bytes))?;
                }
                transaction.commit()
            }
        }
    }
}
