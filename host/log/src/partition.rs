//! A partition as its writer has it: the end of its last segment.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{LogError, Result, io_error};
use crate::files::sync_folder;
use crate::frame::{self, Frame};
use crate::header::{End, Retention};
use crate::ids::Ids;
use crate::index::Place;
use crate::record::{self, Record};
use crate::segments::{self, Segment, segment_path};

#[derive(Debug)]
pub(crate) struct Partition {
    /// The partition's folder.
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) retention: Retention,
    /// A segment was begun since the retention was looked after.
    pub(crate) is_retention_due: bool,
    /// By offset; the last one is written. Never empty.
    pub(crate) segments: Vec<Segment>,
    /// The last segment, positioned at its end.
    pub(crate) file: File,
    /// The offset of the next record.
    pub(crate) next: u64,
    pub(crate) last_written_ms: Option<i64>,
    pub(crate) ids: Ids,
    /// Something was written since the last sync.
    pub(crate) unsynced: bool,
    /// Why nothing more may be written.
    pub(crate) stopped: Option<String>,
    /// Where frames are made.
    pub(crate) buffer: Vec<u8>,
}

/// Where a partition ended at some moment, to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    segment: Segment,
    next: u64,
    last_written_ms: Option<i64>,
}

/// What becomes of records whose ids are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    Drop,
    Keep,
}

/// What an append wrote.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) first: u64,
    pub(crate) records: u64,
    /// The frame, in the segment that begins with that offset, unless all records were copies.
    pub(crate) frame: Option<(u64, Place)>,
}

impl Partition {
    /// The segment that is written.
    pub(crate) fn last(&self) -> Segment {
        *self.segments.last().expect("a partition has a segment")
    }

    pub(crate) fn end(&self) -> End {
        let Segment { first, bytes } = self.last();
        End { segment: first, bytes, next: self.next }
    }

