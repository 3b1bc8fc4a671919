//! Where the state of a pipeline's operators is kept, and how much of it its tasks may hold in memory.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tidemill_flow::storage::{Addresses, InMemory, Storage, StorageError, Write as Change, Writes};
use tidemill_state::{Database, RestoredFile, Settings};

use super::restored::has_state;
use crate::pipeline::plan::{Plan, Stage, StateBackend, StatePlan};

/// The one file of a state in memory.
const IN_MEMORY_FILE: &str = "state";
/// Entries that are taken out of a state in memory at once.
const ENTRIES_AT_ONCE: usize = 4096;

/// The state of a pipeline. Cheap to clone.
#[derive(Clone)]
pub(super) struct State {
    kept: Kept,
    /// What all tasks together may hold in memory, in bytes.
    memory_bytes: u64,
}

#[derive(Clone)]
enum Kept {
    InMemory(Arc<InMemory>),
    /// And the folder in which its files are frozen, on the same file system.
    Database(Database, PathBuf),
    /// For this run only.
    Spill(Arc<Spill>),
}

/// A database that is made when there is more state than memory, which is seldom, and goes with the run.
struct Spill {
    settings: Settings,
    folder: PathBuf,
    /// Whether the folder is a person's, and stays.
    stays: bool,
    made: OnceLock<Database>,
    making: Mutex<()>,
}

impl Spill {
    fn database(&self) -> Result<&Database, StorageError> {
        let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        fs::create_dir_all(&self.folder)
            .map_err(|e| StorageError(format!("cannot make {}: {e}", self.folder.display())))?;
        let database = Database::create(&self.settings, &self.folder.join("db"))?;
        Ok(self.made.get_or_init(|| database))
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if self.made.take().is_some() && !self.stays {
            // A temporary folder that stays is the system's to clear.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Storage for Spill {
    fn read(&self, addresses: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        self.made.get().map_or_else(|| Ok(vec![None; addresses.len()]), |made| made.read(addresses))
    }

    fn scan(&self, from: &[u8], end: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        self.made.get().map_or_else(|| Ok(Vec::new()), |made| made.scan(from, end, limit))
    }

    fn write(&self, writes: Writes) -> Result<(), StorageError> {
        self.database()?.write(writes)
    }
}

/// A file with a part of the state.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    pub(super) path: PathBuf,
    /// Whether another checkpoint may have the same file under this name.
    pub(super) immutable: bool,
}

impl State {
    /// State for one run, without checkpoints.
    pub(super) fn of_run(plan: &StatePlan) -> Self {
        let memory_bytes = plan.memory_bytes / 2;
        if plan.backend == StateBackend::Memory {
            return Self { kept: Kept::InMemory(Arc::default()), memory_bytes: u64::MAX };
        }
        let temporary = || std::env::temp_dir().join(format!("tidemill-state-{}", std::process::id()));
        let spill = Spill {
            settings: Settings { memory_bytes: plan.memory_bytes - memory_bytes, ..Settings::default() },
            folder: plan.path.clone().unwrap_or_else(temporary),
            stays: plan.path.is_some(),
            made: OnceLock::new(),
            making: Mutex::default(),
        };
        Self { kept: Kept::Spill(Arc::new(spill)), memory_bytes }
    }

    /// State in memory, which begins as this.
    pub(super) fn in_memory(storage: Arc<InMemory>) -> Self {
        Self { kept: Kept::InMemory(storage), memory_bytes: u64::MAX }
    }

    /// The state that these files hold; without any, none. A database works in the folder `working`.
    pub(super) fn open(
        plan: &StatePlan,
        working: &Path,
        files: &[RestoredFile],
    ) -> Result<Self, StorageError> {
        // Half for the tasks' tables, half for RocksDB's caches and buffers.
        let memory_bytes = plan.memory_bytes / 2;
        let kept = match plan.backend {
            StateBackend::Memory => Kept::InMemory(Arc::new(read_in_memory(files)?)),
            StateBackend::RocksDb => {
                let settings =
                    Settings { memory_bytes: plan.memory_bytes - memory_bytes, ..Settings::default() };
                let (database, frozen) = (working.join("db"), working.join("frozen"));
                if files.iter().any(|f| f.name == IN_MEMORY_FILE) {
                    return Err(other_backend("memory", "rocksdb"));
                }
                let database = match files {
                    [] => Database::create(&settings, &database)?,
                    files => Database::restore(&settings, &database, files)?,
                };
                Kept::Database(database, frozen)
            }
        };
        let memory_bytes = if plan.backend == StateBackend::Memory { u64::MAX } else { memory_bytes };
        Ok(Self { kept, memory_bytes })
    }

    /// The files of a checkpoint, all of it safe on the disk. They are the caller's until it calls
    /// [`thaw`](Self::thaw).
    pub(super) fn freeze(&self, working: &Path) -> Result<Vec<StateFile>, StorageError> {
        match &self.kept {
            Kept::InMemory(storage) => {
                let path = working.join(IN_MEMORY_FILE);
                let written = write_in_memory(storage, &path);
                written.map_err(|e| StorageError(format!("cannot write {}: {e}", path.display())))?;
                Ok(vec![StateFile { path, immutable: false }])
            }
            Kept::Database(database, frozen) => {
                let file = |f: tidemill_state::FrozenFile| StateFile { path: f.path, immutable: f.immutable };
                Ok(database.freeze(frozen)?.into_iter().map(file).collect())
            }
            Kept::Spill(_) => unreachable!("a run without checkpoints freezes nothing"),
        }
    }

