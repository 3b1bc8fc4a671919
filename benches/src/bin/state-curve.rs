//! What state costs as it grows: the pause at a barrier, what a checkpoint writes after one key in a hundred has
//! changed, and how soon a run that goes on from it has its first row. One line for each size.
//!
//! `cargo run --release -p tidemill-benches --bin state-curve [MB...]`
//!
//! It drives what a task drives, in the same order: the keyed state, the database and the store of checkpoints. Rows
//! are a key and a value of 1,000 bytes. Of the memory budget of 512 MB half is the state's and half the database's.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, StringArray};
use tidemill_checkpoint::{FORMAT, Kind, Manifest, Operator, Position, State, StateSchema, Store};
use tidemill_flow::aggregation::Rows;
use tidemill_flow::key::{KEY_GROUPS, Keys};
use tidemill_flow::keyed::{KeyedState, Layout, ValueSlot};
use tidemill_flow::schema::{Field, FieldType};
use tidemill_flow::storage::{Addresses, Storage};
use tidemill_flow::timers::Clock;
use tidemill_state::{Database, RestoredFile, Settings};

const BUDGET_BYTES: usize = 512 << 20;
const VALUE_BYTES: usize = 1000;
/// As many rows as a batch has.
const BATCH: usize = 4096;
/// As a task writes them out.
const ROWS_PER_SLICE: usize = 256;
const ROUNDS: usize = 5;
const TIMERS: usize = 1 << 20;
const ADDRESSES: Addresses = Addresses { operator: 0 };

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let sizes: Vec<usize> =
        std::env::args().skip(1).map(|a| a.parse()).collect::<std::result::Result<_, _>>()?;
    let sizes = if sizes.is_empty() { vec![10, 100, 1000, 4000] } else { sizes };
    println!(
        "| state | load, rows/s | freeze | longest slice | checkpoint, 1 % changed | new bytes | verify | restore | \
         first row | copy | peak memory |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for mb in sizes {
        curve(mb)?;
    }
    timers()
}

/// One operator's state, as a task has it.
struct Task {
    state: KeyedState,
    database: Database,
    longest: Duration,
}

impl Task {
    fn new(database: Database, restored: bool) -> Result<Self> {
        let layout = layout()?;
        let groups = 0..KEY_GROUPS;
        let state = if restored {
            KeyedState::restore(layout, ADDRESSES, groups, &database)?
        } else {
            KeyedState::new(layout, ADDRESSES, groups)
        };
        Ok(Self { state, database, longest: Duration::ZERO })
    }

    /// Sets the values of these keys, as a guest would in one call.
    fn touch(&mut self, keys: &[i64], version: u64) -> Result<()> {
        let column: ArrayRef = Arc::new(Int64Array::from(keys.to_vec()));
        let written = Keys::of(&[&column], keys.len());
        let rows = Rows { keys: &written, times: None, watermarks: None };
        let numbered = self.state.begin(&rows, 0, &self.database)?;
        let values = keys.iter().map(|&key| value(key, version));
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(values));
        self.state.store(&numbered, vec![Some(values)]);
        Ok(())
    }

    /// Keeps to half of the budget, as between two checkpoints.
    fn keep_to_memory(&mut self) -> Result<()> {
        let budget = BUDGET_BYTES / 2;
        while self.state.bytes() > budget && self.state.evict(budget / 4 * 3) {}
        while self.state.bytes() > budget {
            let Some(writes) = self.state.spill(budget / 4 * 3) else { break };
            self.database.write(writes)?;
        }
        Ok(())
    }

    /// A checkpoint of it: how long rows had to wait at the barrier, how long it took, and its files.
    fn checkpoint(&mut self, folder: &Path, store: &Store, number: u64) -> Result<Checkpoint> {
        let begun = Instant::now();
        self.state.freeze();
        let freeze = begun.elapsed();
        self.longest = Duration::ZERO;
        loop {
            let slice = Instant::now();
            let Some(writes) = self.state.drain(ROWS_PER_SLICE) else { break };
            self.database.write(writes)?;
            self.longest = self.longest.max(slice.elapsed());
        }
        let frozen = folder.join("frozen");
        let before = stored_bytes(store)?;
        let mut files = Vec::new();
        for file in self.database.freeze(&frozen)? {
            files.push(store.put_file(&file.path, file.immutable)?);
        }
        fs::remove_dir_all(frozen)?;
        let manifest = manifest(store, number, files);
        store.write_manifest(&manifest)?;
        let taken = begun.elapsed();
        let new_bytes = stored_bytes(store)? - before;
        store.retain(std::num::NonZeroUsize::MIN)?;
        Ok(Checkpoint { freeze, slice: self.longest, taken, new_bytes, manifest })
    }
}

