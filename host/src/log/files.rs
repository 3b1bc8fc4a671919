//! Bytes of a file, a pipe or the standard input, block by block, as the rows of a partition.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tidemill_flow::batch::BATCH_ROWS_MAX;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use crate::formats::{Decoded, Decoder, FormatError};

/// How much is read at once: some thousand records, and about what a core's second-level cache holds.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks of a pipe or the standard input that wait to be decoded.
const BLOCKS_WAITING: usize = 4;

/// What ends the reading of a partition before its end.
#[derive(Debug)]
pub(super) enum BlockError {
    Io(io::Error),
    Format(FormatError),
    /// It can't be read on where it was left.
    Changed(String),
}

impl From<FormatError> for BlockError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

/// Records from blocks of bytes.
pub(super) struct Blocks {
    input: Input,
    decoder: Decoder,
    /// Bytes that were read and not decoded: `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
    /// The byte at which reading ends; none: at the end of the file.
    end: Option<u64>,
    /// Bytes decoded so far.
    pub(super) bytes: u64,
    /// Up to [`TAIL_BYTES`] of what stood before the buffer.
    tail: Vec<u8>,
}

/// How many bytes before a position are remembered with it, to notice that a file isn't the one it was.
const TAIL_BYTES: usize = 64;

/// How far a file has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// The bytes that were decoded.
    pub byte: u64,
    /// The line that comes next, counted from 1.
    pub line: u64,
    /// Whether what comes next is the rest of a record that was too long.
    pub within_overlong: bool,
    /// How many of the bytes just before `tail_hash` covers.
    pub tail_bytes: u64,
    /// Their XXH3-64, to notice that the file was changed.
    pub tail_hash: u64,
}

enum Input {
    /// Opened when it is read first, so that many files wait without a handle each.
    Unopened(PathBuf),
    File(File),
    /// Read by a thread of its own, because it may wait for a person or another program.
    Thread(mpsc::Receiver<io::Result<Vec<u8>>>),
}

impl Blocks {
    pub(super) fn of_file(path: &Path, decoder: Decoder) -> Self {
        let path = path.to_path_buf();
        if path.is_file() {
            return Self::new(Input::Unopened(path), decoder);
        }
        // A pipe may wait for whoever writes to it, even to be opened.
        Self::of_thread(move || Ok(Box::new(File::open(path)?)), decoder)
    }

    /// Reads a file's beginning to see whether it has the demanded columns, so that a pipeline that can't be run
    /// is refused before anything is written. What isn't a regular file can be read but once, and isn't.
    pub(super) fn check_header(path: &Path, mut decoder: Decoder) -> Result<(), BlockError> {
        if !path.is_file() {
            return Ok(());
        }
        let mut block = Vec::new();
        let file = File::open(path).map_err(BlockError::Io)?;
        file.take(BLOCK_BYTES as u64).read_to_end(&mut block).map_err(BlockError::Io)?;
        // One row shows which columns there are, where no header names them.
        decoder.decode(&block, block.len() < BLOCK_BYTES, 1)?;
        Ok(())
    }

    pub(super) fn of_stdin(decoder: Decoder) -> Self {
        Self::of_thread(|| Ok(Box::new(io::stdin())), decoder)
    }

    fn of_thread(
        open: impl FnOnce() -> io::Result<Box<dyn Read>> + Send + 'static,
        decoder: Decoder,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(BLOCKS_WAITING);
        let read = move || {
            let mut input = match open() {
                Ok(input) => input,
                Err(error) => return drop(sender.blocking_send(Err(error))),
            };
            loop {
                let mut block = vec![0; BLOCK_BYTES];
                let result = input.read(&mut block).map(|count| {
                    block.truncate(count);
                    block
                });
                let ended = result.as_ref().map_or(true, Vec::is_empty);
                if sender.blocking_send(result).is_err() || ended {
                    return;
                }
            }
        };
        // Not joined: at the end of the process it may still wait for input that never comes.
        std::thread::Builder::new()
            .name("tidemill-reader".into())
            .spawn(read)
            .expect("a thread can be started");
        Self::new(Input::Thread(receiver), decoder)
    }

    fn new(input: Input, decoder: Decoder) -> Self {
        Self {
            input,
            decoder,
            buffer: Vec::new(),
            start: 0,
            ended: false,
            end: None,
            bytes: 0,
            tail: Vec::new(),
        }
    }

