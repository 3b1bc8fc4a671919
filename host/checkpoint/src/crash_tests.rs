//! Whatever is done to a store, and wherever the process dies: what is kept is whole, and what isn't needed goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use crate::backing::Backing;
use crate::contents::needed;
use crate::manifest::{Counters, FORMAT, Kind, Manifest, State};
use crate::names::{CheckpointName, Digest, SavepointName, Selector};
use crate::simulated::Simulated;
use crate::{Error, Name, Store};

const CONTENTS_COUNT: u8 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// A checkpoint of some of the contents, complete or given up before its manifest; perhaps with a `retain` of three
    /// while its files are in flight.
    Checkpoint {
        files: Vec<u8>,
        retain: bool,
        complete: bool,
        commit: bool,
    },
    Keep {
        back: u64,
        name: u8,
    },
    Delete {
        back: u64,
    },
    DeleteSavepoint {
        name: u8,
    },
    Retain {
        count: usize,
    },
    SetAside,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (proptest::collection::vec(0..CONTENTS_COUNT, 0..4), any::<[bool; 3]>())
            .prop_map(|(files, [retain, given_up, commit])| {
                Step::Checkpoint { files, retain, complete: !given_up || commit, commit }
            }),
        2 => (0..4_u64, 0..3_u8).prop_map(|(back, name)| Step::Keep { back, name }),
        2 => (0..4_u64).prop_map(|back| Step::Delete { back }),
        1 => (0..3_u8).prop_map(|name| Step::DeleteSavepoint { name }),
        3 => (1..4_usize).prop_map(|count| Step::Retain { count }),
        1 => Just(Step::SetAside),
        1 => Just(Step::Restart),
    ]
}

/// What must be there: a step moves a name out before it may vanish, and in once it is promised.
#[derive(Default)]
struct Promised {
    checkpoints: BTreeMap<u64, CheckpointName>,
    savepoints: BTreeSet<SavepointName>,
    commit: Option<u64>,
}

/// A place that crashes where a test wants.
trait Crashing: Default {
    fn backing(&self) -> Arc<dyn Backing>;
    fn crash_after(&self, changes: u64);
    fn crashed(&self) -> bool;
    fn reboot(&self, chance: u64);
}

impl Crashing for Simulated {
    fn backing(&self) -> Arc<dyn Backing> {
        Arc::new(self.clone())
    }

    fn crash_after(&self, changes: u64) {
        self.crash_after(changes);
    }

    fn crashed(&self) -> bool {
        self.crashed()
    }

    fn reboot(&self, chance: u64) {
        self.reboot(chance);
    }
}

#[cfg(feature = "object")]
impl Crashing for crate::object::tests::Faulty {
    fn backing(&self) -> Arc<dyn Backing> {
        Arc::new(crate::object::Objects::of_tests(Arc::new(self.clone())))
    }

    fn crash_after(&self, changes: u64) {
        self.crash_after(changes);
    }

    fn crashed(&self) -> bool {
        self.crashed()
    }

    fn reboot(&self, chance: u64) {
        self.reboot(chance);
    }
}

struct World<P> {
    place: P,
    folder: tempfile::TempDir,
    promised: Promised,
    next: u64,
    last_run: u64,
}

