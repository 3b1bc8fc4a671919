//! A windowed aggregation: which group and slice each row belongs to, which rows are late, and which windows
//! are finished. The driver calls the operator in between: this module hands out accumulators and takes
//! them back.
//!
//! Late is decided row by row, against the watermark before the row, so the result doesn't depend on how
//! rows were cut into batches: a row is late when the last window that it is in had already been passed.

use std::collections::BTreeMap;

use arrow_array::ArrayRef;

use crate::accumulators::Accumulators;
use crate::groups::Groups;
use crate::key::Keys;
use crate::schema::Schema;
use crate::watermark::WATERMARK_MIN;
use crate::window::{Bounds, Slicing, Windows};

/// The groups of one task of an aggregate operator, by slice of event time.
#[derive(Debug)]
pub struct Aggregation {
    slicing: Slicing,
    slices: BTreeMap<i64, Groups>,
    empty: Accumulators,
    initial: Vec<ArrayRef>,
    /// Windows that end before or at this have fired.
    watermark: i64,
    /// Numbers the calls of `assign`, from 1.
    batch: u64,
}

/// The rows of a batch to assign to groups.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Their keys.
    pub keys: &'a Keys,
    /// Their event times; `None` where there are no windows of event time.
    pub times: Option<&'a [i64]>,
    /// The watermark before each, where one of them is behind it.
    pub watermarks: Option<&'a [i64]>,
}

/// What becomes of a run of rows.
#[derive(Debug)]
pub struct Assigned {
    /// The rows up to this one have been dealt with. If it isn't the last, the windows up to
    /// [`fire_first`](Self::fire_first) have to fire before the rest is assigned.
    pub until: usize,
    /// The watermark that stands between the rows before `until` and those after.
    pub fire_first: i64,
    /// Rows that come too late for every window that they are in.
    pub late: Vec<u32>,
    /// How many of the rows to fold come too late for some of their windows, though not for all.
    pub partly_late: u64,
    /// The rows to fold.
    pub fold: Fold,
}

/// Rows to fold into accumulators.
#[derive(Debug, Default)]
pub struct Fold {
    /// The rows, in order.
    pub rows: Vec<u32>,
    /// For each of them its group, from 0.
    pub group_of: Vec<u32>,
    /// The groups, in order: slots by slice.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    slice: i64,
    slots: Vec<u32>,
}

impl Fold {
    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.parts.iter().map(|p| p.slots.len()).sum()
    }
}

/// A window that is being put together from its slices.
#[derive(Debug)]
pub struct Firing {
    /// The window.
    pub bounds: Bounds,
    /// The groups of the slices so far.
    pub groups: Groups,
    /// The slices still to be merged, last first.
    rest: Vec<i64>,
    /// The slice that is being merged, and the pairs of slots that are left of it: here, and there.
    slice: i64,
    here: Vec<u32>,
    there: Vec<u32>,
}

/// Groups that stand in two slices of a window.
#[derive(Debug)]
pub struct Merge {
    slots: Vec<u32>,
    /// Their accumulators in the earlier slices.
    pub left: Vec<ArrayRef>,
    /// Their accumulators in this slice, row for row.
    pub right: Vec<ArrayRef>,
}

impl Merge {
    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.slots.len()
    }
}

impl Aggregation {
    /// No groups yet. `initial` is the accumulator of an empty group: one row, in columns of the schema.
    ///
    /// # Panics
    /// When `initial` isn't of the schema's types: the plugin has checked it.
    pub fn new(windows: Windows, state: &Schema, initial: Vec<ArrayRef>) -> Self {
        Self {
            slicing: Slicing::new(windows),
            slices: BTreeMap::new(),
            empty: Accumulators::new(state),
            initial,
            watermark: WATERMARK_MIN,
            batch: 0,
        }
    }

    /// How far event time has come: windows that end before it have fired.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// How many groups are held, over all slices.
    pub fn groups(&self) -> usize {
        self.slices.values().map(Groups::len).sum()
    }

    /// Whether the windows have bounds of event time.
    pub fn has_bounds(&self) -> bool {
        !self.slicing.is_global()
    }