    /// How far it has been read.
    pub(super) fn position(&self) -> FilePosition {
        let tail = [&self.tail, &self.buffer[..self.start]].concat();
        let tail = &tail[tail.len().saturating_sub(TAIL_BYTES)..];
        FilePosition {
            byte: self.bytes,
            line: self.decoder.line(),
            within_overlong: self.decoder.is_within_overlong(),
            tail_bytes: tail.len() as u64,
            tail_hash: xxh3_64(tail),
        }
    }

    /// Goes on reading a file at a position; nothing has been read of it yet. What isn't a regular file has none.
    pub(super) fn resume(&mut self, position: &FilePosition) -> Result<(), BlockError> {
        let Input::Unopened(path) = &self.input else {
            return Err(BlockError::Changed("it is no regular file, so it can't be read again".to_owned()));
        };
        // Its header is still to come.
        if position.byte == 0 {
            return Ok(());
        }
        let mut file = File::open(path).map_err(BlockError::Io)?;
        let mut head = Vec::new();
        file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut head).map_err(BlockError::Io)?;
        self.decoder.decode(&head, head.len() < BLOCK_BYTES, 0)?;
        let tail_bytes = position.tail_bytes.min(TAIL_BYTES as u64).min(position.byte);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(position.byte - tail_bytes)).map_err(BlockError::Io)?;
        file.by_ref().take(tail_bytes).read_to_end(&mut tail).map_err(BlockError::Io)?;
        if tail.len() as u64 != tail_bytes || xxh3_64(&tail) != position.tail_hash {
            let has = file.metadata().map_err(BlockError::Io)?.len();
            return Err(BlockError::Changed(format!(
                "it has changed since the checkpoint: {} bytes of it had been read and are expected to stand there \
                     as they were (it has {has} bytes now); put the old file back, or start anew",
                position.byte
            )));
        }
        self.decoder.continue_at_line(position.line, position.within_overlong);
        (self.bytes, self.tail, self.input) = (position.byte, tail, Input::File(file));
        Ok(())
    }

    /// Reads up to a byte and nothing of what follows it.
    pub(super) fn end_at(&mut self, byte: u64) {
        self.end = Some(byte);
    }

    /// The next records; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Decoded>, BlockError> {
        loop {
            // Not asked again: to the decoder the end of its input would be the end of a record that is too long, and the
            // rest of that comes when somebody reads on from here.
            if self.end.is_some_and(|end| self.bytes >= end) {
                return Ok(None);
            }
            let consumed = self.decoder.decode(&self.buffer[self.start..], self.ended, BATCH_ROWS_MAX)?;
            self.start += consumed;
            self.bytes += consumed as u64;
            let decoded = self.decoder.take();
            if decoded.rows > 0 || !decoded.malformed.is_empty() {
                return Ok(Some(decoded));
            }
            if self.ended {
                return Ok(None);
            }
            if consumed == 0 || self.start == self.buffer.len() {
                self.fill().await.map_err(BlockError::Io)?;
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            let from = self.start.saturating_sub(TAIL_BYTES);
            self.tail.extend_from_slice(&self.buffer[from..self.start]);
            self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        if let Input::Unopened(path) = &self.input {
            self.input = Input::File(File::open(path)?);
        }
        let before = self.buffer.len();
        match &mut self.input {
            Input::Unopened(_) => unreachable!("opened above"),
            Input::File(file) => {
                // Up to the end of a block, wherever it began: so rows are cut into the same batches after a recovery.
                let read = self.bytes + before as u64;
                let rest =
                    usize::try_from(BLOCK_BYTES as u64 - read % BLOCK_BYTES as u64).expect("of a block");
                let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(read));
                let rest = usize::try_from(left).unwrap_or(usize::MAX).min(rest);
                self.buffer.resize(before + rest, 0);
                let count = file.read(&mut self.buffer[before..])?;
                self.buffer.truncate(before + count);
            }
            Input::Thread(blocks) => {
                let block = blocks.recv().await.unwrap_or(Ok(Vec::new()))?;
                self.buffer.extend_from_slice(&block);
            }
        }
        self.ended = self.buffer.len() == before;
        Ok(())
    }
}
