use std::collections::BTreeMap;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::key::KEY_GROUPS;
use crate::storage::InMemory;
use Clock::{Event, Processing};

const ADDRESSES: Addresses = Addresses { operator: 7 };

fn set(timers: &mut Timers, clock: Clock, key: &str, name: &str, at: i64) {
    timers.set(clock, xxh3_64(key.as_bytes()), key.as_bytes(), name, at);
}

fn cancel(timers: &mut Timers, clock: Clock, key: &str, name: &str) {
    timers.cancel(clock, xxh3_64(key.as_bytes()), key.as_bytes(), name);
}

type Fired = (i64, Vec<u8>, String);

fn fired(due: &Due) -> Vec<Fired> {
    let key = |row| due.keys.key(row).to_vec();
    (0..due.len()).map(|row| (due.at[row], key(row), due.names.value(row).to_owned())).collect()
}

fn all_due(timers: &mut Timers, clock: Clock, now: i64) -> Vec<Fired> {
    let mut all = Vec::new();
    loop {
        let due = timers.due(clock, now, 3);
        if due.is_empty() {
            return all;
        }
        all.extend(fired(&due));
    }
}

fn of(list: &[(i64, &str, &str)]) -> Vec<Fired> {
    list.iter().map(|(at, key, name)| (*at, key.as_bytes().to_vec(), name.to_string())).collect()
}

fn drain_all(timers: &mut Timers, storage: &InMemory) {
    while let Some(writes) = timers.drain(5) {
        storage.write(writes).unwrap();
    }
}

fn copy(storage: &InMemory) -> InMemory {
    let (from, end) = ADDRESSES.all();
    let list = storage.scan(&from, &end, usize::MAX).unwrap();
    let to = InMemory::default();
    to.write(Writes { list: list.into_iter().map(|(a, v)| crate::storage::Write::Put(a, v)).collect() })
        .unwrap();
    to
}

/// Semantics 26, after Flink's `InternalTimerServiceImplTest`.
#[test]
fn each_key_and_name_fires_once_at_its_time() {
    for clock in Clock::ALL {
        let mut timers = Timers::new(ADDRESSES);
        let four = [("k1", "a"), ("k1", "b"), ("k2", "a"), ("k2", "b")];
        four.iter().for_each(|(key, name)| set(&mut timers, clock, key, name, 10));
        four.iter().for_each(|(key, name)| set(&mut timers, clock, key, name, 10));
        assert_eq!((timers.len(), timers.next(clock)), (4, Some(10)));
        assert_eq!(all_due(&mut timers, clock, 9), of(&[]));
        let expected = of(&[(10, "k1", "a"), (10, "k1", "b"), (10, "k2", "a"), (10, "k2", "b")]);
        assert_eq!(all_due(&mut timers, clock, 10), expected);
        assert_eq!((timers.len(), timers.next(clock)), (0, None));
        assert_eq!(all_due(&mut timers, clock, i64::MAX), of(&[]));
    }
}

#[test]
fn what_is_cancelled_does_not_fire() {
    for clock in Clock::ALL {
        let mut timers = Timers::new(ADDRESSES);
        for (key, name) in [("k1", "a"), ("k1", "b"), ("k2", "a"), ("k2", "b")] {
            set(&mut timers, clock, key, name, 10);
        }
        cancel(&mut timers, clock, "k1", "b");
        cancel(&mut timers, clock, "k2", "a");
        cancel(&mut timers, clock, "k3", "a");
        assert_eq!(all_due(&mut timers, clock, 10), of(&[(10, "k1", "a"), (10, "k2", "b")]));
    }
}

#[test]
fn a_timer_set_in_a_firing_fires_in_its_turn() {
    for clock in Clock::ALL {
        let mut timers = Timers::new(ADDRESSES);
        set(&mut timers, clock, "k", "t", 10);
        for at in [10, 20, 30] {
            assert_eq!(timers.len(), 1);
            assert_eq!(fired(&timers.due(clock, at, 100)), of(&[(at, "k", "t")]));
            set(&mut timers, clock, "k", "t", at + 10);
        }
        // Far behind the time: each is due at once, and each call still returns.
        for at in [40, 50, 60] {
            assert_eq!(fired(&timers.due(clock, 1000, 100)), of(&[(at, "k", "t")]));
            set(&mut timers, clock, "k", "t", at + 10);
        }
    }
}

