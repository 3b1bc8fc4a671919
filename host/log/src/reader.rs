//! Reads a partition from an offset on, while a writer, of this process or another, may append to it.
//!
//! A reader takes no lock. It sees whole frames only, and frames of a transaction only when the journal says
//! that it was committed. What it can't see yet it forgets and reads anew the next time, because a writer may
//! cut it off and write something else in its place. That is why a buffered frame is judged by what the
//! journal said *before* the buffer was read.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;

use crate::batch::Batch;
use crate::error::{LogError, Result, damaged_file, damaged_segment};
use crate::frame::{self, Frame};
use crate::header::Closed;
use crate::index::Place;
use crate::journal::Follower;
use crate::log::Log;
use crate::record;
use crate::scan::{Found, Scanner};
use crate::segments::{self, partition_folder, segment_path};

/// How far a partition was read, to be kept and to go on from; see [`Log::resume`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset of the next record.
    pub offset: u64,
    /// The checksum of the batch with the record before, by which another history is noticed; 0 if none is
    /// known.
    pub history: u64,
}

/// Reads a partition. Each call gives what has become available; to wait is up to the caller.
#[derive(Debug)]
pub struct Reader {
    log: Log,
    partition: u32,
    folder: PathBuf,
    scanner: Scanner,
    /// The first offset of the segment being read.
    segment: u64,
    /// The offset that the next frame must begin with.
    expected: u64,
    current: Option<Current>,
    position: Position,
    journal: Follower,
    places: Vec<record::Place>,
    last_written_ms: Option<i64>,
    /// The byte and length of the file at which something torn was found to be no damage.
    examined: Option<(u64, u64)>,
}

/// A frame that isn't read to its end.
#[derive(Debug)]
struct Current {
    frame: Frame,
    /// Of the next record.
    offset: u64,
    /// How many of the frame's bytes are behind it.
    passed: usize,
}

impl Reader {
    /// Begins with the frame at a place of a segment.
    pub(crate) fn open(log: &Log, partition: u32, segment: u64, place: Place) -> Result<Self> {
        let folder = partition_folder(log.folder(), partition);
        let seed = log.seed(partition);
        Ok(Self {
            scanner: Scanner::open(&segment_path(&folder, segment), place.byte, seed)?,
            folder,
            partition,
            segment,
            expected: place.offset,
            current: None,
            position: Position { offset: place.offset, history: 0 },
            journal: log.follower(),
            places: Vec::new(),
            last_written_ms: None,
            examined: None,
            log: log.clone(),
        })
    }

