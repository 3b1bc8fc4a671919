//! Streams of numbered messages, and a look whether each comes once and in order.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{self, Stream};
use tidemill_jetstream::{Batch, Connection, Error, Options, Reader, Reconnect, Settings};

/// Nothing that is waited for takes longer, unless the machine is very busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How many messages are published before their acknowledgements are waited for.
const WINDOW: usize = 500;

/// A connection that comes back at once.
pub(crate) async fn connect(url: &str) -> Connection {
    let reconnect = Reconnect { delay_min: Duration::from_millis(10), delay_max: Duration::from_millis(100) };
    let settings = Settings {
        reconnect,
        request_timeout: Duration::from_secs(2),
        ..Settings::new(vec![url.to_owned()])
    };
    Connection::open(&settings).await.expect("a server that was just started lets everyone in")
}

/// Times that are compressed.
pub(crate) fn quick() -> Options {
    Options {
        heartbeat: Duration::from_millis(200),
        confirm: Duration::from_millis(600),
        ..Options::default()
    }
}

/// As [`quick`], with so little room that much is yet to come whatever happens to a stream.
pub(crate) fn small() -> Options {
    Options { buffer_bytes: 128 << 10, ..quick() }
}

/// The stream `numbers`.
pub(crate) async fn numbers(connection: &Connection) -> Stream {
    make(connection, stream::Config::default()).await
}

/// The stream `numbers` as configured.
pub(crate) async fn make(connection: &Connection, config: stream::Config) -> Stream {
    let config =
        stream::Config { name: "numbers".to_owned(), subjects: vec!["numbers.>".to_owned()], ..config };
    let begun = Instant::now();
    loop {
        // A cluster takes its time.
        match connection.context().create_stream(config.clone()).await {
            Ok(stream) => return stream,
            Err(e) => assert!(begun.elapsed() < PATIENCE, "the stream can't be made: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the message of this sequence has: its number, and a filling.
pub(crate) fn payload(sequence: u64) -> String {
    format!("{sequence:0>100}")
}

/// Publishes messages of these numbers.
pub(crate) async fn fill(connection: &Connection, numbers: std::ops::RangeInclusive<u64>) {
    fill_with(connection, numbers.map(payload)).await;
}

/// Publishes payloads.
pub(crate) async fn fill_with(connection: &Connection, payloads: impl Iterator<Item = String>) {
    let mut acknowledgements = Vec::new();
    for payload in payloads {
        let sent = connection.context().publish("numbers.n", payload.into()).await;
        acknowledgements.push(sent.expect("the server is there"));
        if acknowledgements.len() == WINDOW {
            for acknowledgement in acknowledgements.drain(..) {
                acknowledgement.await.expect("the stream takes it");
            }
        }
    }
    for acknowledgement in acknowledgements {
        acknowledgement.await.expect("the stream takes it");
    }
}

/// Looks that each message comes once.
pub(crate) struct Check {
    pub(crate) next: u64,
}

impl Check {
    pub(crate) fn batch(&mut self, batch: &Batch) {
        assert!(!batch.messages.is_empty());
        for message in &batch.messages {
            assert_eq!(message.sequence, self.next);
            assert_eq!(message.payload, payload(self.next), "message {}", self.next);
            assert_eq!(message.subject.as_str(), "numbers.n");
            self.next += 1;
        }
        assert_eq!(batch.position.sequence, self.next - 1);
    }
}

/// Reads the next messages up to this one, which is the last.
pub(crate) async fn read_to(reader: &mut Reader, last: u64) {
    read_past(reader, last).await;
    assert_eq!(reader.position().sequence, last);
}

/// Reads the next messages up to this one, and those that come with it.
pub(crate) async fn read_past(reader: &mut Reader, last: u64) {
    let mut check = Check { next: reader.position().sequence + 1 };
    while check.next <= last {
        check.batch(&next(reader).await.unwrap());
    }
}

/// The next batch, or the error that comes in place of it.
pub(crate) async fn next(reader: &mut Reader) -> Result<Batch, Error> {
    let position = reader.position();
    tokio::time::timeout(PATIENCE, reader.next())
        .await
        .unwrap_or_else(|_| panic!("nothing came for {PATIENCE:?} behind {position:?}"))
}

/// Reads until there is an error.
pub(crate) async fn read_to_error(reader: &mut Reader) -> (u64, Error) {
    loop {
        if let Err(error) = next(reader).await {
            return (reader.position().sequence, error);
        }
    }
}

/// Waits until the reader knows that it has everything.
pub(crate) async fn wait_until_caught_up(reader: &Reader) {
    let begun = Instant::now();
    while !reader.is_caught_up() {
        assert!(begun.elapsed() < PATIENCE, "it never knew");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What has changed: expected and found.
#[track_caller]
pub(crate) fn changed(error: &Error) -> (&str, &str) {
    let Error::Changed { expected, found, stream, .. } = error else { panic!("{error:?}") };
    assert_eq!(stream, "numbers");
    (expected, found)
}
