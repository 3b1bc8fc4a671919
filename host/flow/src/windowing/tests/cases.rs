//! Cases with known outcomes, most of them from the test suites of other engines.

use super::*;
use Step::{Now, Restore, Rows as R, Watermark as W};
use Timing::{Early, Late, OnTime};

#[derive(Clone, Debug)]
enum Step {
    /// Rows, one batch: key, time, value.
    Rows(&'static [Row]),
    Watermark(i64),
    Now(i64),
    Restore,
}

/// Key, value, start, end, number, timing.
type Expected = (i64, i64, i64, i64, i64, Timing);

/// Goes through the steps, each with what it makes fire, in any order.
fn check(definition: &Definition, steps: &[(Step, &[Expected])]) -> Driver {
    // The outcome is the same whether state stays in memory or is read anew for each step, and whether sums are kept or
    // rows. (These are never rejected.)
    let rejects = |step: &Step| matches!(step, R(rows) if rows.iter().any(|row| row.2 < 0));
    if definition.check_rows().is_ok() && !steps.iter().any(|(step, _)| rejects(step)) {
        run(definition, steps, (true, true));
        run(definition, steps, (false, true));
    }
    run(definition, steps, (true, false));
    run(definition, steps, (false, false))
}

fn run(
    definition: &Definition,
    steps: &[(Step, &[Expected])],
    (restores, keeps_rows): (bool, bool),
) -> Driver {
    let mut driver = Driver::new(definition.clone(), keeps_rows);
    for (at, (step, expected)) in steps.iter().enumerate() {
        let watermark = driver.machine.watermark();
        match step {
            R(rows) => driver.batch(rows, None),
            W(to) => driver.advance(*to, 0),
            Now(to) => driver.advance(watermark, *to),
            Restore => driver.restore(),
        }
        if restores {
            driver.restore();
        }
        let told = |f: Fired| {
            let bounds = f.bounds.unwrap_or(Bounds { start: 0, end: 0 });
            (f.key, f.sum, bounds.start, bounds.end, f.number, f.timing)
        };
        let mut fired: Vec<Expected> = driver.fired.drain(..).map(told).collect();
        fired.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(fired, expected, "step {at}, {step:?}");
    }
    driver
}

fn definition(assigner: Assigner) -> Definition {
    let (time, trigger) = (Clock::Event, Trigger::ON_TIME);
    Definition { assigner, time, lateness_ms: 0, trigger, mode: Mode::Accumulating }
}

fn tumbling(size_ms: i64) -> Definition {
    definition(Assigner::Fixed { size_ms, slide_ms: size_ms, offset_ms: 0 })
}

fn sessions(gap_ms: i64) -> Definition {
    definition(Assigner::Session { gap_ms })
}

const COUNTED: &[Row] = &[
    (2, 3999, 1),
    (2, 3000, 1),
    (1, 20, 1),
    (1, 0, 1),
    (1, 999, 1),
    (2, 1998, 1),
    (2, 1999, 1),
    (2, 1000, 1),
];

/// Flink, `WindowOperatorTest`, as the next three.
#[test]
fn tumbling_windows() {
    let first = &[(1, 3, 0, 3000, 1, OnTime), (2, 3, 0, 3000, 1, OnTime)];
    check(
        &tumbling(3000),
        &[
            (R(COUNTED), &[]),
            (W(999), &[]),
            (W(1999), &[]),
            (Restore, &[]),
            (W(2999), first),
            (W(3999), &[]),
            (W(4999), &[]),
            (W(5999), &[(2, 2, 3000, 6000, 1, OnTime)]),
            (W(7999), &[]),
        ],
    );
}

#[test]
fn hopping_windows() {
    let hopping = definition(Assigner::Fixed { size_ms: 3000, slide_ms: 1000, offset_ms: 0 });
    check(
        &hopping,
        &[
            (R(COUNTED), &[]),
            (W(999), &[(1, 3, -2000, 1000, 1, OnTime)]),
            (W(1999), &[(1, 3, -1000, 2000, 1, OnTime), (2, 3, -1000, 2000, 1, OnTime)]),
            (W(2999), &[(1, 3, 0, 3000, 1, OnTime), (2, 3, 0, 3000, 1, OnTime)]),
            (Restore, &[]),
            (W(3999), &[(2, 5, 1000, 4000, 1, OnTime)]),
            (W(4999), &[(2, 2, 2000, 5000, 1, OnTime)]),
            (W(5999), &[(2, 2, 3000, 6000, 1, OnTime)]),
            (W(7999), &[]),
        ],
    );
}

#[test]
fn sessions_with_a_restore_in_the_middle() {
    check(
        &sessions(3000),
        &[
            (R(&[(2, 0, 1), (2, 1000, 2), (2, 2500, 3)]), &[]),
            (Restore, &[]),
            (R(&[(1, 10, 1), (1, 1000, 2), (1, 2500, 3), (2, 5501, 4)]), &[]),
            (R(&[(2, 6000, 5), (2, 6000, 5), (2, 6050, 6)]), &[]),
            (
                W(12_000),
                &[(1, 6, 10, 5500, 1, OnTime), (2, 6, 0, 5500, 1, OnTime), (2, 20, 5501, 9050, 1, OnTime)],
            ),
            (R(&[(2, 15_000, 10), (2, 15_000, 20)]), &[]),
            (W(17_998), &[]),
            (W(17_999), &[(2, 30, 15_000, 18_000, 1, OnTime)]),
        ],
    );
}

#[test]
fn counts_of_sessions_that_merge_are_added_up() {
    let counted = Definition { trigger: Trigger::Rows(4), mode: Mode::Discarding, ..sessions(3000) };
    check(
        &counted,
        &[
            (R(&[(2, 0, 1), (2, 1000, 2), (2, 2500, 3)]), &[]),
            (R(&[(2, 3500, 4), (1, 10, 1), (1, 1000, 2)]), &[(2, 10, 0, 6500, 1, Early)]),
            (Restore, &[]),
            (R(&[(1, 2500, 3), (1, 6000, 1), (1, 6500, 2), (1, 7000, 3)]), &[]),
            (R(&[(1, 4500, 10)]), &[(1, 22, 10, 10_000, 1, Early)]),
            (W(i64::MAX), &[]),
        ],
    );
}

#[test]
fn rows_just_a_gap_apart_are_of_one_session() {
    check(
        &sessions(10_000),
        &[
            (R(&[(1, 0, 1), (1, 10_000, 2), (2, 0, 4), (2, 10_001, 8)]), &[]),
            (
                W(i64::MAX),
                &[
                    (1, 3, 0, 20_000, 1, OnTime),
                    (2, 4, 0, 10_000, 1, OnTime),
                    (2, 8, 10_001, 20_001, 1, OnTime),
                ],
            ),
        ],
    );
    // From the other side too.
    let rows: &[Row] = &[(1, 10_000, 2), (1, 0, 1)];
    check(&sessions(10_000), &[(R(rows), &[]), (W(i64::MAX), &[(1, 3, 0, 20_000, 1, OnTime)])]);
}

#[test]
fn a_window_that_was_emptied_lives_on_until_its_clean_up() {
    let definition = Definition { lateness_ms: 10, mode: Mode::Discarding, ..sessions(100) };
    let driver = check(
        &definition,
        &[
            (R(&[(1, 0, 1), (1, 50, 2)]), &[]),
            (W(149), &[(1, 3, 0, 150, 1, OnTime)]),
            // Part of the session that has fired; nothing of what that fired comes again.
            (R(&[(1, 20, 4)]), &[(1, 4, 0, 150, 2, Late)]),
            // Extends it beyond the watermark, so its end is still to come.
            (R(&[(1, 140, 8)]), &[]),
            (W(158), &[]),
            (W(239), &[(1, 8, 0, 240, 3, OnTime)]),
            (W(249), &[]),
            (R(&[(1, 60, 16)]), &[]),
            (W(i64::MAX), &[]),
        ],
    );
    assert_eq!((driver.late, driver.machine.open()), (vec![(16, 90)], 0));
}

#[test]
fn a_late_row_bridges_two_sessions_that_have_fired() {
    let definition = Definition { lateness_ms: 1000, ..sessions(10) };
    check(
        &definition,
        &[
            (R(&[(1, 0, 1), (1, 20, 2)]), &[]),
            (W(100), &[(1, 1, 0, 10, 1, OnTime), (1, 2, 20, 30, 1, OnTime)]),
            (R(&[(1, 10, 4)]), &[(1, 7, 0, 30, 3, Late)]),
            (W(1028), &[]),
            (R(&[(1, 30, 8), (1, 40, 16)]), &[(1, 31, 0, 50, 4, Late)]),
            (W(1049), &[]),
        ],
    );
}

#[test]
fn a_watermark_beyond_the_lateness_fires_once() {
    let early = Trigger::Completion { early_interval_ms: Some(5), early_rows: None };
    let definition = Definition { lateness_ms: 10, trigger: early, ..tumbling(100) };
    let driver = check(
        &definition,
        &[
            (R(&[(1, 0, 1)]), &[]),
            (W(1000), &[(1, 1, 0, 100, 1, OnTime)]),
            (Now(100), &[]),
            (R(&[(1, 50, 2)]), &[]),
            (Now(200), &[]),
        ],
    );
    assert_eq!(driver.late, [(2, 901)]);
}

/// Beam, `TestStreamTest`.
#[test]
fn late_rows_are_added_to_what_has_fired() {
    const MINUTE: i64 = 60_000;
    let early = Trigger::Completion { early_interval_ms: Some(2 * MINUTE), early_rows: None };
    let definition = Definition { lateness_ms: 5 * MINUTE, trigger: early, ..tumbling(5 * MINUTE) };
    let driver = check(
        &definition,
        &[
            (R(&[(0, 0, 1), (0, 0, 2), (0, 0, 3)]), &[]),
            (W(6 * MINUTE), &[(0, 6, 0, 5 * MINUTE, 1, OnTime)]),
            (R(&[(0, 0, 4), (0, 0, 5)]), &[(0, 15, 0, 5 * MINUTE, 2, Late)]),
            (W(20 * MINUTE), &[]),
            (R(&[(0, 0, 100), (0, 0, 200), (0, 0, 300)]), &[]),
            (W(i64::MAX), &[]),
        ],
    );
    assert_eq!(driver.late.iter().map(|l| l.0).collect::<Vec<_>>(), [100, 200, 300]);
}

/// Beam, `ReduceFnRunnerTest`.
#[test]
fn early_firings_by_processing_time() {
    const MINUTE: i64 = 60_000;
    let early = Trigger::Completion { early_interval_ms: Some(5 * MINUTE), early_rows: None };
    let definition = Definition { trigger: early, ..tumbling(30 * MINUTE) };
    let end = 30 * MINUTE;
    check(
        &definition,
        &[
            (R(&[(0, 1000, 1)]), &[]),
            (Now(6 * MINUTE), &[(0, 1, 0, end, 1, Early)]),
            (R(&[(0, 2000, 2)]), &[]),
            (Restore, &[]),
            (Now(12 * MINUTE), &[(0, 3, 0, end, 2, Early)]),
            (R(&[(0, 3000, 3)]), &[]),
            (Now(18 * MINUTE), &[(0, 6, 0, end, 3, Early)]),
            (Now(48 * MINUTE), &[]),
            (W(i64::MAX), &[(0, 6, 0, end, 4, OnTime)]),
        ],
    );
}

#[test]
fn what_is_discarded_does_not_fire_empty() {
    let early = Trigger::Completion { early_interval_ms: None, early_rows: Some(2) };
    let definition = Definition { trigger: early, mode: Mode::Discarding, lateness_ms: 50, ..tumbling(100) };
    let (first, second) = (&[(1, 3, 0, 100, 1, Early)], &[(1, 12, 0, 100, 2, Early)]);
    check(
        &definition,
        &[
            (R(&[(1, 0, 1), (1, 1, 2)]), first),
            (R(&[(1, 2, 4), (1, 3, 8)]), second),
            (W(99), &[]),
            (R(&[(1, 4, 16), (1, 5, 32), (1, 6, 64)]), &[(1, 112, 0, 100, 3, Late)]),
            (W(i64::MAX), &[]),
        ],
    );
}

#[test]
fn count_windows_have_the_bounds_of_their_rows() {
    check(
        &definition(Assigner::Count { rows: 2 }),
        &[
            (
                R(&[(1, 50, 1), (1, 20, 2), (1, 70, 4), (2, 5, 8), (1, 60, 16), (1, 0, 32)]),
                &[(1, 3, 20, 51, 1, OnTime), (1, 20, 60, 71, 1, OnTime)],
            ),
            (Restore, &[]),
            // A rejected row doesn't count.
            (R(&[(2, 9, -1)]), &[]),
            (R(&[(2, 9, 64)]), &[(2, 72, 5, 10, 1, OnTime)]),
            (W(i64::MAX), &[(1, 32, 0, 1, 1, OnTime)]),
        ],
    );
}

#[test]
fn windows_of_processing_time_go_by_the_clock() {
    let definition = Definition { time: Clock::Processing, ..tumbling(100) };
    check(
        &definition,
        &[
            (Now(120), &[]),
            (R(&[(1, 7, 1)]), &[]),
            (Now(199), &[]),
            (R(&[(1, 9999, 2)]), &[]),
            (W(5000), &[]),
            (Now(200), &[(1, 3, 100, 200, 1, OnTime)]),
            (R(&[(1, 0, 4)]), &[]),
            (W(i64::MAX), &[(1, 4, 200, 300, 1, OnTime)]),
        ],
    );
    let definition = Definition { time: Clock::Processing, ..sessions(10) };
    check(
        &definition,
        &[
            (R(&[(1, 7, 1)]), &[]),
            (Now(10), &[]),
            (R(&[(1, 7, 2)]), &[]),
            (Now(20), &[]),
            (Now(21), &[(1, 3, 0, 20, 1, OnTime)]),
        ],
    );
}

#[test]
fn the_global_window_fires_early_and_at_the_end() {
    let early = Trigger::Completion { early_interval_ms: None, early_rows: Some(2) };
    let definition = Definition { trigger: early, ..definition(Assigner::Global) };
    check(
        &definition,
        &[
            (R(&[(1, 5, 1), (1, 3, 2), (1, 9, 4)]), &[(1, 3, 0, 0, 1, Early)]),
            (W(1 << 60), &[]),
            (R(&[(1, 0, 8)]), &[(1, 15, 0, 0, 2, Early)]),
            (W(i64::MAX), &[(1, 15, 0, 0, 3, OnTime)]),
        ],
    );
}

/// The decision falls against the watermark before the row, however rows are cut into batches.
#[test]
fn a_row_behind_the_watermark_of_its_batch_is_late_for_what_that_has_passed() {
    let hopping = definition(Assigner::Fixed { size_ms: 20, slide_ms: 10, offset_ms: 0 });
    let rows = [(1, 5, 1), (1, 25, 2), (1, 12, 4), (1, 3, 8)];
    let watermarks = [i64::MIN, 4, 24, 24];
    for cut in 1..=4 {
        let mut driver = Driver::new(hopping.clone(), false);
        for (rows, watermarks) in rows.chunks(cut).zip(watermarks.chunks(cut)) {
            driver.batch(rows, Some(watermarks));
        }
        driver.advance(i64::MAX, 0);
        let mut fired: Vec<_> = driver.fired.iter().map(|f| (f.bounds.map(|b| b.start), f.sum)).collect();
        fired.sort_unstable();
        assert_eq!(fired, [(Some(-10), 1), (Some(0), 1), (Some(10), 6), (Some(20), 2)], "cut {cut}");
        assert_eq!((&driver.late, driver.partly_late), (&vec![(8, 5)], 1));
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let count = Assigner::Count { rows: 3 };
    for wrong in [
        tumbling(0),
        sessions(0),
        definition(Assigner::Fixed { size_ms: 5, slide_ms: 6, offset_ms: 0 }),
        definition(Assigner::Count { rows: 0 }),
        Definition { trigger: Trigger::Rows(0), ..tumbling(5) },
        Definition { trigger: Trigger::Rows(2), ..definition(count.clone()) },
        Definition { lateness_ms: 1, ..definition(count) },
        Definition { lateness_ms: 1, ..definition(Assigner::Global) },
        Definition { lateness_ms: 1, time: Clock::Processing, ..tumbling(5) },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
    assert_eq!(sessions(5).check(), Ok(()));
    let discarding = |assigner| Definition { mode: Mode::Discarding, ..definition(assigner) };
    let hopping = Assigner::Fixed { size_ms: 5, slide_ms: 3, offset_ms: 0 };
    for wrong in [discarding(Assigner::Session { gap_ms: 5 }), discarding(hopping)] {
        assert!(wrong.check_rows().is_err() && wrong.check().is_ok(), "{wrong:?}");
    }
}

/// There is one copy of a row, and a window that has passed must not find it.
#[test]
fn a_row_that_is_late_for_a_window_is_not_in_it() {
    let hopping = definition(Assigner::Fixed { size_ms: 20, slide_ms: 10, offset_ms: 0 });
    for keeps_rows in [true, false] {
        let mut driver = Driver::new(hopping.clone(), keeps_rows);
        driver.batch(&[(1, 5, 1), (1, 25, 2), (1, 12, 4)], Some(&[i64::MIN, 4, 24]));
        driver.advance(i64::MAX, 0);
        let fired = driver.fired.iter().map(|f| (f.bounds.map(|b| b.start), f.sum));
        let expected = [(Some(-10), 1), (Some(0), 1), (Some(10), 6), (Some(20), 2)];
        assert!(fired.eq(expected), "{:?}", driver.fired);
    }
}
