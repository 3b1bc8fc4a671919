//! Reads a file of frames from front to back, in blocks.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};
use crate::frame::{Frame, HEADER_BYTES, Parsed, parse};

/// How much is read at once: a few system calls for a batch of thousands of records, and little memory for
/// each partition that is read.
const BLOCK_BYTES: usize = 1 << 20;

/// A file being read.
#[derive(Debug)]
pub(crate) struct Scanner {
    path: PathBuf,
    file: File,
    seed: u64,
    /// The byte of the file that the buffer begins with.
    at: u64,
    buffer: Vec<u8>,
    /// What of the buffer is behind us.
    start: usize,
}

/// What comes next in a file.
#[derive(Debug)]
pub(crate) enum Found {
    /// A whole frame.
    Frame(Frame),
    /// The file's end.
    End,
    /// Something that is no whole frame: the file's last write may be under way, or was cut short by a crash,
    /// or the file is damaged. What follows tells.
    Torn(&'static str),
}

impl Scanner {
    pub(crate) fn open(path: &Path, byte: u64, seed: u64) -> Result<Self> {
        let file = File::open(path).map_err(io_error("open", path))?;
        Ok(Self { path: path.to_path_buf(), file, seed, at: byte, buffer: Vec::new(), start: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where in the file the next frame begins.
    pub(crate) fn byte(&self) -> u64 {
        self.at + self.start as u64
    }

    /// The file's length as it is now.
    pub(crate) fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(io_error("read", &self.path))?.len())
    }

    /// Makes what the file has last.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(io_error("sync", &self.path))
    }

    /// What comes next. The same again until it is [passed](Self::pass); places in the buffer may change.
    pub(crate) fn next(&mut self) -> Result<Found> {
        loop {
            match parse(self.rest(), self.seed) {
                Parsed::Whole(frame) => return Ok(Found::Frame(frame)),
                Parsed::Bad(reason) => return Ok(Found::Torn(reason)),
                Parsed::Short(bytes) if self.fill(bytes)? => {}
                Parsed::Short(_) if self.length()? <= self.byte() => return Ok(Found::End),
                Parsed::Short(_) => return Ok(Found::Torn("the frame is cut off")),
            }
        }
    }

    /// The next frame if it was read already, so that places in the buffer stay what they are.
    pub(crate) fn buffered(&self) -> Option<Frame> {
        match parse(self.rest(), self.seed) {
            Parsed::Whole(frame) => Some(frame),
            Parsed::Short(_) | Parsed::Bad(_) => None,
        }
    }

    /// Where the records of the next frame are in the buffer.
    pub(crate) fn body(&self, frame: &Frame) -> std::ops::Range<usize> {
        self.start + HEADER_BYTES..self.start + frame.bytes()
    }

    pub(crate) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Goes behind the next frame.
    pub(crate) fn pass(&mut self, frame: &Frame) {
        self.start += frame.bytes();
    }

    /// Forgets what was read and not passed: it will be read again as it is then.
    pub(crate) fn forget(&mut self) {
        self.buffer.truncate(self.start);
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Reads on until so many bytes are there, unless the file has fewer.
    fn fill(&mut self, bytes: usize) -> Result<bool> {
        self.at = self.byte();
        self.buffer.drain(..self.start);
        self.start = 0;
        let have = self.buffer.len();
        let unread = self.length()?.saturating_sub(self.at + have as u64);
        // Asked first: a length that was damaged must not make us allocate.
        if have as u64 + unread < bytes as u64 {
            return Ok(false);
        }
        let more =
            bytes.saturating_sub(have).max(BLOCK_BYTES).min(usize::try_from(unread).unwrap_or(usize::MAX));
        let error = |e| io_error("read", &self.path)(e);
        self.file.seek(SeekFrom::Start(self.at + have as u64)).map_err(error)?;
        self.buffer.reserve(more);
        (&mut self.file).take(more as u64).read_to_end(&mut self.buffer).map_err(error)?;
        Ok(self.buffer.len() >= bytes)
    }
}
