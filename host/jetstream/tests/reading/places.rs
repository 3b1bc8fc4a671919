//! Where a reader starts, and what it knows of the end.

use std::future::poll_fn;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidemill_jetstream::{Connection, Options, Position, Reader, Start};
use tidemill_nats_test::{Proxy, Server};
use tokio::time::{sleep, timeout};

use crate::support::{
    PATIENCE, changed, connect, fill, next, numbers, quick, read_past, read_to, small, wait_until_caught_up,
};

async fn open(connection: &Connection, start: Start) -> Reader {
    Reader::open(connection, "numbers", start, quick()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_starts_where_it_was_told() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=100).await;
    sleep(Duration::from_millis(20)).await;
    let since_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    sleep(Duration::from_millis(20)).await;
    fill(&connection, 101..=200).await;
    stream.purge().sequence(11).await.unwrap();
    let starts = [
        (Start::Beginning, 11),
        (Start::End, 201),
        (Start::Sequence(11), 11),
        (Start::Sequence(150), 150),
        (Start::Sequence(201), 201),
        (Start::Time { since_ms }, 101),
        (Start::Time { since_ms: 0 }, 11),
        (Start::Time { since_ms: since_ms + 3_600_000 }, 201),
    ];
    let mut readers = Vec::new();
    for (start, first) in starts {
        let reader = open(&connection, start).await;
        assert_eq!((reader.position().sequence, reader.end_at_open()), (first - 1, 200), "{start:?}");
        readers.push(reader);
    }
    fill(&connection, 201..=300).await;
    for reader in &mut readers {
        read_to(reader, 300).await;
        assert_eq!(reader.position(), readers_position(&connection).await);
    }
}

/// The position that any reader has in the end.
async fn readers_position(connection: &Connection) -> Position {
    let mut reader = open(connection, Start::Sequence(250)).await;
    read_to(&mut reader, 300).await;
    reader.position()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_the_stream_doesnt_have_is_refused() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    let check = async |sequence, found: &str| {
        let opened = Reader::open(&connection, "numbers", Start::Sequence(sequence), quick()).await;
        let error = opened.unwrap_err();
        assert!(changed(&error).1.contains(found), "{error}");
    };
    check(2, "it is empty, and the next is 1").await;
    fill(&connection, 1..=100).await;
    check(102, "it has 1 to 100").await;
    stream.purge().sequence(11).await.unwrap();
    check(10, "it has 11 to 100").await;
    stream.purge().await.unwrap();
    check(100, "it is empty, and the next is 101").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_behind_any_position() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=5000).await;
    let mut reader = Reader::open(&connection, "numbers", Start::Beginning, small()).await.unwrap();
    let mut positions = vec![reader.position()];
    while reader.position().sequence < 5000 {
        next(&mut reader).await.unwrap();
        positions.push(reader.position());
    }
    for position in positions {
        let mut again = Reader::resume(&connection, "numbers", position, quick()).await.unwrap();
        assert_eq!((again.position(), again.identity()), (position, reader.identity()));
        read_to(&mut again, 5000).await;
        assert_eq!(again.position().sequence, 5000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_known_of_an_empty_stream_too() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    let mut reader = open(&connection, Start::Beginning).await;
    let ready = |reader: &mut Reader| {
        let mut ready = false;
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        ready |= reader.poll_ready(context).is_ready();
        ready
    };
    // The word alone wakes whoever waits, once.
    timeout(PATIENCE, poll_fn(|context| reader.poll_ready(context))).await.unwrap();
    assert!(reader.is_caught_up() && reader.try_next().unwrap().is_none());
    assert!(!ready(&mut reader) && reader.is_caught_up());
    assert_eq!((reader.position().sequence, reader.end_at_open()), (0, 0));

    fill(&connection, 1..=1000).await;
    timeout(PATIENCE, poll_fn(|context| reader.poll_ready(context))).await.unwrap();
    assert!(!reader.is_caught_up(), "there is something to hand out");
    let mut pending = u64::MAX;
    while reader.position().sequence < 1000 {
        pending = next(&mut reader).await.unwrap().pending;
    }
    assert!(pending == 0 && reader.is_caught_up());

    stream.purge().await.unwrap();
    let reader = open(&connection, Start::Beginning).await;
    wait_until_caught_up(&reader).await;
    assert_eq!((reader.position().sequence, reader.end_at_open()), (1000, 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_known_when_what_was_left_is_purged() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=20_000).await;
    let options = Options { allow_gaps: true, ..small() };
    let mut reader = Reader::open(&connection, "numbers", Start::Beginning, options).await.unwrap();
    read_past(&mut reader, 1).await;
    stream.purge().await.unwrap();
    let mut pending = u64::MAX;
    while let Ok(batch) = timeout(Duration::from_secs(2), reader.next()).await {
        pending = batch.unwrap().pending;
    }
    assert!(pending > 0, "the last that came didn't know that it was");
    wait_until_caught_up(&reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_isnt_known_while_the_connection_is_lost() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    let connection = connect(&proxy.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=100).await;
    let mut reader = open(&connection, Start::Beginning).await;
    read_to(&mut reader, 100).await;
    wait_until_caught_up(&reader).await;
    proxy.cut();
    let begun = std::time::Instant::now();
    while reader.is_caught_up() {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert!(!reader.is_caught_up());
    proxy.heal();
    wait_until_caught_up(&reader).await;
    fill(&connection, 101..=110).await;
    read_to(&mut reader, 110).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_comes_at_once() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    let mut reader = open(&connection, Start::End).await;
    let mut delays = Vec::new();
    for number in 1..=100 {
        let begun = std::time::Instant::now();
        fill(&connection, number..=number).await;
        read_to(&mut reader, number).await;
        delays.push(begun.elapsed());
    }
    delays.sort_unstable();
    // A tenth of a heartbeat; it takes less than a millisecond on a quiet machine.
    assert!(delays[50] < Duration::from_millis(20), "{:?}", delays[50]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_wait_is_given_up() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    let mut reader = open(&connection, Start::Beginning).await;
    let publisher = tokio::spawn(async move {
        for number in 1..=300 {
            fill(&connection, number..=number).await;
            sleep(Duration::from_millis(1)).await;
        }
    });
    let mut expected = 1;
    while expected <= 300 {
        let Ok(batch) = timeout(Duration::from_millis(1), reader.next()).await else { continue };
        for message in batch.unwrap().messages {
            assert_eq!(message.sequence, expected);
            expected += 1;
        }
    }
    publisher.await.unwrap();
}
