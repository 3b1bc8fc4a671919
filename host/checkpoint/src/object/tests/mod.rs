//! The promises of a store in an object store: those that a lock keeps elsewhere, and those of a network.

mod faulty;

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use faulty::Fault;
pub(crate) use faulty::Faulty;

use super::upload::PART_BYTES;
use super::{GRACE, Objects};
use crate::crash_tests::manifest;
use crate::manifest::{FileEntry, Manifest, State};
use crate::{Error, Name, Selector, Store};

/// A bucket, and a folder with a database.
struct World {
    bucket: Faulty,
    folder: tempfile::TempDir,
    grace: Duration,
    /// Where the bucket is, and who moves its bytes; dropped last.
    #[cfg(feature = "jetstream")]
    _servers: Option<(tokio::runtime::Runtime, tidemill_nats_test::Server)>,
}

impl World {
    fn new() -> Self {
        Self::of(Faulty::default())
    }

    fn of(bucket: Faulty) -> Self {
        Self {
            bucket,
            folder: tempfile::tempdir().unwrap(),
            grace: Duration::ZERO,
            #[cfg(feature = "jetstream")]
            _servers: None,
        }
    }

    /// On a server of its own; none if there can't be one.
    #[cfg(feature = "jetstream")]
    fn in_jetstream() -> Option<Self> {
        let server = tidemill_nats_test::Server::start()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let bucket = super::jetstream::tests::connected(&runtime, &server.url());
        Some(Self { _servers: Some((runtime, server)), ..Self::of(Faulty::over(Arc::new(bucket))) })
    }

    fn objects(&self) -> Arc<Objects> {
        let shown = "s3://bucket/a/b".to_owned();
        let mut objects = Objects::new(Arc::new(self.bucket.clone()), shown, "a/b", "nothing").unwrap();
        objects.grace = self.grace;
        Arc::new(objects)
    }

    fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Store, Error> {
        let objects = self.objects();
        objects.check_conditions()?;
        Store::open_at(objects, "orders")
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        // A new inode each time, as a database has it.
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        path
    }

    fn put(&self, store: &Store, files: &[(&str, &[u8])]) -> Result<Vec<FileEntry>, Error> {
        let put = |(name, content): &(&str, &[u8])| {
            store.put_file(&self.file(name, content), name.ends_with(".sst"))
        };
        files.iter().map(put).collect()
    }

    fn try_checkpoint(&self, store: &Store, number: u64, files: &[(&str, &[u8])]) -> Result<Manifest, Error> {
        let files = self.put(store, files)?;
        let manifest = manifest(number, store.run(), State { backend: "rocksdb".to_owned(), files });
        store.write_manifest(&manifest)?;
        Ok(manifest)
    }

    fn checkpoint(&self, store: &Store, number: u64, files: &[(&str, &[u8])]) -> Manifest {
        self.try_checkpoint(store, number, files).unwrap()
    }

    /// What a process writes that has found no newer run a moment ago.
    fn zombie_manifest(&self, number: u64, run: u64) {
        let state = State { backend: "rocksdb".to_owned(), files: Vec::new() };
        let sealed = crate::copies::encode(&manifest(number, run, state)).unwrap();
        self.write(&format!("checkpoints/{number:010}-run{run}.json"), &sealed);
    }

    fn write(&self, path: &str, content: &[u8]) {
        let objects = self.objects();
        let (name, content) = (objects.engine.name(path), content.to_vec().into());
        objects.engine.wait(objects.engine.store.put(&name, content)).unwrap();
    }

    fn paths(&self, folder: &str) -> Vec<String> {
        let objects = self.objects();
        let name = objects.engine.name(folder);
        let found = objects.engine.wait(self.bucket.list(Some(&name)).try_collect::<Vec<_>>()).unwrap();
        found.into_iter().map(|object| object.location.to_string()).collect()
    }
}

fn names(store: &Store) -> Vec<String> {
    store.list().unwrap().iter().map(|listed| listed.name.to_string()).collect()
}

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// Each of these promises is kept by each object store.
macro_rules! promises {
    ($($promise:ident)*) => {
        mod in_memory {
            $(#[test]
            fn $promise() {
                super::$promise(super::World::new());
            })*
        }

        #[cfg(feature = "jetstream")]
        mod in_jetstream {
            $(#[test]
            fn $promise() {
                if let Some(world) = super::World::in_jetstream() {
                    super::$promise(world);
                }
            })*
        }
    };
}

