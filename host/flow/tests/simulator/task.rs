//! A task of one of the stages: its part of the state under a cache, frozen at barriers and written behind.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use tidemill_flow::storage::{Addresses, InMemory, Storage, Write, Writes};
use tidemill_flow::watermark::{Combiner, Progress};

use crate::bugs::Bug;
use crate::context::Context;
use crate::data::{Kind, Pipeline, ROW_BYTES, Row, WINDOW, group, hash};
use crate::inbox::{Inbox, Signal};

/// More entries than this aren't cached, if they can be written.
const CACHED_MAX: usize = 6;
/// Entries that are written between two batches while a checkpoint drains.
const SLICE: usize = 2;

pub(crate) struct Task {
    pub(crate) inbox: Inbox,
    addresses: Addresses,
    owned: Range<u32>,
    combiner: Combiner,
    cache: BTreeMap<Vec<u8>, Cached>,
    /// Time, key, and how often it was registered: once.
    timers: BTreeMap<(u32, u8), u32>,
    /// The checkpoint whose files haven't been taken: nothing of the next epoch may be written.
    open: Option<u64>,
    /// The checkpoint whose frozen entries are being written.
    draining: Option<u64>,
    /// How many rows in flight the storage has of the last checkpoint.
    recorded: u64,
    /// What was in flight at the checkpoint that was restored, and hasn't been processed.
    remains: VecDeque<Row>,
}

#[derive(Clone, Debug)]
struct Cached {
    value: Option<Vec<u8>>,
    dirty: bool,
    /// Dirty since before the barrier, and not written yet.
    frozen: bool,
}

const FIRST: u16 = 1;

impl Task {
    pub(crate) fn new(stage: u16, owned: Range<u32>, channels: usize, patience: Option<u64>) -> Self {
        Self {
            inbox: Inbox::new(channels, patience),
            addresses: Addresses { operator: stage },
            owned,
            combiner: Combiner::new(channels),
            cache: BTreeMap::new(),
            timers: BTreeMap::new(),
            open: None,
            draining: None,
            recorded: 0,
            remains: VecDeque::new(),
        }
    }

    /// Loads what was in flight to the task's key groups.
    pub(crate) fn load_remains(&mut self, storage: &InMemory, cx: &Context) {
        if cx.has(Bug::InFlightForgotten) {
            return;
        }
        let (from, end) = self.in_flight();
        let mut found = storage.scan(&from, &end, usize::MAX).expect("memory");
        found.sort_by_key(|(address, _)| self.addresses.read_in_flight(address).expect("a row in flight").1);
        self.remains = found.iter().map(|(_, row)| Row::read(row).expect("a row")).collect();
        self.recorded = self.remains.len() as u64;
    }

    /// The next row that was in flight, before anything else.
    pub(crate) fn settle(&mut self, storage: &InMemory, cx: &mut Context) -> Option<Vec<Signal>> {
        let row = self.remains.pop_front()?;
        cx.counts.settled += 1;
        let signals = self.row(&row, storage, cx);
        if self.remains.is_empty() {
            self.clear(storage, cx);
        }
        Some(signals)
    }

    /// Puts a row that is in flight beside the state.
    pub(crate) fn record(&mut self, row: &Row, storage: &InMemory, cx: &mut Context) {
        cx.counts.in_flight += 1;
        let key = if self.addresses.operator == FIRST { row.key } else { Pipeline::second_key(row) };
        let mut bytes = Vec::new();
        row.write(&mut bytes);
        let mut writes = Writes::default();
        writes.set(self.addresses.in_flight(group(key), self.recorded), Some(bytes));
        storage.write(writes).expect("memory");
        self.recorded += 1;
    }

    /// Removes what was in flight at an earlier checkpoint.
    fn clear(&mut self, storage: &InMemory, cx: &Context) {
        if std::mem::take(&mut self.recorded) > 0 && !cx.has(Bug::InFlightNotRemoved) {
            let (from, end) = self.in_flight();
            storage.write(Writes { list: vec![Write::DeleteRange(from, end)] }).expect("memory");
        }
    }