#[test]
fn a_firing_decides_over_the_later_timers_of_its_key() {
    let mut timers = Timers::new(ADDRESSES);
    set(&mut timers, Event, "a", "first", 10);
    set(&mut timers, Event, "a", "moved", 11);
    set(&mut timers, Event, "a", "cancelled", 10);
    set(&mut timers, Event, "b", "other", 10);
    // In the order of keys: "cancelled" of a comes first, and "first" waits until it was fired.
    assert_eq!(fired(&timers.due(Event, 50, 100)), of(&[(10, "a", "cancelled")]));
    assert_eq!(fired(&timers.due(Event, 50, 100)), of(&[(10, "a", "first"), (10, "b", "other")]));
    set(&mut timers, Event, "a", "moved", 60);
    assert_eq!(fired(&timers.due(Event, 50, 100)), of(&[]));
    assert_eq!(fired(&timers.due(Event, 60, 100)), of(&[(60, "a", "moved")]));
}

#[test]
fn a_time_that_has_passed_is_due_and_clocks_are_apart() {
    let mut timers = Timers::new(ADDRESSES);
    set(&mut timers, Event, "k", "t", i64::MIN);
    set(&mut timers, Processing, "k", "t", 5);
    assert_eq!(timers.get(Processing, xxh3_64(b"k"), b"k", "t"), Some(5));
    assert_eq!(fired(&timers.due(Event, 100, 9)), of(&[(i64::MIN, "k", "t")]));
    assert_eq!((timers.next(Event), timers.next(Processing)), (None, Some(5)));
}

#[test]
fn timers_of_some_keys_fire_before_the_others() {
    let mut timers = Timers::new(ADDRESSES);
    for key in ["a", "b", "c"] {
        set(&mut timers, Event, key, "1", 10);
        set(&mut timers, Event, key, "2", 12);
        set(&mut timers, Event, key, "3", 20);
        set(&mut timers, Processing, key, "0", 0);
    }
    let keys = [b"c".as_slice(), b"x", b"b", b"c"];
    let mut of_keys =
        |now, max| fired(&timers.due_of(Event, now, keys.iter().map(|key| (xxh3_64(key), *key)), max));
    assert_eq!(of_keys(9, 9), of(&[]));
    assert_eq!(of_keys(15, 9), of(&[(10, "b", "1"), (10, "c", "1")]));
    assert_eq!(of_keys(15, 1), of(&[(12, "b", "2")]));
    assert_eq!(of_keys(15, 9), of(&[(12, "c", "2")]));
    assert_eq!(of_keys(15, 9), of(&[]));
    assert_eq!(all_due(&mut timers, Event, 15), of(&[(10, "a", "1"), (12, "a", "2")]));
}

/// Semantics 19: what passed while nobody was there fires once afterwards.
#[test]
fn restored_timers_fire_once() {
    let storage = InMemory::default();
    let mut timers = Timers::new(ADDRESSES);
    set(&mut timers, Processing, "k", "past", 10);
    set(&mut timers, Processing, "k", "future", 1000);
    timers.freeze();
    drain_all(&mut timers, &storage);
    let mut restored = Timers::restore(ADDRESSES, &storage, 0..KEY_GROUPS).unwrap();
    assert_eq!(all_due(&mut restored, Processing, 500), of(&[(10, "k", "past")]));
    assert_eq!(restored.next(Processing), Some(1000));
    restored.freeze();
    drain_all(&mut restored, &storage);
    let mut again = Timers::restore(ADDRESSES, &storage, 0..KEY_GROUPS).unwrap();
    assert_eq!(all_due(&mut again, Processing, 5000), of(&[(1000, "k", "future")]));
}

#[test]
fn tasks_take_the_timers_of_their_key_groups() {
    let storage = InMemory::default();
    let mut timers = Timers::new(ADDRESSES);
    let keys: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    keys.iter().for_each(|key| set(&mut timers, Event, key, "t", 1));
    timers.freeze();
    drain_all(&mut timers, &storage);
    let mut seen = Vec::new();
    for task in 0..3 {
        let groups = crate::key::owned(task, 3);
        let mut part = Timers::restore(ADDRESSES, &storage, groups.clone()).unwrap();
        let fired = all_due(&mut part, Event, 1);
        assert!(fired.iter().all(|(_, key, _)| groups.contains(&crate::key::key_group(xxh3_64(key)))));
        seen.extend(fired);
    }
    seen.sort();
    assert_eq!(seen, all_due(&mut timers, Event, 1));
}

