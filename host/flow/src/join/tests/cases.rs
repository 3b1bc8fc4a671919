//! Cases with names, among them those of other engines' tests.

use super::*;

use Side::{Left, Right};

fn interval(lower_ms: i64, upper_ms: i64) -> On {
    On::Interval { lower_ms, upper_ms }
}

fn pairs_of_four(on: On, order: [Side; 2]) -> Vec<(i64, i64)> {
    let mut driver = Driver::new(Kind::Inner, on);
    // One side is ahead of the other by all its rows.
    for time in 1..=4 {
        driver.row(order[0], time, time);
    }
    for time in 1..=4 {
        driver.row(order[1], time, time);
        driver.watermark(time);
    }
    driver.take_pairs()
}

/// As `IntervalJoinOperatorTest` of Flink has them.
#[test]
fn rows_meet_as_far_apart_as_the_interval_says() {
    let check = |lower, upper, expected: &[(i64, i64)]| {
        for order in [[Left, Right], [Right, Left]] {
            assert_eq!(pairs_of_four(interval(lower, upper), order), expected, "{lower}..={upper}");
        }
    };
    let all = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (3, 4), (4, 3), (4, 4)];
    check(-1, 1, &all);
    // Exclusive bounds are one millisecond further in.
    check(-1 + 1, 1 - 1, &[(1, 1), (2, 2), (3, 3), (4, 4)]);
    check(-2, -1, &[(2, 1), (3, 1), (3, 2), (4, 2), (4, 3)]);
    check(-3 + 1, -1 - 1, &[(3, 1), (4, 2)]);
    check(1, 3 - 1, &[(1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]);
}

#[test]
fn rows_of_an_interval_join_are_kept_as_long_as_they_can_meet_one() {
    let mut driver = Driver::new(Kind::Inner, interval(-1, 0));
    for time in 1..=5 {
        driver.row(Left, time, time);
        driver.row(Right, time, time);
    }
    let kept = |driver: &Driver| (driver.kept(Left), driver.kept(Right));
    driver.watermark(1);
    assert_eq!(kept(&driver), (vec![2, 3, 4, 5], vec![1, 2, 3, 4, 5]));
    driver.watermark(4);
    assert_eq!(kept(&driver), (vec![5], vec![4, 5]));
    driver.watermark(6);
    assert_eq!(kept(&driver), (vec![], vec![]));
    assert_eq!(driver.join.bytes(), 0, "nothing is left of rows that were never written");
}

#[test]
fn an_interval_join_goes_on_where_it_was() {
    let mut driver = Driver::new(Kind::Inner, interval(-1, 1));
    for time in 1..=3 {
        driver.row(Left, time, time);
        driver.row(Right, time, time);
        driver.watermark(time);
    }
    driver.take_pairs();
    driver.restart();
    driver.row(Left, 4, 4);
    driver.row(Right, 4, 4);
    driver.watermark(4);
    assert_eq!(driver.take_pairs(), [(3, 4), (4, 3), (4, 4)]);
}

#[test]
fn a_row_is_late_when_it_would_not_be_kept() {
    let mut driver = Driver::new(Kind::Left, interval(-2, 3));
    driver.watermark(10);
    for time in [6, 7, 8] {
        driver.row(Left, time, time);
        driver.row(Right, 100 + time, time);
    }
    // Those on the left are kept for 3 beyond their time, those on the right for 2.
    assert_eq!(driver.told.late, [(6, 1), (106, 2), (7, 0), (107, 1), (108, 0)]);
    driver.watermark(11);
    assert_eq!(driver.take_pairs(), [(8, -1)]);
}

#[test]
fn rows_that_meet_none_are_told_once_and_are_not_late() {
    let mut driver = Driver::new(Kind::Full, interval(-2, 3));
    driver.row(Left, 1, 10);
    driver.row(Right, 2, 20);
    driver.row(Left, 3, 30);
    driver.row(Right, 4, 33);
    driver.watermark(12);
    assert_eq!((driver.take_pairs(), driver.announced), (vec![(3, 4)], 9));
    driver.watermark(13);
    assert_eq!((driver.take_pairs(), driver.announced), (vec![(1, -1)], 10));
    driver.watermark(i64::MAX);
    assert_eq!((driver.take_pairs(), driver.announced), (vec![(-1, 2)], i64::MAX));
    assert_eq!(driver.told.pairs, []);
}

