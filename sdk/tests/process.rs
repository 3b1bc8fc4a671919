//! Whole batches and timers through process operators, natively.

use std::cell::RefCell;
use std::rc::Rc;

use tidemill_sdk::testing::{Came, Keyed, borrow, columns, emitted, rows};
use tidemill_sdk::{
    Batch, Collections, ColumnBuffer, DataType, FoundEntries, Output, ProcessOperator, prelude::*,
};

#[derive(Record, Debug, PartialEq)]
struct Number {
    n: i64,
}

/// Every kind of value that is kept of a key, and two collections.
#[derive(State, Default)]
struct Ledger {
    sum: Option<i64>,
    #[state(name = "text")]
    words: Option<String>,
    list: Option<Vec<i64>>,
    last: Option<Timestamp>,
    entries: Entries<i64, i64>,
    #[state(name = "by-text")]
    by_text: Entries<String, Vec<u8>>,
}

mod ledger {
    use super::*;

    /// Does all that can be done to a key, and only then refuses numbers below 0.
    #[derive(Default)]
    struct Keep;

    #[operator]
    impl Process for Keep {
        type Input<'a> = Number;
        type State = Ledger;
        type Output = Result<Vec<Number>, Reject>;

        fn process(&self, ledger: &mut Ledger, row: Number, timers: &mut Timers) -> Self::Output {
            let sum = ledger.sum.unwrap_or(0) + row.n;
            ledger.sum = Some(sum);
            ledger.words.get_or_insert_default().push('x');
            ledger.list.get_or_insert_default().push(row.n);
            ledger.last = Some(Timestamp(row.n));
            let before = ledger.entries.get(&(row.n % 10)).unwrap_or(0);
            ledger.entries.insert(row.n % 10, before + 1);
            ledger.entries.insert(100, sum);
            ledger.by_text.insert(row.n.to_string(), vec![1]);
            ledger.by_text.remove(&(row.n - 1).to_string());
            timers.set("later", Timestamp(row.n * 10));
            timers.set_on(Clock::Processing, row.n.to_string(), Timestamp(5));
            if row.n < 0 { Err("below zero".into()) } else { Ok(vec![Number { n: sum }]) }
        }

        fn on_timer(&self, ledger: &mut Ledger, timer: Timer<'_>, timers: &mut Timers) -> Self::Output {
            if timer.name == "later" && !timers.is_end() {
                timers.set("later", timer.at.plus_ms(1000));
            }
            Ok(vec![Number { n: ledger.sum.ok_or("nothing kept")? }])
        }
    }
}

fn of(key: &'static str, n: i64) -> (&'static str, Number) {
    (key, Number { n })
}

fn kept(operator: Result<Box<dyn ProcessOperator>, String>) -> Keyed<&'static str> {
    Keyed::new(&ledger::describe(), operator.expect("it has no settings"))
}

/// The values of a ledger, as a row.
#[derive(Record, Debug, PartialEq)]
struct Values {
    sum: Option<i64>,
    text: Option<String>,
    list: Option<Vec<i64>>,
    last: Option<Timestamp>,
}

#[test]
fn a_description_has_the_values_and_the_collections() {
    let about = ledger::describe();
    let fields: Vec<_> = about.state.iter().map(|f| (f.name, f.data_type, f.nullable)).collect();
    let expected = [
        ("sum", DataType::Integer, true),
        ("text", DataType::Text, true),
        ("list", DataType::Bytes, true),
        ("last", DataType::Timestamp, true),
    ];
    assert_eq!(fields, expected);
    let collections: Vec<_> = about.collections.iter().map(|c| (c.name, c.entry, c.value)).collect();
    let expected =
        [("entries", DataType::Integer, DataType::Integer), ("by-text", DataType::Text, DataType::Bytes)];
    assert_eq!(collections, expected);
    assert!(matches!(about.output, Output::Replaced([field]) if field.name == "n"));
}

