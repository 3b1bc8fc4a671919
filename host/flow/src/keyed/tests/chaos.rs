//! The whole of keyed state against a model that knows no batches, no storage and no checkpoints: an operator runs over
//! the same rows in both, while the state's batches are cut anywhere, its memory is taken away, checkpoints are taken
//! and given up, and it crashes and starts again from the last checkpoint. What each key was shown must be the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Row(Row),
    /// The clocks go on by so much, and what is due fires.
    Advance(i64, i64),
}

#[derive(Clone, Debug)]
struct Row {
    key: usize,
    time: i64,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Count,
    /// Absent again; only for keys whose rows are in order.
    Clear,
    SetTimer(Clock, usize, i64),
    CancelTimer(Clock, usize),
    /// Whether this entry was seen before, in a collection.
    Seen(u8, u8),
}

/// What happens meanwhile, and nobody may notice.
#[derive(Clone, Debug)]
enum Chaos {
    Nothing,
    CutBatch,
    Freeze,
    Drain(usize),
    Evict,
    Spill,
    Expire(usize),
    Crash,
}

const KEYS: [&str; 5] = ["a", "b", "c", "aa", ""];
const NAMES: [&str; 2] = ["t", "u"];

/// What an operator was shown: what called it, the values, and whether an entry was seen.
type Shown = (String, Values, Option<bool>);
type Outputs = BTreeMap<usize, Vec<Shown>>;

/// The operator's rule for one row of values.
fn count(values: &mut Values, by: i64) {
    values.0 = Some(values.0.unwrap_or(0) + by);
    values.1 = Some(values.1.unwrap_or(0) + by);
    values.2 = Some(format!("{}x", values.2.clone().unwrap_or_default()));
}

/// When a timer that fired is set again.
fn again(at: i64) -> Option<i64> {
    (at % 3 == 0).then_some(at + 2)
}

#[derive(Debug, Default)]
struct Model {
    /// Values, and when they were last used in event time and processing time.
    values: BTreeMap<usize, (Values, i64, i64)>,
    timers: BTreeMap<(Clock, usize, usize), i64>,
    /// When an entry was written.
    entries: BTreeMap<(u8, usize, u8), i64>,
    watermark: i64,
    now: i64,
    outputs: Outputs,
}

impl Model {
    fn seen(&self, id: (u8, usize, u8)) -> bool {
        self.entries.get(&id).is_some_and(|&at| id.0 == 0 || self.now < at + 20)
    }

    /// Shows a key to the operator at this time; `None` where event time isn't told.
    fn call(
        &mut self,
        key: usize,
        event: Option<i64>,
        what: String,
        seen: Option<bool>,
        rule: impl Fn(&mut Values),
    ) {
        let (mut values, mut used, used_processing) =
            self.values.remove(&key).unwrap_or((NONE, event.unwrap_or(self.watermark), self.now));
        if event.unwrap_or(self.watermark) >= used + 10 {
            values.1 = None;
        }
        if self.now >= used_processing + 20 {
            values.2 = None;
        }
        self.outputs.entry(key).or_default().push((what, values.clone(), seen));
        rule(&mut values);
        used = used.max(event.unwrap_or(used));
        if values != NONE {
            self.values.insert(key, (values, used, self.now));
        }
    }

    fn row(&mut self, row: &Row) {
        let time = row.time.max(self.watermark);
        let seen = match &row.action {
            Action::Seen(collection, entry) => {
                let id = (*collection, row.key, *entry);
                let seen = self.seen(id);
                self.entries.insert(id, self.now);
                Some(seen)
            }
            Action::SetTimer(clock, name, after) => {
                self.timers
                    .insert((*clock, row.key, *name), timer_at(*clock, *after, self.watermark, self.now));
                None
            }
            Action::CancelTimer(clock, name) => {
                self.timers.remove(&(*clock, row.key, *name));
                None
            }
            Action::Count | Action::Clear => None,
        };
        let rule = |values: &mut Values| match row.action {
            Action::Clear => *values = NONE,
            _ => count(values, 1),
        };
        self.call(row.key, Some(time), format!("row {}", row.time), seen, rule);
    }