    fn in_flight(&self) -> (Vec<u8>, Vec<u8>) {
        let begin = |group| self.addresses.in_flight_of_group(group);
        (begin(self.owned.start), begin(self.owned.end))
    }

    /// Loads the timers of these key groups.
    pub(crate) fn load_timers(&mut self, groups: Range<u32>, times: u32, storage: &InMemory) {
        let (from, end) =
            (self.addresses.timers_of_group(0, groups.start), self.addresses.timers_of_group(0, groups.end));
        for (address, _) in storage.scan(&from, &end, usize::MAX).expect("memory") {
            let (_, _, key, name) = self.addresses.read_timer(&address).expect("a timer");
            let time = u32::from_be_bytes(name.try_into().expect("four bytes"));
            *self.timers.entry((time, key[0])).or_default() += times;
        }
    }

    /// A row, a watermark or the end of a channel; a barrier is the process's. Returns what goes on.
    pub(crate) fn row(&mut self, row: &Row, storage: &InMemory, cx: &mut Context) -> Vec<Signal> {
        if self.addresses.operator == FIRST {
            self.first(row, storage, cx)
        } else {
            self.second(row, storage, cx)
        }
    }

    pub(crate) fn watermark(
        &mut self,
        channel: usize,
        watermark: i64,
        storage: &InMemory,
        cx: &mut Context,
    ) -> Vec<Signal> {
        let [Progress::Watermark(watermark)] = self.combiner.advance(channel, watermark)[..] else {
            return Vec::new();
        };
        let mut out = Vec::new();
        while let Some((&(time, key), &times)) = self.timers.first_key_value() {
            if i64::from(time) > watermark {
                break;
            }
            self.timers.pop_first();
            let begin = time + 1 - WINDOW;
            let address = self.window(key, begin);
            for _ in 0..times {
                let n = self.number(&address, storage);
                out.push(Signal::Row(Row { kind: Kind::Window, key, side: 0, time: begin, n }));
                self.set(&address, None, storage, cx);
                self.set(&self.timer(key, time), None, storage, cx);
            }
        }
        out.push(Signal::Watermark(watermark));
        out
    }

    /// A new epoch begins. In the host this is one step, however many entries there are.
    pub(crate) fn freeze(&mut self, checkpoint: u64, storage: &InMemory, cx: &Context) {
        self.clear(storage, cx);
        for cached in self.cache.values_mut() {
            cached.frozen = cached.dirty;
        }
        (self.open, self.draining) = (Some(checkpoint), Some(checkpoint));
    }

    /// Writes a slice of what is frozen. Returns the checkpoint that is drained with it.
    pub(crate) fn drain(&mut self, storage: &InMemory, cx: &Context) -> Option<u64> {
        let checkpoint = self.draining?;
        let mut writes = Writes::default();
        let mut frozen = self.cache.iter_mut().filter(|(_, c)| c.frozen);
        for (address, cached) in frozen.by_ref().take(SLICE) {
            writes.set(address.clone(), cached.value.clone());
            (cached.frozen, cached.dirty) = (false, false);
        }
        let done = frozen.next().is_none();
        storage.write(writes).expect("memory");
        let is_recording = self.inbox.is_recording(checkpoint) && !cx.has(Bug::AcknowledgedBeforeRecorded);
        if !done || is_recording {
            return None;
        }
        self.draining = None;
        if cx.has(Bug::WrittenBeforeFilesAreTaken) {
            self.open = None;
        }
        Some(checkpoint)
    }

    /// The files of a checkpoint are taken.
    pub(crate) fn released(&mut self, checkpoint: u64) {
        if self.open == Some(checkpoint) {
            self.open = None;
        }
    }

    pub(crate) fn aborted(&mut self, checkpoint: u64) {
        self.inbox.cancel(checkpoint);
        if self.open == Some(checkpoint) {
            (self.open, self.draining) = (None, None);
            // It is dirty still, and the next checkpoint's.
            self.cache.values_mut().for_each(|c| c.frozen = false);
        }
    }

