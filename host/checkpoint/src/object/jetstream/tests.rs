//! What a bucket promises beside what every object store does: to those who read it otherwise, and when servers die.

use std::io::Read;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use tidemill_jetstream::{Connection, Settings};
use tidemill_nats_test::{Cluster, Proxy, Server};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;

use super::Bucket;
use crate::crash_tests::manifest;
use crate::manifest::State;
use crate::object::Objects;
use crate::place::JetStreamPlace;
use crate::{Place, Selector, Store};

fn place(url: &str) -> JetStreamPlace {
    JetStreamPlace::new("test", "bucket", "a/b").unwrap().reached_by(Settings::new(vec![url.to_owned()]))
}

fn bucket(url: &str) -> Bucket {
    Bucket::new(&place(url), true).unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A bucket whose connection lives in this runtime.
pub(in crate::object) fn connected(runtime: &Runtime, url: &str) -> Bucket {
    let bucket = bucket(url);
    runtime.block_on(bucket.list(None).try_collect::<Vec<_>>()).unwrap();
    bucket
}

fn name(name: &str) -> Path {
    Path::from(format!("a/b/{name}"))
}

/// Bytes that don't repeat.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        // The constants are those of Knuth's MMIX.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

async fn read(bucket: &Bucket, object: &str) -> Bytes {
    bucket.get(&name(object)).await.unwrap().bytes().await.unwrap()
}

/// How many messages the bucket has.
async fn messages(url: &str) -> u64 {
    let connection = Connection::open(&Settings::new(vec![url.to_owned()])).await.unwrap();
    connection.stream("OBJ_bucket").await.unwrap().cached_info().state.messages
}

#[test]
fn other_clients_read_what_is_written_and_the_other_way_round() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async {
        let bucket = bucket(&server.url());
        let content = bytes(3_000_001);
        bucket.put(&name("large"), content.clone().into()).await.unwrap();
        bucket.put(&name("empty"), Vec::new().into()).await.unwrap();
        let client = async_nats::connect(server.url()).await.unwrap();
        let theirs = async_nats::jetstream::new(client).get_object_store("bucket").await.unwrap();
        for (object, expected) in [("a/b/large", &content[..]), ("a/b/empty", b"")] {
            let mut found = Vec::new();
            // It compares the digest.
            theirs.get(object).await.unwrap().read_to_end(&mut found).await.unwrap();
            assert!(found == expected, "{object}");
        }
        let mut listed: Vec<String> =
            theirs.list().await.unwrap().map_ok(|info| info.name).try_collect().await.unwrap();
        listed.sort();
        assert_eq!(listed, ["a/b/empty", "a/b/large"]);

        // In chunks of another size.
        theirs.put("a/b/theirs", &mut &content[..]).await.unwrap();
        assert!(read(&bucket, "theirs").await == content);
        let range = bucket.get_range(&name("theirs"), 131_000..2_500_000).await.unwrap();
        assert!(range == content[131_000..2_500_000]);
        // What they delete leaves a marker, which is nothing.
        theirs.delete("a/b/theirs").await.unwrap();
        assert!(matches!(bucket.get(&name("theirs")).await, Err(Error::NotFound { .. })));
        assert_eq!(bucket.list(None).collect::<Vec<_>>().await.len(), 2);
        bucket.put_opts(&name("theirs"), "new".into(), PutMode::Create.into()).await.unwrap();
        assert_eq!(read(&bucket, "theirs").await, "new");
    });
}

#[test]
fn an_object_is_written_replaced_and_removed_without_a_trace() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async {
        let bucket = bucket(&server.url());
        let large = bytes(2_500_000);
        for content in [b"first".to_vec(), large.clone(), Vec::new(), b"last".to_vec()] {
            bucket.put(&name("x"), content.clone().into()).await.unwrap();
            assert!(read(&bucket, "x").await == content);
            let chunks = content.len().div_ceil(1016 << 10) as u64;
            assert_eq!(messages(&server.url()).await, chunks + 1);
        }
        let head = bucket.head(&name("x")).await.unwrap();
        assert_eq!(head.size, 4);
        bucket.delete(&name("x")).await.unwrap();
        bucket.delete(&name("x")).await.unwrap();
        assert_eq!(messages(&server.url()).await, 0);
        // And stays so.
        server.restart();
        assert!(matches!(bucket.head(&name("x")).await, Err(Error::NotFound { .. })));
        assert_eq!(messages(&server.url()).await, 0);
    });
}

