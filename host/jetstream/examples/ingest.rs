//! How fast a stream is read: by our reader, by the shortest loop that pulls, and by async-nats' own `fetch`.
//!
//! ```sh
//! cargo run --release -p tidemill-jetstream --example ingest
//! ```
//!
//! Each reads the same stream in turn, in a server of its own on this machine; the table has medians of their rounds.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use tidemill_jetstream::{Connection, Options, Reader, Settings, Start};
use tidemill_nats_test::Server;

const ROUNDS: usize = 7;
/// The largest of these would be the best for the others.
const PULL_MESSAGES: usize = 5000;
/// Messages whose acknowledgements are waited for together.
const WINDOW: usize = 2000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Some(server) = Server::start() else { return Ok(()) };
    let connection = Connection::open(&Settings::new(vec![server.url()])).await?;
    println!("| message | reader msg/s | pull loop msg/s | fetch msg/s | reader / pull loop |");
    println!("|---|---:|---:|---:|---:|");
    for (name, bytes, count) in [("100 B", 100, 1_500_000), ("1 KB", 1000, 400_000)] {
        let stream = fill(&connection, bytes, count).await?;
        let mut rates = [const { Vec::new() }; 3];
        // The first round only warms up.
        for round in 0..=ROUNDS {
            for i in 0..3 {
                let way = (i + round) % 3;
                let begun = Instant::now();
                match way {
                    0 => reader(&connection, count).await?,
                    1 => pull_loop(&connection, &stream, count).await?,
                    _ => fetch(&stream, count).await?,
                }
                if round > 0 {
                    rates[way].push(count as f64 / begun.elapsed().as_secs_f64());
                }
            }
        }
        let [ours, raw, fetched] = rates.map(median);
        println!("| {name} | {ours:.0} | {raw:.0} | {fetched:.0} | {:.2} |", ours / raw);
        connection.context().delete_stream("ingest").await?;
    }
    Ok(())
}

async fn fill(connection: &Connection, bytes: usize, count: u64) -> Result<Stream, Failure> {
    let config =
        Config { name: "ingest".to_owned(), subjects: vec!["ingest".to_owned()], ..Default::default() };
    let stream = connection.context().create_stream(config).await?;
    let payload = Bytes::from(vec![b'x'; bytes]);
    let mut sent = Vec::with_capacity(WINDOW);
    for _ in 0..count {
        sent.push(connection.context().publish("ingest", payload.clone()).await?);
        if sent.len() == WINDOW {
            for acknowledgement in sent.drain(..) {
                acknowledgement.await?;
            }
        }
    }
    for acknowledgement in sent {
        acknowledgement.await?;
    }
    Ok(stream)
}

async fn reader(connection: &Connection, count: u64) -> Result<(), Failure> {
    let mut reader = Reader::open(connection, "ingest", Start::Beginning, Options::default()).await?;
    while reader.position().sequence < count {
        std::hint::black_box(reader.next().await?);
    }
    Ok(())
}

async fn consumer(stream: &Stream) -> Result<Consumer<pull::Config>, Failure> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: 1 },
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: Duration::from_secs(60),
        ..Default::default()
    };
    Ok(stream.create_consumer(config).await?)
}

/// Pulls without a look at anything but the number of messages.
async fn pull_loop(connection: &Connection, stream: &Stream, count: u64) -> Result<(), Failure> {
    let consumer = consumer(stream).await?;
    let client = connection.client();
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await?;
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.ingest.{}", consumer.cached_info().name);
    let body = Bytes::from(format!(
        r#"{{"batch":{PULL_MESSAGES},"expires":5000000000,"idle_heartbeat":1000000000}}"#
    ));
    let (mut outstanding, mut read) = (0, 0);
    while read < count {
        while outstanding <= PULL_MESSAGES {
            outstanding += PULL_MESSAGES;
            client.publish_with_reply(subject.clone(), inbox.clone(), body.clone()).await?;
        }
        let message = messages.next().await.ok_or("the connection has ended")?;
        if message.status.is_none() {
            outstanding -= 1;
            read += 1;
            std::hint::black_box(message);
        }
    }
    stream.delete_consumer(&consumer.cached_info().name).await?;
    Ok(())
}

async fn fetch(stream: &Stream, count: u64) -> Result<(), Failure> {
    let consumer = consumer(stream).await?;
    let mut read = 0;
    while read < count {
        let mut messages = consumer.fetch().max_messages(PULL_MESSAGES).messages().await?;
        while let Some(message) = messages.next().await {
            std::hint::black_box(message?);
            read += 1;
        }
    }
    stream.delete_consumer(&consumer.cached_info().name).await?;
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}
