//! The peers' generator is the judge: its lines, and what its documentation promises about the keys.

use std::collections::HashMap;
use std::fmt::Write as _;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};

use super::*;

fn all_fields() -> Vec<&'static str> {
    COLUMNS.iter().map(|(_, name, _)| *name).collect()
}

fn rows(options: &Options, partition: u32, demanded: &[&str]) -> Vec<Generated> {
    let mut source = Partition::new(options, partition, demanded);
    std::iter::from_fn(|| source.next(1000)).collect()
}

/// Each row as the peers' generator writes its event: the fields that are not null, in the order of its lines.
fn lines(batches: &[Generated]) -> String {
    #[rustfmt::skip]
    const ORDER: [&str; 21] = [
        "event_type", "auction", "bidder", "price", "channel", "url", "id", "name", "emailAddress",
        "creditCard", "city", "state", "itemName", "description", "initialBid", "reserve", "dateTime",
        "expires", "seller", "category", "extra",
    ];
    let columns = ORDER.map(|name| all_fields().iter().position(|n| *n == name).expect("a field"));
    let mut out = String::new();
    for batch in batches {
        for row in 0..batch.rows {
            let mut separator = '{';
            for column in columns {
                let (array, name) = (&batch.columns[column], COLUMNS[column].1);
                if array.is_null(row) {
                    continue;
                }
                write!(out, "{separator}\"{name}\":").expect("a string");
                separator = ',';
                match COLUMNS[column].2 {
                    FieldType::Text => write!(out, "\"{}\"", array.as_string::<i32>().value(row)),
                    FieldType::Timestamp => {
                        write!(out, "{}", array.as_primitive::<TimestampMillisecondType>().value(row))
                    }
                    _ => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
                }
                .expect("a string");
            }
            out.push_str("}\n");
        }
    }
    out
}

fn integer(batch: &Generated, column: usize, row: usize) -> Option<i64> {
    let column = batch.columns[column].as_primitive::<Int64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn check_first_lines(options: &Options, partition: u32, expected: &str) {
    let generated = lines(&rows(options, partition, &all_fields()));
    for (at, (found, expected)) in generated.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {at} of partition {partition}");
    }
    assert!(generated.lines().count() >= expected.lines().count());
}

/// 5,000 events with events of every age under way.
fn shuffled() -> Options {
    Options {
        events: Some(5000),
        events_per_second: 1000,
        out_of_orderness_ms: 4000,
        partitions: 2,
        ..Options::default()
    }
}

fn in_order() -> Options {
    Options { events: Some(5000), ..Options::default() }
}

#[test]
fn events_in_order_equal_the_peers() {
    check_first_lines(&in_order(), 0, include_str!("fixtures/in-order.ndjson"));
}

#[test]
fn shuffled_partitions_equal_the_peers() {
    check_first_lines(&shuffled(), 0, include_str!("fixtures/shuffled-0.ndjson"));
    check_first_lines(&shuffled(), 1, include_str!("fixtures/shuffled-1.ndjson"));
}

#[test]
fn every_event_is_in_one_partition() {
    for (partitions, out_of_orderness_ms) in [(1, 0), (2, 0), (3, 0), (4, 700), (7, 5000)] {
        let options = Options { partitions, out_of_orderness_ms, ..shuffled() };
        let parts = (0..partitions).flat_map(|p| rows(&options, p, &[]));
        let mut numbers: Vec<_> = parts.flat_map(|batch| batch.positions).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..5000), "{partitions} partitions");
    }
}

#[test]
fn shuffled_events_come_out_by_arrival() {
    for (events_per_second, out_of_orderness_ms) in [(1000, 4000), (1000, 20), (50_000, 5)] {
        let options = Options { events_per_second, out_of_orderness_ms, ..shuffled() };
        let clock = Clock::new(options.seed, events_per_second, out_of_orderness_ms);
        let numbers = rows(&options, 0, &[]).into_iter().flat_map(|batch| batch.positions);
        let arrivals: Vec<_> = numbers.map(|number| (clock.arrival(number), number)).collect();
        assert!(arrivals.is_sorted(), "{out_of_orderness_ms} ms");
    }
}