struct Checkpoint {
    freeze: Duration,
    slice: Duration,
    taken: Duration,
    new_bytes: u64,
    manifest: Manifest,
}

fn curve(mb: usize) -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let store = Store::open(&folder.path().join("store"), "state-curve")?;
    let settings = Settings { memory_bytes: (BUDGET_BYTES / 2) as u64, ..Settings::default() };
    let mut task = Task::new(Database::create(&settings, &folder.path().join("db"))?, false)?;
    let count = mb * 1_000_000 / VALUE_BYTES;
    let begun = Instant::now();
    for first in (0..count).step_by(BATCH) {
        let keys: Vec<i64> = (first..(first + BATCH).min(count)).map(|n| shuffled(n, count)).collect();
        task.touch(&keys, 0)?;
        task.keep_to_memory()?;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    // Of the load itself; it isn't what is asked here.
    let mut last = task.checkpoint(folder.path(), &store, 1)?;
    settle(&task.database)?;
    let (mut rounds, mut new_bytes) = (Vec::new(), Vec::new());
    let mut random = 42u64;
    for round in 0..ROUNDS {
        let changed = (count / 100).max(1);
        for first in (0..changed).step_by(BATCH) {
            let mut keys: Vec<i64> = (first..(first + BATCH).min(changed))
                .map(|_| (next(&mut random) % count as u64) as i64)
                .collect();
            keys.sort_unstable();
            keys.dedup();
            task.touch(&keys, round as u64 + 1)?;
            task.keep_to_memory()?;
        }
        last = task.checkpoint(folder.path(), &store, round as u64 + 2)?;
        rounds.push([last.freeze, last.slice, last.taken].map(|d| d.as_secs_f64()));
        new_bytes.push(last.new_bytes);
    }
    drop(task);
    let first_row = first_row(folder.path(), &store, &last.manifest, &settings, count)?;
    let state_bytes = last.manifest.state_bytes();
    let column = |mut values: Vec<f64>, digits: usize| {
        values.sort_by(f64::total_cmp);
        format!("{:.digits$} (≤ {:.digits$})", values[values.len() / 2], values[values.len() - 1])
    };
    let times = |which: usize, factor: f64, digits: usize| {
        column(rounds.iter().map(|round: &[f64; 3]| round[which] * factor).collect(), digits)
    };
    let shares = new_bytes.iter().map(|&bytes| bytes as f64 / state_bytes as f64 * 100.0).collect();
    println!(
        "| {mb} MB | {rate:.0} | {} µs | {} ms | {} ms | {} % | {} ms | {} ms | {} ms | {} ms | {} MB |",
        times(0, 1e6, 1),
        times(1, 1e3, 1),
        times(2, 1e3, 0),
        column(shares, 2),
        first_row[0].as_millis(),
        first_row[1].as_millis(),
        first_row[2].as_millis(),
        first_row[3].as_millis(),
        peak_memory_mb()?,
    );
    Ok(())
}

/// Verifying, restoring, and the first batch, each from the start of it all; and a plain copy of the same files.
fn first_row(
    folder: &Path,
    store: &Store,
    manifest: &Manifest,
    settings: &Settings,
    count: usize,
) -> Result<[Duration; 4]> {
    let begun = Instant::now();
    store.verify(manifest, &|_| ()).map_err(|problems| format!("{problems:?}"))?;
    let verified = begun.elapsed();
    let restored = folder.join("restored");
    store.restore(manifest, &restored)?;
    let files = manifest.state.files.iter();
    let files = files.map(|f| (f.name.as_str().to_owned(), restored.join(f.name.as_str())));
    let files: Vec<RestoredFile> = files.map(|(name, path)| RestoredFile { name, path }).collect();
    let database = Database::restore(settings, &folder.join("again"), &files)?;
    let mut task = Task::new(database, true)?;
    let opened = begun.elapsed();
    task.touch(&[shuffled(count / 2, count)], 99)?;
    let first = begun.elapsed();
    let copying = Instant::now();
    let copies = folder.join("copies");
    fs::create_dir_all(&copies)?;
    for file in &files {
        let copy = copies.join(&file.name);
        fs::copy(&file.path, &copy)?;
        fs::File::open(&copy)?.sync_all()?;
    }
    Ok([verified, opened, first, copying.elapsed()])
}

