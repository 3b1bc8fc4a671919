use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, StringArray};

use super::*;
use crate::aggregation::Rows;
use crate::collections::Limit;
use crate::key::KEY_GROUPS;
use crate::schema::{Field, FieldType};
use crate::storage::{InMemory, Write};
use crate::ttl::Ttl;

mod chaos;

const ADDRESSES: Addresses = Addresses { operator: 7 };

/// `n` stays, `e` lives for ten milliseconds of event time, `p` for twenty of processing time; collections likewise.
fn layout() -> Arc<Layout> {
    let ttl = |after_ms, clock| Some(Ttl { after_ms, clock });
    let ttls = [None, ttl(10, Clock::Event), ttl(20, Clock::Processing)];
    let slots = [
        ValueSlot { field: Field::new("n", FieldType::Integer), ttl: ttls[0] },
        ValueSlot { field: Field::new("e", FieldType::Integer), ttl: ttls[1] },
        ValueSlot { field: Field::new("p", FieldType::Text), ttl: ttls[2] },
    ];
    Arc::new(Layout::new(1, &slots, &[], ttls.to_vec()).unwrap())
}

fn state() -> KeyedState {
    KeyedState::new(layout(), ADDRESSES, 0..KEY_GROUPS)
}

fn keys(list: &[&str]) -> Keys {
    let column: ArrayRef = Arc::new(StringArray::from(list.to_vec()));
    Keys::of(&[&column], list.len())
}

/// Rows of the keys with these times.
fn begin(state: &mut KeyedState, storage: &InMemory, list: &[(&str, i64)]) -> Numbered {
    let keys = keys(&list.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    let times: Vec<i64> = list.iter().map(|(_, time)| *time).collect();
    state.begin(&Rows { keys: &keys, times: Some(&times), watermarks: None }, 0, storage).unwrap()
}

type Values = (Option<i64>, Option<i64>, Option<String>);

fn values(numbered: &Numbered, key: usize) -> Values {
    let integer = |slot: usize| {
        let column = numbered.values[slot].as_primitive::<Int64Type>();
        column.is_valid(key).then(|| column.value(key))
    };
    let text = numbered.values[2].as_string::<i32>();
    (integer(0), integer(1), text.is_valid(key).then(|| text.value(key).to_owned()))
}

fn columns(rows: &[Values]) -> Vec<Option<ArrayRef>> {
    vec![
        Some(Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.0)))),
        Some(Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.1)))),
        Some(Arc::new(StringArray::from_iter(rows.iter().map(|r| r.2.clone())))),
    ]
}

fn some(n: i64) -> Values {
    (Some(n), Some(n), Some(n.to_string()))
}

const NONE: Values = (None, None, None);

fn set(state: &mut KeyedState, storage: &InMemory, row: (&str, i64), to: Values) {
    let numbered = begin(state, storage, &[row]);
    state.store(&numbered, columns(&[to]));
}

/// What a key has for a row at this time, whose use isn't noted.
fn get(state: &mut KeyedState, storage: &InMemory, row: (&str, i64)) -> Values {
    values(&begin(state, storage, &[row]), 0)
}

fn checkpoint(state: &mut KeyedState, storage: &InMemory) {
    state.freeze();
    while let Some(writes) = state.drain(3) {
        storage.write(writes).unwrap();
    }
}

fn restore(storage: &InMemory) -> KeyedState {
    KeyedState::restore(layout(), ADDRESSES, 0..KEY_GROUPS, storage).unwrap()
}

fn everything(storage: &InMemory) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (from, end) = ADDRESSES.all();
    storage.scan(&from, &end, usize::MAX).unwrap()
}

fn copy(storage: &InMemory) -> InMemory {
    let to = InMemory::default();
    let list = everything(storage).into_iter().map(|(a, v)| Write::Put(a, v)).collect();
    to.write(Writes { list }).unwrap();
    to
}

