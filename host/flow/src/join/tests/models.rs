//! Random rows and watermarks, cut into batches, spilled, checkpointed and crashed at random: what comes of a join is
//! what comes of a model that takes one row after the other and keeps all of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Row(Side, Row),
    /// The watermark goes on by so much.
    Advance(i64),
}

/// What happens to a join between events, and never to the model.
#[derive(Clone, Copy, Debug)]
struct Chance {
    /// A batch ends here.
    cut: bool,
    /// So many calls of what is due, before the rest has to wait.
    steps: usize,
    spill: bool,
    freeze: bool,
    /// So many slices of what was frozen are written.
    drain: usize,
    crash: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let row = (any::<bool>(), 0i64..3, -12i64..14, prop::bool::weighted(0.2));
    let row = row.prop_map(|(left, key, ahead, deletes)| {
        let side = if left { Side::Left } else { Side::Right };
        Event::Row(side, Row { name: 0, key, time: ahead, deletes })
    });
    let event = prop_oneof![5 => row, 2 => (0i64..9).prop_map(Event::Advance)];
    prop::collection::vec(event, 0..90).prop_map(|mut events| {
        // Names are numbers, times are near the watermark.
        let mut now = 0;
        for (at, event) in (0i64..).zip(&mut events) {
            match event {
                Event::Row(_, row) => (row.name, row.time) = (at, now + row.time),
                Event::Advance(by) => now += *by,
            }
        }
        events
    })
}

fn chances() -> impl Strategy<Value = Vec<Chance>> {
    let rarely = || prop::bool::weighted(0.1);
    let chance = (prop::bool::weighted(0.4), 0usize..4, rarely(), rarely(), 0usize..3, rarely());
    let chance = chance.prop_map(|(cut, steps, spill, freeze, drain, crash)| Chance {
        cut,
        steps,
        spill,
        freeze,
        drain,
        crash,
    });
    prop::collection::vec(chance, 90)
}

/// Calls the model with each row and the watermark before it; where there was none yet, the smallest number.
fn each(events: &[Event], mut see: impl FnMut(Side, Row, i64)) {
    let mut watermark = WATERMARK_MIN;
    let mut now = 0;
    for event in events {
        match event {
            Event::Row(side, row) => see(*side, *row, watermark),
            Event::Advance(by) => {
                now += by;
                watermark = now;
            }
        }
    }
}

fn interval_model(kind: Kind, (lower, upper): (i64, i64), events: &[Event]) -> Told {
    let until = |side: Side, row: &Row| match side {
        Side::Left => row.time + upper.max(0),
        Side::Right => row.time + (-lower).max(0),
    };
    let (mut told, mut rows, mut met): (_, Vec<(Side, Row)>, _) =
        (Told::default(), Vec::new(), BTreeSet::new());
    each(events, |side, row, watermark| {
        if watermark > WATERMARK_MIN && until(side, &row) <= watermark {
            return told.late.push((row.name, watermark - until(side, &row)));
        }
        for (other_side, other) in rows.iter().filter(|(s, r)| *s != side && r.key == row.key) {
            let (left, right) = if side == Side::Left { (&row, other) } else { (other, &row) };
            let is_there = watermark == WATERMARK_MIN || until(*other_side, other) > watermark;
            if is_there && (lower..=upper).contains(&(right.time - left.time)) {
                told.pairs.push((row.key, Some(left.name), Some(right.name), row.time.max(other.time)));
                met.extend([left.name, right.name]);
            }
        }
        rows.push((side, row));
    });
    for (side, row) in rows.iter().filter(|(side, row)| kind.keeps(*side) && !met.contains(&row.name)) {
        told.pairs.push(alone(*side, row, row.time));
    }
    told
}

fn alone(side: Side, row: &Row, time: i64) -> Pair {
    match side {
        Side::Left => (row.key, Some(row.name), None, time),
        Side::Right => (row.key, None, Some(row.name), time),
    }
}