    /// Removes what [`freeze`](Self::freeze) made. What is left after a failure the next one removes.
    pub(super) fn thaw(&self, files: &[StateFile]) {
        match &self.kept {
            Kept::InMemory(_) => files.iter().for_each(|f| drop(fs::remove_file(&f.path))),
            Kept::Database(_, frozen) => drop(fs::remove_dir_all(frozen)),
            Kept::Spill(_) => {}
        }
    }

    /// Where tasks read and write.
    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        match &self.kept {
            Kept::InMemory(storage) => storage.clone(),
            Kept::Database(database, _) => Arc::new(database.clone()),
            Kept::Spill(spill) => spill.clone(),
        }
    }
}

/// Where a task finds the state of an operator.
pub(super) struct Place {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) addresses: Addresses,
    /// The key groups that are the task's.
    pub(super) groups: Range<u32>,
    /// How far time had come for them when the checkpoint was taken that the run goes on from; none without one, or if
    /// the operator wasn't in it.
    pub(super) watermark: Option<i64>,
    /// What the operator may hold in memory in this task, in bytes.
    pub(super) memory_bytes: usize,
}

impl Place {
    pub(super) fn new(
        state: &State,
        plan: &Plan,
        operator: u16,
        groups: Range<u32>,
        watermark: Option<i64>,
    ) -> Self {
        let holding = |s: &Stage| s.nodes.iter().filter(|n| has_state(&plan.operators[n.operator])).count();
        let holders: usize = plan.stages.iter().map(|s| s.tasks * holding(s)).sum();
        let memory_bytes = state.memory_bytes / (holders as u64).max(1);
        Self {
            storage: state.storage(),
            addresses: Addresses { operator },
            groups,
            watermark,
            memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
        }
    }
}

fn other_backend(found: &str, wanted: &str) -> StorageError {
    StorageError(format!(
        "the checkpoint holds state of the backend `{found}`, but the pipeline says `{wanted}`; set `[state] backend = \
         \"{found}\"` as it was"
    ))
}

/// Address and value behind each other, each behind its length in four bytes little-endian.
fn write_in_memory(storage: &InMemory, path: &Path) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    let mut from = Vec::new();
    loop {
        let entries = storage.scan(&from, &[u8::MAX; 16], ENTRIES_AT_ONCE).map_err(std::io::Error::other)?;
        for part in entries.iter().flat_map(|(address, value)| [address, value]) {
            let length = u32::try_from(part.len()).map_err(std::io::Error::other)?;
            file.write_all(&length.to_le_bytes())?;
            file.write_all(part)?;
        }
        let Some((last, _)) = entries.last() else { break };
        from = [last, &[0][..]].concat();
    }
    file.into_inner()?.sync_all()
}

fn read_in_memory(files: &[RestoredFile]) -> Result<InMemory, StorageError> {
    let storage = InMemory::default();
    let file = match files {
        [] => return Ok(storage),
        [file] if file.name == IN_MEMORY_FILE => file,
        _ => return Err(other_backend("rocksdb", "memory")),
    };
    let bytes = fs::read(&file.path);
    let bytes = bytes.map_err(|e| StorageError(format!("cannot read {}: {e}", file.path.display())))?;
    let mut rest = bytes.as_slice();
    let mut writes = Writes::default();
    while !rest.is_empty() {
        let (Some(address), Some(value)) = (part(&mut rest), part(&mut rest)) else {
            return Err(StorageError(format!("{} ends in the middle of an entry", file.path.display())));
        };
        writes.list.push(Change::Put(address.to_vec(), value.to_vec()));
    }
    storage.write(writes)?;
    Ok(storage)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (part, tail) = tail.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = tail;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_in_memory_survives_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let plan = StatePlan { backend: StateBackend::Memory, memory_bytes: 1 << 20, path: None };
        let state = State::open(&plan, folder.path(), &[]).unwrap();
        let storage = state.storage();
        let put = |n: u32| Change::Put(n.to_be_bytes().to_vec(), vec![7; n as usize % 5]);
        storage.write(Writes { list: (0..10_000).map(put).collect() }).unwrap();
        let frozen = state.freeze(folder.path()).unwrap();
        storage.write(Writes { list: vec![Change::Delete(vec![0; 4])] }).unwrap();
        let restored =
            |path: &Path| [RestoredFile { name: IN_MEMORY_FILE.to_owned(), path: path.to_owned() }];
        let again = State::open(&plan, folder.path(), &restored(&frozen[0].path)).unwrap().storage();
        let all = again.scan(&[], &[255; 5], usize::MAX).unwrap();
        assert_eq!(all.len(), 10_000);
        assert_eq!(all[9_999], (9_999u32.to_be_bytes().to_vec(), vec![7; 4]));
        let torn = folder.path().join("torn");
        let bytes = fs::read(&frozen[0].path).unwrap();
        fs::write(&torn, &bytes[..bytes.len() - 1]).unwrap();
        assert!(State::open(&plan, folder.path(), &restored(&torn)).is_err());
    }
}