/// As `KStreamKTableJoinTest` of Kafka has it.
#[test]
fn rows_wait_for_the_grace_and_late_ones_do_not() {
    let on = On::Table { grace_ms: 2, versions_ms: 10, delete_when: None };
    let mut driver = Driver::new(Kind::Inner, on);
    for time in 0..=3 {
        driver.row(Right, 100 + time, time);
    }
    driver.watermark(2);
    assert_eq!(driver.take_pairs(), []);
    for time in 0..=3 {
        driver.row(Left, time, time);
    }
    // The one at 0 has waited for as long as the watermark is there.
    assert_eq!(driver.take_pairs(), [(0, 100)]);
    driver.watermark(3);
    assert_eq!((driver.take_pairs(), driver.announced), (vec![(1, 101)], 1));
    driver.row(Left, 7, 0);
    assert_eq!(driver.take_pairs(), [(7, 100)]);
    driver.watermark(4);
    assert_eq!(driver.take_pairs(), [(2, 102)]);
    driver.watermark(i64::MAX);
    assert_eq!(driver.take_pairs(), [(3, 103)]);
}

#[test]
fn a_deletion_is_a_version() {
    let on = On::Table { grace_ms: 0, versions_ms: 5, delete_when: Some(1) };
    let mut driver = Driver::new(Kind::Left, on);
    let row = |name, time, deletes| Row { name, key: 1, time, deletes };
    driver.batch(Right, &[row(100, 0, false), row(101, 10, true), row(102, 20, false)], None);
    for time in [0, 9, 10, 19, 20, 30] {
        driver.row(Left, time, time);
    }
    driver.watermark(30);
    assert_eq!(driver.take_pairs(), [(0, 100), (9, 100), (10, -1), (19, -1), (20, 102), (30, 102)]);
    // What was valid at the edge is still known, whatever came before is not.
    driver.row(Left, 25, 25);
    driver.row(Left, 24, 24);
    driver.row(Right, 103, 25);
    driver.row(Right, 104, 26);
    driver.row(Left, 26, 26);
    assert_eq!(driver.take_pairs(), [(25, 102), (26, 104)]);
    assert_eq!(driver.told.late, [(24, 1), (103, 0)]);
    assert_eq!(driver.kept(Right).len(), 2);
}

#[test]
fn of_versions_at_one_time_the_last_counts() {
    let on = On::Table { grace_ms: 0, versions_ms: 0, delete_when: None };
    let mut driver = Driver::new(Kind::Inner, on);
    for name in [100, 101, 102] {
        driver.row(Right, name, 5);
    }
    driver.row(Left, 1, 5);
    driver.watermark(5);
    assert_eq!(driver.take_pairs(), [(1, 102)]);
    assert_eq!(driver.kept(Right).len(), 1);
}

#[test]
fn all_rows_of_a_window_meet_when_it_ends() {
    let on = On::Window(Windows::Hopping { size_ms: 10, slide_ms: 5, offset_ms: 0 });
    let mut driver = Driver::new(Kind::Full, on);
    driver.row(Left, 1, 3);
    driver.row(Right, 2, 7);
    driver.row(Left, 3, 17);
    driver.watermark(8);
    // [-5, 5) has ended.
    assert_eq!(driver.take_pairs(), [(1, -1)]);
    driver.watermark(9);
    assert_eq!(driver.take_pairs(), [(1, 2)]);
    driver.row(Left, 4, 9);
    assert!(driver.told.late.is_empty(), "one of its windows is open");
    driver.row(Left, 5, 4);
    assert_eq!(driver.told.late, [(5, 0)]);
    driver.watermark(i64::MAX);
    assert_eq!(driver.take_pairs(), [(3, -1), (3, -1), (4, 2)]);
    assert_eq!(driver.join.bytes() / 200, 0, "only the progress of a group is left");
}

#[test]
fn many_pairs_of_a_key_are_told_some_at_a_time_across_a_restart() {
    let on = On::Window(Windows::Tumbling { size_ms: 100, offset_ms: 0 });
    let mut driver = Driver::new(Kind::Full, on);
    for name in 0..7 {
        driver.row(Left, name, name);
    }
    for name in 0..11 {
        driver.row(Right, name, name);
    }
    driver.join.advance(99);
    while driver.step() {
        driver.restart();
        driver.join.advance(99);
    }
    let expected: Vec<(i64, i64)> = (0..7).flat_map(|left| (0..11).map(move |right| (left, right))).collect();
    assert_eq!(driver.take_pairs(), expected);
}

