use std::collections::BTreeMap;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::key::KEY_GROUPS;
use crate::storage::{InMemory, Write};
use crate::timers::Clock;

const ADDRESSES: Addresses = Addresses { operator: 7 };
const ALL: Limit = Limit { entries: usize::MAX, bytes: usize::MAX };
/// Collection 0 keeps its entries, 1 for ten milliseconds of event time, 2 for twenty of processing time.
const TTLS: [Option<Ttl>; 3] = [
    None,
    Some(Ttl { after_ms: 10, clock: Clock::Event }),
    Some(Ttl { after_ms: 20, clock: Clock::Processing }),
];

fn collections() -> Collections {
    Collections::new(ADDRESSES, 0..KEY_GROUPS, TTLS.to_vec())
}

fn at(event: i64, processing: i64) -> Times {
    Times { event, processing }
}

fn place(collection: u8, key: &str, times: Times) -> Place<'_> {
    Place { collection, hash: xxh3_64(key.as_bytes()), key: key.as_bytes(), times }
}

fn range(of: &Collections, storage: &InMemory, place: &Place<'_>, limit: usize) -> (Vec<String>, bool) {
    let found = of.range(storage, place, b"", None, Limit { entries: limit, ..ALL }).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (found.entries.iter().map(|(entry, value)| text(entry) + "=" + &text(value)).collect(), found.more)
}

fn drain_all(of: &mut Collections, storage: &InMemory) {
    while let Some(writes) = of.drain(3) {
        storage.write(writes).unwrap();
    }
}

fn everything(storage: &InMemory) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (from, end) = ADDRESSES.all();
    storage.scan(&from, &end, usize::MAX).unwrap()
}