#[test]
fn keys_keep_what_is_theirs_over_batches() {
    let mut keyed = kept(ledger::open(&[]));
    let came = keyed.process([of("a", 1), of("b", 10), of("a", 2)]).unwrap();
    assert_eq!(came.rows, [of("a", 1), of("b", 10), of("a", 3)]);
    assert_eq!(keyed.process([of("b", 5), of("c", 7)]).unwrap().rows, [of("b", 15), of("c", 7)]);
    let values =
        Values { sum: Some(15), text: Some("xx".into()), list: Some(vec![10, 5]), last: Some(Timestamp(5)) };
    assert_eq!(keyed.values::<Values>(&"b").unwrap(), Some(values));
    assert_eq!(keyed.values::<Values>(&"z").unwrap(), None);
    assert_eq!(keyed.entries::<i64, i64>(&"a", "entries"), [(1, 1), (2, 1), (100, 3)]);
    assert_eq!(keyed.entries::<String, Vec<u8>>(&"a", "by-text"), [("2".to_owned(), vec![1])]);
}

#[test]
fn a_refused_row_leaves_no_trace() {
    let mut spoiled = kept(ledger::open(&[]));
    let came = spoiled.process([of("a", 1), of("a", -1), of("b", -7), of("a", 2), of("a", -100)]).unwrap();
    assert_eq!(came.rows, [of("a", 1), of("a", 3)]);
    let reason = || "below zero".to_owned();
    assert_eq!(came.rejected, [("a", reason()), ("b", reason()), ("a", reason())]);

    let mut clean = kept(ledger::open(&[]));
    clean.process::<_, Number>([of("a", 1), of("a", 2)]).unwrap();
    assert_eq!(spoiled.values::<Values>(&"a"), clean.values(&"a"));
    assert_eq!(spoiled.values(&"b").unwrap(), Some(Values { sum: None, text: None, list: None, last: None }));
    for clock in [Clock::Event, Clock::Processing] {
        assert_eq!(spoiled.timers(&"a", clock), clean.timers(&"a", clock));
        assert_eq!(spoiled.timers(&"b", clock), []);
    }
    let entries = |keyed: &Keyed<_>| {
        (keyed.entries::<i64, i64>(&"a", "entries"), keyed.entries::<String, Vec<u8>>(&"a", "by-text"))
    };
    assert_eq!(entries(&spoiled), entries(&clean));
    assert_eq!(spoiled.entries::<i64, i64>(&"b", "entries"), []);
}

#[test]
fn timers_fire_in_order_on_their_own_clock_and_may_set_the_next() {
    let mut keyed = kept(ledger::open(&[]));
    keyed.process::<_, Number>([of("a", 300), of("b", 100), of("b", 200)]).unwrap();
    assert_eq!(keyed.timers(&"b", Clock::Event), [("later", Timestamp(2000))], "set again: moved");
    assert_eq!(keyed.timers(&"b", Clock::Processing), [("100", Timestamp(5)), ("200", Timestamp(5))]);
    let fired = |came: Came<&'static str, Number>| came.rows;
    assert_eq!(fired(keyed.advance_watermark(Timestamp(1999)).unwrap()), []);
    assert_eq!(
        fired(keyed.advance_watermark(Timestamp(3500)).unwrap()),
        [of("b", 300), of("a", 300), of("b", 300)]
    );
    assert_eq!(fired(keyed.advance_clock(Timestamp(5)).unwrap()), [of("a", 300), of("b", 300), of("b", 300)]);
    assert_eq!(fired(keyed.advance_clock(Timestamp(6)).unwrap()), []);
    assert_eq!(
        keyed.advance_watermark::<Number>(Timestamp(i64::MAX)).unwrap().rows.len(),
        2,
        "and no next one"
    );
}

/// Two timers of a key that disturb each other.
mod rivals {
    use super::*;

    #[derive(Default)]
    struct Rivals;

    #[operator]
    impl Process for Rivals {
        type Input<'a> = Number;
        type State = ();
        type Output = Option<Number>;

        fn process(&self, (): &mut (), row: Number, timers: &mut Timers) -> Option<Number> {
            timers.set("cancels", Timestamp(row.n));
            timers.set("cancelled", Timestamp(row.n + 1));
            timers.set("moved", Timestamp(row.n + 1));
            None
        }

