//! Where rows leave: a file or the standard output, written by a thread of its own.
//!
//! Tasks encode their rows; a writer gets whole blocks of lines and never interleaves them. It flushes when it
//! has caught up, so that what was written is soon to be seen.

mod dead_letters;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::telemetry::Counters;

pub use dead_letters::{DeadLetter, DeadLetters, Place};

/// Blocks that wait to be written: with one, tasks would wait for each write; more only use memory.
const BLOCKS_WAITING: usize = 8;

/// Writing failed; the message says where and why.
#[derive(Clone, Debug)]
pub struct WriteError(String);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WriteError {}

/// Lines on their way out.
#[derive(Debug, Default)]
pub struct Block {
    /// The encoded rows.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub rows: u64,
}

/// The way to a writer. Cheap to clone; when the last is dropped the writer finishes.
#[derive(Clone, Debug)]
pub struct Outlet {
    blocks: mpsc::Sender<Block>,
}

impl Outlet {
    /// Hands a block to the writer, and waits while it is behind.
    ///
    /// # Errors
    /// When the writer has failed; why, [`Writer::finish`] says.
    pub async fn write(&self, block: Block) -> Result<(), Closed> {
        self.blocks.send(block).await.map_err(|_| Closed)
    }
}

/// The writer is gone.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Result<(), WriteError>>,
}

/// Where a writer writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The standard output.
    Stdout,
    /// A file, made anew, with its folder.
    File(PathBuf),
    /// A file that is made with its first block; one from an earlier run is removed.
    FileIfAny(PathBuf),
}

impl Destination {
    fn name(&self) -> String {
        match self {
            Self::Stdout => "the standard output".to_owned(),
            Self::File(path) | Self::FileIfAny(path) => path.display().to_string(),
        }
    }
}

/// A writer that hasn't begun: nothing is opened yet, but tasks can be given the way to it. So that nothing is
/// overwritten by a pipeline that then can't be started.
#[derive(Debug)]
pub struct Prepared {
    destination: Destination,
    header: Vec<u8>,
    sink: Option<usize>,
    waiting: mpsc::Receiver<Block>,
}

impl Prepared {
    /// A writer that will begin with `header`, and count for the sink of this number, if it is one.
    pub fn new(destination: Destination, header: Vec<u8>, sink: Option<usize>) -> (Outlet, Prepared) {
        let (blocks, waiting) = mpsc::channel(BLOCKS_WAITING);
        (Outlet { blocks }, Prepared { destination, header, sink, waiting })
    }

    /// Whether the destination can be written; what it holds stays. A pipe is left alone: its reader would take this
    /// for all there is.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn check(&self) -> Result<(), WriteError> {
        let checked = match &self.destination {
            Destination::Stdout => Ok(()),
            Destination::File(path) | Destination::FileIfAny(path) => check_file(path),
        };
        checked.map_err(|e| WriteError(format!("cannot write {}: {e}", self.destination.name())))
    }

    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn start(self, counters: &Arc<Counters>) -> Result<Writer, WriteError> {
        let name = self.destination.name();
        let output = open(&self.destination).map_err(|e| WriteError(format!("cannot write {name}: {e}")))?;
        let counters = Arc::clone(counters);
        let run = move || {
            write_all(output, &self.header, self.waiting, &counters, self.sink)
                .map_err(|e| WriteError(format!("cannot write {name}: {e}")))
        };
        let thread = std::thread::Builder::new().name("tidemill-writer".into()).spawn(run);
        Ok(Writer { thread: thread.map_err(|e| WriteError(format!("cannot start a thread: {e}")))? })
    }
}

impl Writer {
    /// Waits until everything is written. Every [`Outlet`] must be gone by then, or soon be.
    ///
    /// # Errors
    /// Why the writer failed.
    ///
    /// # Panics
    /// When the writer panicked.
    pub fn finish(self) -> Result<(), WriteError> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

enum Output {
    Open(Box<dyn Write + Send>),
    Unmade(PathBuf),
}

fn open(destination: &Destination) -> io::Result<Output> {
    match destination {
        Destination::Stdout => Ok(Output::Open(Box::new(io::stdout()))),
        Destination::File(path) => Ok(Output::Open(Box::new(create(path)?))),
        // A device or a pipe is written to, and stays what it is.
        Destination::FileIfAny(path) if path.exists() && !path.is_file() => {
            Ok(Output::Open(Box::new(create(path)?)))
        }
        Destination::FileIfAny(path) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Output::Unmade(path.clone())),
        },
    }
}

fn check_file(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if path.exists() && !path.is_file() {
        return Ok(());
    }
    make_folder(path)?;
    let is_new = !path.exists();
    File::options().append(true).create(true).open(path)?;
    if is_new { fs::remove_file(path) } else { Ok(()) }
}

fn create(path: &Path) -> io::Result<File> {
    make_folder(path)?;
    File::create(path)
}

fn make_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    folder.map_or(Ok(()), fs::create_dir_all)
}

fn write_all(
    mut output: Output,
    header: &[u8],
    mut waiting: mpsc::Receiver<Block>,
    counters: &Counters,
    sink: Option<usize>,
) -> io::Result<()> {
    if let Output::Open(open) = &mut output {
        open.write_all(header)?;
    }
    while let Some(block) = waiting.blocking_recv() {
        if let Output::Unmade(path) = &output {
            let mut made = create(path)?;
            made.write_all(header)?;
            output = Output::Open(Box::new(made));
        }
        let Output::Open(open) = &mut output else { unreachable!("made above") };
        open.write_all(&block.bytes)?;
        if let Some(sink) = sink {
            counters.sinks[sink].rows.add(block.rows);
            counters.sinks[sink].bytes.add(block.bytes.len() as u64);
        }
        if waiting.is_empty() {
            open.flush()?;
        }
    }
    match &mut output {
        Output::Open(open) => open.flush(),
        Output::Unmade(_) => Ok(()),
    }
}
