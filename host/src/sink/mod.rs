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

impl Writer {
    /// Starts a writer that begins with `header`, and counts for the sink of this number, if it is one.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn start(
        destination: &Destination,
        header: Vec<u8>,
        counters: &Arc<Counters>,
        sink: Option<usize>,
    ) -> Result<(Outlet, Writer), WriteError> {
        let name = destination.name();
        let output = open(destination).map_err(|e| WriteError(format!("cannot write {name}: {e}")))?;
        let (blocks, waiting) = mpsc::channel(BLOCKS_WAITING);
        let counters = Arc::clone(counters);
        let run = move || {
            write_all(output, &header, waiting, &counters, sink)
                .map_err(|e| WriteError(format!("cannot write {name}: {e}")))
        };
        let thread = std::thread::Builder::new().name("tidemill-writer".into()).spawn(run);
        let thread = thread.map_err(|e| WriteError(format!("cannot start a thread: {e}")))?;
        Ok((Outlet { blocks }, Writer { thread }))
    }

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
        Destination::FileIfAny(path) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Output::Unmade(path.clone())),
        },
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    File::create(path)
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