/// Times at either end of what a number holds overflow nothing.
#[test]
fn the_ends_of_time_are_times() {
    let extremes = [i64::MIN, i64::MIN + 1, 0, i64::MAX - 1, i64::MAX];
    for kind in [Kind::Left, Kind::Full] {
        for (lower, upper) in [(i64::MIN, i64::MAX), (-1, 1), (i64::MAX, i64::MAX), (i64::MIN, i64::MIN)] {
            let mut driver = Driver::new(kind, interval(lower, upper));
            for (name, time) in extremes.into_iter().enumerate() {
                driver.row(Left, name as i64, time);
                driver.row(Right, name as i64, time);
            }
            driver.watermark(0);
            driver.watermark(i64::MAX);
            let mut expected: Vec<(i64, i64)> = Vec::new();
            for (left, l) in (0i64..).zip(extremes) {
                for (right, r) in (0i64..).zip(extremes) {
                    let apart = i128::from(r) - i128::from(l);
                    if (i128::from(lower)..=i128::from(upper)).contains(&apart) {
                        expected.push((left, right));
                    }
                }
            }
            let lonely = |of: &dyn Fn(&(i64, i64)) -> i64| -> Vec<i64> {
                (0..5).filter(|name| !expected.iter().any(|pair| of(pair) == *name)).collect()
            };
            let (left, right) = (lonely(&|p| p.0), lonely(&|p| p.1));
            expected.extend(left.into_iter().map(|name| (name, -1)));
            if kind == Kind::Full {
                expected.extend(right.into_iter().map(|name| (-1, name)));
            }
            expected.sort_unstable();
            assert_eq!(driver.take_pairs(), expected, "{kind:?} {lower} {upper}");
        }
    }
    let on = On::Table { grace_ms: i64::MAX, versions_ms: i64::MAX, delete_when: None };
    let mut driver = Driver::new(Kind::Left, on);
    driver.row(Right, 1, i64::MIN);
    driver.row(Right, 2, i64::MAX);
    driver.row(Left, 1, 0);
    driver.row(Left, 2, i64::MAX);
    driver.watermark(i64::MAX - 1);
    assert_eq!(driver.take_pairs(), []);
    driver.watermark(i64::MAX);
    assert_eq!(driver.take_pairs(), [(1, 1), (2, 2)]);
}

#[test]
fn fields_of_kept_rows_may_come_and_go() {
    let field = |name: &str| Field::nullable(name, FieldType::Integer);
    let schema = |names: &[&str]| Schema::new(names.iter().map(|n| field(n)).collect()).unwrap();
    let before = Layout::new(0, [&schema(&["a", "b"]), &schema(&["c"])], &[]).unwrap();
    let older = [(0, before.schema().clone())];
    let after = Layout::new(1, [&schema(&["b", "x"]), &schema(&["d", "c"])], &older).unwrap();
    let one = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    let note = || -> ArrayRef { Arc::new(BooleanArray::from(vec![false])) };
    let written = |side: Side, fields: &[ArrayRef]| {
        let columns = before.with_notes(side, fields, [note(), note()]);
        before.codecs[side as usize].encode(&columns, 0)
    };
    let left = pairs::decode(&after, Left, &[&written(Left, &[one(1), one(2)])]).unwrap();
    assert_eq!((&left[0], left[1].is_null(0), left.len()), (&one(2), true, 3));
    let right = pairs::decode(&after, Right, &[&written(Right, &[one(3)])]).unwrap();
    assert_eq!((right[0].is_null(0), &right[1], right.len()), (true, &one(3), 4));
    let always = Schema::new(vec![Field::new("y", FieldType::Integer)]).unwrap();
    let refused = Layout::new(1, [&always, &schema(&["c"])], &older).unwrap_err();
    assert!(refused.contains("stored rows have no value for it"), "{refused}");
    let text = Schema::new(vec![Field::new("c", FieldType::Text)]).unwrap();
    let refused = Layout::new(1, [&schema(&["b"]), &text], &older).unwrap_err();
    assert!(refused.contains("no text can be made of integer"), "{refused}");
}