#[test]
fn timers_that_come_and_go_between_checkpoints_leave_no_trace() {
    let mut timers = Timers::new(ADDRESSES);
    for n in 0..1000 {
        set(&mut timers, Event, &n.to_string(), "t", n);
        timers.due(Event, n, 10);
    }
    timers.freeze();
    let writes: usize = std::iter::from_fn(|| timers.drain(100)).map(|writes| writes.list.len()).sum();
    assert_eq!(writes, 0);
    assert!(timers.bytes() < 1000, "{} bytes for no timers", timers.bytes());
}

#[test]
fn bytes_that_are_no_timer_are_refused() {
    let broken = [
        (ADDRESSES.timer(0, 1, b"k", b"n"), vec![1, 2, 3], "has no time of 8 bytes"),
        (ADDRESSES.timer(0, 1, b"k", b"\xff"), vec![0; 8], "isn't UTF-8"),
        ([ADDRESSES.timers_of_group(0, 1), vec![0, 0, 0, 9]].concat(), vec![0; 8], "no address"),
    ];
    for (address, at, expected) in broken {
        let storage = InMemory::default();
        let list = vec![crate::storage::Write::Put(address, at)];
        storage.write(Writes { list }).unwrap();
        let error = Timers::restore(ADDRESSES, &storage, 0..KEY_GROUPS).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Semantics 19: a barrier passes between two slices of a firing.
#[test]
fn a_million_timers_at_one_instant_take_a_hundred_bytes_each_and_fire_in_slices() {
    let (mut timers, storage) = (Timers::new(ADDRESSES), InMemory::default());
    let count = 1 << 20;
    for n in 0..count {
        set(&mut timers, Event, &n.to_string(), "t", 10);
    }
    let each = timers.bytes() / count;
    assert!((60..125).contains(&each), "{each} bytes each");
    let mut keys: Vec<Vec<u8>> = (0..count).map(|n| n.to_string().into_bytes()).collect();
    keys.sort();
    let slice: Vec<_> = fired(&timers.due(Event, 10, 1000)).into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(slice, keys[..1000]);
    // What has fired isn't in the checkpoint, and what fires while it is written still is.
    timers.freeze();
    while let Some(writes) = timers.drain(4096) {
        assert!(writes.list.len() <= 4096 && timers.due(Event, 10, 10).len() == 10);
        storage.write(writes).unwrap();
    }
    let restored = Timers::restore(ADDRESSES, &storage, 0..KEY_GROUPS).unwrap();
    assert_eq!((restored.len(), restored.next(Event)), (count - 1000, Some(10)));
    assert!(timers.len() < restored.len());
}

#[test]
fn timers_stay_in_order_whichever_are_cancelled() {
    let mut timers = Timers::new(ADDRESSES);
    // Times in a scattered order, whose heap is five levels deep.
    let at = |n: i64| n * 7919 % 1009;
    for n in 0..1000 {
        set(&mut timers, Event, &n.to_string(), "t", at(n));
    }
    for n in (0..1000).filter(|n| n % 3 == 0) {
        cancel(&mut timers, Event, &n.to_string(), "t");
    }
    let mut expected: Vec<i64> = (0..1000).filter(|n| n % 3 != 0).map(at).collect();
    expected.sort();
    let fired: Vec<i64> = all_due(&mut timers, Event, i64::MAX).iter().map(|f| f.0).collect();
    assert_eq!(fired, expected);
}

#[derive(Clone, Debug)]
enum Step {
    Set(Clock, u8, u8, i64),
    Cancel(Clock, u8, u8),
    Due(Clock, i64, usize),
    DueOf(Clock, i64, Vec<u8>),
    Freeze,
    Drain(usize),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let clock = || prop_oneof![3 => Just(Event), 1 => Just(Processing)];
    prop_oneof![
        8 => (clock(), 0..6u8, 0..3u8, 0..40i64).prop_map(|(c, k, n, at)| Step::Set(c, k, n, at)),
        2 => (clock(), 0..6u8, 0..3u8).prop_map(|(c, k, n)| Step::Cancel(c, k, n)),
        3 => (clock(), 0..40i64, 0..6usize).prop_map(|(c, now, max)| Step::Due(c, now, max)),
        2 => (clock(), 0..40i64, prop::collection::vec(0..6u8, 0..4)).prop_map(|(c, n, k)| Step::DueOf(c, n, k)),
        2 => Just(Step::Freeze),
        4 => (1..4usize).prop_map(Step::Drain),
        1 => Just(Step::Crash),
    ]
}

/// What timers are, as simply as can be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<(Clock, String, String), i64>);

impl Model {
    fn in_order(&self, clock: Clock, now: i64) -> Vec<Fired> {
        let due = self.0.iter().filter(|((of, ..), at)| *of == clock && **at <= now);
        let mut due: Vec<_> = due.map(|((_, k, n), at)| (*at, k.as_bytes().to_vec(), n.clone())).collect();
        due.sort();
        due
    }

    fn take(&mut self, clock: Clock, fired: &[Fired]) {
        for (_, key, name) in fired {
            self.0.remove(&(clock, String::from_utf8(key.clone()).unwrap(), name.clone()));
        }
    }

    fn due(&mut self, clock: Clock, now: i64, max: usize) -> Vec<Fired> {
        let mut due: Vec<Fired> = Vec::new();
        for fired in self.in_order(clock, now) {
            if due.len() == max || due.iter().any(|(_, key, _)| *key == fired.1) {
                break;
            }
            due.push(fired);
        }
        self.take(clock, &due);
        due
    }

    fn due_of(&mut self, clock: Clock, now: i64, keys: &[String]) -> Vec<Fired> {
        let mut due: Vec<Fired> = Vec::new();
        for fired in self.in_order(clock, now) {
            let asked = keys.iter().any(|key| key.as_bytes() == fired.1);
            if asked && due.iter().all(|(_, key, _)| *key != fired.1) {
                due.push(fired);
            }
        }
        self.take(clock, &due);
        due
    }
}

fn key_of(n: u8) -> String {
    // One key is the beginning of another.
    ["a", "ab", "b", "", "c", "long key"][usize::from(n)].to_owned()
}

fn name_of(n: u8) -> String {
    ["", "b", "name"][usize::from(n)].to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn timers_survive_whatever_happens(steps in prop::collection::vec(step(), 1..120)) {
        let (mut timers, mut model) = (Timers::new(ADDRESSES), Model::default());
        let (mut storage, mut frozen) = (InMemory::default(), Some(Model::default()));
        let (mut checkpoint, mut at_checkpoint) = (InMemory::default(), Model::default());
        for step in steps {
            match step {
                Step::Set(clock, key, name, at) => {
                    let (key, name) = (key_of(key), name_of(name));
                    set(&mut timers, clock, &key, &name, at);
                    model.0.insert((clock, key, name), at);
                }
                Step::Cancel(clock, key, name) => {
                    let (key, name) = (key_of(key), name_of(name));
                    cancel(&mut timers, clock, &key, &name);
                    model.0.remove(&(clock, key, name));
                }
                Step::Due(clock, now, max) => {
                    prop_assert_eq!(fired(&timers.due(clock, now, max)), model.due(clock, now, max));
                }
                Step::DueOf(clock, now, keys) => {
                    let keys: Vec<String> = keys.into_iter().map(key_of).collect();
                    let asked = keys.iter().map(|key| (xxh3_64(key.as_bytes()), key.as_bytes()));
                    let due = timers.due_of(clock, now, asked, 100);
                    prop_assert_eq!(fired(&due), model.due_of(clock, now, &keys));
                }
                Step::Freeze => {
                    timers.freeze();
                    frozen = Some(model.clone());
                }
                Step::Drain(max) => match (timers.drain(max), &frozen) {
                    (Some(writes), _) => {
                        prop_assert!(writes.list.len() <= max);
                        storage.write(writes).unwrap();
                    }
                    (None, Some(model)) => {
                        (checkpoint, at_checkpoint) = (copy(&storage), model.clone());
                        frozen = None;
                    }
                    (None, None) => {}
                },
                Step::Crash => {
                    storage = copy(&checkpoint);
                    timers = Timers::restore(ADDRESSES, &storage, 0..KEY_GROUPS).unwrap();
                    model = at_checkpoint.clone();
                    frozen = None;
                }
            }
            for clock in Clock::ALL {
                prop_assert_eq!(timers.next(clock), model.in_order(clock, i64::MAX).first().map(|f| f.0));
            }
            prop_assert_eq!(timers.len(), model.0.len());
        }
        timers.freeze();
        drain_all(&mut timers, &storage);
        let (from, end) = ADDRESSES.all();
        let kept = storage.scan(&from, &end, usize::MAX).unwrap();
        let expected: BTreeMap<Vec<u8>, Vec<u8>> = model.0.iter().map(|((clock, key, name), at)| {
            let hash = xxh3_64(key.as_bytes());
            let address = ADDRESSES.timer(clock.number(), hash, key.as_bytes(), name.as_bytes());
            (address, at.to_be_bytes().to_vec())
        }).collect();
        prop_assert_eq!(kept.into_iter().collect::<BTreeMap<_, _>>(), expected);
    }
}