#[test]
fn keys_are_numbered_and_have_their_values() {
    let (mut state, storage) = (state(), InMemory::default());
    let first = begin(&mut state, &storage, &[("a", 1), ("b", 1), ("a", 2)]);
    assert_eq!((&first.key_of[..], first.until, first.keys.hashes().len()), (&[0, 1, 0][..], 3, 2));
    assert_eq!((values(&first, 0), values(&first, 1)), (NONE, NONE));
    state.store(&first, columns(&[some(1), (Some(2), None, None)]));
    let second = begin(&mut state, &storage, &[("c", 3), ("b", 3), ("a", 3)]);
    assert_eq!(values(&second, 0), NONE);
    assert_eq!(values(&second, 1), (Some(2), None, None));
    assert_eq!(values(&second, 2), some(1));
    // Only one slot changed: the others stay.
    let mut changed = vec![None, None, None];
    changed[0] = columns(&[NONE, some(7), some(8)]).swap_remove(0);
    state.store(&second, changed);
    assert_eq!(get(&mut state, &storage, ("a", 4)), (Some(8), Some(1), Some("1".into())));
    assert_eq!(get(&mut state, &storage, ("b", 4)), (Some(7), None, None));
}

#[test]
fn a_key_without_a_value_is_not_kept() {
    let (mut state, storage) = (state(), InMemory::default());
    set(&mut state, &storage, ("a", 1), some(1));
    set(&mut state, &storage, ("b", 1), some(2));
    checkpoint(&mut state, &storage);
    assert_eq!(everything(&storage).len(), 2);
    let both = begin(&mut state, &storage, &[("a", 2), ("b", 2)]);
    state.store(&both, columns(&[NONE, (None, Some(3), None)]));
    checkpoint(&mut state, &storage);
    assert_eq!(everything(&storage).len(), 1);
    let mut restored = restore(&storage);
    assert_eq!(get(&mut restored, &storage, ("a", 3)), NONE);
    assert_eq!(get(&mut restored, &storage, ("b", 3)), (None, Some(3), None));
}

#[test]
fn a_value_is_absent_when_its_key_was_not_used_for_so_long() {
    let (mut state, storage) = (state(), InMemory::default());
    state.advance(0, 1000);
    set(&mut state, &storage, ("a", 100), some(1));
    assert_eq!(get(&mut state, &storage, ("a", 109)), some(1));
    assert_eq!(get(&mut state, &storage, ("a", 110)), (Some(1), None, Some("1".into())));
    // A use prolongs it, one that comes out of order doesn't shorten it.
    for time in [109, 101] {
        let used = begin(&mut state, &storage, &[("a", time)]);
        state.store(&used, vec![None, None, None]);
    }
    assert_eq!(get(&mut state, &storage, ("a", 118)), some(1));
    assert_eq!(get(&mut state, &storage, ("a", 119)).1, None);
    state.advance(0, 1019);
    assert_eq!(get(&mut state, &storage, ("a", 118)), some(1));
    state.advance(0, 1020);
    assert_eq!(get(&mut state, &storage, ("a", 118)), (Some(1), Some(1), None));
    // What was absent at a use doesn't come back after it.
    let used = begin(&mut state, &storage, &[("a", 200)]);
    state.store(&used, vec![None, None, None]);
    assert_eq!(get(&mut state, &storage, ("a", 201)), (Some(1), None, None));
}

#[test]
fn a_row_behind_the_watermark_counts_as_of_the_watermark() {
    let (mut state, storage) = (state(), InMemory::default());
    set(&mut state, &storage, ("a", 100), some(1));
    let k = keys(&["a"]);
    let mut at = |watermark| {
        let rows = Rows { keys: &k, times: Some(&[50]), watermarks: Some(&[watermark]) };
        values(&state.begin(&rows, 0, &storage).unwrap(), 0).1
    };
    assert_eq!((at(109), at(110)), (Some(1), None));
    state.advance(110, 0);
    assert_eq!(get(&mut state, &storage, ("a", 50)).1, None);
}

#[test]
fn rows_that_something_expires_between_do_not_go_together() {
    let (mut state, storage) = (state(), InMemory::default());
    let cases: [(&[(&str, i64)], usize); 5] = [
        (&[("a", 0), ("a", 9), ("a", 18)], 3),
        (&[("a", 0), ("a", 10)], 1),
        (&[("a", 0), ("b", 30), ("a", 9), ("b", 39), ("a", 19), ("a", 20)], 4),
        (&[("a", 20), ("b", 0), ("a", 11), ("a", 0), ("b", 9), ("a", 29)], 6),
        (&[("a", 100), ("a", 0), ("a", 109), ("a", 110), ("a", 120)], 4),
    ];
    for (rows, expected) in cases {
        assert_eq!(begin(&mut state, &storage, rows).until, expected, "{rows:?}");
    }
    // Behind the watermark all is one time.
    state.advance(1000, 0);
    assert_eq!(begin(&mut state, &storage, &[("a", 0), ("a", 999)]).until, 2);
    // What remains is taken up where it stopped.
    let (k, times) = (keys(&["a", "b", "a"]), [2000, 2000, 2010]);
    let rows = Rows { keys: &k, times: Some(&times), watermarks: None };
    let first = state.begin(&rows, 0, &storage).unwrap();
    let rest = state.begin(&rows, first.until, &storage).unwrap();
    assert_eq!((first.until, rest.until, &rest.key_of[..]), (2, 3, &[0][..]));
    let one: Layout = Layout::new(1, &[], &[], vec![None]).unwrap();
    let mut everlasting = KeyedState::new(Arc::new(one), ADDRESSES, 0..KEY_GROUPS);
    assert_eq!(begin(&mut everlasting, &storage, &[("a", 0), ("a", 999)]).until, 2);
}