#[test]
fn of_those_who_create_an_object_at_the_same_time_one_does() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    for round in 0..5 {
        let results: Vec<_> = std::thread::scope(|scope| {
            let create = |who: usize| {
                let url = &url;
                move || {
                    runtime().block_on(async {
                        let path = name(&format!("{round}"));
                        let content = vec![who as u8; 10];
                        let bucket = bucket(url);
                        bucket.put_opts(&path, content.into(), PutMode::Create.into()).await.map(|_| who)
                    })
                }
            };
            let threads: Vec<_> = (0..8).map(|who| scope.spawn(create(who))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let won: Vec<usize> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        }
        runtime().block_on(async {
            assert_eq!(read(&bucket(&url), &format!("{round}")).await, vec![won[0] as u8; 10]);
            // Nothing is left of the others.
            assert_eq!(messages(&url).await, 2 * (round + 1));
        });
    }
}

#[test]
fn contents_of_writers_that_died_are_cleared_away_when_they_are_old() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async {
        let bucket = bucket(&server.url());
        bucket.put(&name("kept"), "kept".into()).await.unwrap();
        let mut upload = bucket.put_multipart(&name("never")).await.unwrap();
        upload.put_part(bytes(2_000_000).into()).await.unwrap();
        drop(upload);
        // Another pipeline's writer, which is at work.
        let other = JetStreamPlace::new("test", "bucket", "other").unwrap();
        let other = Bucket::new(&other.reached_by(Settings::new(vec![server.url()])), true).unwrap();
        let mut theirs = other.put_multipart(&Path::from("other/x")).await.unwrap();
        theirs.put_part("part".into()).await.unwrap();

        assert_eq!(bucket.remove_orphans(Duration::from_secs(3600)).await.unwrap(), 0);
        assert!(!bucket.is_due(Duration::from_secs(3600)));
        assert_eq!(bucket.remove_orphans(Duration::ZERO).await.unwrap(), 1);
        theirs.complete().await.unwrap();
        assert_eq!(other.get(&Path::from("other/x")).await.unwrap().bytes().await.unwrap(), "part");
        assert_eq!(read(&bucket, "kept").await, "kept");
        assert_eq!(messages(&server.url()).await, 4);
    });
}

#[test]
fn a_content_that_was_cleared_away_under_its_writer_becomes_no_object() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async {
        let bucket = bucket(&server.url());
        let mut upload = bucket.put_multipart(&name("x")).await.unwrap();
        upload.put_part("one".into()).await.unwrap();
        assert_eq!(bucket.remove_orphans(Duration::ZERO).await.unwrap(), 1);
        let error = upload.put_part("two".into()).await.unwrap_err().to_string();
        assert!(error.contains("was removed meanwhile"), "{error}");
        assert!(upload.complete().await.is_err());
        assert!(matches!(bucket.head(&name("x")).await, Err(Error::NotFound { .. })));
    });
}

#[test]
fn a_bucket_in_which_checkpoints_are_not_safe_is_refused() {
    let Some(server) = Server::start() else { return };
    let good = || Config {
        name: "OBJ_bucket".to_owned(),
        subjects: vec!["$O.bucket.C.>".to_owned(), "$O.bucket.M.>".to_owned()],
        discard: DiscardPolicy::New,
        allow_rollup: true,
        ..Config::default()
    };
    let check = |config: Config, expected: &[&str]| {
        runtime().block_on(async {
            let connection = Connection::open(&Settings::new(vec![server.url()])).await.unwrap();
            connection.context().create_stream(config).await.unwrap();
            let error = bucket(&server.url()).head(&name("x")).await.unwrap_err().to_string();
            for part in expected {
                assert!(error.contains(part), "{part}: {error}");
            }
            connection.context().delete_stream("OBJ_bucket").await.unwrap();
        });
    };
    check(good(), &["there is no such object"]);
    check(Config { storage: StorageType::Memory, ..good() }, &["can't keep checkpoints: it is in memory"]);
    let aged = Config { max_age: Duration::from_secs(3600), ..good() };
    check(aged, &["removed after 3600 s", "nats stream edit OBJ_bucket --max-age=0"]);
    check(Config { discard: DiscardPolicy::Old, ..good() }, &["loses what is old", "--discard=new"]);
    check(Config { allow_rollup: false, ..good() }, &["--allow-rollup"]);
    check(Config { deny_delete: true, ..good() }, &["nothing may be removed"]);
    check(Config { max_messages_per_subject: 1, ..good() }, &["1 messages of a subject"]);
    check(Config { subjects: vec!["$O.bucket.>".to_owned()], ..good() }, &["other subjects"]);
    check(Config { max_message_size: 9000, ..good() }, &["messages may have 9000 bytes"]);
}

#[test]
fn a_bucket_has_as_many_replicas_as_are_asked_for() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async {
        bucket(&server.url()).put(&name("x"), "x".into()).await.unwrap();
        let more = Bucket::new(&place(&server.url()).with_replicas(3), true).unwrap();
        let error = more.head(&name("x")).await.unwrap_err().to_string();
        assert!(error.contains("1 replicas, and 3 are asked for"), "{error}");
        let none = JetStreamPlace::new("test", "none", "").unwrap().with_replicas(3);
        let none = Bucket::new(&none.reached_by(Settings::new(vec![server.url()])), true).unwrap();
        let error = none.head(&name("x")).await.unwrap_err().to_string();
        assert!(error.contains("`none` can't be made: the server says"), "{error}");
    });
}