    /// Takes an entry out of a cache that is too large.
    pub(crate) fn evict(&mut self, storage: &InMemory, cx: &mut Context) {
        if self.cache.len() <= CACHED_MAX {
            return;
        }
        let at = cx.random.index(self.cache.len());
        let Some((address, cached)) = self.cache.iter().nth(at).map(|(a, c)| (a.clone(), c.clone())) else {
            return;
        };
        if cached.dirty {
            let held = self.open.is_some() && !cx.has(Bug::EvictedWhileOpen);
            if held || cached.frozen {
                return;
            }
            let mut writes = Writes::default();
            writes.set(address.clone(), cached.value);
            storage.write(writes).expect("memory");
        }
        self.cache.remove(&address);
    }

    fn first(&mut self, row: &Row, storage: &InMemory, cx: &mut Context) -> Vec<Signal> {
        self.check_owner(row.key, cx);
        let address = self.addresses.row(0, hash(row.key), &[row.key, row.side]);
        let n = self.number(&address, storage) + 1;
        self.set(&address, Some(n), storage, cx);
        let begin = row.time / WINDOW * WINDOW;
        let window = self.window(row.key, begin);
        let in_window = self.number(&window, storage) + 1;
        self.set(&window, Some(in_window), storage, cx);
        let end = begin + WINDOW - 1;
        if self.timers.insert((end, row.key), 1).is_none() {
            self.set(&self.timer(row.key, end), Some(0), storage, cx);
        }
        vec![Signal::Row(Row { kind: Kind::Count, time: 0, n, ..*row })]
    }

    fn second(&mut self, row: &Row, storage: &InMemory, cx: &mut Context) -> Vec<Signal> {
        let key = Pipeline::second_key(row);
        self.check_owner(key, cx);
        let address = self.addresses.row(0, hash(key), &[key]);
        let n = self.number(&address, storage) + 1;
        self.set(&address, Some(n), storage, cx);
        let second = Row { kind: Kind::Second, key, side: 0, time: 0, n };
        vec![Signal::Row(*row), Signal::Row(second)]
    }

    fn check_owner(&self, key: u8, cx: &mut Context) {
        if !self.owned.contains(&group(key)) {
            cx.disk.violation =
                Some(format!("key {key} came to the task that owns the groups {:?}", self.owned));
        }
    }

    fn window(&self, key: u8, begin: u32) -> Vec<u8> {
        self.addresses.row(i64::from(begin) + 1, hash(key), &[key])
    }

    fn timer(&self, key: u8, time: u32) -> Vec<u8> {
        self.addresses.timer(0, hash(key), &[key], &time.to_be_bytes())
    }

    fn number(&mut self, address: &[u8], storage: &InMemory) -> u32 {
        let cached = self.cached(address, storage);
        let bytes = cached.value.as_deref().and_then(|v| v.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    }

    fn set(&mut self, address: &[u8], value: Option<u32>, storage: &InMemory, cx: &mut Context) {
        let cached = self.cached(address, storage);
        if cached.frozen && !cx.has(Bug::NoCopyOnWrite) {
            cx.counts.saved_first += 1;
            let mut writes = Writes::default();
            writes.set(address.to_vec(), cached.value.take());
            storage.write(writes).expect("memory");
            cached.frozen = false;
        }
        cached.value = value.map(|v| v.to_be_bytes().to_vec());
        cached.dirty = true;
    }

    fn cached(&mut self, address: &[u8], storage: &InMemory) -> &mut Cached {
        self.cache.entry(address.to_vec()).or_insert_with(|| {
            let value = storage.read(&[address.to_vec()]).expect("memory").pop().flatten();
            Cached { value, dirty: false, frozen: false }
        })
    }
}

/// All that a storage holds.
pub(crate) fn all_of(storage: &InMemory) -> Vec<(Vec<u8>, Vec<u8>)> {
    storage.scan(&[], &[u8::MAX; ROW_BYTES], usize::MAX).expect("memory")
}

/// A storage that holds these entries.
pub(crate) fn storage_of(entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> InMemory {
    let storage = InMemory::default();
    let list = entries.into_iter().map(|(address, value)| Write::Put(address, value)).collect();
    storage.write(Writes { list }).expect("memory");
    storage
}