/// A million timers due at one instant: how long other keys and barriers wait for a slice of them.
fn timers() -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let mut task = Task::new(Database::create(&Settings::default(), &folder.path().join("db"))?, false)?;
    for first in (0..TIMERS).step_by(BATCH) {
        let keys: Vec<i64> = (first..first + BATCH).map(|n| n as i64).collect();
        let column: ArrayRef = Arc::new(Int64Array::from(keys));
        let written = Keys::of(&[&column], BATCH);
        let rows = Rows { keys: &written, times: None, watermarks: None };
        let numbered = task.state.begin(&rows, 0, &task.database)?;
        for key in 0..u32::try_from(BATCH)? {
            task.state.set_timer(&numbered, key, Clock::Event, "due", Some(1000));
        }
    }
    task.state.advance(1000, 0);
    let (begun, mut longest, mut fired) = (Instant::now(), Duration::ZERO, 0);
    loop {
        let slice = Instant::now();
        let firing = task.state.due(Clock::Event, BATCH);
        if firing.due.is_empty() {
            break;
        }
        fired += firing.due.len();
        let numbered = task.state.begin_firing(&firing, &task.database)?;
        task.state.store(&numbered, vec![None]);
        longest = longest.max(slice.elapsed());
        // A barrier in the middle of it.
        if fired == TIMERS / 2 {
            let frozen = Instant::now();
            task.state.freeze();
            println!("\na barrier among {TIMERS} due timers: frozen in {} µs", frozen.elapsed().as_micros());
        }
    }
    println!(
        "{fired} timers fired in {} ms; longest slice {} ms",
        begun.elapsed().as_millis(),
        longest.as_millis()
    );
    Ok(())
}

/// Waits until what the load left behind is compacted, so that it isn't counted as a change: until nothing was under way
/// for a second.
fn settle(database: &Database) -> Result<()> {
    let mut quiet = 0;
    for _ in 0..6000 {
        quiet = if database.usage()?.background_jobs == 0 { quiet + 1 } else { 0 };
        if quiet == 10 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("RocksDB is still busy with what was loaded ten minutes ago".into())
}

fn layout() -> Result<Arc<Layout>> {
    let slots = [ValueSlot { field: Field::nullable("value", FieldType::Text), ttl: None }];
    Ok(Arc::new(Layout::new(0, &slots, &[], Vec::new())?))
}

/// 1,000 bytes that no compression would make small.
fn value(key: i64, version: u64) -> String {
    let mut state = key.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version;
    let mut text = String::with_capacity(VALUE_BYTES + 16);
    while text.len() < VALUE_BYTES {
        text.push_str(&format!("{:016x}", next(&mut state)));
    }
    text.truncate(VALUE_BYTES);
    text
}

/// The keys in an order that has nothing to do with theirs.
fn shuffled(n: usize, count: usize) -> i64 {
    // A prime that divides no count here.
    ((n as u64 * 2_654_435_761) % count as u64) as i64
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn manifest(store: &Store, checkpoint: u64, files: Vec<tidemill_checkpoint::FileEntry>) -> Manifest {
    let state = vec![StateSchema { version: 0, fields: Vec::new() }];
    let operator = Operator {
        id: "bench".to_owned(),
        number: 0,
        component: tidemill_checkpoint::Digest([0; 32]),
        world: "process-operator".to_owned(),
        key: Vec::new(),
        windows: None,
        parallelism: 1,
        state,
        collections: Vec::new(),
        watermarks: Vec::new(),
        in_flight: None,
    };
    let partition = tidemill_checkpoint::Partition {
        name: "0".to_owned(),
        position: Position::Generated { last: None },
        watermark: None,
        ended: false,
    };
    Manifest {
        format: FORMAT,
        pipeline: "state-curve".to_owned(),
        checkpoint,
        run: store.run(),
        kind: Kind::Checkpoint,
        savepoint: None,
        created_ms: 0,
        duration_ms: 0,
        key_hash: "xxh3-64, seed 0".to_owned(),
        key_groups: KEY_GROUPS,
        sources: vec![tidemill_checkpoint::Source { id: "bench".to_owned(), partitions: vec![partition] }],
        operators: vec![operator],
        state: State { backend: "rocksdb".to_owned(), files },
        generation: 0,
        components: std::collections::BTreeMap::new(),
        sinks: Vec::new(),
        counters: Default::default(),
        warnings: Vec::new(),
    }
}

/// All that stands in the store under its content's name.
fn stored_bytes(store: &Store) -> Result<u64> {
    let mut names = std::collections::BTreeMap::new();
    for listed in store.list()? {
        for file in listed.manifest?.state.files {
            names.insert(file.sha256, file.bytes);
        }
    }
    Ok(names.values().sum())
}

fn peak_memory_mb() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("VmHWM without a number")?.parse()?;
    Ok(kib / 1000)
}
