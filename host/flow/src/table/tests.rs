//! Tables against a plain map, however batches, checkpoints, evictions and crashes come.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, StringArray};
use proptest::prelude::*;

use super::*;
use crate::key::{owned, read_keys};
use crate::schema::{Field, FieldType, Schema};
use crate::storage::{InMemory, Writes};

const ADDRESSES: Addresses = Addresses { operator: 2 };
const SLICE: i64 = -5;

/// A row: a sum, and maybe a text.
type Row = (i64, Option<String>);
type Model = BTreeMap<i64, Row>;

fn codec() -> Arc<Codec> {
    let fields = vec![Field::new("sum", FieldType::Integer), Field::nullable("note", FieldType::Text)];
    let initial = columns(&[(0, None)]);
    Arc::new(Codec::new(1, &Schema::new(fields).unwrap(), &[], Some(initial)).unwrap())
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1.as_deref()))),
    ]
}

fn rows(columns: &[ArrayRef]) -> Vec<Row> {
    let (sums, notes) = (columns[0].as_primitive::<Int64Type>(), columns[1].as_string::<i32>());
    sums.values().iter().zip(notes).map(|(sum, note)| (*sum, note.map(Into::into))).collect()
}

fn contents(storage: &InMemory) -> Vec<(Vec<u8>, Vec<u8>)> {
    storage.scan(&[], &[0xff; 9], usize::MAX).unwrap()
}

fn copy(storage: &InMemory) -> InMemory {
    let copy = InMemory::default();
    let list = contents(storage).into_iter().map(|(a, v)| Write::Put(a, v)).collect();
    copy.write(Writes { list }).unwrap();
    copy
}

/// What the rows in a storage are, by key.
fn stored(storage: &InMemory) -> Model {
    let of = |(address, value): &(Vec<u8>, Vec<u8>)| {
        let (slice, _, key) = ADDRESSES.read_row(address).unwrap();
        assert_eq!(slice, SLICE);
        let key = read_keys([key].into_iter(), &[FieldType::Integer])[0].as_primitive::<Int64Type>().value(0);
        (key, rows(&codec().decode(&[value.as_slice()]).unwrap()).remove(0))
    };
    contents(storage).iter().map(of).collect()
}

/// What is done with a key of a batch.
#[derive(Clone, Debug)]
enum Deed {
    Look,
    Add(i64),
    Remove,
}

#[derive(Clone, Debug)]
enum Op {
    Batch(Vec<(i64, Deed)>),
    Freeze,
    Drain(usize),
    /// Down to so many percent of what is held.
    Evict(usize),
    Spill(usize),
    Crash,
}

struct Tested {
    groups: Range<u32>,
    table: Table,
    storage: InMemory,
    model: Model,
    frozen: Option<Model>,
    checkpoint: (InMemory, Model),
}

impl Tested {
    fn new(groups: Range<u32>) -> Self {
        Self {
            table: Table::new(ADDRESSES, SLICE, groups.clone(), codec()),
            groups,
            storage: InMemory::default(),
            model: Model::new(),
            frozen: None,
            checkpoint: (InMemory::default(), Model::new()),
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Batch(deeds) => self.batch(deeds),
            Op::Freeze => {
                self.table.freeze();
                self.frozen = Some(self.model.clone());
            }
            Op::Drain(rows_max) => drop(self.drain(*rows_max)),
            Op::Evict(percent) => {
                let target = self.table.bytes() * percent / 100;
                while self.table.evict(target) {}
            }
            Op::Spill(percent) => {
                while self.drain(7) {}
                let target = self.table.bytes() * percent / 100;
                while let Some(writes) = self.table.spill(target) {
                    self.storage.write(writes).unwrap();
                }
                let spilled_all = self.table.is_empty() || self.table.bytes() <= target;
                assert!(spilled_all || *percent < 100, "within {target} bytes");
            }
            Op::Crash => {
                let (storage, model) = &self.checkpoint;
                (self.storage, self.model, self.frozen) = (copy(storage), model.clone(), None);
                self.table = Table::restored(ADDRESSES, SLICE, self.groups.clone(), codec());
            }
        }
    }