    fn advance(&mut self, event: i64, processing: i64) {
        let from = self.watermark;
        let to = from + event;
        self.now += processing;
        while let Some((at, key, name)) = self.next(Clock::Event, to) {
            self.watermark = from.max(at);
            self.fire(Clock::Event, key, name, at, Some(self.watermark));
        }
        self.watermark = to;
        while let Some((at, key, name)) = self.next(Clock::Processing, self.now) {
            self.fire(Clock::Processing, key, name, at, None);
        }
    }

    fn next(&self, clock: Clock, now: i64) -> Option<(i64, usize, usize)> {
        let due = self.timers.iter().filter(|((of, ..), at)| *of == clock && **at <= now);
        due.map(|((_, key, name), at)| (*at, *key, *name)).min()
    }

    fn fire(&mut self, clock: Clock, key: usize, name: usize, at: i64, event: Option<i64>) {
        self.timers.remove(&(clock, key, name));
        if let Some(at) = again(at) {
            self.timers.insert((clock, key, name), at);
        }
        self.call(key, event, format!("timer {clock:?} {} {at}", NAMES[name]), None, |values| {
            count(values, 100)
        });
    }
}

/// Timers are set after the present: those behind it fire right after their batch, wherever that was cut.
fn timer_at(clock: Clock, after: i64, watermark: i64, now: i64) -> i64 {
    1 + after + if clock == Clock::Event { watermark } else { now }
}

/// The state with what drives it.
struct Driver {
    state: KeyedState,
    storage: InMemory,
    watermark: i64,
    now: i64,
    outputs: Outputs,
    /// Where the run stood at the freeze, as long as the checkpoint is open.
    open: Option<Position>,
    checkpoint: (InMemory, Position),
    chaos: std::vec::IntoIter<Chaos>,
}

#[derive(Clone, Debug, Default)]
struct Position {
    step: usize,
    watermark: i64,
    now: i64,
    outputs: Outputs,
}

impl Driver {
    fn position(&self, step: usize) -> Position {
        Position { step, watermark: self.watermark, now: self.now, outputs: self.outputs.clone() }
    }

    /// Lets something happen. Returns the step to go on with after a crash.
    fn disturb(&mut self, step: usize) -> Option<usize> {
        match self.chaos.next().unwrap_or(Chaos::Nothing) {
            Chaos::Nothing | Chaos::CutBatch => {}
            Chaos::Freeze => {
                self.state.freeze();
                self.open = Some(self.position(step));
            }
            Chaos::Drain(max) => match (self.state.drain(max), self.open.take()) {
                (Some(writes), open) => {
                    self.storage.write(writes).unwrap();
                    self.open = open;
                }
                (None, Some(position)) => self.checkpoint = (copy(&self.storage), position),
                (None, None) => {}
            },
            Chaos::Evict => while self.state.evict(0) {},
            Chaos::Spill if self.open.is_none() => {
                if let Some(writes) = self.state.spill(0) {
                    self.storage.write(writes).unwrap();
                }
            }
            Chaos::Spill => {}
            Chaos::Expire(max) => drop(self.state.expire(&self.storage, max).unwrap()),
            Chaos::Crash => {
                let position = self.checkpoint.1.clone();
                self.storage = copy(&self.checkpoint.0);
                self.state = restore(&self.storage);
                self.open = None;
                (self.watermark, self.now, self.outputs) =
                    (position.watermark, position.now, position.outputs);
                self.state.advance(self.watermark, self.now);
                return Some(position.step);
            }
        }
        None
    }

    /// Takes rows in one batch, as the operator would.
    fn rows(&mut self, rows: &[Row]) {
        let keys = keys(&rows.iter().map(|row| KEYS[row.key]).collect::<Vec<_>>());
        let times: Vec<i64> = rows.iter().map(|row| row.time).collect();
        let mut from = 0;
        while from < rows.len() {
            let batch = Rows { keys: &keys, times: Some(&times), watermarks: None };
            let numbered = self.state.begin(&batch, from, &self.storage).unwrap();
            self.process(&rows[from..numbered.until], &numbered);
            from = numbered.until;
        }
    }

