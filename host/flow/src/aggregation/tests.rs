use super::*;
use crate::key::{KEY_GROUPS, key_group, owned, owner, read_keys};
use crate::schema::{Field, FieldType, Schema};
use crate::storage::{InMemory, Write, Writes};
use crate::watermark::{BoundedOutOfOrderness, WATERMARK_MAX};
use arrow_array::Int64Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use proptest::prelude::*;
use std::sync::Arc;

const ADDRESSES: Addresses = Addresses { operator: 7 };

/// (window start, key, sum of values), and the values of late rows.
type Results = (Vec<(i64, i64, i64)>, Vec<i64>);

/// Sums values by key and window; a negative value is rejected, as an operator would.
struct Driver {
    aggregation: Aggregation,
    storage: InMemory,
    source: BoundedOutOfOrderness,
    results: Results,
    /// What is made of two accumulators, the first of earlier rows; a row's value is one as well.
    merge: fn(i64, i64) -> i64,
    /// How many were merged when windows fired.
    merged: usize,
}

fn codec() -> Codec {
    let state = Schema::new(vec![Field::new("sum", FieldType::Integer)]).unwrap();
    let initial: ArrayRef = Arc::new(Int64Array::from(vec![0]));
    Codec::new(0, &state, &[], Some(vec![initial])).unwrap()
}