fn window_model(kind: Kind, (size, slide, offset): (i64, i64, i64), events: &[Event]) -> Told {
    let (mut told, mut rows): (_, Vec<(i64, Side, Row)>) = (Told::default(), Vec::new());
    each(events, |side, row, watermark| {
        let starts = (row.time - size + 1..=row.time).filter(|start| (start - offset).rem_euclid(slide) == 0);
        let lasts: Vec<i64> = starts.map(|start| start + size - 1).collect();
        let open = lasts.iter().filter(|last| watermark == WATERMARK_MIN || **last > watermark);
        let before = rows.len();
        rows.extend(open.map(|last| (*last, side, row)));
        if rows.len() == before {
            told.late.push((row.name, watermark - lasts.iter().max().unwrap()));
        }
    });
    for (last, side, row) in &rows {
        let others = rows.iter().filter(|(l, s, r)| l == last && s != side && r.key == row.key);
        let others: Vec<i64> = others.map(|(.., other)| other.name).collect();
        if others.is_empty() && kind.keeps(*side) {
            told.pairs.push(alone(*side, row, *last));
        }
        if *side == Side::Left {
            told.pairs.extend(others.iter().map(|right| (row.key, Some(row.name), Some(*right), *last)));
        }
    }
    told
}

fn table_model(kind: Kind, (grace, versions): (i64, i64), events: &[Event]) -> Told {
    let (mut told, mut waiting, mut table): (_, Vec<Row>, Vec<Row>) =
        (Told::default(), Vec::new(), Vec::new());
    let join = |row: &Row, table: &[Row], told: &mut Vec<Pair>| {
        let of_key = table.iter().filter(|v| v.key == row.key && v.time <= row.time);
        let valid = of_key.max_by_key(|v| (v.time, v.name)).filter(|v| !v.deletes);
        if valid.is_some() || kind == Kind::Left {
            told.push((row.key, Some(row.name), valid.map(|v| v.name), row.time));
        }
    };
    let mut events = events.to_vec();
    // The end.
    events.extend([
        Event::Advance(1 << 40),
        Event::Row(Side::Left, Row { name: -1, key: 0, time: 0, deletes: false }),
    ]);
    each(&events, |side, row, watermark| {
        let (due, rest) =
            waiting.iter().partition(|w: &&Row| watermark > WATERMARK_MIN && w.time + grace <= watermark);
        let (due, rest): (Vec<Row>, Vec<Row>) = (due, rest);
        waiting = rest;
        due.iter().for_each(|row| join(row, &table, &mut told.pairs));
        let until = row.time + versions;
        let is_late = match side {
            Side::Left => until < watermark,
            Side::Right => until <= watermark,
        };
        if watermark > WATERMARK_MIN && is_late {
            return told.late.push((row.name, watermark - until));
        }
        match side {
            Side::Right => table.push(row),
            Side::Left => waiting.push(row),
        }
    });
    told.late.retain(|(name, _)| *name >= 0);
    told
}

/// Where a run can go on after a crash: the checkpoint's state, and what had come by then.
struct Saved {
    storage: InMemory,
    at: usize,
    watermark: i64,
    told: Told,
    announced: i64,
}

/// Drives a join with the events, and everything that may happen to it.
struct Run<'a> {
    driver: Driver,
    events: &'a [Event],
    chances: &'a [Chance],
    saved: Option<Saved>,
    /// What will be saved when all that was frozen is written.
    saving: Option<Saved>,
    crashes: usize,
}