promises! {
    a_checkpoint_comes_back_as_it_was
    what_is_there_is_not_uploaded_again
    an_older_run_is_refused_whatever_it_writes
    a_zombies_late_manifest_is_never_restored
    a_manifest_that_was_there_when_a_run_began_is_no_zombies
    an_answer_that_is_lost_is_looked_up
    two_runs_never_have_the_same_number
    a_service_that_cannot_be_reached_fails_a_checkpoint_and_the_next_one_succeeds
    a_service_that_ignores_conditions_is_refused
    files_that_are_young_stay_though_nothing_names_them
    a_file_that_is_old_and_comes_again_is_made_young
    a_person_keeps_and_deletes_where_nothing_is_locked
    what_was_changed_in_the_bucket_is_noticed
    a_service_that_does_not_answer_says_nothing_about_what_it_keeps
    what_is_nobodys_store_is_said_to_be_none
}

fn a_checkpoint_comes_back_as_it_was(world: World) {
    let store = world.open();
    let large: Vec<u8> = (0..PART_BYTES * 2 + 5).map(|at| (at / 7) as u8).collect();
    let exact = &large[..usize::try_from(PART_BYTES).unwrap()];
    let files: [(&str, &[u8]); 5] =
        [("1.sst", &large), ("2.sst", exact), ("3.sst", b"rows"), ("CURRENT", b"now"), ("EMPTY", b"")];
    let manifest = world.checkpoint(&store, 1, &files);
    drop(store);
    for downloads in [false, true] {
        let mut store = world.open();
        let restored = world.folder.path().join(format!("restored-{downloads}"));
        if downloads {
            store.download_to(world.folder.path().join("downloads")).unwrap();
        }
        let report = store.verify(&manifest, &|_| ()).unwrap();
        assert_eq!(report.bytes, large.len() as u64 + PART_BYTES + 7);
        if downloads {
            // It isn't read a second time.
            for path in world.paths("files") {
                let objects = world.objects();
                objects.engine.wait(world.bucket.delete(&path.as_str().into())).unwrap();
            }
        }
        store.restore(&manifest, &restored).unwrap();
        for (name, content) in files {
            assert!(fs::read(restored.join(name)).unwrap() == content, "{name}");
        }
        assert_eq!(fs::read_dir(&restored).unwrap().count(), files.len());
    }
}

fn what_is_there_is_not_uploaded_again(world: World) {
    let store = world.open();
    let first = world.checkpoint(&store, 1, &[("1.sst", b"rows")]);
    world.bucket.written();
    let again = store.put_file(&world.folder.path().join("1.sst"), true).unwrap();
    assert_eq!((again, world.bucket.written()), (first.state.files[0].clone(), Vec::new()));
    drop(store);
    // Nor by a run that has restored it.
    let store = world.open();
    let restored = world.folder.path().join("restored");
    store.restore(&first, &restored).unwrap();
    world.bucket.written();
    store.put_file(&restored.join("1.sst"), true).unwrap();
    assert_eq!(world.bucket.written(), [""; 0]);
}

fn an_older_run_is_refused_whatever_it_writes(world: World) {
    let old = world.open();
    world.checkpoint(&old, 1, &[("1.sst", b"rows")]);
    let new = world.open();
    let fenced = [
        world.try_checkpoint(&old, 2, &[]).map(drop),
        old.begin_commit(1),
        old.retain(count(1)).map(drop),
        old.set_aside(crate::CheckpointName { checkpoint: 1, run: 1 }),
    ];
    for result in fenced {
        assert!(matches!(result, Err(Error::Fenced { run: 1, newest: 2, .. })), "{result:?}");
    }
    world.checkpoint(&new, 2, &[("1.sst", b"rows")]);
    assert_eq!(names(&new), ["checkpoint 1 (run 1)", "checkpoint 2 (run 2)"]);
}

