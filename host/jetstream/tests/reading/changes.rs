//! What a reader can't go on with, and says.

use std::fs;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::stream::{self, RetentionPolicy};
use tidemill_jetstream::{Connection, Error, Options, Position, Reader, Start};
use tidemill_nats_test::Server;
use tokio::time::sleep;

use crate::support::{
    changed, connect, fill, fill_with, make, numbers, quick, read_past, read_to, read_to_error, small,
    wait_until_caught_up,
};

async fn open(connection: &Connection, options: Options) -> Reader {
    Reader::open(connection, "numbers", Start::Beginning, options).await.unwrap()
}

async fn resume(connection: &Connection, position: Position) -> Result<Reader, Error> {
    Reader::resume(connection, "numbers", position, quick()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_under_a_reader_is_noticed() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=20_000).await;
    let mut reader = open(&connection, small()).await;
    read_past(&mut reader, 1).await;
    stream.purge().sequence(15_001).await.unwrap();
    let (last, error) = read_to_error(&mut reader).await;
    assert!(last < 15_000, "{last} were read");
    let (expected, found) = changed(&error);
    assert_eq!(expected, format!("message {}", last + 1));
    assert!(found.contains("begins with 15001"), "{found}");
    // It is told again.
    assert!(reader.try_next().is_err());
    assert!(!reader.is_caught_up());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_all_that_was_left_is_noticed_though_nothing_comes() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=20_000).await;
    let mut reader = open(&connection, small()).await;
    read_past(&mut reader, 1).await;
    stream.purge().await.unwrap();
    let (last, error) = read_to_error(&mut reader).await;
    assert_eq!(changed(&error).0, format!("message {}", last + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_may_be_purged() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=100).await;
    let mut reader = open(&connection, quick()).await;
    read_to(&mut reader, 100).await;
    stream.purge().await.unwrap();
    let mut again = resume(&connection, reader.position()).await.unwrap();
    wait_until_caught_up(&again).await;
    fill(&connection, 101..=200).await;
    read_to(&mut reader, 200).await;
    read_to(&mut again, 200).await;
    assert_eq!(reader.position(), again.position());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_that_overtakes_is_noticed_before_anything_is_read() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    make(&connection, stream::Config { max_messages: 50, ..Default::default() }).await;
    fill(&connection, 1..=50).await;
    let mut reader = open(&connection, quick()).await;
    read_to(&mut reader, 50).await;
    let position = reader.position();
    drop(reader);
    fill(&connection, 51..=100).await;
    let mut reader = resume(&connection, position).await.unwrap();
    read_to(&mut reader, 100).await;
    fill(&connection, 101..=101).await;
    let error = resume(&connection, position).await.unwrap_err();
    let (expected, found) = changed(&error);
    assert_eq!((expected, found.contains("begins with 52")), ("message 51", true), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_stream_ends_its_reader() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=100).await;
    let mut reader = open(&connection, quick()).await;
    read_to(&mut reader, 100).await;
    connection.context().delete_stream("numbers").await.unwrap();
    let (_, error) = read_to_error(&mut reader).await;
    assert!(matches!(&error, Error::NoStream { stream } if stream == "numbers"), "{error:?}");
    let error = resume(&connection, reader.position()).await.unwrap_err();
    assert!(matches!(error, Error::NoStream { .. }), "{error:?}");
    let error = Reader::open(&connection, "numbers", Start::End, quick()).await.unwrap_err();
    assert!(matches!(error, Error::NoStream { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_another() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=100).await;
    let mut reader = open(&connection, quick()).await;
    read_to(&mut reader, 100).await;
    connection.context().delete_stream("numbers").await.unwrap();
    numbers(&connection).await;
    fill(&connection, 1..=200).await;
    let (last, error) = read_to_error(&mut reader).await;
    assert_eq!((last, changed(&error).1.contains("another one")), (100, true), "{error}");
    let error = resume(&connection, reader.position()).await.unwrap_err();
    assert!(changed(&error).1.contains("another one"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restored_from_an_older_copy_is_noticed() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=100).await;
    server.stop();
    let (store, copy) = (server.folder().join("store"), server.folder().join("copy"));
    copy_folder(&store, &copy);
    server.restart();
    fill(&connection, 101..=200).await;
    let mut reader = open(&connection, quick()).await;
    read_to(&mut reader, 200).await;
    wait_until_caught_up(&reader).await;
    server.kill();
    fs::remove_dir_all(&store).unwrap();
    copy_folder(&copy, &store);
    server.restart();
    let (last, error) = read_to_error(&mut reader).await;
    let (expected, found) = changed(&error);
    assert_eq!((last, expected), (200, "message 200, which was read last"));
    assert!(found.contains("ends with 100"), "{found}");

    // Written to since, it has all the sequences again. The payloads are the same; but not the times.
    fill(&connection, 101..=300).await;
    let error = resume(&connection, reader.position()).await.unwrap_err();
    let (expected, found) = changed(&error);
    assert_eq!(expected, "messages 185 to 200 as they were read");
    assert!(found.contains("others in their place"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_is_refused() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=100).await;
    let mut reader = open(&connection, quick()).await;
    read_to(&mut reader, 100).await;
    let position = reader.position();
    for history in [position.history ^ 1 << 40, position.history & !31 | 7, 1] {
        let error = resume(&connection, Position { history, ..position }).await.unwrap_err();
        assert!(changed(&error).0.contains("as they were read"), "{error}");
    }
    resume(&connection, Position { history: 0, ..position }).await.unwrap();
    resume(&connection, position).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_message_is_a_gap() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=100).await;
    for sequence in [40, 41, 60, 100] {
        stream.delete_message(sequence).await.unwrap();
    }
    let mut reader = open(&connection, quick()).await;
    let (last, error) = read_to_error(&mut reader).await;
    let (expected, found) = changed(&error);
    assert_eq!((last, expected), (39, "message 40"));
    assert!(found.contains("42: those between were deleted"), "{found}");
    assert!(error.to_string().contains("allow_gaps"), "{error}");

    let mut reader = open(&connection, Options { allow_gaps: true, ..quick() }).await;
    let mut sequences = Vec::new();
    while !reader.is_caught_up() {
        sequences.extend(reader.next().await.unwrap().messages.iter().map(|message| message.sequence));
    }
    let expected: Vec<u64> = (1..100).filter(|sequence| ![40, 41, 60].contains(sequence)).collect();
    assert_eq!((sequences, reader.gaps()), (expected, 3));
    fill_with(&connection, ["101".to_owned()].into_iter()).await;
    assert_eq!(reader.next().await.unwrap().position.sequence, 101);
    assert_eq!(reader.gaps(), 4);
    // What was deleted before the position can't be compared, and isn't missed.
    stream.delete_message(101).await.unwrap();
    let options = Options { allow_gaps: true, ..quick() };
    Reader::resume(&connection, "numbers", reader.position(), options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_end_is_a_gap_though_nothing_comes() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=100).await;
    stream.delete_message(100).await.unwrap();
    let mut reader = open(&connection, quick()).await;
    let (last, error) = read_to_error(&mut reader).await;
    assert_eq!((last, changed(&error).0), (99, "message 100"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_removes_what_was_read_is_refused() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    for retention in [RetentionPolicy::Interest, RetentionPolicy::WorkQueue] {
        make(&connection, stream::Config { retention, ..Default::default() }).await;
        let error = Reader::open(&connection, "numbers", Start::Beginning, quick()).await.unwrap_err();
        assert!(matches!(&error, Error::Settings(m) if m.contains("retention")), "{error:?}");
        connection.context().delete_stream("numbers").await.unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_leaves_no_consumer_behind() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let mut stream = numbers(&connection).await;
    fill(&connection, 1..=100).await;
    let mut reader = open(&connection, quick()).await;
    read_to(&mut reader, 100).await;
    assert_eq!(stream.info().await.unwrap().state.consumer_count, 1);
    connection.client().force_reconnect().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    wait_until_caught_up(&reader).await;
    assert_eq!(stream.info().await.unwrap().state.consumer_count, 1);
    drop(reader);
    for _ in 0..100 {
        sleep(Duration::from_millis(20)).await;
        if stream.info().await.unwrap().state.consumer_count == 0 {
            return;
        }
    }
    panic!("its consumer is still there");
}
