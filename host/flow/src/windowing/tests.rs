//! A driver that sums values as an operator would, shared by the cases and the comparison with a naive model.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};

use super::*;
use crate::aggregation::Rows;
use crate::key::{KEY_GROUPS, Keys, read_keys};
use crate::schema::{Field, FieldType, Schema};
use crate::storage::InMemory;
use crate::window::Bounds;

mod cases;
mod chaos;
mod naive;

const ADDRESSES: Addresses = Addresses { operator: 7 };

/// Key, time, value; the operator rejects negative values.
type Row = (i64, i64, i64);

/// A firing of a window of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fired {
    key: i64,
    sum: i64,
    bounds: Option<Bounds>,
    number: i64,
    timing: Timing,
}

struct Driver {
    machine: Windowing,
    /// Rows are kept, and summed when they fire.
    keeps_rows: bool,
    storage: InMemory,
    now: i64,
    /// So many groups in a call.
    max: usize,
    fired: Vec<Fired>,
    /// The values of late rows, and how late they were.
    late: Vec<(i64, i64)>,
    partly_late: u64,
}

fn layout(keeps_rows: bool) -> Layout {
    if keeps_rows {
        let fields = ["time", "value"].map(|name| Field::new(name, FieldType::Integer));
        return Layout::of_rows(0, &Schema::new(fields.to_vec()).unwrap(), &[]).unwrap();
    }
    let state = Schema::new(vec![Field::new("sum", FieldType::Integer)]).unwrap();
    Layout::of_accumulators(0, &state, &[], &[integers(&[0])]).unwrap()
}

fn integers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn values(column: &ArrayRef) -> &[i64] {
    column.as_primitive::<Int64Type>().values()
}

impl Driver {
    fn new(definition: Definition, keeps_rows: bool) -> Self {
        let mut machine = Windowing::new(definition, ADDRESSES, 0..KEY_GROUPS, layout(keeps_rows));
        machine.advance(WATERMARK_MIN, 0);
        let storage = InMemory::default();
        Self {
            machine,
            keeps_rows,
            storage,
            now: 0,
            max: 3,
            fired: Vec::new(),
            late: Vec::new(),
            partly_late: 0,
        }
    }

    /// A batch with the watermark before each row, where it isn't the one that the machine knows.
    fn batch(&mut self, rows: &[Row], watermarks: Option<&[i64]>) {
        let times: Vec<i64> = rows.iter().map(|r| r.1).collect();
        let key: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
        let keys = Keys::of(&[&key], rows.len());
        let input = Rows { keys: &keys, times: Some(&times), watermarks };
        let mut from = 0;
        while from < rows.len() {
            while let Some(firing) = self.machine.due_of(&input, from, self.max, &self.storage).unwrap() {
                self.emit(&firing);
            }
            let mut assigned = self.machine.assign(&input, from, &self.storage).unwrap();
            self.late.extend(assigned.late.iter().map(|l| (rows[l.row as usize].2, l.late_by_ms)));
            self.partly_late += assigned.partly_late;
            while let Some(merge) = self.machine.next_merge(&mut assigned.stretch, self.max) {
                let sums = values(&merge.left[0]).iter().zip(values(&merge.right[0])).map(|(l, r)| l + r);
                let sums: Vec<i64> = sums.collect();
                self.machine.merged(&assigned.stretch, &merge, &[integers(&sums)]);
            }
            self.fold(rows, &assigned.stretch);
            while let Some(firing) = self.machine.filled(self.max, &self.storage).unwrap() {
                self.emit(&firing);
            }
            let known = watermarks.into_iter().flatten().copied().chain([self.machine.watermark()]).max();
            assert!(Some(assigned.fire_first) <= known, "event time comes from the rows alone");
            from = assigned.until;
            if from < rows.len() {
                self.machine.advance(assigned.fire_first, self.now);
            }
        }
        while let Some(firing) = self.machine.late(self.max, &self.storage).unwrap() {
            self.emit(&firing);
        }
    }

    fn fold(&mut self, rows: &[Row], stretch: &Stretch) {
        if stretch.groups() == 0 {
            return;
        }
        if self.keeps_rows {
            let column = |of: fn(&Row) -> i64| integers(&rows.iter().map(of).collect::<Vec<_>>());
            self.machine.keep(stretch, &[column(|row| row.1), column(|row| row.2)]);
            return;
        }
        let mut sums = values(&self.machine.accumulators(stretch)[0]).to_vec();
        let mut rejected = Vec::new();
        for (at, (&row, &group)) in (0u32..).zip(stretch.rows.iter().zip(&stretch.group_of)) {
            match rows[row as usize].2 {
                value if value < 0 => rejected.push(at),
                value => sums[group as usize] += value,
            }
        }
        self.machine.store(stretch, &[integers(&sums)], &rejected);
    }

    fn advance(&mut self, watermark: i64, now: i64) {
        self.now = self.now.max(now);
        self.machine.advance(watermark, self.now);
        while self.machine.is_due() {
            let firing = self.machine.due(self.max, &self.storage).unwrap();
            self.emit(&firing);
        }
    }

    fn emit(&mut self, firing: &Firing) {
        let count = firing.groups();
        assert!(count <= self.max, "{count} groups at once: a barrier would have to wait for them");
        let keys = read_keys((0..count).map(|at| firing.keys.key(at)), &[FieldType::Integer]);
        let sums = if self.keeps_rows { self.sums(firing) } else { values(&firing.accumulators[0]).to_vec() };
        assert_eq!(sums.len(), count);
        for (at, sum) in sums.into_iter().enumerate() {
            self.fired.push(Fired {
                key: values(&keys[0])[at],
                sum,
                bounds: firing.bounds[at],
                number: firing.numbers[at],
                timing: firing.timings[at],
            });
        }
    }

    /// The sums of groups' rows, which are in the order of their times.
    fn sums(&self, firing: &Firing) -> Vec<i64> {
        let mut sums = vec![0; firing.groups()];
        let [times, of_rows] = [0, 1].map(|column| values(&firing.rows.columns[column]));
        for (at, (&group, value)) in firing.rows.group_of.iter().zip(of_rows).enumerate() {
            sums[group as usize] += value;
            let follows = at > 0 && firing.rows.group_of[at - 1] == group;
            let by_event = self.machine.definition().time == Clock::Event;
            assert!(!(follows && by_event) || times[at - 1] <= times[at], "{times:?}");
        }
        sums
    }

    fn drain(&mut self, max: usize) -> bool {
        let writes = self.machine.drain(max);
        writes.is_some_and(|writes| self.storage.write(writes).is_ok())
    }

    /// Through a checkpoint into another life.
    fn restore(&mut self) {
        self.machine.freeze();
        while self.drain(2) {}
        let (definition, watermark) = (self.machine.definition().clone(), self.machine.watermark());
        let machine = Windowing::restore(
            definition,
            ADDRESSES,
            0..KEY_GROUPS,
            layout(self.keeps_rows),
            &self.storage,
            watermark,
        );
        self.machine = machine.unwrap();
        self.machine.advance(watermark, self.now);
    }
}