fn a_zombies_late_manifest_is_never_restored(world: World) {
    let old = world.open();
    world.checkpoint(&old, 1, &[("1.sst", b"rows")]);
    // The newer run begins after the older one has looked for it, and before its manifest is there.
    let new = world.open();
    world.zombie_manifest(2, 1);
    assert_eq!(names(&new), ["checkpoint 1 (run 1)"], "the newer run doesn't see it");
    assert!(matches!(old.begin_commit(2), Err(Error::Fenced { .. })), "nor is it committed");
    // The newer run dies without a checkpoint of its own, from which one could tell.
    drop(new);
    let next = world.open();
    assert_eq!(names(&next), ["checkpoint 1 (run 1)"]);
    assert_eq!(world.paths("set-aside").len(), 1);
    assert_eq!(next.numbers_seen().unwrap(), [1, 2], "its number isn't used again");
    world.checkpoint(&next, 3, &[]);
}

fn a_manifest_that_was_there_when_a_run_began_is_no_zombies(world: World) {
    let store = world.open();
    for number in 1..=3 {
        world.checkpoint(&store, number, &[]);
    }
    drop((store, world.open(), world.open()));
    assert_eq!(names(&world.open()).len(), 3);
}

fn an_answer_that_is_lost_is_looked_up(world: World) {
    let store = world.open();
    // Files first: none. Then the manifest and its copy.
    for (number, fault) in (1..).zip([Fault::Lost, Fault::Repeated]) {
        world.bucket.next(&[fault]);
        let manifest = world.checkpoint(&store, number, &[]);
        assert_eq!(store.read(&Selector::Checkpoint(number)).unwrap(), manifest, "{fault:?}");
    }
    world.bucket.next(&[Fault::Conflict, Fault::Conflict]);
    world.checkpoint(&store, 3, &[]);
    world.bucket.next(&[Fault::Well, Fault::Well, Fault::Well, Fault::Lost]);
    assert_eq!(world.open().run(), 2, "a number of a run that was taken is taken");
}

fn two_runs_never_have_the_same_number(world: World) {
    let runs = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| runs.lock().unwrap().push(world.open().run()));
        }
    });
    let mut runs = runs.into_inner().unwrap();
    runs.sort_unstable();
    assert_eq!(runs, [1, 2, 3, 4, 5, 6, 7, 8]);
}

fn a_service_that_cannot_be_reached_fails_a_checkpoint_and_the_next_one_succeeds(world: World) {
    let store = world.open();
    world.checkpoint(&store, 1, &[("1.sst", b"rows")]);
    for refused in 0..4 {
        let mut faults = vec![Fault::Well; refused];
        faults.push(Fault::Refused);
        world.bucket.next(&faults);
        let files: [(&str, &[u8]); 2] = [("2.sst", b"more"), ("CURRENT", b"now")];
        let failed = world.try_checkpoint(&store, 2 + refused as u64, &files).unwrap_err().to_string();
        assert!(failed.starts_with("cannot write s3://bucket/a/b/"), "{failed}");
        assert!(failed.contains("check that the service can be reached"), "{failed}");
        store.abandon();
    }
    let manifest = world.checkpoint(&store, 6, &[("2.sst", b"more")]);
    store.verify(&manifest, &|_| ()).unwrap();
}

fn a_service_that_ignores_conditions_is_refused(world: World) {
    world.bucket.ignore_conditions();
    let message = world.try_open().unwrap_err().to_string();
    assert!(message.contains("ignores the condition of a write"), "{message}");
}

fn files_that_are_young_stay_though_nothing_names_them(world: World) {
    let world = World { grace: GRACE, ..world };
    let store = world.open();
    world.checkpoint(&store, 1, &[("1.sst", b"first")]);
    world.put(&store, &[("2.sst", b"of nobody")]).unwrap();
    store.abandon();
    world.bucket.pass(GRACE / 2);
    world.checkpoint(&store, 2, &[("3.sst", b"third")]);
    assert_eq!(store.retain(count(1)).unwrap().files_count, 0);
    world.bucket.pass(GRACE);
    // What is old is told by what is new.
    assert_eq!(store.retain(count(1)).unwrap().files_count, 0);
    let manifest = world.checkpoint(&store, 3, &[("3.sst", b"third"), ("4.sst", b"fourth")]);
    assert_eq!(store.retain(count(1)).unwrap().files_count, 2);
    store.verify(&manifest, &|_| ()).unwrap();
}