    /// Assigns the rows from `from` on to groups, up to one that some window must fire before.
    ///
    /// # Panics
    /// When the windows have bounds and the rows have no times: the plan refuses that.
    pub fn assign(&mut self, rows: &Rows<'_>, from: usize) -> Assigned {
        self.batch += 1;
        let count = rows.keys.hashes().len();
        let mut assigned = Assigned {
            until: count,
            fire_first: self.watermark,
            late: Vec::new(),
            partly_late: 0,
            fold: Fold::default(),
        };
        let fold = &mut assigned.fold;
        fold.rows.reserve(count - from);
        fold.group_of.reserve(count - from);
        // Which part each stretch of folded rows belongs to: a group's number is known once all parts are.
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        let mut row = from;
        while row < count {
            let slice = self.slice_of(rows, row);
            let run_end = (row + 1..count).find(|&r| !self.is_in(slice, rows, r)).unwrap_or(count);
            let last_end = self.slicing.last_end(slice);
            let first_end = self.slicing.next_window(slice, WATERMARK_MIN).map_or(last_end, |w| w.end);
            let mut part = None;
            for r in row..run_end {
                let watermark = self.watermark_before(rows, r);
                if last_end <= watermark.saturating_add(1) {
                    assigned.late.push(index(r));
                    continue;
                }
                if watermark > self.watermark && self.must_fire_first(slice, watermark) {
                    (assigned.until, assigned.fire_first) = (r, watermark);
                    break;
                }
                assigned.partly_late += u64::from(first_end <= watermark.saturating_add(1));
                let part = *part.get_or_insert_with(|| part_of(&mut fold.parts, slice));
                let groups = self.slices.entry(slice).or_insert_with(|| Groups::new(self.empty.clone()));
                let number = groups.number(rows.keys, r, self.batch, &mut fold.parts[part].slots);
                fold.rows.push(index(r));
                fold.group_of.push(number);
            }
            if let Some(part) = part {
                stretches.push((fold.rows.len(), part));
            }
            if assigned.until < count {
                break;
            }
            row = run_end;
        }
        fold.number_across_parts(&stretches);
        self.make_room(&assigned.fold);
        assigned
    }

    fn slice_of(&self, rows: &Rows<'_>, row: usize) -> i64 {
        match rows.times {
            Some(times) => self.slicing.slice_of(times[row]),
            None if self.slicing.is_global() => 0,
            None => panic!("windows of event time over rows without times"),
        }
    }

    /// Whether a row falls into a slice, without the division that finding its slice takes.
    fn is_in(&self, slice: i64, rows: &Rows<'_>, row: usize) -> bool {
        let within = |time: i64| slice <= time && time - slice < self.slicing.slice_ms();
        self.slicing.is_global() || rows.times.is_some_and(|times| within(times[row]))
    }

    fn watermark_before(&self, rows: &Rows<'_>, row: usize) -> i64 {
        self.watermark.max(rows.watermarks.map_or(WATERMARK_MIN, |w| w[row]))
    }

    /// Whether a window with the slice in it ends before the watermark and hasn't fired: it mustn't see the row,
    /// though a later window with the same slice must.
    fn must_fire_first(&self, slice: i64, watermark: i64) -> bool {
        self.slicing.overlaps()
            && self.slicing.next_window(slice, self.watermark).is_some_and(|w| w.end - 1 <= watermark)
    }

    /// Gives the new groups of a fold their initial accumulators.
    fn make_room(&mut self, fold: &Fold) {
        for part in &fold.parts {
            let groups = self.slices.get_mut(&part.slice).expect("a part's slice is held");
            let new = groups.len() - groups.accumulators.rows();
            groups.accumulators.extend(new, &self.initial);
        }
    }

    /// The accumulators of a fold's groups, in the order of their numbers.
    ///
    /// # Panics
    /// When the fold has no groups: there is nothing to call the operator for.
    pub fn accumulators(&self, fold: &Fold) -> Vec<ArrayRef> {
        let gather = |p: &Part| self.slices[&p.slice].accumulators.gather(&p.slots);
        if let [part] = &*fold.parts {
            return gather(part);
        }
        let parts: Vec<Vec<ArrayRef>> = fold.parts.iter().map(gather).collect();
        let columns = 0..self.initial.len();
        columns.map(|c| concatenate(parts.iter().map(|columns| &columns[c]))).collect()
    }