impl Driver {
    fn new(windows: Windows, bound_ms: i64) -> Self {
        Self {
            aggregation: Aggregation::new(windows, ADDRESSES, 0..KEY_GROUPS, Arc::new(codec())),
            storage: InMemory::default(),
            source: BoundedOutOfOrderness::new(bound_ms),
            results: Results::default(),
            merge: |left, right| left + right,
            merged: 0,
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
        self.aggregation.load(fold, &self.storage).unwrap();
        let mut sums = self.aggregation.accumulators(fold)[0].as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(sums.len(), fold.groups());
        let mut rejected = Vec::new();
        for (at, (&row, &group)) in (0u32..).zip(fold.rows.iter().zip(&fold.group_of)) {
            match rows[row as usize].2 {
                value if value < 0 => rejected.push(at),
                value => sums[group as usize] = (self.merge)(sums[group as usize], value),
            }
        }
        let sums: ArrayRef = Arc::new(Int64Array::from(sums));
        self.aggregation.store(fold, &[sums], &rejected);
    }

    fn fire(&mut self, watermark: i64) {
        while let Some(mut firing) = self.aggregation.next_firing(watermark) {
            while self.aggregation.next_shard(&mut firing, &self.storage).unwrap() {
                while let Some(merge) = self.aggregation.next_merge(&mut firing, 2) {
                    let values = |side: &[ArrayRef]| side[0].as_primitive::<Int64Type>().values().to_vec();
                    let pairs = values(&merge.left).into_iter().zip(values(&merge.right));
                    let sums = pairs.map(|(l, r)| (self.merge)(l, r));
                    self.merged += merge.groups();
                    let sums: ArrayRef = Arc::new(Int64Array::from_iter_values(sums));
                    firing.merged(&merge, &[sums]);
                }
                let slots = firing.groups.occupied();
                let keys = read_keys(slots.iter().map(|&s| firing.groups.key(s)), &[FieldType::Integer]);
                let sums = firing.accumulators(&slots);
                let (keys, sums) = (keys[0].as_primitive::<Int64Type>(), sums[0].as_primitive::<Int64Type>());
                let of_window = keys.values().iter().zip(sums.values());
                self.results.0.extend(of_window.map(|(k, s)| (firing.bounds.start, *k, *s)));
            }
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

/// Composes two functions `x -> factor * x + shift`, each packed into a number: so it matters what comes first.
fn compose(first: i64, then: i64) -> i64 {
    const MODULUS: i64 = 65_521;
    let parts = |packed: i64| (packed / MODULUS + 1, packed % MODULUS);
    let ((factor, shift), (factor_then, shift_then)) = (parts(first), parts(then));
    let factor = factor * factor_then % MODULUS;
    let shift = (shift * factor_then + shift_then) % MODULUS;
    (factor + MODULUS - 1) % MODULUS * MODULUS + shift
}

proptest! {
    #[test]
    fn overlapping_windows_merge_rows_in_their_order_and_each_slice_three_times(
        steps in prop::collection::vec((0i64..6, 1i64..65_521), 100..400), slide in 1i64..5, slices in 1i64..40,
    ) {
        let windows = Windows::Hopping { size_ms: slide * slices, slide_ms: slide, offset_ms: 0 };
        let mut driver = Driver::new(windows, 0);
        driver.merge = compose;
        let mut time = 0;
        let rows: Vec<(i64, i64, i64)> = steps.iter().map(|&(step, value)| {
            time += step / 4;
            (0, time, value)
        }).collect();
        rows.chunks(7).for_each(|batch| driver.batch(batch));
        driver.fire(WATERMARK_MAX);
        let mut expected = Vec::new();
        for start in (-slide * slices..=time).filter(|s| s % slide == 0) {
            let of_window = rows.iter().filter(|r| start <= r.1 && r.1 < start + slide * slices);
            expected.extend(of_window.map(|r| r.2).reduce(compose).map(|value| (start, 0, value)));
        }
        // An empty group is the function that changes nothing.
        prop_assert_eq!(driver.results.0, expected);
        let used = rows.iter().map(|r| r.1 / slide).collect::<std::collections::BTreeSet<_>>().len();
        prop_assert!(driver.merged <= 3 * used + usize::try_from(slices).unwrap(), "{} merges", driver.merged);
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

/// What happens between two batches.
#[derive(Clone, Debug)]
enum Event {
    /// A barrier: what is frozen before and not drained is given up.
    Barrier,
    Drain(usize),
    /// Down to so many percent of the memory that is taken.
    Evict(usize),
    Spill(usize),
    Crash,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Barrier),
        4 => (1usize..6).prop_map(Event::Drain),
        3 => Just(Event::Drain(1000)),
        2 => (0usize..100).prop_map(Event::Evict),
        2 => (0usize..100).prop_map(Event::Spill),
        1 => Just(Event::Crash),
    ];
    prop::collection::vec(event, 0..4)
}

/// What a storage holds.
type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// Where a run goes on after a crash.
#[derive(Clone)]
struct Point {
    batch: usize,
    watermark: i64,
    source: BoundedOutOfOrderness,
    results: usize,
    late: usize,
    /// The groups of open windows: the sum of each slice and key.
    groups: BTreeMap<(i64, i64), i64>,
}

/// A run over batches of rows with events in between, as a task goes through it.
struct Run<'a> {
    windows: Windows,
    bound_ms: i64,
    batches: Vec<&'a [(i64, i64, i64)]>,
    driver: Driver,
    frozen: Option<Point>,
    checkpoint: Option<(Point, Contents)>,
    at: usize,
}

impl Run<'_> {
    fn happen(&mut self, event: &Event) {
        let aggregation = &mut self.driver.aggregation;
        match event {
            Event::Barrier => {
                aggregation.freeze();
                self.frozen = Some(self.point());
            }
            Event::Drain(rows_max) => drop(self.drain(*rows_max)),
            Event::Evict(percent) => {
                let target = aggregation.bytes() * percent / 100;
                while aggregation.evict(target) {}
            }
            Event::Spill(percent) => {
                while self.drain(3) {}
                let aggregation = &mut self.driver.aggregation;
                let target = aggregation.bytes() * percent / 100;
                while let Some(writes) = aggregation.spill(target) {
                    self.driver.storage.write(writes).unwrap();
                }
            }
            Event::Crash => self.recover(),
        }
    }

    fn point(&self) -> Point {
        let (results, late) = (self.driver.results.0.len(), self.driver.results.1.len());
        let watermark = self.driver.aggregation.watermark();
        let groups = self.naive_groups(watermark);
        Point { batch: self.at, watermark, source: self.driver.source.clone(), results, late, groups }
    }

    /// The groups that are open after the batches so far, from the rows alone.
    fn naive_groups(&self, watermark: i64) -> BTreeMap<(i64, i64), i64> {
        let (slicing, mut largest) = (Slicing::new(self.windows), None);
        let mut groups = BTreeMap::new();
        for &(key, time, value) in self.batches[..self.at].iter().copied().flatten() {
            let slice = slicing.slice_of(time);
            let before = largest.map_or(WATERMARK_MIN, |m: i64| m - self.bound_ms - 1);
            if value >= 0 && slicing.last_end(slice) - 1 > before {
                *groups.entry((slice, key)).or_default() += value;
            }
            largest = largest.max(Some(time));
        }
        groups.retain(|&(slice, _), _| slicing.last_end(slice) - 1 > watermark);
        groups
    }

    fn drain(&mut self, rows_max: usize) -> bool {
        if let Some(writes) = self.driver.aggregation.drain(rows_max) {
            self.driver.storage.write(writes).unwrap();
            return true;
        }
        if let Some(frozen) = self.frozen.take() {
            let contents = self.driver.storage.scan(&[], &[0xff; 9], usize::MAX).unwrap();
            assert_eq!(stored_groups(&contents), frozen.groups, "the storage is as it was at the barrier");
            self.checkpoint = Some((frozen, contents));
        }
        false
    }

    fn recover(&mut self) {
        let results = std::mem::take(&mut self.driver.results);
        self.driver = Driver::new(self.windows, self.bound_ms);
        self.frozen = None;
        self.at = 0;
        let Some((point, contents)) = &self.checkpoint else { return };
        let list = contents.iter().map(|(a, v)| Write::Put(a.clone(), v.clone())).collect();
        self.driver.storage.write(Writes { list }).unwrap();
        self.driver.aggregation.restore(&self.driver.storage, point.watermark).unwrap();
        self.driver.source = point.source.clone();
        self.driver.results = (results.0[..point.results].to_vec(), results.1[..point.late].to_vec());
        self.at = point.batch;
    }

    /// All batches, with these events behind the batches of the first time through.
    fn run(&mut self, events: &[Vec<Event>]) {
        let mut events = events.iter();
        while self.at < self.batches.len() {
            self.driver.batch(self.batches[self.at]);
            self.at += 1;
            events.next().into_iter().flatten().for_each(|event| self.happen(event));
        }
        self.driver.fire(WATERMARK_MAX);
    }
}

fn stored_groups(contents: &Contents) -> BTreeMap<(i64, i64), i64> {
    let codec = codec();
    let of = |(address, value): &(Vec<u8>, Vec<u8>)| {
        let (slice, _, key) = ADDRESSES.read_row(address).unwrap();
        let integer = |columns: &[ArrayRef]| columns[0].as_primitive::<Int64Type>().value(0);
        let key = integer(&read_keys([key].into_iter(), &[FieldType::Integer]));
        ((slice, key), integer(&codec.decode(&[value.as_slice()]).unwrap()))
    };
    contents.iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_run_with_crashes_gives_the_results_of_one_without(
        rows in prop::collection::vec((0i64..40, 0i64..200, -2i64..50), 1..300),
        slide in 5i64..40, longer in 0i64..60, offset_ms in 0i64..20, bound_ms in 0i64..60,
        cut in 1usize..40, events in prop::collection::vec(events(), 0..60),
    ) {
        let windows = Windows::Hopping { size_ms: slide + longer, slide_ms: slide, offset_ms };
        let batches = rows.chunks(cut).collect();
        let driver = Driver::new(windows, bound_ms);
        let mut run = Run { windows, bound_ms, batches, driver, frozen: None, checkpoint: None, at: 0 };
        run.run(&events);
        run.driver.results.0.sort_unstable();
        prop_assert_eq!(&run.driver.results, &naive(windows, bound_ms, &rows));
        run.happen(&Event::Barrier);
        while run.drain(4) {}
        prop_assert_eq!(run.checkpoint.unwrap().1, []);
    }
}

#[test]
fn a_window_that_is_not_in_memory_fires_as_one_that_is() {
    let check = |windows: Windows, leave: usize| {
        let rows: Vec<(i64, i64, i64)> = (0..3000).map(|i| (i % 700, i / 10, i)).collect();
        let mut driver = Driver::new(windows, 1000);
        for batch in rows.chunks(100) {
            driver.batch(batch);
            let target = driver.aggregation.bytes() * leave / 100;
            while let Some(writes) = driver.aggregation.spill(target) {
                driver.storage.write(writes).unwrap();
            }
        }
        driver.fire(WATERMARK_MAX);
        driver.results.0.sort_unstable();
        driver.results.0
    };
    let hopping = Windows::Hopping { size_ms: 200, slide_ms: 50, offset_ms: 0 };
    for windows in [Windows::Global, Windows::Tumbling { size_ms: 400, offset_ms: 0 }, hopping] {
        let expected = check(windows, 100);
        for leave in [0, 50] {
            assert_eq!(check(windows, leave), expected, "{windows:?}");
        }
    }
}

#[test]
fn state_of_other_windows_is_refused() {
    let mut driver = Driver::new(Windows::Tumbling { size_ms: 10, offset_ms: 0 }, 1000);
    driver.batch(&[(1, 10, 1)]);
    driver.aggregation.freeze();
    while let Some(writes) = driver.aggregation.drain(1) {
        driver.storage.write(writes).unwrap();
    }
    let mut other = Driver::new(Windows::Tumbling { size_ms: 7, offset_ms: 0 }, 0).aggregation;
    let error = other.restore(&driver.storage, 0).unwrap_err().to_string();
    assert!(error.contains("written with other windows"), "{error}");
}

/// Otherwise it would depend on evictions what the next rows of the group are added to.
#[test]
fn what_an_operator_makes_of_rejected_rows_alone_is_forgotten() {
    let mut aggregation = Driver::new(Windows::Global, 0).aggregation;
    let key: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 1]));
    let keys = Keys::of(&[&key], 3);
    let rows = Rows { keys: &keys, times: None, watermarks: None };
    let mut fold = |sums: [i64; 2], rejected: &[u32]| -> ArrayRef {
        let fold = aggregation.assign(&rows, 0).fold;
        aggregation.load(&fold, &InMemory::default()).unwrap();
        let before = aggregation.accumulators(&fold).remove(0);
        aggregation.store(&fold, &[Arc::new(Int64Array::from(sums.to_vec()))], rejected);
        before
    };
    fold([5, 7], &[0, 2]);
    assert_eq!(fold([8, 9], &[1]).as_primitive::<Int64Type>().values(), &[0, 7]);
    assert_eq!(fold([1, 1], &[0, 1, 2]).as_primitive::<Int64Type>().values(), &[8, 9]);
    assert_eq!(fold([0, 0], &[]).as_primitive::<Int64Type>().values(), &[1, 1]);
}