        fn on_timer(&self, (): &mut (), timer: Timer<'_>, timers: &mut Timers) -> Option<Number> {
            if timer.name == "cancels" {
                timers.cancel("cancelled");
                timers.set("moved", Timestamp(99));
            }
            Some(Number { n: timer.at.0 })
        }
    }
}

#[derive(Record)]
struct Due<'a> {
    at: Timestamp,
    name: &'a str,
    processing_time: bool,
}

#[test]
fn a_due_timer_that_an_earlier_one_has_moved_or_cancelled_does_not_fire() {
    let due = |key: u32, name, at| (key, Due { at: Timestamp(at), name, processing_time: false });
    let all = [
        due(0, "cancels", 1),
        due(1, "cancelled", 1),
        due(0, "cancelled", 2),
        due(0, "moved", 2),
        due(1, "moved", 2),
        due(1, "cancels", 3),
    ];
    let key_of: Vec<u8> = all.iter().flat_map(|(key, _)| key.to_le_bytes()).collect();
    let timers = columns(all.map(|(_, due)| due));
    let timers = borrow(&timers);
    let input = tidemill_sdk::Keyed {
        keys: 2,
        key_of: &key_of,
        values: &[],
        rows: Batch { rows: 6, columns: &timers },
        watermark: 3,
        processing_time: 0,
    };
    let processed = rivals::open(&[]).unwrap().on_timer(input, Rc::<Counting>::default()).unwrap();
    let origins: Vec<_> = [0_u32, 1, 4, 5].into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(processed.emission.origins, Some(origins));
    assert_eq!(processed.timers.rows, 4, "of each of the two keys, one cancelled and one moved");
}

// --- what crosses the border
// ------------------------------------------------------------------------------------

/// Collections without entries that count the calls.
#[derive(Default)]
struct Counting {
    /// What was called, of which collection, for how many entries.
    calls: RefCell<Vec<(&'static str, u8, usize)>>,
}

impl Collections for Counting {
    fn read(&self, collection: u8, keys: &[u8], _: ColumnBuffer) -> ColumnBuffer {
        let rows = keys.len() / 4;
        self.calls.borrow_mut().push(("read", collection, rows));
        ColumnBuffer {
            validity: Some(vec![0; rows.div_ceil(8)]),
            offsets: Some(vec![0; 4 * (rows + 1)]),
            data: Vec::new(),
        }
    }

    fn write(&self, collection: u8, keys: &[u8], _: ColumnBuffer, _: ColumnBuffer) {
        self.calls.borrow_mut().push(("write", collection, keys.len() / 4));
    }

