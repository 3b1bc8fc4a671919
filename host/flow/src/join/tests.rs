//! A join driven by hand, and compared with models that keep everything.

mod cases;
mod models;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array};

use super::*;
use crate::key::{KEY_GROUPS, Keys};
use crate::schema::{Field, FieldType, Schema};
use crate::storage::{InMemory, Write};

const ADDRESSES: Addresses = Addresses { operator: 9 };

/// A row: what it is called, its key, its time, and whether it removes its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    name: i64,
    key: i64,
    time: i64,
    deletes: bool,
}

/// A pair by the names of its rows, with the key and the time.
type Pair = (i64, Option<i64>, Option<i64>, i64);

/// What has come of a join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    pairs: Vec<Pair>,
    late: Vec<(i64, i64)>,
}

impl Told {
    fn sorted(mut self) -> Self {
        self.pairs.sort_unstable();
        self.late.sort_unstable();
        self
    }
}

struct Driver {
    spec: Spec,
    join: Join,
    storage: InMemory,
    told: Told,
    /// How far time has come for whoever reads the results.
    announced: i64,
}

fn layout() -> Arc<Layout> {
    let left = Schema::new(vec![Field::new("name", FieldType::Integer)]).unwrap();
    let right = vec![Field::new("name", FieldType::Integer), Field::nullable("gone", FieldType::Boolean)];
    Arc::new(Layout::new(0, [&left, &Schema::new(right).unwrap()], &[]).unwrap())
}

impl Driver {
    fn new(kind: Kind, on: On) -> Self {
        let spec = Spec { kind, on };
        Self {
            spec,
            join: Join::new(spec, layout(), ADDRESSES, 0..KEY_GROUPS),
            storage: InMemory::default(),
            told: Told::default(),
            announced: WATERMARK_MIN,
        }
    }

    /// A batch of one side; `watermarks` before its rows, where some are further than what was announced.
    fn batch(&mut self, side: Side, rows: &[Row], watermarks: Option<&[i64]>) {
        let integers =
            |of: &dyn Fn(&Row) -> i64| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Int64Array>()) };
        let mut columns = vec![integers(&|row| row.name)];
        if side == Side::Right {
            // Absent means no.
            let gone = rows.iter().map(|row| row.deletes.then_some(true));
            columns.push(Arc::new(gone.collect::<BooleanArray>()));
        }
        let keys = Keys::of(&[&integers(&|row| row.key)], rows.len());
        let times: Vec<i64> = rows.iter().map(|row| row.time).collect();
        let of = Rows { keys: &keys, times: Some(&times), watermarks };
        let mut from = 0;
        while from < rows.len() {
            let mut arrival = self.join.arrive(side, &of, &columns, from);
            let late = arrival.late.iter().map(|late| (rows[late.row as usize].name, late.by_ms));
            self.told.late.extend(late);
            while let Some(pairs) = self.join.next_pairs(&mut arrival, &self.storage).unwrap() {
                self.tell(&pairs);
            }
            from = arrival.until;
            if from < rows.len() {
                self.join.advance(arrival.advance_to);
                while self.step() {}
            }
        }
    }

    fn row(&mut self, side: Side, name: i64, time: i64) {
        self.batch(side, &[Row { name, key: 1, time, deletes: false }], None);
    }

    fn watermark(&mut self, watermark: i64) {
        self.join.advance(watermark);
        while self.step() {}
    }

    /// A call's worth of what is due; says whether there may be more.
    fn step(&mut self) -> bool {
        match self.join.next_due(&self.storage).unwrap() {
            Due::Pairs(pairs) => {
                for at in 0..pairs.rows() {
                    let time = pairs.times[at];
                    assert!(
                        time > self.announced || time == i64::MAX || self.announced == WATERMARK_MIN,
                        "late behind {}: {time}",
                        self.announced
                    );
                }
                self.tell(&pairs);
                true
            }
            Due::Worked => true,
            Due::Nothing => {
                assert!(!self.join.has_due());
                assert!(self.announced <= self.join.reached());
                self.announced = self.join.reached();
                false
            }
        }
    }

    fn tell(&mut self, pairs: &Pairs) {
        assert!((1..=PAIRS_MAX).contains(&pairs.rows()));
        let keys =
            crate::key::read_keys((0..pairs.rows()).map(|row| pairs.keys.key(row)), &[FieldType::Integer]);
        let keys = keys[0].as_primitive::<Int64Type>();
        for row in 0..pairs.rows() {
            let name = |side: Side| {
                let names = pairs.sides[side as usize][0].as_primitive::<Int64Type>();
                let absent = pairs.absent[side as usize].as_ref().is_some_and(|a| a.value(row));
                assert_eq!(absent, names.is_null(row));
                (!absent).then(|| names.value(row))
            };
            self.told.pairs.push((keys.value(row), name(Side::Left), name(Side::Right), pairs.times[row]));
            if let On::Window(_) = self.spec.on {
                assert_eq!(pairs.windows[row].end, pairs.times[row] + 1);
            }
        }
    }

    fn drain_all(&mut self) {
        while let Some(writes) = self.join.drain(3) {
            self.storage.write(writes).unwrap();
        }
    }

    /// A checkpoint, and a start from it.
    fn restart(&mut self) {
        self.join.freeze();
        self.drain_all();
        self.restore();
    }

    fn restore(&mut self) {
        let watermark = self.join.watermark();
        let groups = 0..KEY_GROUPS;
        self.join = Join::restore(self.spec, layout(), ADDRESSES, groups, &self.storage, watermark).unwrap();
    }

    /// Drops everything into the storage.
    fn spill(&mut self) {
        while let Some(writes) = self.join.spill(0) {
            self.storage.write(writes).unwrap();
        }
        assert_eq!(self.join.bytes(), 0);
    }

    /// The times of the rows that an interval join keeps, of a side and the key 1.
    fn kept(&self, side: Side) -> Vec<i64> {
        let key = Keys::of(&[&(Arc::new(Int64Array::from(vec![1])) as ArrayRef)], 1);
        let shelf = buffers::Shelf { collection: side as u8, hash: key.hashes()[0], key: key.key(0) };
        let found = self.join.buffers.range(&shelf, (b"", None), usize::MAX, &self.storage).unwrap();
        found.entries.iter().map(|(entry, _)| buffers::time_of(entry).unwrap()).collect()
    }

    fn take_pairs(&mut self) -> Vec<(i64, i64)> {
        let pairs = std::mem::take(&mut self.told.pairs);
        let mut pairs: Vec<(i64, i64)> =
            pairs.into_iter().map(|(_, left, right, _)| (left.unwrap_or(-1), right.unwrap_or(-1))).collect();
        pairs.sort_unstable();
        pairs
    }
}

fn copy(storage: &InMemory) -> InMemory {
    let all = storage.scan(&[], &[255; 4], usize::MAX).unwrap();
    let copy = InMemory::default();
    copy.write(Writes { list: all.into_iter().map(|(a, v)| Write::Put(a, v)).collect() }).unwrap();
    copy
}
