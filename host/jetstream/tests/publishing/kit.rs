//! What the tests of publishing share: a stream, an epoch, and a look at what is stored.

use std::io;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures_util::StreamExt;
use tidemill_jetstream::{
    Connection, Ensured, Epoch, Outgoing, Settings, StreamWanted, Transactions, ensure_stream,
};

pub(crate) const STREAM: &str = "out";
pub(crate) const PRODUCER: &str = "shop/orders";

pub(crate) async fn connect(url: &str) -> Connection {
    connect_all(vec![url.to_owned()]).await
}

pub(crate) async fn connect_all(urls: Vec<String>) -> Connection {
    let mut settings = Settings::new(urls);
    settings.request_timeout = Duration::from_secs(2);
    settings.reconnect.delay_max = Duration::from_millis(200);
    Connection::open(&settings).await.unwrap()
}

/// A connection, and the stream that all tests write.
pub(crate) async fn with_stream(url: &str) -> Connection {
    let connection = connect(url).await;
    assert_eq!(ensure_stream(&connection, &wanted()).await.unwrap(), Ensured::Made);
    connection
}

pub(crate) fn wanted() -> StreamWanted {
    StreamWanted::new(STREAM, vec!["orders.>".to_owned()])
}

pub(crate) async fn open(connection: &Connection, run: u64) -> Transactions {
    Transactions::open(connection, STREAM, PRODUCER, run).await.unwrap()
}

type Hook = Box<dyn FnMut(u64) -> io::Result<()> + Send>;

/// Messages that say which they are.
pub(crate) struct Numbered {
    epoch: u64,
    count: u64,
    at: u64,
    subject: String,
    /// Called before each message.
    hook: Hook,
}

impl Numbered {
    pub(crate) fn new(epoch: u64, count: u64) -> Self {
        Self { epoch, count, at: 0, subject: String::new(), hook: Box::new(|_| Ok(())) }
    }

    pub(crate) fn with(self, hook: impl FnMut(u64) -> io::Result<()> + Send + 'static) -> Self {
        Self { hook: Box::new(hook), ..self }
    }
}

impl Epoch for Numbered {
    fn count(&self) -> u64 {
        self.count
    }

    fn seek(&mut self, index: u64) -> io::Result<()> {
        self.at = index;
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Outgoing<'_>>> {
        let at = self.at;
        if at == self.count {
            return Ok(None);
        }
        (self.hook)(at)?;
        self.at += 1;
        self.subject = format!("orders.{}", at % 3);
        let payload = Bytes::from(text(self.epoch, at));
        Ok(Some(Outgoing { subject: &self.subject, headers: "", id: None, payload }))
    }
}

fn text(epoch: u64, index: u64) -> String {
    format!("{epoch}:{index}")
}

/// What these epochs are when each is there once and in order.
pub(crate) fn expected(epochs: impl IntoIterator<Item = (u64, u64)>) -> Vec<String> {
    epochs.into_iter().flat_map(|(epoch, count)| (0..count).map(move |index| text(epoch, index))).collect()
}

/// A stream, when the servers are up to telling of it.
pub(crate) async fn stream(connection: &Connection, name: &str) -> Stream {
    for _ in 0..20 {
        match connection.stream(name).await {
            Ok(stream) => return stream,
            Err(error) if error.is_temporary() => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no server tells of the stream `{name}`");
}

/// All output that the stream has, in its order.
pub(crate) async fn stored(connection: &Connection) -> Vec<String> {
    let stream = stream(connection, STREAM).await;
    let config = pull::Config {
        filter_subject: "orders.>".to_owned(),
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: Duration::from_secs(30),
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let count = usize::try_from(consumer.cached_info().num_pending).unwrap();
    let mut texts = Vec::with_capacity(count);
    while texts.len() < count {
        let mut some =
            consumer.batch().max_messages(1_000.min(count - texts.len())).messages().await.unwrap();
        while let Some(message) = some.next().await {
            texts.push(String::from_utf8(message.unwrap().payload.to_vec()).unwrap());
        }
    }
    texts
}

/// Compares without printing thousands of lines.
#[track_caller]
pub(crate) fn check(found: &[String], expected: &[String]) {
    let differs = found.iter().zip(expected).position(|(one, other)| one != other);
    let at = differs.unwrap_or_else(|| found.len().min(expected.len()));
    let around = |all: &[String]| all[at.saturating_sub(2).min(all.len())..(at + 3).min(all.len())].join(" ");
    assert!(
        found == expected,
        "{} messages instead of {}; from {at} on: {} instead of {}",
        found.len(),
        expected.len(),
        around(found),
        around(expected)
    );
}

/// Some number below a limit, another for each seed.
pub(crate) fn chance(seed: u64, below: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 29)) % below
}
