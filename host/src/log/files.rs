//! Bytes of a file, a pipe or the standard input, block by block, as the rows of a partition.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tidemill_flow::batch::BATCH_ROWS_MAX;
use tokio::sync::mpsc;

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
    /// Bytes decoded so far.
    pub(super) bytes: u64,
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
        Self { input, decoder, buffer: Vec::new(), start: 0, ended: false, bytes: 0 }
    }

    /// The next records; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Decoded>, BlockError> {
        loop {
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
        self.buffer.drain(..self.start);
        self.start = 0;
        if let Input::Unopened(path) = &self.input {
            self.input = Input::File(File::open(path)?);
        }
        let before = self.buffer.len();
        match &mut self.input {
            Input::Unopened(_) => unreachable!("opened above"),
            Input::File(file) => {
                self.buffer.resize(before + BLOCK_BYTES, 0);
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