#[test]
fn a_timer_sees_its_key_as_of_its_own_time() {
    let (mut state, storage) = (state(), InMemory::default());
    let row = begin(&mut state, &storage, &[("a", 100), ("b", 100)]);
    state.store(&row, columns(&[some(1), some(1)]));
    state.set_timer(&row, 0, Clock::Event, "t", Some(109));
    state.set_timer(&row, 1, Clock::Event, "t", Some(110));
    state.set_timer(&row, 1, Clock::Event, "u", Some(110));
    state.set_timer(&row, 1, Clock::Event, "u", None);
    checkpoint(&mut state, &storage);
    // The end of all input: everything is due at once.
    state.advance(i64::MAX, 0);
    while state.expire(&storage, 1).unwrap() {}
    let firing = state.due(Clock::Event, 100);
    assert_eq!(firing.due.at, [109, 110]);
    let numbered = state.begin_firing(&firing, &storage).unwrap();
    assert_eq!((values(&numbered, 0).1, values(&numbered, 1).1), (Some(1), None));
    state.store(&numbered, vec![None, None, None]);
    assert!(state.due(Clock::Event, 100).due.is_empty());
}

#[test]
fn a_timer_of_processing_time_is_no_use_of_event_time() {
    let (mut state, storage) = (state(), InMemory::default());
    state.advance(95, 1000);
    let row = begin(&mut state, &storage, &[("a", 100)]);
    state.store(&row, columns(&[some(1)]));
    state.set_timer(&row, 0, Clock::Processing, "t", Some(1010));
    state.advance(105, 1010);
    let firing = state.due(Clock::Processing, 9);
    let numbered = state.begin_firing(&firing, &storage).unwrap();
    assert_eq!(values(&numbered, 0), some(1));
    state.store(&numbered, vec![None, None, None]);
    state.advance(105, 1029);
    assert_eq!(get(&mut state, &storage, ("a", 110)), (Some(1), None, Some("1".into())));
}

#[test]
fn timers_of_keys_with_rows_come_before_the_rows() {
    let (mut state, storage) = (state(), InMemory::default());
    let row = begin(&mut state, &storage, &[("a", 1), ("b", 1), ("c", 1)]);
    (0..3).for_each(|key| state.set_timer(&row, key, Clock::Event, "t", Some(10)));
    state.advance(50, 0);
    assert_eq!(state.due(Clock::Event, 1).due.at, [10]);
    let firing = state.due_of(Clock::Event, &keys(&["z", "c", "c"]), 0, 9);
    assert_eq!((firing.due.len(), firing.due.keys.key(0)), (1, keys(&["c"]).key(0)));
    assert!(state.due_of(Clock::Event, &keys(&["c", "b", "c"]), 2, 9).due.is_empty());
    assert_eq!((state.timers(), state.next_timer(Clock::Event)), (1, Some(10)));
}

#[test]
fn collections_are_read_and_written_by_number() {
    let (mut state, storage) = (state(), InMemory::default());
    let row = begin(&mut state, &storage, &[("a", 100), ("b", 105)]);
    state.write_entry(&row, 0, 0, b"x", Some(b"of a"));
    state.write_entry(&row, 1, 1, b"x", Some(b"of b"));
    let wanted: [(u8, u32, &[u8]); 4] = [(0, 0, b"x"), (0, 1, b"x"), (1, 1, b"x"), (1, 0, b"x")];
    let read = state.read_entries(&row, &wanted, &storage).unwrap();
    assert_eq!(read, [Some(b"of a".to_vec()), None, Some(b"of b".to_vec()), None]);
    checkpoint(&mut state, &storage);
    let mut state = restore(&storage);
    let limit = Limit { entries: 9, bytes: 1000 };
    let mut found = |time, collection, key| {
        let row = begin(&mut state, &storage, &[(key, time)]);
        state.range(&row, (collection, 0), (b"", None), limit, &storage).unwrap().entries.len()
    };
    assert_eq!((found(999, 0, "a"), found(114, 1, "b"), found(115, 1, "b")), (1, 1, 0));
}