    /// Returns whether there may be more.
    fn drain(&mut self, rows_max: usize) -> bool {
        let Some(writes) = self.table.drain(rows_max) else {
            if let Some(frozen) = self.frozen.take() {
                assert_eq!(stored(&self.storage), frozen, "the storage is as it was at the barrier");
                self.checkpoint = (copy(&self.storage), frozen);
            }
            return false;
        };
        assert!(writes.list.len() <= rows_max);
        self.storage.write(writes).unwrap();
        true
    }

    fn batch(&mut self, deeds: &[(i64, Deed)]) {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(deeds.iter().map(|d| d.0)));
        let keys = Keys::of(&[&column], deeds.len());
        let mut slots = Vec::new();
        let mut of_number: Vec<i64> = Vec::new();
        self.table.begin();
        let mut last: BTreeMap<u32, &Deed> = BTreeMap::new();
        for (row, (key, deed)) in deeds.iter().enumerate() {
            if !self.groups.contains(&key_group(keys.hashes()[row])) {
                continue;
            }
            let number = self.table.number(&keys, row, &mut slots);
            if number as usize == of_number.len() {
                of_number.push(*key);
            }
            assert_eq!(of_number[number as usize], *key);
            last.insert(number, deed);
        }
        self.table.load(&slots, &self.storage).unwrap();
        let read = if slots.is_empty() { Vec::new() } else { rows(&self.table.gather(&slots)) };
        for ((key, row), slot) in of_number.iter().zip(&read).zip(&slots) {
            assert_eq!(*row, self.model.get(key).cloned().unwrap_or((0, None)), "key {key}");
            assert_eq!(self.table.is_present(*slot), self.model.contains_key(key), "key {key}");
        }
        let (mut stored, mut new, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for (number, deed) in last {
            let (key, slot) = (of_number[number as usize], slots[number as usize]);
            match deed {
                Deed::Look => {}
                Deed::Remove => {
                    self.model.remove(&key);
                    removed.push(slot);
                }
                Deed::Add(value) => {
                    let sum = read[number as usize].0 + value;
                    let row = (sum, (sum % 3 != 0).then(|| "x".repeat(sum.unsigned_abs() as usize % 40)));
                    self.model.insert(key, row.clone());
                    new.push(row);
                    stored.push(slot);
                }
            }
        }
        self.table.store(&stored, &columns(&new));
        self.table.remove(&removed);
    }
}

fn deeds(keys: i64) -> impl Strategy<Value = Op> {
    let deed = prop_oneof![
        Just(Deed::Look),
        (-9i64..90).prop_map(Deed::Add),
        (0i64..9).prop_map(Deed::Add),
        Just(Deed::Remove)
    ];
    prop::collection::vec((0..keys, deed), 0..40).prop_map(Op::Batch)
}

fn ops(keys: i64) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => deeds(keys),
        2 => Just(Op::Freeze),
        4 => (1usize..20).prop_map(Op::Drain),
        1 => Just(Op::Drain(1000)),
        2 => (0usize..100).prop_map(Op::Evict),
        1 => (0usize..100).prop_map(Op::Spill),
        1 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..60)
}

proptest! {
    #[test]
    fn a_table_is_a_map_and_the_storage_is_the_map_at_the_barrier(
        ops in ops(90), tasks in 1u32..4,
    ) {
        let mut tested = Tested::new(owned(tasks - 1, tasks));
        ops.iter().for_each(|op| tested.run(op));
        tested.run(&Op::Freeze);
        while tested.drain(5) {}
        prop_assert_eq!(stored(&tested.storage), tested.model);
    }
}

/// A table with the rows (key, (key, "note")) of so many keys, all written to the storage.
fn filled(keys: i64) -> Tested {
    let mut tested = Tested::new(0..crate::key::KEY_GROUPS);
    for first in (0..keys).step_by(100) {
        tested.batch(&(first..keys.min(first + 100)).map(|key| (key, Deed::Add(key))).collect::<Vec<_>>());
    }
    tested.run(&Op::Freeze);
    while tested.drain(64) {}
    tested
}