    /// The log that is read.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The partition that is read.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Behind the last record that was given.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next records: at most `records_max` (one at least), and no more when they have `bytes_max` bytes
    /// of keys, ids and values. Fewer, though more are there, when that spares copying. None when everything
    /// that is committed was read; later there may be more.
    ///
    /// # Errors
    /// When files can't be read or are damaged, or the log was trimmed past the position or created anew.
    pub fn read(&mut self, records_max: usize, bytes_max: usize) -> Result<Batch<'_>> {
        self.places.clear();
        let first_offset = self.position.offset;
        if self.current.is_some() || self.advance()? {
            self.gather(records_max.max(1), bytes_max, true)?;
        }
        Ok(Batch { bytes: self.scanner.buffer(), places: &self.places, first_offset })
    }

    /// As [`Self::read`], but records of one append only, with the number of the transaction that they are of; none:
    /// they are of none.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_append(&mut self, records_max: usize, bytes_max: usize) -> Result<(Option<u64>, Batch<'_>)> {
        self.places.clear();
        let first_offset = self.position.offset;
        let mut tag = 0;
        if self.current.is_some() || self.advance()? {
            tag = self.current.as_ref().map_or(0, |current| current.frame.tag);
            self.gather(records_max.max(1), bytes_max, false)?;
        }
        let batch = Batch { bytes: self.scanner.buffer(), places: &self.places, first_offset };
        Ok((Some(tag).filter(|tag| *tag > 0), batch))
    }

    /// Makes all that was read last, so that a position may be kept: a reader can be faster than the writer's
    /// sync, and a machine that fails between the two would lose records which the position says were read.
    ///
    /// # Errors
    /// When the file system can't.
    pub fn sync(&self) -> Result<()> {
        // Segments before this one were synced before it was made.
        self.scanner.sync()?;
        self.journal.sync()
    }

    /// Takes records from frames that are in the buffer, up to the limits: of several, or of the current one.
    fn gather(&mut self, records_max: usize, bytes_max: usize, of_several: bool) -> Result<()> {
        let mut bytes = 0;
        while let Some(current) = &mut self.current {
            let body = self.scanner.body(&current.frame);
            let mut at = body.start + current.passed;
            while current.offset < current.frame.end_offset() && self.places.len() < records_max {
                let Some(place) = record::Place::find(self.scanner.buffer(), at, body.end) else {
                    return Err(not_full(&self.scanner));
                };
                if bytes > 0 && bytes + place.bytes() > bytes_max {
                    break;
                }
                bytes += place.bytes().max(1);
                at = place.end;
                current.offset += 1;
                self.places.push(place);
            }
            current.passed = at - body.start;
            if current.offset > current.frame.first_offset {
                self.position = Position { offset: current.offset, history: current.frame.checksum };
            }
            if current.offset < current.frame.end_offset() {
                return Ok(());
            }
            self.pass();
            if !of_several {
                return Ok(());
            }
            let next = self.scanner.buffered().filter(|f| f.tag <= self.journal.number());
            if let Some(frame) = next {
                self.begin(frame)?;
            }
            if self.places.len() >= records_max {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes behind the current frame.
    fn pass(&mut self) {
        let Some(Current { frame, .. }) = self.current.take() else { return };
        let place = Place { offset: frame.first_offset, byte: self.scanner.byte() };
        self.log.index().note(self.partition, self.segment, place);
        self.scanner.pass(&frame);
        self.expected = frame.end_offset();
        self.last_written_ms = Some(frame.written_ms);
    }

    fn begin(&mut self, frame: Frame) -> Result<()> {
        if frame.first_offset != self.expected {
            let reason = format!("expected offset {}, found {}", self.expected, frame.first_offset);
            return Err(damaged_segment(self.scanner.path(), self.scanner.byte(), reason));
        }
        self.current = Some(Current { frame, offset: frame.first_offset, passed: 0 });
        Ok(())
    }

    /// Makes the next committed frame the current one, if there is one.
    fn advance(&mut self) -> Result<bool> {
        loop {
            match self.scanner.next()? {
                Found::Frame(frame) if frame.tag <= self.journal.number() => {
                    self.begin(frame)?;
                    return Ok(true);
                }
                Found::Frame(frame) => {
                    self.scanner.forget();
                    if !self.journal.refresh()? {
                        self.check_uncommitted(&frame)?;
                        return Ok(false);
                    }
                }
                Found::End => {
                    if !self.follow()? {
                        return Ok(false);
                    }
                }
                Found::Torn(reason) => {
                    self.scanner.forget();
                    if !self.examine(reason)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// At the end of a segment: goes to the next, if there is one.
    fn follow(&mut self) -> Result<bool> {
        // By its name it can only be the next: had anything been added to this one, it would be named
        // otherwise.
        if self.expected != self.segment {
            let path = segment_path(&self.folder, self.expected);
            match Scanner::open(&path, 0, self.log.seed(self.partition)) {
                Ok(scanner) => {
                    self.scanner = scanner;
                    self.segment = self.expected;
                    return Ok(true);
                }
                Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.log.check_is_same()?;
        if !self.scanner.path().exists() {
            let first = self.log.first_offset(self.partition)?;
            if first > self.expected {
                return Err(self.log.trimmed(self.partition, self.expected, first));
            }
        }
        let byte = self.scanner.byte();
        if self.examined == Some((byte, byte)) {
            return Ok(false);
        }
        self.examined = Some((byte, byte));
        self.check_end("records that were there are missing")
    }

    /// At something that is no whole frame. It may have become one when this says so; else, unless it is
    /// damage, the writer is at it or died over it.
    fn examine(&mut self, reason: &str) -> Result<bool> {
        let state = (self.scanner.byte(), self.scanner.length()?);
        if self.examined == Some(state) {
            return Ok(false);
        }
        self.examined = Some(state);
        let committed = self.journal.number();
        let from = self.scanner.byte() + 1;
        let behind =
            frame::find(self.scanner.path(), from, self.log.seed(self.partition), |f| f.tag <= committed)?;
        if let Some((byte, _)) = behind {
            return self.again_or(format!("{reason}, and a good frame follows at byte {byte}"));
        }
        self.check_end(reason)
    }

    /// Whether the file must go on behind what can be read of it: another segment follows, or it was closed
    /// so. Then it is damaged, unless it does go on by now.
    fn check_end(&mut self, reason: &str) -> Result<bool> {
        // In this order: what a writer closed is there to be listed.
        let closed = Closed::read(self.log.folder())?;
        if let Some(later) = self.later()? {
            let at_end = self.scanner.byte() == self.scanner.length()?;
            if later == self.expected && at_end {
                return Ok(true);
            }
            let damage = self.again_or(format!("{reason}; the next segment begins at offset {later}"));
            // It may have been of a transaction that was undone meanwhile.
            return if damage.is_err() && self.later()? != Some(later) { Ok(true) } else { damage };
        }
        let end = closed.and_then(|c| c.ends.get(self.partition as usize).copied());
        if let Some(end) = end.filter(|end| end.next > self.expected) {
            return self.again_or(format!("{reason}; the log was closed at offset {}", end.next));
        }
        Ok(false)
    }

    /// The first offset of the segment behind this one, if there is one.
    fn later(&self) -> Result<Option<u64>> {
        let segments = segments::list(&self.folder)?;
        Ok(segments.iter().map(|s| s.first).find(|&first| first > self.segment))
    }

    /// What looked like damage isn't, if it is different now: the writer was faster than our looking around.
    fn again_or(&mut self, reason: String) -> Result<bool> {
        self.scanner.forget();
        let is_frame = matches!(self.scanner.next()?, Found::Frame(_));
        if is_frame || self.examined != Some((self.scanner.byte(), self.scanner.length()?)) {
            return Ok(true);
        }
        Err(damaged_segment(self.scanner.path(), self.scanner.byte(), reason))
    }

    /// A transaction is under way, or its writer died; but when the log was closed with it, the journal lost
    /// it.
    fn check_uncommitted(&mut self, frame: &Frame) -> Result<()> {
        self.log.check_is_same()?;
        match Closed::read(self.log.folder())? {
            Some(closed) if closed.transaction >= frame.tag && !self.journal.refresh()? => {
                let reason = format!(
                    "it knows of {} transactions, the log was closed with {}",
                    self.journal.number(),
                    closed.transaction
                );
                Err(damaged_file(self.journal.path(), 0, reason))
            }
            _ => Ok(()),
        }
    }

    /// Goes to an offset at or behind where the reader is, past whole frames and into one. Gives the offset
    /// that was reached, which is lower if there aren't so many records.
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<u64> {
        while self.position.offset < offset && (self.current.is_some() || self.advance()?) {
            let Some(current) = &mut self.current else { break };
            let body: Range<usize> = self.scanner.body(&current.frame);
            let end = current.frame.end_offset();
            if end > offset {
                while current.offset < offset {
                    let at = body.start + current.passed;
                    let Some(place) = record::Place::find(self.scanner.buffer(), at, body.end) else {
                        return Err(not_full(&self.scanner));
                    };
                    current.passed = place.end - body.start;
                    current.offset += 1;
                }
            }
            self.position = Position { offset: end.min(offset), history: current.frame.checksum };
            if end <= offset {
                self.pass();
            }
        }
        Ok(self.position.offset)
    }

    /// When the last frame that was passed was written.
    pub(crate) fn last_written_ms(&self) -> Option<i64> {
        self.last_written_ms
    }
}

fn not_full(scanner: &Scanner) -> LogError {
    damaged_segment(scanner.path(), scanner.byte(), "the frame isn't full of records")
}