impl<P: Crashing> World<P> {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for content in 0..CONTENTS_COUNT {
            fs::write(folder.path().join(format!("{content}.sst")), vec![content; usize::from(content) + 1])
                .unwrap();
        }
        let (place, promised) = (P::default(), Promised::default());
        Self { place, folder, promised, next: 1, last_run: 0 }
    }

    fn open(&mut self) -> Result<Store, Error> {
        let store = Store::open_at(self.place.backing(), "orders")?;
        assert!(store.run() > self.last_run, "runs rise");
        self.last_run = store.run();
        self.next = store.numbers_seen()?.last().map_or(1, |last| last + 1).max(self.next);
        Ok(store)
    }

    fn file(&self, content: u8) -> PathBuf {
        self.folder.path().join(format!("{content}.sst"))
    }

    fn take(&mut self, store: &Store, step: &Step) -> Result<(), Error> {
        match step {
            Step::Checkpoint { files, retain, complete, commit } => {
                let files: BTreeSet<u8> = files.iter().copied().collect();
                let entries: Result<Vec<_>, _> =
                    files.iter().map(|f| store.put_file(&self.file(*f), true)).collect();
                let number = self.next;
                self.next += 1;
                if *retain {
                    self.retain(store, 3)?;
                }
                if !complete {
                    entries?;
                    store.abandon();
                    return Ok(());
                }
                let name = store.write_manifest(&manifest(
                    number,
                    store.run(),
                    State { backend: "rocksdb".to_owned(), files: entries? },
                ))?;
                self.promised.checkpoints.insert(number, name);
                if *commit {
                    store.begin_commit(number)?;
                    self.promised.commit = Some(number);
                }
            }
            Step::Keep { back, name } => {
                let name: SavepointName = format!("keep-{name}").parse().unwrap();
                match store.keep(self.next.saturating_sub(1 + back), &name) {
                    Ok(()) => drop(self.promised.savepoints.insert(name)),
                    Err(Error::Missing { .. } | Error::Exists { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Step::Delete { back } => {
                let number = self.next.saturating_sub(1 + back);
                // One whose writing died may be there as well, and be the newest.
                if store.checkpoint_names()?.last().is_none_or(|newest| newest.checkpoint != number) {
                    self.promised.checkpoints.remove(&number);
                }
                match store.delete(&Selector::Checkpoint(number)) {
                    Ok(_) | Err(Error::Missing { .. } | Error::Newest { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Step::DeleteSavepoint { name } => {
                let name: SavepointName = format!("keep-{name}").parse().unwrap();
                self.promised.savepoints.remove(&name);
                match store.delete(&Selector::Savepoint(name)) {
                    Ok(_) | Err(Error::Missing { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Step::Retain { count } => {
                self.retain(store, *count)?;
                self.check_nothing_unneeded(store)?;
            }
            Step::SetAside => {
                let Some((number, name)) = self.promised.checkpoints.pop_last() else { return Ok(()) };
                if self.promised.commit == Some(number) {
                    self.promised.checkpoints.insert(number, name);
                    return Ok(());
                }
                store.set_aside(name)?;
            }
            Step::Restart => {}
        }
        Ok(())
    }

    fn retain(&mut self, store: &Store, count: usize) -> Result<(), Error> {
        let names = store.checkpoint_names()?;
        let oldest = names.iter().rev().nth(count - 1).map_or(0, |name| name.checkpoint);
        self.promised.checkpoints.retain(|number, _| *number >= oldest);
        store.retain(NonZeroUsize::new(count).unwrap()).map(drop)
    }

    fn check_nothing_unneeded(&self, store: &Store) -> Result<(), Error> {
        let (needed, unknown) = needed(store)?;
        assert!(unknown.is_none(), "{unknown:?}");
        for (path, _) in store.backing.list("files")? {
            let digest: Digest = path.split_once('/').unwrap().1.parse().unwrap();
            assert!(needed.contains(&digest), "{path} isn't needed, and nothing is in flight");
        }
        Ok(())
    }

    fn check(&self, store: &Store) {
        let listed = store.list().unwrap();
        for one in &listed {
            let manifest = one.manifest.as_ref().unwrap_or_else(|e| panic!("{}: {e}", one.name));
            store.verify(manifest, &|_| ()).unwrap_or_else(|e| panic!("{}: {e:?}", one.name));
        }
        let names: Vec<&Name> = listed.iter().map(|one| &one.name).collect();
        for name in self.promised.checkpoints.values() {
            assert!(names.contains(&&Name::Checkpoint(*name)), "{name} was promised");
        }
        for name in &self.promised.savepoints {
            assert!(names.contains(&&Name::Savepoint(name.clone())), "savepoint {name} was promised");
        }
        let commit = store.commits_begun().unwrap().last().copied();
        assert!(commit >= self.promised.commit, "{commit:?} after {:?}", self.promised.commit);
    }
}

pub(crate) fn manifest(checkpoint: u64, run: u64, state: State) -> Manifest {
    Manifest {
        format: FORMAT,
        pipeline: "orders".to_owned(),
        checkpoint,
        run,
        kind: Kind::Checkpoint,
        savepoint: None,
        created_ms: 0,
        duration_ms: 0,
        key_hash: "xxh3-64, seed 0".to_owned(),
        key_groups: 720,
        sources: Vec::new(),
        operators: Vec::new(),
        state,
        generation: 0,
        components: std::collections::BTreeMap::new(),
        sinks: Vec::new(),
        counters: Counters::default(),
        warnings: Vec::new(),
    }
}

/// Takes the steps, and lets the process die in some of them, after so many changes.
fn run<P: Crashing>(steps: &[(Step, Option<u64>)], chance: u64) {
    let mut world = World::<P>::new();
    let mut store = world.open().unwrap();
    for (at, (step, crash)) in steps.iter().enumerate() {
        if let Some(changes) = crash {
            world.place.crash_after(*changes);
        }
        let taken = world.take(&store, step);
        if !world.place.crashed() {
            taken.unwrap_or_else(|e| panic!("step {at}, {step:?}: {e}"));
        }
        if world.place.crashed() || matches!(step, Step::Restart) {
            drop(store);
            world.place.reboot(chance.wrapping_add(at as u64));
            // The next process may die too, while it heals.
            world.place.crash_after(crash.unwrap_or(u64::MAX) / 2);
            store = match world.open() {
                Ok(store) => store,
                Err(_) => {
                    world.place.reboot(chance.rotate_left(7).wrapping_add(at as u64));
                    world.open().unwrap()
                }
            };
        }
        world.place.crash_after(u64::MAX);
        world.check(&store);
    }
    world.promised.checkpoints.clear();
    store.abandon();
    world.take(&store, &Step::Retain { count: 2 }).unwrap();
    world.check(&store);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_whole_wherever_the_process_dies(
        steps in proptest::collection::vec((step(), proptest::option::weighted(0.4, 0..12_u64)), 1..40),
        chance in any::<u64>(),
    ) {
        run::<Simulated>(&steps, chance);
    }
}

#[cfg(feature = "object")]
proptest! {
    // Each has threads of its own for every process that it starts.
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_in_an_object_store_is_whole_wherever_the_process_dies(
        steps in proptest::collection::vec((step(), proptest::option::weighted(0.4, 0..12_u64)), 1..25),
        chance in any::<u64>(),
    ) {
        run::<crate::object::tests::Faulty>(&steps, chance);
    }
}