impl Run<'_> {
    fn run(mut self) -> Told {
        let (mut at, mut watermark, mut now) = (0, WATERMARK_MIN, 0);
        while at < self.events.len() {
            let chance = self.chances[at];
            match self.events[at] {
                Event::Advance(by) => {
                    now += by;
                    watermark = now;
                    self.driver.join.advance(watermark);
                    for _ in 0..chance.steps {
                        self.driver.step();
                    }
                    at += 1;
                }
                Event::Row(side, _) => {
                    // What goes on within a batch stands before its rows.
                    let (mut rows, mut watermarks, mut within) = (Vec::new(), Vec::new(), now);
                    let mut furthest = watermark;
                    while let Some(event) = self.events.get(at) {
                        match event {
                            Event::Row(s, row) if *s == side => {
                                rows.push(*row);
                                watermarks.push(furthest);
                            }
                            Event::Row(..) => break,
                            Event::Advance(by) => {
                                within += by;
                                furthest = within;
                            }
                        }
                        at += 1;
                        if self.chances[at - 1].cut {
                            break;
                        }
                    }
                    self.driver.batch(side, &rows, Some(&watermarks));
                    (watermark, now) = (furthest, within);
                    self.driver.join.advance(watermark);
                }
            }
            let crashed = self.between(chance, at);
            if let Some((again, reached)) = crashed {
                at = again;
                watermark = reached;
                now = watermark.max(0);
            }
        }
        self.driver.watermark(i64::MAX);
        assert_eq!(self.driver.announced, i64::MAX);
        self.driver.told.sorted()
    }

    /// Between two signals. After a crash: where to go on, and how far time had come.
    fn between(&mut self, chance: Chance, at: usize) -> Option<(usize, i64)> {
        if chance.freeze && self.saving.is_none() {
            self.saving = Some(Saved {
                storage: InMemory::default(),
                at,
                watermark: self.driver.join.watermark(),
                told: self.driver.told.clone(),
                announced: self.driver.announced,
            });
            self.driver.join.freeze();
        }
        for _ in 0..chance.drain {
            match self.driver.join.drain(3) {
                Some(writes) => self.driver.storage.write(writes).unwrap(),
                None => {
                    let storage = copy(&self.driver.storage);
                    self.saved = self.saving.take().map(|s| Saved { storage, ..s }).or(self.saved.take());
                    break;
                }
            }
        }
        if chance.spill && self.saving.is_none() {
            self.driver.spill();
        }
        if !chance.crash || self.crashes == 0 {
            return None;
        }
        self.crashes -= 1;
        let saved = self.saved.as_ref()?;
        self.saving = None;
        self.driver.storage = copy(&saved.storage);
        self.driver.told = saved.told.clone();
        self.driver.announced = saved.announced;
        let (spec, groups) = (self.driver.spec, 0..KEY_GROUPS);
        self.driver.join =
            Join::restore(spec, layout(), ADDRESSES, groups, &self.driver.storage, saved.watermark).unwrap();
        Some((saved.at, saved.watermark))
    }
}

fn told(kind: Kind, on: On, events: &[Event], chances: &[Chance]) -> Told {
    let driver = Driver::new(kind, on);
    Run { driver, events, chances, saved: None, saving: None, crashes: 3 }.run()
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Inner), Just(Kind::Left), Just(Kind::Full)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn an_interval_join_is_its_model(
        kind in kinds(), lower in -9i64..9, length in 0i64..12, events in events(), chances in chances(),
    ) {
        let on = On::Interval { lower_ms: lower, upper_ms: lower + length };
        let expected = interval_model(kind, (lower, lower + length), &events).sorted();
        prop_assert_eq!(told(kind, on, &events, &chances), expected);
    }

    #[test]
    fn a_window_join_is_its_model(
        kind in kinds(), slide in 1i64..9, more in 0i64..9, offset in 0i64..3, events in events(), chances in chances(),
    ) {
        let (size_ms, slide_ms, offset_ms) = (slide + more, slide, offset);
        let on = On::Window(Windows::Hopping { size_ms, slide_ms, offset_ms });
        let expected = window_model(kind, (size_ms, slide_ms, offset_ms), &events).sorted();
        prop_assert_eq!(told(kind, on, &events, &chances), expected);
    }

    #[test]
    fn a_table_join_is_its_model(
        left in any::<bool>(), grace in 0i64..9, more in 0i64..9, events in events(), chances in chances(),
    ) {
        let kind = if left { Kind::Left } else { Kind::Inner };
        let (grace_ms, versions_ms) = (grace, grace + more);
        let on = On::Table { grace_ms, versions_ms, delete_when: Some(1) };
        let expected = table_model(kind, (grace_ms, versions_ms), &events).sorted();
        prop_assert_eq!(told(kind, on, &events, &chances), expected);
    }
}
