//! Where rows leave: a file, the standard output, files that appear whole with each checkpoint, or an embedded log.
//! Each is written by a thread of its own.
//!
//! Tasks encode their rows; a writer gets whole blocks of lines and never interleaves them. When a barrier has come
//! from every task that writes to it, what came before the barrier is in the files, and it says so.

mod addresses;
mod copies;
mod dead_letters;
mod direct;
mod lines;
mod log;
mod memory;
mod part;
mod recognizing;
mod staged;
mod stream;
mod unmet;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::telemetry::Counters;

pub use dead_letters::{DeadLetter, DeadLetters, Place};
pub use lines::{Beside, Keys, Lines};
pub use log::{LogPart, LogSink};
pub use memory::{Captured, Memory};
pub use part::{FilePart, Part, commit};
pub use staged::PartFiles;
pub use stream::{StreamPart, StreamSink};
pub use unmet::{Offsets, Repeatable, row_id};

/// Messages that wait for a writer: with one, tasks would wait for each write; more only use memory.
const MESSAGES_WAITING: usize = 8;

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
    /// For a log or a stream: what stands beside each line.
    pub beside: Option<Beside>,
    /// Rows that are not among them, as they can't be addressed, each with the reason.
    pub refused: Vec<(u32, String)>,
}

/// What a task tells a writer.
#[derive(Debug)]
enum Message {
    /// Rows, and the barrier that the task has sent last.
    Block(Block, u64),
    /// What the task sends from here on doesn't belong to this checkpoint.
    Barrier(u64),
}

/// A task's way to a writer. Its clones belong to the same task; when all are dropped, of all tasks, the writer
/// finishes.
#[derive(Clone, Debug)]
pub struct Outlet {
    messages: mpsc::Sender<Message>,
    /// The last barrier that this task has sent.
    barrier: Arc<AtomicU64>,
    tasks: Arc<AtomicUsize>,
}

impl Outlet {
    /// The way of one more task to the same writer, which from then on waits for this task's barriers too.
    #[must_use]
    pub fn for_task(&self) -> Outlet {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        let barrier = Arc::new(AtomicU64::new(self.barrier.load(Ordering::Relaxed)));
        Outlet { messages: self.messages.clone(), barrier, tasks: self.tasks.clone() }
    }

    /// Hands a block to the writer, and waits while it is behind.
    ///
    /// # Errors
    /// When the writer has failed; why, [`Writer::finish`] says.
    pub async fn write(&self, block: Block) -> Result<(), Closed> {
        let message = Message::Block(block, self.barrier.load(Ordering::Relaxed));
        self.messages.send(message).await.map_err(|_| Closed)
    }

    /// Tells the writer that what the task has sent so far belongs to this checkpoint.
    ///
    /// # Errors
    /// When the writer has failed; why, [`Writer::finish`] says.
    pub async fn barrier(&self, checkpoint: u64) -> Result<(), Closed> {
        self.barrier.store(checkpoint, Ordering::Relaxed);
        self.messages.send(Message::Barrier(checkpoint)).await.map_err(|_| Closed)
    }
}

/// The writer is gone.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

/// What a writer has for a checkpoint: everything that was sent before its barrier is in files.
#[derive(Debug)]
pub struct Passed {
    /// The writer's number.
    pub writer: usize,
    /// The checkpoint.
    pub checkpoint: u64,
    /// The parts that appear when it is committed, beside those of earlier checkpoints that were not.
    pub parts: Vec<Part>,
    /// Of a log whose rows are recognized: where those are that come again behind the checkpoint.
    pub repeatable: Option<Repeatable>,
}

/// A running writer.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Result<(), WriteError>>,
}

/// Where a writer writes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The standard output.
    Stdout,
    /// A file, made anew, with its folder.
    File(PathBuf),
    /// A file that is written on where it ends, for rows that may come again.
    Appended(PathBuf),
    /// A file that is made with its first block; one from an earlier run is removed.
    FileIfAny(PathBuf),
    /// A file for each checkpoint that has rows.
    Parts(PartFiles),
    /// An embedded log, to which rows are appended at once.
    Log(LogSink),
    /// An embedded log, in which rows appear with their checkpoint.
    Transactions(LogSink),
    /// An embedded log, to which rows are appended at once, but for those that it has; these may come again, if a
    /// checkpoint says so.
    Recognizing(LogSink, Option<Repeatable>),
    /// A stream of a server, to which messages are published at once.
    Messages(StreamSink),
    /// A stream of a server, in which messages appear with their checkpoint.
    Transmissions(StreamSink),
    /// Memory, where somebody looks at them.
    Memory(Memory),
}