#[test]
fn evicted_memory_is_given_back_and_rows_are_read_again() {
    let mut tested = filled(2000);
    let (bytes, shards) = (tested.table.bytes(), tested.table.shards());
    assert!(shards > 100 && !tested.table.evict(bytes), "nothing to do within the limit");
    tested.run(&Op::Evict(0));
    assert!(tested.table.is_empty() && !tested.table.is_complete());
    let empty = shards * size_of::<Shard>() + 720 * 4 + 1000 + shards * 2 * 80;
    assert!(tested.table.bytes() < empty, "{} of {bytes}", tested.table.bytes());
    tested.batch(&(0..2000).step_by(7).map(|key| (key, Deed::Look)).collect::<Vec<_>>());
}

#[test]
fn rows_that_are_used_stay_longer() {
    let mut tested = filled(2000);
    let used: Vec<_> = (0..50).map(|key| (key, Deed::Look)).collect();
    (0..60).for_each(|_| tested.batch(&used));
    tested.run(&Op::Evict(40));
    assert!(tested.table.len() < 1000);
    let storage = std::mem::take(&mut tested.storage);
    // They are still in memory: the storage has nothing any more.
    tested.batch(&used);
    assert!(contents(&tested.storage).is_empty() && contents(&storage).len() == 2000);
}

#[test]
fn a_checkpoint_costs_what_has_changed() {
    let mut tested = filled(500);
    tested.batch(&[(3, Deed::Add(1)), (4, Deed::Look), (9, Deed::Remove), (5000, Deed::Remove)]);
    tested.table.freeze();
    let mut writes = tested.table.drain(100).unwrap().list;
    writes.sort_by_key(|w| matches!(w, Write::Delete(_)));
    assert!(matches!(&*writes, [Write::Put(..), Write::Delete(_)]), "{writes:?}");
    assert!(tested.table.drain(100).is_none());
}

/// What is written between a barrier and the end of its draining may not be of the time after it, and what a given-up
/// checkpoint left behind must come with the next.
#[test]
fn a_row_changed_after_the_barrier_is_written_as_it_was_and_then_as_it_is() {
    let mut tested = filled(1);
    tested.batch(&[(0, Deed::Add(7))]);
    tested.run(&Op::Freeze);
    tested.batch(&[(0, Deed::Remove)]);
    tested.run(&Op::Freeze);
    tested.batch(&[(0, Deed::Add(1))]);
    while tested.drain(1) {}
    assert_eq!(stored(&tested.storage), Model::new());
    tested.run(&Op::Freeze);
    while tested.drain(1) {}
    assert_eq!(stored(&tested.storage)[&0].0, 1);
}

#[test]
fn a_damaged_row_is_an_error_that_says_where() {
    let tested = filled(3);
    let (address, mut value) = contents(&tested.storage).remove(1);
    value.pop();
    tested.storage.write(Writes { list: vec![Write::Put(address, value)] }).unwrap();
    let mut table = Table::restored(ADDRESSES, SLICE, 0..720, codec());
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3));
    let keys = Keys::of(&[&column], 3);
    let mut slots = Vec::new();
    table.begin();
    (0..3).for_each(|row| assert_eq!(table.number(&keys, row, &mut slots) as usize, row));
    let error = table.load(&slots, &tested.storage).unwrap_err().to_string();
    assert!(error.contains("is damaged: it ends within the value of"), "{error}");
}

#[test]
fn a_stored_key_in_the_wrong_group_is_an_error() {
    let table = Table::restored(ADDRESSES, SLICE, 0..720, codec());
    let storage = InMemory::default();
    let mut address = ADDRESSES.rows_of_group(SLICE, 5);
    address.extend_from_slice(b"key of another group");
    storage.write(Writes { list: vec![Write::Put(address, vec![1, 1])] }).unwrap();
    let error = table.stored(0..720, 10, &storage).unwrap_err().to_string();
    assert!(error.contains("its key is of group"), "{error}");
}