    /// Takes back the accumulators of a fold. `rejected` are rows of the fold, by their place in it, that the
    /// operator couldn't use, ascending: a group that has no other rows stays without result.
    ///
    /// # Panics
    /// When there isn't one accumulator for each group: the plugin has checked it.
    pub fn store(&mut self, fold: &Fold, accumulators: &[ArrayRef], rejected: &[u32]) {
        let mut used = vec![rejected.is_empty(); fold.groups()];
        if !rejected.is_empty() {
            let kept = (0u32..).zip(&fold.group_of).filter(|(at, _)| rejected.binary_search(at).is_err());
            kept.for_each(|(_, &group)| used[group as usize] = true);
        }
        let mut offset = 0;
        for part in &fold.parts {
            let groups = self.slices.get_mut(&part.slice).expect("a part's slice is held");
            let length = part.slots.len();
            let columns: Vec<ArrayRef> = accumulators.iter().map(|c| c.slice(offset, length)).collect();
            groups.accumulators.scatter(&part.slots, &columns);
            groups.occupy(
                part.slots.iter().zip(&used[offset..]).filter(|(_, used)| **used).map(|(slot, _)| *slot),
            );
            offset += length;
        }
    }

    /// The next window that a watermark finishes, in the order of their ends. When there is none left, event time
    /// has come to `watermark`.
    pub fn next_firing(&mut self, watermark: i64) -> Option<Firing> {
        let due = |&slice: &i64| {
            let window = self.slicing.next_window(slice, self.watermark)?;
            (window.end.saturating_sub(i64::from(self.has_bounds())) <= watermark).then_some(window)
        };
        // The earliest slice is in the earliest window: any window before it would contain it too.
        let Some(bounds) = self.slices.keys().next().and_then(due) else {
            self.watermark = self.watermark.max(watermark);
            return None;
        };
        let mut rest: Vec<i64> = self.slices.range(bounds.start..bounds.end).map(|(s, _)| *s).collect();
        rest.reverse();
        let first = rest.pop().expect("the slice that is due");
        let groups = if self.slicing.last_end(first) == bounds.end {
            self.slices.remove(&first).expect("held")
        } else {
            self.slices[&first].clone()
        };
        Some(Firing { bounds, groups, rest, slice: first, here: Vec::new(), there: Vec::new() })
    }

    /// The next groups to merge into a window, `groups_max` at most: those that stand in a slice and in an earlier
    /// one.
    pub fn next_merge(&self, firing: &mut Firing, groups_max: usize) -> Option<Merge> {
        while firing.here.is_empty() {
            firing.slice = firing.rest.pop()?;
            (firing.here, firing.there) = firing.groups.pair(&self.slices[&firing.slice]);
        }
        let at = firing.here.len().saturating_sub(groups_max);
        let (slots, theirs) = (firing.here.split_off(at), firing.there.split_off(at));
        let left = firing.groups.accumulators.gather(&slots);
        let right = self.slices[&firing.slice].accumulators.gather(&theirs);
        Some(Merge { slots, left, right })
    }

    /// Marks a window as fired, and forgets the slices that no later window has.
    pub fn fired(&mut self, bounds: Bounds) {
        self.watermark = if self.has_bounds() { bounds.end - 1 } else { i64::MAX };
        while let Some(first) = self.slices.first_entry() {
            if self.slicing.last_end(*first.key()) > bounds.end {
                break;
            }
            first.remove();
        }
    }
}

impl Firing {
    /// Takes back merged accumulators.
    ///
    /// # Panics
    /// When there isn't one for each group: the plugin has checked it.
    pub fn merged(&mut self, merge: &Merge, accumulators: &[ArrayRef]) {
        self.groups.accumulators.scatter(&merge.slots, accumulators);
    }

    /// The accumulators of some groups.
    pub fn accumulators(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.groups.accumulators.gather(slots)
    }
}