    fn process(&mut self, rows: &[Row], numbered: &Numbered) {
        let mut now: Vec<Values> =
            (0..numbered.keys.hashes().len()).map(|key| values(numbered, key)).collect();
        let wanted: Vec<(u8, u32, [u8; 1])> = rows
            .iter()
            .zip(&numbered.key_of)
            .filter_map(|(row, &key)| {
                if let Action::Seen(collection, entry) = row.action {
                    Some((collection, key, [entry]))
                } else {
                    None
                }
            })
            .collect();
        let borrowed: Vec<(u8, u32, &[u8])> = wanted.iter().map(|(c, k, e)| (*c, *k, e.as_slice())).collect();
        let read = self.state.read_entries(numbered, &borrowed, &self.storage).unwrap();
        let mut seen: BTreeMap<_, bool> =
            wanted.iter().cloned().zip(read.iter().map(Option::is_some)).collect();
        for (row, &key) in rows.iter().zip(&numbered.key_of) {
            let mut was_seen = None;
            match row.action {
                Action::Seen(collection, entry) => {
                    was_seen = seen.insert((collection, key, [entry]), true);
                    self.state.write_entry(numbered, collection, key, &[entry], Some(b"seen"));
                }
                Action::SetTimer(clock, name, after) => {
                    let at = timer_at(clock, after, self.watermark, self.now);
                    self.state.set_timer(numbered, key, clock, NAMES[name], Some(at));
                }
                Action::CancelTimer(clock, name) => {
                    self.state.set_timer(numbered, key, clock, NAMES[name], None);
                }
                Action::Count | Action::Clear => {}
            }
            let values = &mut now[key as usize];
            let shown = (format!("row {}", row.time), values.clone(), was_seen);
            self.outputs.entry(row.key).or_default().push(shown);
            match row.action {
                Action::Clear => *values = NONE,
                _ => count(values, 1),
            }
        }
        self.state.store(numbered, columns(&now));
    }

    /// Fires what is due. Returns the step to go on with after a crash.
    fn fire(&mut self, step: usize) -> Option<usize> {
        for clock in Clock::ALL {
            loop {
                let firing = self.state.due(clock, 2);
                if firing.due.is_empty() {
                    break;
                }
                let numbered = self.state.begin_firing(&firing, &self.storage).unwrap();
                let mut now: Vec<Values> = Vec::new();
                for (timer, &at) in firing.due.at.iter().enumerate() {
                    let (mut shown, name) = (values(&numbered, timer), firing.due.names.value(timer));
                    let key =
                        KEYS.iter().position(|key| keys(&[key]).key(0) == numbered.keys.key(timer)).unwrap();
                    let what = format!("timer {clock:?} {name} {at}");
                    self.outputs.entry(key).or_default().push((what, shown.clone(), None));
                    let number = u32::try_from(timer).unwrap();
                    if let Some(at) = again(at) {
                        self.state.set_timer(&numbered, number, clock, name, Some(at));
                    }
                    count(&mut shown, 100);
                    now.push(shown);
                }
                self.state.store(&numbered, columns(&now));
                if let Some(step) = self.disturb(step) {
                    return Some(step);
                }
            }
        }
        None
    }
}

fn run(steps: &[Step], chaos: Vec<Chaos>) -> Driver {
    let mut driver = Driver {
        state: state(),
        storage: InMemory::default(),
        watermark: 0,
        now: 0,
        outputs: Outputs::new(),
        open: None,
        checkpoint: (InMemory::default(), Position::default()),
        chaos: chaos.into_iter(),
    };
    driver.state.advance(0, 0);
    let mut targets: Vec<(i64, i64)> = Vec::new();
    let (mut watermark, mut now) = (0, 0);
    for step in steps {
        if let Step::Advance(event, processing) = step {
            (watermark, now) = (watermark + event, now + processing);
        }
        targets.push((watermark, now));
    }
    let (mut batch, mut at) = (Vec::new(), 0);
    while at < steps.len() {
        // The rest of a firing that a crash interrupted, or nothing.
        let mut goes_on = driver.fire(at);
        if goes_on.is_none() {
            match &steps[at] {
                Step::Row(row) => {
                    batch.push(row.clone());
                    let ends = !matches!(steps.get(at + 1), Some(Step::Row(_)));
                    let cut = matches!(driver.chaos.as_slice().first(), Some(Chaos::CutBatch));
                    at += 1;
                    if ends || cut || batch.len() == 8 {
                        driver.rows(&std::mem::take(&mut batch));
                        goes_on = driver.disturb(at);
                    } else {
                        driver.chaos.next();
                    }
                }
                Step::Advance(..) => {
                    (driver.watermark, driver.now) = targets[at];
                    driver.state.advance(driver.watermark, driver.now);
                    at += 1;
                    goes_on = driver.fire(at).or_else(|| driver.disturb(at));
                }
            }
        }
        if let Some(step) = goes_on {
            at = step;
            batch.clear();
        }
        if at == steps.len()
            && let Some(step) = driver.fire(at)
        {
            at = step;
        }
    }
    driver
}