#[test]
fn whoever_only_looks_makes_no_bucket() {
    let Some(server) = Server::start() else { return };
    let error = Store::look(place(&server.url())).unwrap_err().to_string();
    assert!(error.contains("there is no bucket `bucket` (stream `OBJ_bucket`)"), "{error}");
    drop(Store::open(place(&server.url()), "orders").unwrap());
    assert_eq!(Store::look(place(&server.url())).unwrap().pipeline(), "orders");
    let unknown = Store::look("nats://prod/bucket/a".parse::<Place>().unwrap()).unwrap_err().to_string();
    assert!(unknown.contains("names the connection `prod`"), "{unknown}");
}

#[test]
fn small_messages_make_small_chunks_and_a_full_bucket_says_so() {
    let Some(server) = Server::with("max_payload: 64K") else { return };
    runtime().block_on(async {
        let connection = Connection::open(&Settings::new(vec![server.url()])).await.unwrap();
        let config = Config {
            name: "OBJ_bucket".to_owned(),
            subjects: vec!["$O.bucket.C.>".to_owned(), "$O.bucket.M.>".to_owned()],
            discard: DiscardPolicy::New,
            allow_rollup: true,
            max_bytes: 3_000_000,
            ..Config::default()
        };
        connection.context().create_stream(config).await.unwrap();
        let bucket = bucket(&server.url());
        let content = bytes(1_000_000);
        bucket.put(&name("x"), content.clone().into()).await.unwrap();
        assert!(read(&bucket, "x").await == content);
        assert_eq!(messages(&server.url()).await, 1_000_000_u64.div_ceil(56 << 10) + 1);
        let error = bucket.put(&name("y"), bytes(2_500_000).into()).await.unwrap_err().to_string();
        assert!(error.contains("the bucket `bucket` is full") && error.contains("--max-bytes"), "{error}");
        assert!(read(&bucket, "x").await == content);
        // What was written of it is gone.
        assert_eq!(messages(&server.url()).await, 1_000_000_u64.div_ceil(56 << 10) + 1);
    });
}

#[test]
fn what_a_store_does_not_need_is_refused_by_name() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async {
        let bucket = bucket(&server.url());
        let x = name("x");
        bucket.put(&x, "x".into()).await.unwrap();
        let update = PutMode::Update(object_store::UpdateVersion { e_tag: None, version: None });
        let refused = [
            bucket.copy(&x, &name("y")).await.unwrap_err(),
            bucket.rename(&x, &name("y")).await.unwrap_err(),
            bucket.list_with_delimiter(None).await.unwrap_err(),
            bucket.put_opts(&x, "y".into(), update.into()).await.unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(&error, Error::NotImplemented { .. }), "{error}");
        }
        assert_eq!(read(&bucket, "x").await, "x");
    });
}

/// A store with a database beside it.
struct World {
    folder: tempfile::TempDir,
    place: JetStreamPlace,
}

impl World {
    fn new(place: JetStreamPlace) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), place }
    }

    fn open(&self) -> Store {
        Store::open(self.place.clone(), "orders").unwrap()
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn checkpoint(&self, store: &Store, number: u64, files: &[&LocalPath]) {
        let files = files.iter().map(|path| store.put_file(path, true).unwrap()).collect();
        let state = State { backend: "rocksdb".to_owned(), files };
        store.write_manifest(&manifest(number, store.run(), state)).unwrap();
    }

    /// The content of a file of a checkpoint, verified and restored.
    fn restored(&self, store: &Store, number: u64, file: &str) -> Vec<u8> {
        let manifest = store.read(&Selector::Checkpoint(number)).unwrap();
        store.verify(&manifest, &|_| ()).unwrap();
        let folder = self.folder.path().join(format!("restored-{number}"));
        store.restore(&manifest, &folder).unwrap();
        std::fs::read(folder.join(file)).unwrap()
    }
}