    fn range(&self, collection: u8, _: u32, _: Option<&[u8]>, _: Option<&[u8]>, _: u32) -> FoundEntries {
        self.calls.borrow_mut().push(("range", collection, 0));
        FoundEntries { count: 0, entries: columns_of_nothing(), values: columns_of_nothing() }
    }
}

fn columns_of_nothing() -> ColumnBuffer {
    ColumnBuffer { validity: None, offsets: Some(vec![0; 4]), data: Vec::new() }
}

fn run(
    key_of: &[u32],
    keys: usize,
    numbers: &[i64],
) -> (Result<tidemill_sdk::Processed, String>, Rc<Counting>) {
    let empty = Values { sum: None, text: None, list: None, last: None };
    let values = columns(
        std::iter::repeat_with(|| Values { text: None, list: None, ..empty }).take(keys).collect::<Vec<_>>(),
    );
    let input = columns(numbers.iter().map(|n| Number { n: *n }));
    let (values, input) = (borrow(&values), borrow(&input));
    let key_of: Vec<u8> = key_of.iter().flat_map(|key| key.to_le_bytes()).collect();
    let rows = Batch { rows: numbers.len(), columns: &input };
    let input = tidemill_sdk::Keyed {
        keys,
        key_of: &key_of,
        values: &values,
        rows,
        watermark: 0,
        processing_time: 0,
    };
    let calls = Rc::<Counting>::default();
    let operator = ledger::open(&[]).expect("it has no settings");
    (operator.process(input, calls.clone()), calls)
}

#[test]
fn a_batch_asks_for_an_entry_once_and_writes_once() {
    let (processed, calls) = run(&[0, 1, 0, 0], 2, &[4, 4, 4, 14]);
    let processed = processed.unwrap();
    // Two keys, each with the entries 4 and 100; of the other, "4" and "3", and of the first key "14" and "13" too.
    let expected = [("read", 0, 1), ("read", 0, 1), ("write", 0, 4), ("write", 1, 6)];
    assert_eq!(*calls.calls.borrow(), expected);
    assert_eq!(emitted::<Number>(&processed.emission).unwrap().len(), 4);
    let sums = processed.values[0].as_ref().map(std::slice::from_ref).unwrap();
    #[derive(Record, Debug, PartialEq)]
    struct Sum {
        sum: Option<i64>,
    }
    assert_eq!(rows::<Sum>(sums, 2).unwrap(), [Sum { sum: Some(22) }, Sum { sum: Some(4) }]);
    // Each row set one timer on each clock: of the same name, the last one counts.
    assert_eq!(processed.timers.rows, 2 + 3);
}

#[test]
fn what_did_not_change_does_not_go_back() {
    let (processed, calls) = run(&[0, 0], 1, &[-1, -2]);
    let processed = processed.unwrap();
    assert_eq!(processed.values, [None, None, None, None]);
    assert_eq!((processed.timers.rows, processed.emission.rejected.len()), (0, 2));
    let writes = calls.calls.borrow().iter().filter(|call| call.0 == "write").count();
    assert_eq!(writes, 0);
}

#[test]
fn a_call_that_does_not_fit_is_an_error() {
    let error = |key_of: &[u32], keys| run(key_of, keys, &[1, 2]).0.unwrap_err();
    assert_eq!(error(&[0, 2], 2), "`key-of` names 2, but there are 2");
    assert_eq!(error(&[0], 2), "`key-of` has 4 bytes for 2 rows");
}

// --- collections
// ------------------------------------------------------------------------------------------------

mod ranges {
    use super::*;

    #[derive(State)]
    pub(super) struct Sorted {
        sorted: Entries<i64, i64>,
    }

    /// Adds a number to a collection, or removes what is below it, and answers with its first five.
    #[derive(Default)]
    struct Five;

    #[operator]
    impl Process for Five {
        type Input<'a> = Number;
        type State = Sorted;
        type Output = Vec<Number>;

        fn process(&self, Sorted { sorted }: &mut Sorted, row: Number, _: &mut Timers) -> Vec<Number> {
            if row.n % 1000 == 0 {
                for (entry, _) in sorted.range(..row.n, usize::MAX / 2) {
                    sorted.remove(&entry);
                }
            } else {
                sorted.insert(row.n, -row.n);
            }
            sorted.range(.., 5).into_iter().map(|(n, _)| Number { n }).collect()
        }
    }
}

#[test]
fn a_range_is_of_what_the_host_has_and_of_what_this_batch_has_changed() {
    let mut keyed = Keyed::new(&ranges::describe(), ranges::open(&[]).unwrap());
    let mut first = |numbers: &[i64]| {
        let came = keyed.process::<_, Number>(numbers.iter().map(|n| ("k", Number { n: *n }))).unwrap();
        came.rows.into_iter().map(|(_, number)| number.n).collect::<Vec<_>>()
    };
    assert_eq!(first(&[3, -1]), [3, -1, 3]);
    assert_eq!(first(&[2, 7]), [-1, 2, 3, -1, 2, 3, 7]);
    assert_eq!(first(&[5, 6, 4]), [[-1, 2, 3, 5, 7], [-1, 2, 3, 5, 6], [-1, 2, 3, 4, 5]].concat());
    let many: Vec<_> = (0..10_000).filter(|n| n % 1000 != 0).map(|n| n + 10_000).collect();
    first(&many);
    assert_eq!(first(&[10_000]), [10_001, 10_002, 10_003, 10_004, 10_005], "all below are removed");
    assert_eq!(
        first(&[19_000, 18_999]),
        [19_001, 19_002, 19_003, 19_004, 19_005, 18_999, 19_001, 19_002, 19_003, 19_004]
    );
}