#[test]
fn entries_are_read_through_all_layers() {
    let (mut of, storage) = (collections(), InMemory::default());
    let k = place(0, "k", at(0, 0));
    of.write(&k, b"a", Some(b"stored"));
    of.write(&k, b"b", Some(b"stored"));
    of.write(&k, b"c", Some(b"stored"));
    of.freeze();
    drain_all(&mut of, &storage);
    of.write(&k, b"b", Some(b"frozen"));
    of.write(&k, b"d", Some(b"frozen"));
    of.freeze();
    of.write(&k, b"c", None);
    of.write(&k, b"d", Some(b"current"));
    of.write(&place(0, "ka", at(0, 0)), b"", Some(b"of another key"));
    of.write(&place(1, "k", at(0, 0)), b"a", Some(b"of another collection"));
    assert_eq!(
        range(&of, &storage, &k, 9),
        (vec!["a=stored".into(), "b=frozen".into(), "d=current".into()], false)
    );
    assert_eq!(range(&of, &storage, &k, 2), (vec!["a=stored".into(), "b=frozen".into()], true));
    let wanted: Vec<(Place<'_>, &[u8])> = [b"d".as_slice(), b"c", b"b", b"a", b"x"].map(|e| (k, e)).into();
    let values = of.read(&storage, &wanted).unwrap();
    let expected = [Some("current"), None, Some("frozen"), Some("stored"), None];
    assert_eq!(values, expected.map(|v| v.map(|v| v.as_bytes().to_vec())));
    let middle = of.range(&storage, &k, b"b", Some(b"d"), ALL).unwrap();
    assert_eq!(middle.entries, [(b"b".to_vec(), b"frozen".to_vec())]);
    assert_eq!(of.range(&storage, &k, b"d", Some(b"b"), ALL).unwrap(), Found::default());
}

#[test]
fn a_range_ends_with_its_bytes_and_says_so() {
    let (mut of, storage) = (collections(), InMemory::default());
    let k = place(0, "\u{ff}\u{ff}", at(0, 0));
    for entry in 0..100u8 {
        of.write(&k, &[255, entry], Some(&[0; 98]));
    }
    of.freeze();
    drain_all(&mut of, &storage);
    let limit = Limit { entries: 50, bytes: 250 };
    let found = of.range(&storage, &k, b"", None, limit).unwrap();
    assert_eq!((found.entries.len(), found.more), (3, true));
    let rest = of.range(&storage, &k, &[255, 3], None, ALL).unwrap();
    assert_eq!((rest.entries.len(), rest.more), (97, false));
}

#[test]
fn an_entry_is_absent_when_its_time_is_over_whether_removed_or_not() {
    let (mut of, storage) = (collections(), InMemory::default());
    for collection in 0..3 {
        of.write(&place(collection, "k", at(100, 1000)), b"e", Some(b"v"));
    }
    let absent = |of: &Collections, times| {
        let wanted = [0, 1, 2].map(|collection| (place(collection, "k", times), b"e".as_slice()));
        let read = of.read(&storage, &wanted).unwrap();
        for (value, (place, _)) in read.iter().zip(&wanted) {
            assert_eq!(range(of, &storage, place, 9).0.len(), usize::from(value.is_some()));
        }
        read.iter().map(Option::is_none).collect::<Vec<_>>()
    };
    for stored in [false, true] {
        if stored {
            of.freeze();
            drain_all(&mut of, &storage);
        }
        assert_eq!(absent(&of, at(109, 1019)), [false, false, false]);
        assert_eq!(absent(&of, at(110, 1019)), [false, true, false]);
        assert_eq!(absent(&of, at(109, 1020)), [false, false, true]);
    }
    assert!(!of.expire(&storage, at(109, 1020), 100).unwrap());
    assert_eq!(absent(&of, at(109, 1019)), [false, false, true]);
    of.freeze();
    drain_all(&mut of, &storage);
    assert_eq!(everything(&storage).len(), 2);
}

/// Semantics 21: after a long pause everything is absent at once, and is removed little by little.
#[test]
fn a_jump_of_the_clock_removes_in_slices() {
    let (mut of, storage) = (collections(), InMemory::default());
    for n in 0..100u8 {
        of.write(&place(2, &n.to_string(), at(0, 0)), &[n], Some(b"v"));
    }
    of.freeze();
    drain_all(&mut of, &storage);
    let day = at(0, 86_400_000);
    let mut slices = 0;
    while of.expire(&storage, day, 10).unwrap() {
        slices += 1;
        of.freeze();
        let removed: usize = std::iter::from_fn(|| of.drain(1000)).map(|writes| writes.list.len()).sum();
        assert!(removed <= 10, "{removed} removed in one slice");
    }
    assert_eq!(slices, 10);
    // What was written again meanwhile stays.
    of.write(&place(2, "1", day), &[1], Some(b"new"));
    while of.expire(&storage, day, 7).unwrap() {}
    of.freeze();
    drain_all(&mut of, &storage);
    assert_eq!(everything(&storage).len(), 1);
}

#[test]
fn only_changes_take_memory() {
    let (mut of, storage) = (collections(), InMemory::default());
    let k = place(0, "k", at(0, 0));
    for n in 0..100u8 {
        of.write(&k, &[n], Some(&[0; 1000]));
        of.write(&k, &[n], Some(&[0; 1000]));
    }
    assert!((100_000..130_000).contains(&of.bytes()), "{} bytes", of.bytes());
    of.freeze();
    of.write(&k, &[0], None);
    of.freeze();
    assert!((99_000..130_000).contains(&of.bytes()), "{} bytes", of.bytes());
    drain_all(&mut of, &storage);
    assert_eq!(of.bytes(), 0);
}

#[test]
fn a_value_without_its_time_is_refused() {
    let storage = InMemory::default();
    let address = ADDRESSES.entry(1, xxh3_64(b"k"), b"k", b"e");
    storage.write(Writes { list: vec![Write::Put(address, vec![1, 2])] }).unwrap();
    let mut of = collections();
    let k = place(1, "k", at(0, 0));
    let errors = [
        of.read(&storage, &[(k, b"e")]).unwrap_err(),
        of.range(&storage, &k, b"", None, ALL).unwrap_err(),
        of.expire(&storage, at(0, 0), 9).unwrap_err(),
    ];
    assert!(errors.iter().all(|e| e.to_string().contains("has 2 bytes where the time")), "{errors:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8, u8, u8, Option<u8>),
    Read(Vec<(u8, u8, u8)>),
    Range(u8, u8, u8, Option<u8>, usize),
    Advance(i64, i64),
    Expire(usize),
    Freeze,
    Drain(usize),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..3u8, 0..3u8, 0..6u8);
    prop_oneof![
        10 => (place(), prop::option::weighted(0.7, 0..9u8)).prop_map(|((c, k, e), v)| Step::Write(c, k, e, v)),
        3 => prop::collection::vec(place(), 1..5).prop_map(Step::Read),
        4 => (place(), prop::option::of(0..7u8), 0..5usize).prop_map(|((c, k, e), end, l)| Step::Range(c, k, e, end, l)),
        3 => (0..6i64, 0..12i64).prop_map(|(e, p)| Step::Advance(e, p)),
        3 => (1..5usize).prop_map(Step::Expire),
        2 => Just(Step::Freeze),
        4 => (1..4usize).prop_map(Step::Drain),
        1 => Just(Step::Crash),
    ]
}

/// What collections are, as simply as can be: values, and when they were written.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: BTreeMap<(u8, u8, u8), (u8, Times)>,
    /// The clocks, which only go on.
    now: Option<Times>,
}

impl Model {
    fn now(&self) -> Times {
        self.now.unwrap_or(at(0, 0))
    }