fn a_file_that_is_old_and_comes_again_is_made_young(world: World) {
    let world = World { grace: GRACE, ..world };
    let old = world.open();
    let first = world.put(&old, &[("1.sst", b"rows")]).unwrap();
    old.abandon();
    world.bucket.pass(GRACE);
    let new = world.open();
    assert_eq!(world.put(&new, &[("1.sst", b"rows"), ("2.sst", b"more")]).unwrap()[..1], first);
    // The older run doesn't know that there is a newer one, which is about to name the file.
    let collected = crate::collect::files(&old, &Default::default(), &|| Ok(())).unwrap();
    assert_eq!(collected.files_count, 0);
}

fn a_person_keeps_and_deletes_where_nothing_is_locked(world: World) {
    let store = world.open();
    for number in 1..=3 {
        world.checkpoint(&store, number, &[("1.sst", format!("rows of {number}").as_bytes())]);
    }
    let contents = Store::look_at_place(world.objects(), "").unwrap();
    contents.keep(1, &"before".parse().unwrap()).unwrap();
    let deleted = contents.delete(&Selector::Checkpoint(2)).unwrap();
    assert!(deleted.waiting.unwrap().contains("the pipeline removes the files"));
    assert_eq!(store.retain(count(1)).unwrap().files_count, 1);
    assert_eq!(names(&store), ["checkpoint 3 (run 1)", "savepoint before"]);
    for listed in store.list().unwrap() {
        store.verify(&listed.manifest.unwrap(), &|_| ()).unwrap();
    }
}

fn what_was_changed_in_the_bucket_is_noticed(world: World) {
    let store = world.open();
    let manifest = world.checkpoint(&store, 1, &[("1.sst", b"rows"), ("2.sst", b"more")]);
    let path = |at: usize| crate::files::path_of(manifest.state.files[at].sha256);
    world.write(&path(0), b"swor");
    let problems = store.verify(&manifest, &|_| ()).unwrap_err();
    assert!(matches!(&problems[..], [crate::Problem::Content { .. }]), "{problems:?}");
    let restored = store.restore(&manifest, &world.folder.path().join("restored")).unwrap_err().to_string();
    assert!(restored.contains("was changed"), "{restored}");
    let objects = world.objects();
    objects.engine.wait(world.bucket.delete(&objects.engine.name(&path(1)))).unwrap();
    let state = State { backend: "rocksdb".to_owned(), files: manifest.state.files.clone() };
    let without = store.write_manifest(&crate::crash_tests::manifest(2, 1, state));
    assert!(matches!(without, Err(Error::Broken { .. })), "{without:?}");
    for copy in ["checkpoints", "checkpoints-copy"] {
        world.write(&format!("{copy}/0000000001-run1.json"), b"torn");
    }
    assert!(store.list().unwrap()[0].manifest.is_err());
    assert!(matches!(store.list().unwrap()[0].name, Name::Checkpoint(_)));
}

fn a_service_that_does_not_answer_says_nothing_about_what_it_keeps(world: World) {
    let store = world.open();
    let manifest = world.checkpoint(&store, 1, &[("1.sst", b"rows")]);
    world.bucket.crash_after(0);
    assert!(world.try_checkpoint(&store, 2, &[("2.sst", b"more")]).is_err());
    assert!(matches!(store.look_at(&Name::Checkpoint(manifest.name())), Err(Error::Io { .. })));
    let problems = store.verify(&manifest, &|_| ()).unwrap_err();
    assert!(matches!(&problems[..], [crate::Problem::Unreachable { .. }]), "{problems:?}");
    assert!(store.retain(count(1)).is_err());
    world.bucket.reboot(0);
    store.verify(&store.read(&Selector::Checkpoint(1)).unwrap(), &|_| ()).unwrap();
}

fn what_is_nobodys_store_is_said_to_be_none(world: World) {
    let error = Store::look_at_place(world.objects(), "no run has begun there").unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    drop(world.open());
    let error = Store::open_at(world.objects(), "payments").unwrap_err();
    assert!(matches!(error, Error::OtherPipeline { .. }), "{error}");
}

#[test]
fn credentials_are_shown_nowhere() {
    let refused = object_store::Error::PermissionDenied {
        path: "x".to_owned(),
        source: "<Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId>".into(),
    };
    let told = World::new().objects().engine.reason(&refused);
    assert!(told.contains("(SignatureDoesNotMatch)") && !told.contains("AKIA"), "{told}");
    assert!(!format!("{:?}", World::new().objects()).contains("Faulty"));
}