impl Fold {
    /// Turns numbers within a part into numbers over all parts.
    fn number_across_parts(&mut self, stretches: &[(usize, usize)]) {
        if self.parts.len() < 2 {
            return;
        }
        let mut bases = vec![0u32; self.parts.len()];
        for part in 1..bases.len() {
            bases[part] = bases[part - 1] + index(self.parts[part - 1].slots.len());
        }
        let mut start = 0;
        for &(end, part) in stretches {
            self.group_of[start..end].iter_mut().for_each(|group| *group += bases[part]);
            start = end;
        }
    }
}

fn part_of(parts: &mut Vec<Part>, slice: i64) -> usize {
    parts.iter().position(|p| p.slice == slice).unwrap_or_else(|| {
        parts.push(Part { slice, slots: Vec::new() });
        parts.len() - 1
    })
}

fn index(row: usize) -> u32 {
    u32::try_from(row).expect("a batch has fewer than 2^32 rows")
}

fn concatenate<'a>(parts: impl Iterator<Item = &'a ArrayRef>) -> ArrayRef {
    let parts: Vec<&dyn arrow_array::Array> = parts.map(AsRef::as_ref).collect();
    arrow_select::concat::concat(&parts).unwrap_or_else(|error| panic!("parts of one column: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::read_keys;
    use crate::schema::{Field, FieldType};
    use crate::watermark::{BoundedOutOfOrderness, WATERMARK_MAX};
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// (window start, key, sum of values), and the values of late rows.
    type Results = (Vec<(i64, i64, i64)>, Vec<i64>);

    /// Sums values by key and window; a negative value is rejected, as an operator would.
    struct Driver {
        aggregation: Aggregation,
        source: BoundedOutOfOrderness,
        results: Results,
    }

    impl Driver {
        fn new(windows: Windows, bound_ms: i64) -> Self {
            let state = Schema::new(vec![Field::new("sum", FieldType::Integer)]).unwrap();
            let initial: ArrayRef = Arc::new(Int64Array::from(vec![0]));
            Self {
                aggregation: Aggregation::new(windows, &state, vec![initial]),
                source: BoundedOutOfOrderness::new(bound_ms),
                results: Results::default(),
            }
        }

        fn batch(&mut self, rows: &[(i64, i64, i64)]) {
            let times: Vec<i64> = rows.iter().map(|r| r.1).collect();
            let key: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
            let keys = Keys::of(&[&key], rows.len());
            let watermarks = self.source.observe(&times);
            let input = Rows { keys: &keys, times: Some(&times), watermarks: watermarks.as_deref() };
            let mut from = 0;
            while from < rows.len() {
                let assigned = self.aggregation.assign(&input, from);
                self.results.1.extend(assigned.late.iter().map(|&r| rows[r as usize].2));
                if assigned.fold.groups() > 0 {
                    self.fold(rows, &assigned.fold);
                }
                from = assigned.until;
                if from < rows.len() {
                    self.fire(assigned.fire_first);
                }
            }
            self.fire(self.source.watermark());
        }

        fn fold(&mut self, rows: &[(i64, i64, i64)], fold: &Fold) {
            let mut sums =
                self.aggregation.accumulators(fold)[0].as_primitive::<Int64Type>().values().to_vec();
            assert_eq!(sums.len(), fold.groups());
            let mut rejected = Vec::new();
            for (at, (&row, &group)) in (0u32..).zip(fold.rows.iter().zip(&fold.group_of)) {
                match rows[row as usize].2 {
                    value if value < 0 => rejected.push(at),
                    value => sums[group as usize] += value,
                }
            }
            let sums: ArrayRef = Arc::new(Int64Array::from(sums));
            self.aggregation.store(fold, &[sums], &rejected);
        }

        fn fire(&mut self, watermark: i64) {
            while let Some(mut firing) = self.aggregation.next_firing(watermark) {
                while let Some(merge) = self.aggregation.next_merge(&mut firing, 2) {
                    let values = |side: &[ArrayRef]| side[0].as_primitive::<Int64Type>().values().to_vec();
                    let sums = values(&merge.left).into_iter().zip(values(&merge.right)).map(|(l, r)| l + r);
                    let sums: ArrayRef = Arc::new(Int64Array::from_iter_values(sums));
                    firing.merged(&merge, &[sums]);
                }
                let slots = firing.groups.occupied();
                let keys = read_keys(slots.iter().map(|&s| firing.groups.key(s)), &[FieldType::Integer]);
                let sums = firing.accumulators(&slots);
                let (keys, sums) = (keys[0].as_primitive::<Int64Type>(), sums[0].as_primitive::<Int64Type>());
                let of_window = keys.values().iter().zip(sums.values());
                self.results.0.extend(of_window.map(|(k, s)| (firing.bounds.start, *k, *s)));
                self.aggregation.fired(firing.bounds);
            }
        }
    }

    /// Rows one by one, every window kept by itself.
    fn naive(windows: Windows, bound_ms: i64, rows: &[(i64, i64, i64)]) -> Results {
        let Windows::Hopping { size_ms: size, slide_ms: slide, offset_ms } = windows else { unreachable!() };
        let (mut sums, mut late) = (BTreeMap::<(i64, i64), i64>::new(), Vec::new());
        let mut largest: Option<i64> = None;
        for &(key, time, value) in rows {
            let watermark = largest.map_or(i64::MIN, |m| m - bound_ms - 1);
            let starts = (time - size + 1..=time).filter(|s| (s - offset_ms).rem_euclid(slide) == 0);
            let open: Vec<i64> = starts.filter(|s| s + size - 1 > watermark).collect();
            if open.is_empty() {
                late.push(value);
            } else if value >= 0 {
                open.iter().for_each(|&s| *sums.entry((s, key)).or_default() += value);
            }
            largest = largest.max(Some(time));
        }
        (sums.into_iter().map(|((start, key), sum)| (start, key, sum)).collect(), late)
    }

    proptest! {
        #[test]
        fn windows_equal_the_naive_ones_however_rows_are_cut(
            rows in prop::collection::vec((0i64..4, 0i64..120, -2i64..50), 1..80),
            slide in 1i64..20, longer in 0i64..30, offset_ms in 0i64..20, bound_ms in 0i64..40,
            cut in 1usize..20,
        ) {
            let windows = Windows::Hopping { size_ms: slide + longer, slide_ms: slide, offset_ms };
            let mut driver = Driver::new(windows, bound_ms);
            rows.chunks(cut).for_each(|batch| driver.batch(batch));
            driver.fire(WATERMARK_MAX);
            let ends: Vec<i64> = driver.results.0.iter().map(|r| r.0).collect();
            prop_assert!(ends.is_sorted(), "windows fire in order: {ends:?}");
            driver.results.0.sort_unstable();
            prop_assert_eq!(driver.results, naive(windows, bound_ms, &rows));
            prop_assert_eq!(driver.aggregation.groups(), 0);
        }
    }

    /// Flink's `WindowOperatorTest`, the tumbling case: windows of 3 s, out of order.
    #[test]
    fn tumbling_windows_fire_at_the_watermark_before_their_end() {
        let mut driver = Driver::new(Windows::Tumbling { size_ms: 3000, offset_ms: 0 }, i64::MAX / 4);
        let times = [(2, 3999), (2, 3000), (1, 20), (1, 0), (1, 999), (2, 1998), (2, 1999), (2, 1000)];
        driver.batch(&times.map(|(key, time)| (key, time, 1)));
        driver.fire(2998);
        assert_eq!(driver.results.0, []);
        driver.fire(2999);
        driver.results.0.sort_unstable();
        assert_eq!(driver.results.0, [(0, 1, 3), (0, 2, 3)]);
        driver.fire(5999);
        assert_eq!(driver.results.0[2..], [(3000, 2, 2)]);
    }

    #[test]
    fn a_group_whose_rows_were_all_rejected_has_no_result() {
        let mut driver = Driver::new(Windows::Tumbling { size_ms: 10, offset_ms: 0 }, 0);
        driver.batch(&[(1, 0, -1), (2, 0, 5)]);
        driver.fire(WATERMARK_MAX);
        assert_eq!(driver.results.0, [(0, 2, 5)]);
    }
}
