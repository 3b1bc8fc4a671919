//! Any windows, any rows, cut into batches anyhow, with barriers, evictions and crashes in between: what fires is what
//! the naive model fires.

use super::naive::Naive;
use super::*;
use crate::storage::{Stored, Write, Writes};
use crate::watermark::BoundedOutOfOrderness;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Row>),
    /// The clock goes on.
    Wait(i64),
}

/// What happens behind a step.
#[derive(Clone, Debug)]
enum Event {
    Barrier,
    Drain(usize),
    Evict(usize),
    Spill(usize),
    Crash,
}

fn definitions() -> impl Strategy<Value = Definition> {
    let assigner = prop_oneof![
        3 => (1i64..20, 0i64..30, -5i64..25).prop_map(|(slide_ms, longer, offset_ms)| {
            Assigner::Fixed { size_ms: slide_ms + longer, slide_ms, offset_ms }
        }),
        4 => (1i64..20).prop_map(|gap_ms| Assigner::Session { gap_ms }),
        1 => (1u64..6).prop_map(|rows| Assigner::Count { rows }),
        1 => Just(Assigner::Global),
    ];
    let trigger = prop_oneof![
        2 => Just(Trigger::ON_TIME),
        2 => (prop::option::of(1i64..30), prop::option::of(1u64..6)).prop_map(|(early_interval_ms, early_rows)| {
            Trigger::Completion { early_interval_ms, early_rows }
        }),
        1 => (1u64..6).prop_map(Trigger::Rows),
    ];
    let mode = prop_oneof![Just(Mode::Accumulating), Just(Mode::Discarding)];
    (assigner, trigger, mode, prop_oneof![Just(0i64), 1i64..60], prop::bool::weighted(0.2)).prop_map(
        |(assigner, trigger, mode, lateness_ms, in_processing_time)| {
            let time = if in_processing_time { Clock::Processing } else { Clock::Event };
            let mut definition = Definition { assigner, time, lateness_ms, trigger, mode };
            // What doesn't go together.
            if definition.is_count() {
                definition.trigger = Trigger::ON_TIME;
            }
            if in_processing_time || matches!(definition.assigner, Assigner::Count { .. } | Assigner::Global)
            {
                definition.lateness_ms = 0;
            }
            definition
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = prop::collection::vec((0i64..4, -20i64..150, -3i64..50), 1..25);
    let step = prop_oneof![4 => rows.prop_map(Step::Batch), 1 => (1i64..40).prop_map(Step::Wait)];
    prop::collection::vec(step, 1..12)
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

/// Where a run goes on after a crash.
#[derive(Clone)]
struct Point {
    step: usize,
    watermark: i64,
    now: i64,
    source: BoundedOutOfOrderness,
    fired: usize,
    late: usize,
}

struct Run {
    definition: Definition,
    driver: Driver,
    source: BoundedOutOfOrderness,
    bound_ms: i64,
    step: usize,
    frozen: Option<Point>,
    checkpoint: Option<(Point, Vec<Stored>)>,
}

impl Run {
    fn new(definition: Definition, keeps_rows: bool, bound_ms: i64) -> Self {
        let driver = Driver::new(definition.clone(), keeps_rows);
        let source = BoundedOutOfOrderness::new(bound_ms);
        Self { definition, driver, source, bound_ms, step: 0, frozen: None, checkpoint: None }
    }

    fn take_step(&mut self, step: &Step) {
        match step {
            Step::Batch(rows) => {
                let times: Vec<i64> = rows.iter().map(|r| r.1).collect();
                let watermarks = self.source.observe(&times);
                self.driver.batch(rows, watermarks.as_deref());
                self.driver.advance(self.source.watermark(), 0);
            }
            Step::Wait(ms) => self.driver.advance(i64::MIN, self.driver.now + ms),
        }
        self.step += 1;
    }

    fn happen(&mut self, event: &Event) {
        let machine = &mut self.driver.machine;
        match event {
            Event::Barrier => {
                machine.freeze();
                self.frozen = Some(Point {
                    step: self.step,
                    watermark: machine.watermark(),
                    now: self.driver.now,
                    source: self.source.clone(),
                    fired: self.driver.fired.len(),
                    late: self.driver.late.len(),
                });
            }
            Event::Drain(max) => drop(self.drain(*max)),
            Event::Evict(percent) => {
                let target = machine.bytes() * percent / 100;
                while machine.evict(target) {}
            }
            Event::Spill(percent) => {
                while self.drain(3) {}
                let target = self.driver.machine.bytes() * percent / 100;
                while let Some(writes) = self.driver.machine.spill(target) {
                    self.driver.storage.write(writes).unwrap();
                }
            }
            Event::Crash => self.recover(),
        }
    }

    fn drain(&mut self, max: usize) -> bool {
        if self.driver.drain(max) {
            return true;
        }
        if let Some(frozen) = self.frozen.take() {
            let contents = self.driver.storage.scan(&[], &[0xff; 9], usize::MAX).unwrap();
            self.checkpoint = Some((frozen, contents));
        }
        false
    }

    fn recover(&mut self) {
        let keeps_rows = self.driver.keeps_rows;
        let before = std::mem::replace(&mut self.driver, Driver::new(self.definition.clone(), keeps_rows));
        (self.frozen, self.step) = (None, 0);
        self.source = BoundedOutOfOrderness::new(self.bound_ms);
        let Some((point, contents)) = self.checkpoint.clone() else { return };
        let list = contents.into_iter().map(|(a, v)| Write::Put(a, v)).collect();
        self.driver.storage.write(Writes { list }).unwrap();
        let machine = Windowing::restore(
            self.definition.clone(),
            ADDRESSES,
            0..KEY_GROUPS,
            layout(keeps_rows),
            &self.driver.storage,
            point.watermark,
        );
        self.driver.machine = machine.unwrap();
        self.driver.advance(point.watermark, point.now);
        self.driver.fired = before.fired[..point.fired].to_vec();
        self.driver.late = before.late[..point.late].to_vec();
        (self.step, self.source) = (point.step, point.source);
    }
}

fn naive(definition: &Definition, steps: &[Step], bound_ms: i64) -> (Vec<Fired>, Vec<i64>) {
    let mut naive = Naive::new(definition.clone());
    let (mut largest, mut now) = (None::<i64>, 0);
    let watermark = |largest: Option<i64>| largest.map_or(i64::MIN, |m| m - bound_ms - 1);
    for step in steps {
        match step {
            Step::Batch(rows) => {
                for row in rows {
                    naive.row(*row, watermark(largest));
                    largest = largest.max(Some(row.1));
                }
                naive.batch_ends();
                naive.advance(watermark(largest), now);
            }
            Step::Wait(ms) => {
                now += ms;
                naive.advance(i64::MIN, now);
            }
        }
    }
    naive.advance(i64::MAX, now);
    naive.fired.sort_unstable();
    naive.late.sort_unstable();
    (naive.fired, naive.late)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_run_with_crashes_fires_what_the_naive_one_does(
        mut definition in definitions(), mut steps in steps(), bound_ms in 0i64..60, keeps_rows: bool,
        events in prop::collection::vec(events(), 0..40),
    ) {
        if keeps_rows {
            if definition.check_rows().is_err() {
                definition.mode = Mode::Accumulating;
            }
            // Nobody looks at a row before its window fires, so none is rejected.
            let rows = steps.iter_mut().filter_map(|s| match s { Step::Batch(rows) => Some(rows), Step::Wait(_) => None });
            rows.flatten().for_each(|row| row.2 = row.2.max(0));
        }
        let mut run = Run::new(definition.clone(), keeps_rows, bound_ms);
        let mut events = events.iter();
        while let Some(step) = steps.get(run.step) {
            run.take_step(step);
            events.next().into_iter().flatten().for_each(|event| run.happen(event));
        }
        run.driver.advance(i64::MAX, 0);
        let mut fired = run.driver.fired.clone();
        fired.sort_unstable();
        let mut late: Vec<i64> = run.driver.late.iter().map(|l| l.0).collect();
        late.sort_unstable();
        let on_time = |f: &&Fired| f.timing == Timing::OnTime && f.bounds.is_some() && !definition.is_count();
        let mut ends: Vec<_> = fired.iter().filter(on_time).map(|f| (f.key, f.bounds)).collect();
        prop_assert_eq!((fired, late), naive(&definition, &steps, bound_ms));
        if definition.time == Clock::Event && definition.lateness_ms > 0 {
            let all = ends.len();
            ends.sort_unstable();
            ends.dedup();
            prop_assert_eq!(ends.len(), all, "a window has one firing on time");
        }
        // And nothing is left of it.
        prop_assert_eq!(run.driver.machine.open(), 0);
        run.happen(&Event::Barrier);
        while run.drain(4) {}
        prop_assert_eq!(run.checkpoint.unwrap().1, []);
    }

    /// A batch is only a way to carry rows, though late firings are one for each: so what has been discarded depends on
    /// it, and nothing else.
    #[test]
    fn what_fires_does_not_depend_on_how_rows_are_cut(
        definition in definitions(), rows in prop::collection::vec((0i64..4, -20i64..150, -3i64..50), 1..80),
        bound_ms in 0i64..60, cut in 1usize..30,
    ) {
        let definition = Definition { mode: Mode::Accumulating, ..definition };
        let run = |cut: usize| {
            let mut run = Run::new(definition.clone(), false, bound_ms);
            rows.chunks(cut).for_each(|rows| run.take_step(&Step::Batch(rows.to_vec())));
            run.driver.advance(i64::MAX, 0);
            let mut fired = run.driver.fired;
            fired.retain(|f| f.timing == Timing::OnTime);
            let mut fired: Vec<_> = fired.iter().map(|f| (f.key, f.bounds, f.sum)).collect();
            fired.sort_unstable();
            (fired, run.driver.late)
        };
        prop_assert_eq!(run(cut), run(rows.len()));
    }
}