#[test]
fn no_event_is_later_than_the_out_of_orderness() {
    let mut newest = i64::MIN;
    let mut largest_delay = 0;
    for time in rows(&shuffled(), 0, &[]).iter().flat_map(|batch| &batch.times) {
        newest = newest.max(*time);
        largest_delay = largest_delay.max(newest - time);
    }
    assert!((3000..=4000).contains(&largest_delay), "{largest_delay} ms");
}

#[test]
fn seek_continues_behind_any_event() {
    for options in [in_order(), Options { partitions: 3, ..in_order() }, shuffled()] {
        let whole: Vec<_> = rows(&options, 0, &[]).into_iter().flat_map(|batch| batch.positions).collect();
        for at in [0, 1, 17, whole.len() / 2, whole.len() - 2, whole.len() - 1] {
            let mut source = Partition::new(&options, 0, &[]);
            source.next(123);
            source.seek(whole[at]);
            let rest = source.next(whole.len()).map_or(Vec::new(), |batch| batch.positions);
            assert_eq!(rest, whole[at + 1..], "behind row {at}");
        }
    }
}

#[test]
fn a_demand_of_few_fields_gives_the_same_columns() {
    let all = rows(&shuffled(), 1, &all_fields());
    let few = rows(&shuffled(), 1, &["price", "event_type", "dateTime", "expires", "channel", "price"]);
    let at = [3, 0, 6, 18, 4, 3];
    assert_eq!(all.len(), few.len());
    for (all, few) in all.iter().zip(&few) {
        assert_eq!(few.columns, at.map(|column| all.columns[column].clone()));
        assert_eq!((&few.times, &few.positions, few.rows), (&all.times, &all.positions, all.rows));
    }
}

#[test]
fn columns_fit_the_schema() {
    let schema = schema();
    assert_eq!(schema.len(), COLUMNS.len());
    for batch in rows(&in_order(), 0, &all_fields()) {
        for (field, column) in schema.fields().iter().zip(&batch.columns) {
            assert_eq!(*column.data_type(), field.field_type.arrow(), "{field}");
            assert_eq!(column.null_count() > 0, field.nullable, "{field}");
            assert_eq!(column.len(), batch.rows, "{field}");
        }
        assert_eq!(*batch.columns[6].as_primitive::<TimestampMillisecondType>().values(), batch.times[..]);
    }
}

#[test]
fn another_seed_gives_other_events() {
    let other = Options { seed: 43, ..in_order() };
    let text = |options: &Options| lines(&rows(options, 0, &all_fields()));
    assert_eq!(text(&in_order()), text(&in_order()));
    assert_ne!(text(&in_order()), text(&other));
}

#[test]
fn an_endless_source_does_not_end() {
    let mut source = Partition::new(&Options::default(), 0, &["auction"]);
    source.seek(1_000_000_000_000);
    assert_eq!(source.next(10).expect("more").positions[0], 1_000_000_000_001);
}

/// The share of the most frequent value of each hot batch, over all rows that have the field.
fn hot_share(batches: &[Generated], column: usize, hot: i64) -> f64 {
    let keys = batches.iter().flat_map(|b| (0..b.rows).filter_map(move |row| integer(b, column, row)));
    let (mut all, mut hits) = (0, 0);
    for key in keys {
        all += 1;
        hits += u32::from(key % 100 == hot);
    }
    f64::from(hits) / f64::from(all)
}

#[test]
fn shares_are_those_of_nexmark() {
    let options = Options { events: Some(100_000), ..Options::default() };
    let batches = rows(&options, 0, &["event_type", "auction", "bidder", "seller"]);
    let mut kinds: HashMap<&str, u32> = HashMap::new();
    for batch in &batches {
        let column = batch.columns[0].as_string::<i32>();
        column.iter().flatten().for_each(|kind| *kinds.entry(kind).or_default() += 1);
    }
    assert_eq!(kinds, HashMap::from([("person", 2000), ("auction", 6000), ("bid", 92_000)]));

    // Cold keys meet the hot one too: about one in a hundred of them.
    for (column, hot, share) in [(1, 0, 0.5), (2, 1, 0.75), (3, 0, 0.75)] {
        let found = hot_share(&batches, column, hot);
        assert!((found - share - (1.0 - share) * 0.01).abs() < 0.02, "column {column}: {found}");
    }
}
