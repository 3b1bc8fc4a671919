//! `[checkpoints]` and `[state]`: how the pipeline remembers, and where.

use std::path::PathBuf;

use tidemill_checkpoint::Place;

use super::file::Spanned;
use super::keys;
use super::paths::WORK_FOLDER;
use super::table::Table;
use super::value::Value;

const INTERVAL_MS_DEFAULT: i64 = 10_000;

/// Shorter than the time in which a disk makes a few files durable, checkpoints would only wait for each other.
const INTERVAL_MS_MIN: i64 = 10;

const TIMEOUT_MS_DEFAULT: i64 = 600_000;

const TOLERATED_FAILURES_DEFAULT: u32 = 3;

const RETAIN_DEFAULT: usize = 3;

/// Far more failures, and more checkpoints, than anybody has use for.
const COUNT_MAX: i64 = 1000;

const MEMORY_BYTES_DEFAULT: u64 = 512 << 20;

/// RocksDB's write buffers and our caches are of some use from here on.
const MEMORY_BYTES_MIN: u64 = 16 << 20;

/// How, when and where checkpoints are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// The folder, relative to the pipeline file, or the place in an object store.
    pub path: Spanned<Place>,
    /// The folder for the working copy of the state, relative to the pipeline file, unless `[state]` says where.
    pub work: PathBuf,
    /// From the start of one checkpoint to that of the next, in milliseconds.
    pub interval_ms: i64,
    /// How long there is none at least, from the end of one to the start of the next, in milliseconds.
    pub min_pause_ms: i64,
    /// How long one may take, in milliseconds.
    pub timeout_ms: i64,
    /// How long a task waits for the barriers of its other channels, in milliseconds; `None`: until they have come.
    pub unaligned_after_ms: Option<i64>,
    /// How many may fail in a row.
    pub tolerated_failures: u32,
    /// How many of the completed ones are kept.
    pub retain: usize,
}

/// Where state stands while the pipeline runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What keeps it.
    pub backend: StateBackend,
    /// How much memory all of it may use together.
    pub memory_bytes: u64,
    /// The folder for the working copy, relative to the pipeline file; `None`: nothing is written.
    pub path: Option<Spanned<PathBuf>>,
}

/// What keeps state while the pipeline runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateBackend {
    /// RocksDB: as much as the disk holds.
    RocksDb,
    /// As much as the memory holds.
    Memory,
}

const BACKENDS: [(&str, StateBackend); 2] =
    [("rocksdb", StateBackend::RocksDb), ("memory", StateBackend::Memory)];

/// The checkpoints that the section declares; their folder is named after the pipeline unless it says otherwise.
pub(super) fn read(value: Value<'_>, pipeline: Option<&Spanned<String>>) -> Option<Checkpoints> {
    let table = value.table(&keys::CHECKPOINTS)?;
    table.check_keys(None);
    let path = table.optional("path", read_place);
    let interval_ms = table.or("interval", INTERVAL_MS_DEFAULT, |v| match v.duration_ms()? {
        interval_ms @ INTERVAL_MS_MIN.. => Some(interval_ms),
        _ => v.refuse(format!("must be at least \"{INTERVAL_MS_MIN}ms\"")),
    });
    let min_pause_ms = table.or("min_pause", 0, |v| v.duration_ms());
    let timeout_ms = table.or("timeout", TIMEOUT_MS_DEFAULT, |v| v.positive_duration_ms());
    let unaligned_after_ms = table.optional("unaligned_after", |v| v.duration_ms());
    let tolerated_failures = table.or("tolerated_failures", TOLERATED_FAILURES_DEFAULT, |v| {
        u32::try_from(v.integer(0, COUNT_MAX)?).ok()
    });
    let retain = table.or("retain", RETAIN_DEFAULT, |v| Some(v.count(COUNT_MAX)?.get()));
    let pipeline = pipeline?;
    let named = || Place::Folder(format!("{}.checkpoints", pipeline.value).into());
    let path = path?.unwrap_or_else(|| Spanned::new(named(), pipeline.span));
    let work = match &path.value {
        Place::Folder(folder) => folder.join(WORK_FOLDER),
        Place::S3(_) | Place::JetStream(_) => format!("{}.work", pipeline.value).into(),
    };
    Some(Checkpoints {
        path,
        work,
        interval_ms: interval_ms?,
        min_pause_ms: min_pause_ms?,
        timeout_ms: timeout_ms?,
        unaligned_after_ms: unaligned_after_ms?,
        tolerated_failures: tolerated_failures?,
        retain: retain?,
    })
}

fn read_place(value: Value<'_>) -> Option<Spanned<Place>> {
    let text = value.name()?;
    match text.value.parse() {
        Ok(place) => Some(Spanned::new(place, text.span)),
        Err(why) => value.refuse(format!("can't be used: {why}")),
    }
}

/// What is said of state.
pub(super) fn read_state(root: &Table<'_>) -> Option<State> {
    let default = State { backend: StateBackend::RocksDb, memory_bytes: MEMORY_BYTES_DEFAULT, path: None };
    root.or("state", default, |value| {
        let table = value.table(&keys::STATE)?;
        let backend = table.or("backend", BACKENDS[0], |v| v.choice(&BACKENDS));
        table.check_keys(backend.map(|(name, _)| name));
        let memory_bytes = table.or("memory", MEMORY_BYTES_DEFAULT, read_memory);
        let path = table.optional("path", |v| v.path());
        Some(State { backend: backend?.1, memory_bytes: memory_bytes?, path: path? })
    })
}

fn read_memory(value: Value<'_>) -> Option<u64> {
    match value.size_bytes()?.unsigned_abs() {
        bytes @ MEMORY_BYTES_MIN.. => Some(bytes),
        _ => value.refuse("must be at least \"16MiB\""),
    }
}