/// Semantics 21: stored times count on the restored clock; a jump makes all absent, and is cleaned up in slices.
#[test]
fn a_jump_of_the_clock_while_down_neither_bursts_nor_resurrects() {
    let (mut state, storage) = (state(), InMemory::default());
    state.advance(0, 1000);
    let names: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    for name in &names {
        set(&mut state, &storage, (name, 100), (None, None, Some("v".into())));
    }
    set(&mut state, &storage, ("kept", 100), (None, Some(1), Some("v".into())));
    checkpoint(&mut state, &storage);
    let mut state = restore(&storage);
    state.advance(0, 1000 + 86_400_000);
    assert_eq!(get(&mut state, &storage, ("7", 101)), NONE);
    assert_eq!(get(&mut state, &storage, ("kept", 101)), (None, Some(1), None));
    let mut slices = 0;
    while state.expire(&storage, 10).unwrap() {
        slices += 1;
        state.freeze();
        let written: usize = std::iter::from_fn(|| state.drain(1000)).map(|w| w.list.len()).sum();
        assert!(written <= 10, "{written} written after one slice");
    }
    assert!((6..=10).contains(&slices), "{slices} slices");
    // A key that is used again stays.
    set(&mut state, &storage, ("8", 101), (None, None, Some("new".into())));
    for _ in 0..2 {
        while state.expire(&storage, 10).unwrap() {}
    }
    checkpoint(&mut state, &storage);
    let mut state = restore(&storage);
    state.advance(0, 1000 + 86_400_000);
    assert_eq!(get(&mut state, &storage, ("8", 101)), (None, None, Some("new".into())));
    assert_eq!(get(&mut state, &storage, ("kept", 101)), (None, Some(1), None));
}

#[test]
fn the_author_is_told_what_can_not_be_kept() {
    let slot = |name: &str, after_ms| ValueSlot {
        field: Field::new(name, FieldType::Integer),
        ttl: Some(Ttl { after_ms, clock: Clock::Event }),
    };
    let error = |slots: &[ValueSlot], older| Layout::new(1, slots, older, vec![]).unwrap_err();
    assert!(error(&[slot("a", 1), slot("a", 1)], &[]).contains("named a"));
    assert!(error(&[slot("@a", 1)], &[]).contains("@a"));
    assert!(error(&[slot("a", 0)], &[]).contains("0 ms"));
    let text =
        Layout::new(1, &[ValueSlot { field: Field::new("a", FieldType::Text), ttl: None }], &[], vec![]);
    assert!(error(&[slot("a", 1)], &[(0, text.unwrap().schema().clone())]).contains("a"));
}

/// A slot that gets a time to live later: what was stored before counts from its next use.
#[test]
fn rows_without_a_time_of_use_live_on() {
    let slot = |ttl| ValueSlot { field: Field::new("a", FieldType::Integer), ttl };
    let old = Arc::new(Layout::new(1, &[slot(None)], &[], vec![]).unwrap());
    let ttl = Some(Ttl { after_ms: 10, clock: Clock::Event });
    let new = Arc::new(Layout::new(2, &[slot(ttl)], &[(1, old.schema().clone())], vec![]).unwrap());
    let storage = InMemory::default();
    let mut state = KeyedState::new(old, ADDRESSES, 0..KEY_GROUPS);
    let row = begin(&mut state, &storage, &[("k", 0)]);
    state.store(&row, columns(&[some(1)]).drain(..1).collect());
    checkpoint(&mut state, &storage);
    let mut state = KeyedState::restore(new, ADDRESSES, 0..KEY_GROUPS, &storage).unwrap();
    for (time, expected) in [(1000, Some(1)), (1009, Some(1)), (1019, None)] {
        let row = begin(&mut state, &storage, &[("k", time)]);
        let column = row.values[0].as_primitive::<Int64Type>();
        assert_eq!(column.is_valid(0).then(|| column.value(0)), expected, "at {time}");
        state.store(&row, vec![None]);
    }
}