    pub(crate) fn first_offset(&self) -> u64 {
        self.segments.first().map_or(self.next, |s| s.first)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// Writes records as one frame; if copies are dropped, without those whose ids are known.
    pub(crate) fn append(
        &mut self,
        records: &[Record<'_>],
        copies: Copies,
        written_ms: i64,
    ) -> Result<Written> {
        self.retain_if_due(written_ms)?;
        let (first, mut next, mut has_ids) = (self.next, self.next, false);
        let mut buffer = std::mem::take(&mut self.buffer);
        frame::begin(&mut buffer);
        let mut encode = || {
            for record in records {
                if let Some(id) = record.id {
                    match copies {
                        Copies::Drop if self.ids.is_copy(next, id) => continue,
                        Copies::Drop => {}
                        Copies::Keep => self.ids.add(next, id),
                    }
                    has_ids = true;
                }
                record::push(&mut buffer, record)?;
                next += 1;
            }
            Ok(())
        };
        let encoded = encode();
        let count = next - first;
        let result = encoded.and_then(|()| match count {
            0 => Ok(None),
            _ => self.write(&mut buffer, count, 0, written_ms, has_ids).map(Some),
        });
        self.buffer = buffer;
        match result {
            Ok(_) => self.ids.forget_old(self.next),
            Err(_) => self.ids.forget_from(first),
        }
        Ok(Written { first, records: count, frame: result? })
    }

    /// Writes records as one frame of a transaction.
    pub(crate) fn append_tagged(&mut self, records: &[Record<'_>], tag: u64, written_ms: i64) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        frame::begin(&mut buffer);
        let encoded = records.iter().try_for_each(|record| record::push(&mut buffer, record));
        let has_ids = records.iter().any(|r| r.id.is_some());
        let count = records.len() as u64;
        let result =
            encoded.and_then(|()| self.write(&mut buffer, count, tag, written_ms, has_ids).map(|_| ()));
        self.buffer = buffer;
        result
    }

    /// Writes a frame whose records stand behind the room for its header; says in which segment and where.
    pub(crate) fn write(
        &mut self,
        bytes: &mut [u8],
        records: u64,
        tag: u64,
        written_ms: i64,
        has_ids: bool,
    ) -> Result<(u64, Place)> {
        self.may_write()?;
        let count = usize::try_from(records).expect("as many as fit memory");
        let frame = frame::seal(bytes, self.seed, self.next, tag, written_ms, count, has_ids)?;
        let mut last = self.last();
        if last.bytes > 0 && last.bytes + bytes.len() as u64 > self.segment_bytes {
            self.roll()?;
            last = self.last();
        }
        if let Err(error) = self.file.write_all(bytes) {
            // What was written of it would stand between good frames.
            if let Err(second) = cut(&mut self.file, last.bytes) {
                self.stop(&second.to_string());
            }
            return Err(io_error("write", &segment_path(&self.folder, last.first))(error));
        }
        self.passed(&frame);
        Ok((last.first, Place { offset: frame.first_offset, byte: last.bytes }))
    }

    fn passed(&mut self, frame: &Frame) {
        self.unsynced = true;
        self.next = frame.end_offset();
        self.last_written_ms = Some(frame.written_ms);
        if let Some(last) = self.segments.last_mut() {
            last.bytes += frame.bytes() as u64;
        }
    }

    /// Begins another segment. The one before is made to last first, so that only the last can be torn.
    fn roll(&mut self) -> Result<()> {
        self.sync()?;
        self.file = segments::create(&self.folder, self.next)?;
        self.segments.push(Segment { first: self.next, bytes: 0 });
        self.is_retention_due = true;
        Ok(())
    }

    /// Makes what was written last.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.may_write()?;
        if !self.unsynced {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            // The system may have dropped what it couldn't write, and says so only once.
            self.stop(&error.to_string());
            return Err(io_error("sync", &segment_path(&self.folder, self.last().first))(error));
        }
        self.unsynced = false;
        Ok(())
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { segment: self.last(), next: self.next, last_written_ms: self.last_written_ms }
    }

    /// Removes what was written since the mark, lastingly: nothing of it may come back when its transaction's
    /// number is used again.
    pub(crate) fn go_back(&mut self, mark: &Mark) {
        if let Err(error) = self.try_go_back(mark) {
            self.stop(&error.to_string());
        }
    }

    fn try_go_back(&mut self, mark: &Mark) -> Result<()> {
        while self.last().first > mark.next {
            segments::remove(&self.folder, self.last().first)?;
            self.segments.pop();
        }
        sync_folder(&self.folder)?;
        // A segment that begins right there stays, empty: readers may have gone to it already.
        let bytes = if self.last().first == mark.segment.first { mark.segment.bytes } else { 0 };
        self.file = open_end(&self.folder, self.last().first, bytes)?;
        if let Some(last) = self.segments.last_mut() {
            last.bytes = bytes;
        }
        (self.next, self.last_written_ms, self.unsynced) = (mark.next, mark.last_written_ms, false);
        Ok(())
    }

    /// Removes whole segments whose records are all before the offset; says how many.
    pub(crate) fn trim(&mut self, before: u64) -> Result<usize> {
        self.may_write()?;
        // If nothing is to stay, an empty segment keeps the offset.
        if before >= self.next && self.last().bytes > 0 {
            self.roll()?;
        }
        if before >= self.next {
            self.last_written_ms = None;
        }
        let count = self.segments.windows(2).take_while(|w| w[1].first <= before).count();
        self.remove_first(count)
    }

    /// Removes what the retention doesn't keep; says how many segments.
    pub(crate) fn retain(&mut self, now_ms: i64) -> Result<usize> {
        self.may_write()?;
        let mut count = 0;
        match self.retention {
            Retention::None => {}
            Retention::Bytes(keep) => {
                let mut rest = self.bytes();
                for segment in self.segments.iter().take(self.segments.len() - 1) {
                    rest -= segment.bytes;
                    if rest < keep {
                        break;
                    }
                    count += 1;
                }
            }
            Retention::AgeMs(age) => {
                let oldest = now_ms.saturating_sub_unsigned(age);
                for segment in self.segments.iter().skip(1) {
                    match begun_ms(&segment_path(&self.folder, segment.first), self.seed)? {
                        Some(begun) if begun < oldest => count += 1,
                        _ => break,
                    }
                }
            }
        }
        self.remove_first(count)
    }

    /// Before anything is written: had it been, an error would make the caller write it again.
    pub(crate) fn retain_if_due(&mut self, now_ms: i64) -> Result<()> {
        if self.is_retention_due {
            self.retain(now_ms)?;
            self.is_retention_due = false;
        }
        self.may_write()
    }

    /// Oldest first, so that a crash leaves no hole.
    fn remove_first(&mut self, count: usize) -> Result<usize> {
        for _ in 0..count {
            segments::remove(&self.folder, self.first_offset())?;
            self.segments.remove(0);
        }
        if count > 0 {
            sync_folder(&self.folder)?;
            self.ids.forget_before(self.first_offset());
        }
        Ok(count)
    }

    pub(crate) fn stop(&mut self, reason: &str) {
        self.stopped.get_or_insert_with(|| reason.to_owned());
    }

    pub(crate) fn may_write(&self) -> Result<()> {
        match &self.stopped {
            None => Ok(()),
            Some(reason) => Err(LogError::Stopped { folder: self.folder.clone(), reason: reason.clone() }),
        }
    }
}

/// Opens a segment to write on from a byte, and removes lastingly what follows it.
pub(crate) fn open_end(folder: &Path, first: u64, bytes: u64) -> Result<File> {
    let path = segment_path(folder, first);
    let mut file = OpenOptions::new().write(true).open(&path).map_err(io_error("open", &path))?;
    cut(&mut file, bytes).and_then(|()| file.sync_all()).map_err(io_error("cut", &path))?;
    Ok(file)
}

fn cut(file: &mut File, bytes: u64) -> std::io::Result<()> {
    if file.metadata()?.len() > bytes {
        file.set_len(bytes)?;
    }
    file.seek(SeekFrom::Start(bytes)).map(|_| ())
}

/// When the first frame of a segment was written.
fn begun_ms(path: &Path, seed: u64) -> Result<Option<i64>> {
    use crate::scan::{Found, Scanner};
    match Scanner::open(path, 0, seed)?.next()? {
        Found::Frame(frame) => Ok(Some(frame.written_ms)),
        Found::End | Found::Torn(_) => Ok(None),
    }
}