impl Destination {
    fn name(&self) -> String {
        match self {
            Self::Stdout => "the standard output".to_owned(),
            Self::Memory(_) => "memory".to_owned(),
            Self::Messages(to) | Self::Transmissions(to) => format!("the stream `{}`", to.stream()),
            Self::File(path) | Self::FileIfAny(path) | Self::Appended(path) => path.display().to_string(),
            Self::Parts(files) => files.to_string(),
            Self::Log(log) | Self::Transactions(log) | Self::Recognizing(log, _) => {
                log.folder().display().to_string()
            }
        }
    }

    /// The folder that a checkpoint speaks of: the names of parts begin in it; none: it knows nothing of the destination.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Parts(files) => Some(files.folder()),
            Self::Transactions(log) | Self::Recognizing(log, _) => Some(log.folder()),
            Self::Transmissions(to) => Some(to.folder()),
            Self::Messages(to) if to.recognizes() => Some(to.folder()),
            Self::Stdout
            | Self::File(_)
            | Self::Appended(_)
            | Self::FileIfAny(_)
            | Self::Log(_)
            | Self::Messages(_)
            | Self::Memory(_) => None,
        }
    }

    /// Whether its rows appear with checkpoints, as parts of them.
    pub fn has_parts(&self) -> bool {
        matches!(self, Self::Parts(_) | Self::Transactions(_) | Self::Transmissions(_))
    }

    /// The log that it writes, if it writes one.
    pub(crate) fn log(&self) -> Option<&LogSink> {
        match self {
            Self::Log(log) | Self::Transactions(log) | Self::Recognizing(log, _) => Some(log),
            Self::Parts(_)
            | Self::Stdout
            | Self::File(_)
            | Self::Appended(_)
            | Self::FileIfAny(_)
            | Self::Messages(_)
            | Self::Transmissions(_)
            | Self::Memory(_) => None,
        }
    }

    /// The stream that it writes, if it writes one.
    pub(super) fn stream(&self) -> Option<&str> {
        match self {
            Self::Messages(to) | Self::Transmissions(to) => Some(to.stream()),
            _ => None,
        }
    }

    /// Whether what parts have made appear belongs to the checkpoint that the pipeline goes on from; none: it begins.
    ///
    /// # Errors
    /// When it doesn't, and would come again; `id` is whose it is.
    pub fn check_goes_on(&self, id: &str, checkpoint: Option<u64>) -> Result<(), WriteError> {
        match self {
            Self::Parts(files) if checkpoint.is_none() => files.check_begins(id),
            Self::Transactions(log) => log.check_goes_on(checkpoint).map_err(WriteError),
            Self::Transmissions(to) => to.check_goes_on(checkpoint).map_err(WriteError),
            _ => Ok(()),
        }
    }

    /// Whether nothing has appeared behind a checkpoint that the pipeline goes back to.
    ///
    /// # Errors
    /// When something has, and would come again; `id` is whose it is.
    pub fn check_goes_back(&self, id: &str, checkpoint: u64) -> Result<(), WriteError> {
        match self {
            Self::Parts(files) => files.check_goes_back(id, checkpoint),
            // The log itself tells, in `check_goes_on`.
            _ => Ok(()),
        }
    }

    /// Removes what is staged: when what a checkpoint promises is committed, the rest is of epochs that a recovery takes
    /// back.
    ///
    /// # Errors
    /// When a folder can't be read, or a file in it not be removed.
    pub fn discard_staged(&self) -> Result<(), WriteError> {
        match self {
            Self::Parts(files) => files.discard(),
            Self::Transactions(log) => log.discard(),
            Self::Transmissions(to) => to.discard(),
            Self::Stdout
            | Self::File(_)
            | Self::Appended(_)
            | Self::FileIfAny(_)
            | Self::Log(_)
            | Self::Recognizing(..)
            | Self::Messages(_)
            | Self::Memory(_) => Ok(()),
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
    waiting: mpsc::Receiver<Message>,
    tasks: Arc<AtomicUsize>,
}

impl Prepared {
    /// A writer that will begin each file with `header`, and count for the sink of this number, if it is one. Tasks are
    /// given their ways to it by [`Outlet::for_task`], as if they had sent the barrier `after` last: the one before the
    /// run's first.
    pub fn new(
        destination: Destination,
        header: Vec<u8>,
        sink: Option<usize>,
        after: u64,
    ) -> (Outlet, Prepared) {
        let (messages, waiting) = mpsc::channel(MESSAGES_WAITING);
        let tasks = Arc::new(AtomicUsize::new(0));
        let outlet = Outlet { messages, barrier: Arc::new(AtomicU64::new(after)), tasks: tasks.clone() };
        (outlet, Prepared { destination, header, sink, waiting, tasks })
    }

    /// Whether the destination can be written; what it holds stays. A pipe is left alone: its reader would take this
    /// for all there is.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn check(&self) -> Result<(), WriteError> {
        let checked = match &self.destination {
            Destination::Stdout | Destination::Memory(_) => Ok(()),
            Destination::File(path) | Destination::FileIfAny(path) | Destination::Appended(path) => {
                check_file(path)
            }
            Destination::Parts(files) => files.check(),
            // It is open already.
            Destination::Log(_)
            | Destination::Transactions(_)
            | Destination::Recognizing(..)
            | Destination::Messages(_)
            | Destination::Transmissions(_) => Ok(()),
        };
        checked.map_err(|e| WriteError(format!("cannot write {}: {e}", self.destination.name())))
    }

    /// Opens the destination and starts the writer, which tells `passed` what it has for each checkpoint, or why it has
    /// failed.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn start(
        self,
        number: usize,
        counters: &Arc<Counters>,
        passed: mpsc::UnboundedSender<Result<Passed, WriteError>>,
    ) -> Result<Writer, WriteError> {
        let name = self.destination.name();
        let failed = move |e: io::Error| WriteError(format!("cannot write {name}: {e}"));
        let output: Box<dyn Output> = match self.destination {
            Destination::Parts(files) => Box::new(staged::Staged::new(files, self.header)),
            Destination::Log(log) => Box::new(log::Appended::new(log)),
            Destination::Transactions(log) => Box::new(log::StagedRecords::new(log)),
            Destination::Recognizing(log, repeatable) => {
                let recognizing = recognizing::Recognizing::new(log, repeatable.as_ref());
                Box::new(recognizing.map_err(&failed)?)
            }
            Destination::Messages(to) => Box::new(stream::Published::open(to).map_err(&failed)?),
            Destination::Transmissions(to) => Box::new(log::StagedRecords::new(to)),
            Destination::Memory(memory) => Box::new(memory),
            destination => Box::new(direct::Direct::open(&destination, self.header).map_err(&failed)?),
        };
        let alignment = Alignment { tasks: self.tasks.load(Ordering::Relaxed), came: BTreeMap::new() };
        let told = passed.clone();
        let writing =
            Writing { number, output, alignment, counters: Arc::clone(counters), sink: self.sink, passed };
        let run = move || {
            writing.run(self.waiting).map_err(failed).inspect_err(|error| {
                // Whoever waits for a barrier to pass would wait for ever.
                let _ = told.send(Err(error.clone()));
            })
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

/// What a writer's thread does with what it is sent.
trait Output: Send {
    /// Writes rows of a task that has sent this barrier last.
    fn write(&mut self, block: &Block, barrier: u64) -> io::Result<()>;
    /// Nothing waits: what was written should be seen.
    fn flush(&mut self) -> io::Result<()>;
    /// The barrier has come from every task. What was written before it must be safe from a loss of power now.
    fn passed(&mut self, checkpoint: u64) -> io::Result<Vec<Part>>;
    /// Where rows are that come again behind the checkpoint whose barrier has just passed, if copies are recognized.
    fn repeatable(&self) -> Option<Repeatable> {
        None
    }
    /// No task is left.
    fn finish(&mut self) -> io::Result<()>;
}

/// How many tasks have sent each barrier.
struct Alignment {
    tasks: usize,
    came: BTreeMap<u64, usize>,
}

impl Alignment {
    /// Counts a barrier. Says whether it has come from all; older ones, which were given up, are forgotten then.
    fn came(&mut self, checkpoint: u64) -> bool {
        let count = self.came.entry(checkpoint).or_default();
        *count += 1;
        let all = *count == self.tasks;
        if all {
            self.came = self.came.split_off(&(checkpoint + 1));
        }
        all
    }
}

struct Writing {
    number: usize,
    output: Box<dyn Output>,
    alignment: Alignment,
    counters: Arc<Counters>,
    sink: Option<usize>,
    passed: mpsc::UnboundedSender<Result<Passed, WriteError>>,
}

impl Writing {
    fn run(mut self, mut waiting: mpsc::Receiver<Message>) -> io::Result<()> {
        while let Some(message) = waiting.blocking_recv() {
            match message {
                Message::Block(block, barrier) => {
                    self.output.write(&block, barrier)?;
                    if let Some(sink) = self.sink {
                        self.counters.sinks[sink].rows.add(block.rows);
                        self.counters.sinks[sink].bytes.add(block.bytes.len() as u64);
                    }
                }
                Message::Barrier(checkpoint) => {
                    if self.alignment.came(checkpoint) {
                        let parts = self.output.passed(checkpoint)?;
                        let repeatable = self.output.repeatable();
                        let passed = Passed { writer: self.number, checkpoint, parts, repeatable };
                        // Nobody listens when the pipeline is coming down.
                        let _ = self.passed.send(Ok(passed));
                    }
                }
            }
            if waiting.is_empty() {
                self.output.flush()?;
            }
        }
        self.output.finish()
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