fn action() -> impl Strategy<Value = Action> {
    let clock = || prop_oneof![Just(Clock::Event), Just(Clock::Processing)];
    prop_oneof![
        4 => Just(Action::Count),
        1 => Just(Action::Clear),
        3 => (clock(), 0..2usize, 0..12i64).prop_map(|(c, n, after)| Action::SetTimer(c, n, after)),
        1 => (clock(), 0..2usize).prop_map(|(c, n)| Action::CancelTimer(c, n)),
        3 => (prop_oneof![Just(0u8), Just(2u8)], 0..3u8).prop_map(|(c, e)| Action::Seen(c, e)),
    ]
}

/// Steps whose rows lie around the watermark, some of them behind it.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..KEYS.len(), -4..16i64, action());
    let step = prop_oneof![
        4 => row.prop_map(|(key, time, action)| Step::Row(Row { key, time, action })),
        1 => (0..15i64, 0..25i64).prop_map(|(event, processing)| Step::Advance(event, processing)),
    ];
    prop::collection::vec(step, 1..80).prop_map(|mut steps| {
        let (mut watermark, mut latest) = (0, i64::MIN);
        for step in &mut steps {
            match step {
                Step::Advance(event, _) => watermark += *event,
                Step::Row(row) => {
                    row.time += watermark;
                    // A key that is cleared forgets when it was used: only in order that makes no difference.
                    if row.key == 0 {
                        row.time = row.time.max(latest);
                        latest = row.time;
                    } else if matches!(row.action, Action::Clear) {
                        row.action = Action::Count;
                    }
                }
            }
        }
        steps
    })
}

fn chaos() -> impl Strategy<Value = Vec<Chaos>> {
    let one = prop_oneof![
        4 => Just(Chaos::Nothing),
        3 => Just(Chaos::CutBatch),
        2 => Just(Chaos::Freeze),
        6 => (1..12usize).prop_map(Chaos::Drain),
        2 => Just(Chaos::Evict),
        2 => Just(Chaos::Spill),
        3 => (1..5usize).prop_map(Chaos::Expire),
        1 => Just(Chaos::Crash),
    ];
    prop::collection::vec(one, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn nobody_notices_batches_memory_checkpoints_and_crashes(steps in steps(), chaos in chaos()) {
        let mut model = Model::default();
        for step in &steps {
            match step {
                Step::Row(row) => model.row(row),
                Step::Advance(event, processing) => model.advance(*event, *processing),
            }
        }
        let mut driver = run(&steps, chaos);
        prop_assert_eq!(&driver.outputs, &model.outputs);

        // What is over is gone for good, and the rest is what the storage has.
        let mut storage = driver.storage;
        checkpoint(&mut driver.state, &storage);
        for _ in 0..2 {
            while driver.state.expire(&storage, 3).unwrap() {}
        }
        checkpoint(&mut driver.state, &storage);
        let mut restored = restore(&storage);
        restored.advance(driver.watermark, driver.now);
        prop_assert_eq!(restored.timers(), model.timers.len());
        let rows = everything(&storage).iter().filter(|(address, _)| ADDRESSES.read_row(address).is_ok()).count();
        let is_left = |(values, event, processing): &(Values, i64, i64)| {
            values.0.is_some()
                || values.1.is_some() && driver.watermark < event + 10
                || values.2.is_some() && driver.now < processing + 20
        };
        prop_assert_eq!(rows, model.values.values().filter(|row| is_left(row)).count());
        storage = copy(&storage);
        for (key, name) in KEYS.into_iter().enumerate() {
            let time = driver.watermark;
            model.row(&Row { key, time, action: Action::Count });
            let (_, expected, _) = model.outputs[&key].last().unwrap().clone();
            prop_assert_eq!(get(&mut restored, &storage, (name, time)), expected);
        }
    }
}