    fn get(&self, id: (u8, u8, u8)) -> Option<u8> {
        let (value, written) = self.entries.get(&id)?;
        let over = |ttl: Ttl| ttl.is_over(written.on(ttl.clock), self.now().on(ttl.clock));
        (!TTLS[usize::from(id.0)].is_some_and(over)).then_some(*value)
    }
}

const KEYS: [&str; 3] = ["", "a", "ab"];

fn entry_of(n: u8) -> Vec<u8> {
    [vec![], vec![0], vec![0, 0], vec![7], vec![255], vec![255, 255], vec![255, 255, 1]][usize::from(n)]
        .clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn collections_survive_whatever_happens(steps in prop::collection::vec(step(), 1..120)) {
        let (mut of, mut model) = (collections(), Model::default());
        let (mut storage, mut frozen) = (InMemory::default(), None::<Model>);
        let mut checkpoint = (Vec::new(), Model::default());
        for step in steps {
            let place_of = |model: &Model, c, k: u8| place(c, KEYS[usize::from(k)], model.now());
            match step {
                Step::Write(c, k, e, value) => {
                    let value_bytes = value.map(|v| vec![v; usize::from(v)]);
                    of.write(&place_of(&model, c, k), &entry_of(e), value_bytes.as_deref());
                    match value {
                        Some(value) => drop(model.entries.insert((c, k, e), (value, model.now()))),
                        None => drop(model.entries.remove(&(c, k, e))),
                    }
                }
                Step::Read(ids) => {
                    let entries: Vec<Vec<u8>> = ids.iter().map(|(_, _, e)| entry_of(*e)).collect();
                    let wanted: Vec<_> = ids.iter().zip(&entries)
                        .map(|((c, k, _), e)| (place_of(&model, *c, *k), e.as_slice())).collect();
                    let expected: Vec<_> = ids.iter()
                        .map(|id| model.get(*id).map(|v| vec![v; usize::from(v)])).collect();
                    prop_assert_eq!(of.read(&storage, &wanted).unwrap(), expected);
                }
                Step::Range(c, k, first, end, entries) => {
                    let limit = Limit { entries, ..ALL };
                    let end_bytes = end.map(|e| entry_of(e.min(6)));
                    let found = of.range(
                        &storage, &place_of(&model, c, k), &entry_of(first), end_bytes.as_deref(), limit,
                    ).unwrap();
                    let all: Vec<_> = (first..end.map_or(7, |e| e.min(6)))
                        .filter_map(|e| Some((entry_of(e), vec![model.get((c, k, e))?; usize::from(model.get((c, k, e))?)])))
                        .collect();
                    prop_assert_eq!(found.more, all.len() > entries);
                    prop_assert_eq!(&found.entries[..], &all[..all.len().min(entries)]);
                }
                Step::Advance(event, processing) => {
                    let now = model.now();
                    model.now = Some(at(now.event + event, now.processing + processing));
                }
                Step::Expire(max) => {
                    of.expire(&storage, model.now(), max).unwrap();
                }
                Step::Freeze => {
                    of.freeze();
                    frozen = Some(model.clone());
                }
                Step::Drain(max) => match (of.drain(max), &frozen) {
                    (Some(writes), _) => {
                        prop_assert!(writes.list.len() <= max);
                        storage.write(writes).unwrap();
                    }
                    (None, Some(model)) => {
                        checkpoint = (everything(&storage), model.clone());
                        frozen = None;
                    }
                    (None, None) => {}
                },
                Step::Crash => {
                    storage = InMemory::default();
                    let list = checkpoint.0.iter().map(|(a, v)| Write::Put(a.clone(), v.clone())).collect();
                    storage.write(Writes { list }).unwrap();
                    of = collections();
                    // The clocks don't go back.
                    model = Model { now: model.now, ..checkpoint.1.clone() };
                    frozen = None;
                }
            }
        }
        of.freeze();
        drain_all(&mut of, &storage);
        // The rest of the round that goes on, and one from the beginning.
        for _ in 0..2 {
            while of.expire(&storage, model.now(), 3).unwrap() {}
        }
        of.freeze();
        drain_all(&mut of, &storage);
        let kept: Vec<(u8, Vec<u8>, Vec<u8>)> = everything(&storage).iter().map(|(address, _)| {
            let (collection, _, key, entry) = ADDRESSES.read_entry(address).unwrap();
            (collection, key.to_vec(), entry.to_vec())
        }).collect();
        let mut expected: Vec<_> = model.entries.keys().filter(|id| model.get(**id).is_some())
            .map(|(c, k, e)| (*c, KEYS[usize::from(*k)].as_bytes().to_vec(), entry_of(*e))).collect();
        expected.sort_by_key(|(c, key, entry)| ADDRESSES.entry(*c, xxh3_64(key), key, entry));
        prop_assert_eq!(kept, expected);
    }
}