/// Of a storage that several tasks share.
#[test]
fn a_task_takes_up_and_deletes_only_its_own_key_groups() {
    let windows = Windows::Tumbling { size_ms: 10, offset_ms: 0 };
    let mut driver = Driver::new(windows, 1000);
    // A window of a single key: no other task has it.
    let key: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
    let hash = Keys::of(&[&key], 1).hashes()[0];
    let rows = (0..200).map(|i| (i, i / 50 * 10, i)).chain([(-1, 90, 7)]).collect::<Vec<_>>();
    driver.batch(&rows);
    driver.aggregation.freeze();
    while let Some(writes) = driver.aggregation.drain(100) {
        driver.storage.write(writes).unwrap();
    }
    let mut results = Vec::new();
    for task in (0..3).rev() {
        driver.aggregation = Aggregation::new(windows, ADDRESSES, owned(task, 3), Arc::new(codec()));
        driver.aggregation.restore(&driver.storage, -1).unwrap();
        assert_eq!(driver.aggregation.groups(), 0, "nothing is read yet");
        assert_eq!(driver.aggregation.slices.len(), 4 + usize::from(task == owner(key_group(hash), 3)));
        driver.results.0.clear();
        driver.fire(WATERMARK_MAX);
        assert!(!driver.results.0.is_empty());
        results.append(&mut driver.results.0);
        driver.aggregation.freeze();
        while let Some(writes) = driver.aggregation.drain(100) {
            driver.storage.write(writes).unwrap();
        }
    }
    results.sort_unstable();
    assert_eq!(results, rows.iter().map(|&(key, time, value)| (time, key, value)).collect::<Vec<_>>());
    assert_eq!(driver.storage.scan(&[], &[0xff; 9], 1).unwrap(), []);
}