#[test]
fn a_file_of_200_mb_goes_there_and_comes_back() {
    let Some(server) = Server::start() else { return };
    let world = World::new(place(&server.url()));
    let content = bytes(200_000_000);
    let file = world.file("1.sst", &content);
    let store = world.open();
    let begin = Instant::now();
    world.checkpoint(&store, 1, &[&file]);
    let put = begin.elapsed();
    let begin = Instant::now();
    assert!(world.restored(&store, 1, "1.sst") == content);
    // Twice: it is verified and restored.
    println!("200 MB were written in {put:?}, and read twice in {:?}", begin.elapsed());
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_an_upload_and_comes_back_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let world = World::new(place(&server.url()));
    let content = bytes(60_000_000);
    let file = world.file("1.sst", &content);
    let store = world.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(150));
                server.kill();
                std::thread::sleep(Duration::from_millis(200));
                server.restart();
            }
        });
        for number in 1..=3 {
            let part = &content[..content.len() / usize::try_from(number).unwrap()];
            let file = if number == 1 { file.clone() } else { world.file(&format!("{number}.sst"), part) };
            world.checkpoint(&store, number, &[&file]);
        }
    });
    assert!(world.restored(&store, 1, "1.sst") == content);
    assert!(world.restored(&store, 3, "3.sst") == content[..20_000_000]);
    // Nothing was written twice, and nothing is left.
    let bucket = bucket(&server.url());
    runtime().block_on(async {
        let listed: Vec<_> = bucket.list(None).try_collect().await.unwrap();
        let chunks: u64 = listed.iter().map(|object| object.size.div_ceil(1016 << 10)).sum();
        let found = messages(&server.url()).await;
        // A part of 8 MiB ends with a shorter chunk.
        assert!((chunks..chunks + 20).contains(&(found - listed.len() as u64)), "{found} for {chunks}");
        assert_eq!(bucket.remove_orphans(Duration::ZERO).await.unwrap(), 0);
    });
}

#[test]
fn a_connection_that_is_cut_and_heals_is_waited_for_and_one_that_stays_cut_fails_the_checkpoint() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    let world = World::new(place(&proxy.url()));
    let content = bytes(40_000_000);
    let file = world.file("1.sst", &content);
    let store = world.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            proxy.cut();
            std::thread::sleep(Duration::from_secs(2));
            proxy.heal();
        });
        world.checkpoint(&store, 1, &[&file]);
    });
    proxy.cut();
    let begin = Instant::now();
    let small = world.file("2.sst", b"more");
    let failed = store.put_file(&small, true).unwrap_err().to_string();
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert!(failed.starts_with("cannot write nats://test/bucket/a/b/files/"), "{failed}");
    assert!(failed.contains("no connection to the servers"), "{failed}");
    assert!(failed.contains("check that the servers of the connection `test` can be reached"), "{failed}");
    store.abandon();
    proxy.heal();
    world.checkpoint(&store, 2, &[&small]);
    assert!(world.restored(&store, 1, "1.sst") == content);
    assert_eq!(world.restored(&store, 2, "2.sst"), b"more");
}

#[test]
fn a_server_that_is_silent_for_a_while_is_asked_again() {
    let Some(server) = Server::start() else { return };
    let world = World::new(place(&server.url()));
    let store = world.open();
    let file = world.file("1.sst", b"rows");
    server.pause();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(8));
            server.resume();
        });
        world.checkpoint(&store, 1, &[&file]);
    });
    assert_eq!(world.restored(&store, 1, "1.sst"), b"rows");
}

#[test]
fn an_election_is_waited_for() {
    let Some(cluster) = Cluster::start(3) else { return };
    let place = JetStreamPlace::new("test", "bucket", "a/b").unwrap().with_replicas(3);
    let world = World::new(place.reached_by(Settings::new(cluster.urls())));
    let store = world.open();
    let content = bytes(30_000_000);
    let file = world.file("1.sst", &content);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            let leader = runtime().block_on(async {
                let connection = Connection::open(&Settings::new(cluster.urls())).await.unwrap();
                let stream = connection.stream("OBJ_bucket").await.unwrap();
                stream.cached_info().cluster.clone().unwrap().leader.unwrap()
            });
            let leader = cluster.position(&leader).unwrap();
            cluster.kill(leader);
            std::thread::sleep(Duration::from_secs(12));
            cluster.restart(leader);
        });
        for number in 1..=4 {
            let file = if number == 1 {
                file.clone()
            } else {
                world.file(&format!("{number}.sst"), &content[number..])
            };
            world.checkpoint(&store, number as u64, &[&file]);
        }
    });
    for number in 1..=4 {
        let expected = if number == 1 { &content[..] } else { &content[number..] };
        assert!(world.restored(&store, number as u64, &format!("{number}.sst")) == expected, "{number}");
    }
    assert_eq!(store.list().unwrap().len(), 4);
}

#[test]
fn a_large_object_is_read_bit_by_bit() {
    let Some(server) = Server::start() else { return };
    let place: Place = place(&server.url()).into();
    let objects = Arc::new(Objects::at(&place, true).unwrap());
    let content = bytes(20_000_000);
    objects.engine.wait(objects.engine.store.put(&objects.engine.name("x"), content.clone().into())).unwrap();
    let mut found = Vec::new();
    let stream = crate::backing::Backing::stream(&*objects, "x").unwrap();
    stream.unwrap().read_to_end(&mut found).unwrap();
    assert!(found == content);
}
