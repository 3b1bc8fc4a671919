//! How fast output gets into a stream: epochs as transactions, beside bare atomic batches and single messages of which
//! many are on their way.
//!
//! `cargo run --release -p tidemill-jetstream --example output`, in a server of its own, or in the one at the address that
//! is given; `--replicas=3` for a cluster. It makes the stream `output-bench`, and removes it.
//!
//! Ways take turns, so that what else the machine does meets all of them; medians are shown. A server takes 1,000 messages
//! in a batch unless told otherwise, and a marker is one of them: an epoch of 999 is one batch, one of 1,000 would be
//! two, and on one replica a batch costs about the same whatever is in it.

use std::io;
use std::time::Instant;

use async_nats::header::{self, HeaderMap, HeaderValue};
use bytes::Bytes;
use tidemill_jetstream::{
    Connection, Epoch, Outgoing, Pipelined, Settings, StreamWanted, Transactions, WindowLimits, ensure_stream,
};
use tidemill_nats_test::Server;

const STREAM: &str = "output-bench";
const SUBJECT: &str = "output-bench.rows";
const MESSAGES: u64 = 99_900;
const ROUNDS: usize = 7;
const SIZES: [usize; 2] = [100, 1_024];

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy)]
enum Way {
    Batches,
    Transactions { epoch: u64 },
    Pipelined,
}

const WAYS: [(&str, Way); 5] = [
    ("bare atomic batches of 1,000", Way::Batches),
    ("transactions, epochs of 999", Way::Transactions { epoch: 999 }),
    ("transactions, epochs of 9,990", Way::Transactions { epoch: 9_990 }),
    ("transactions, epochs of 99,900", Way::Transactions { epoch: 99_900 }),
    ("single messages, 1,000 on their way", Way::Pipelined),
];

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let (mut given, mut replicas) = (None, 1);
    for argument in std::env::args().skip(1) {
        match argument.strip_prefix("--replicas=") {
            Some(count) => replicas = count.parse()?,
            None => given = Some(argument),
        }
    }
    let own = if given.is_none() { Server::start() } else { None };
    let Some(url) = given.or_else(|| own.as_ref().map(Server::url)) else { return Ok(()) };
    let connection = Connection::open(&Settings::new(vec![url])).await?;
    for size in SIZES {
        let payload = Bytes::from(vec![b'x'; size]);
        let mut rates = vec![Vec::new(); WAYS.len()];
        for round in 0..=ROUNDS {
            for (way, rates) in WAYS.iter().zip(&mut rates) {
                let _ = connection.context().delete_stream(STREAM).await;
                let wanted = StreamWanted { replicas, ..StreamWanted::new(STREAM, vec![SUBJECT.to_owned()]) };
                ensure_stream(&connection, &wanted).await?;
                let begin = Instant::now();
                publish(&connection, way.1, &payload).await?;
                let rate = MESSAGES as f64 / begin.elapsed().as_secs_f64();
                // The first one is warming up.
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        println!("{MESSAGES} messages of {size} bytes, median of {ROUNDS} rounds:");
        let medians: Vec<f64> = rates.into_iter().map(median).collect();
        for ((name, _), rate) in WAYS.iter().zip(&medians) {
            println!("  {name:<36} {:>5.0}k/s  {:>4.2}", rate / 1e3, rate / medians[0]);
        }
    }
    connection.context().delete_stream(STREAM).await?;
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn publish(connection: &Connection, way: Way, payload: &Bytes) -> Result<(), Failed> {
    match way {
        Way::Batches => batches(connection, payload).await,
        Way::Transactions { epoch: count } => {
            let mut output = Transactions::open(connection, STREAM, "bench/output", 1).await?;
            for epoch in 1..=MESSAGES / count {
                output.publish(epoch, &mut Same { payload: payload.clone(), count, at: 0 }).await?;
            }
            Ok(())
        }
        Way::Pipelined => {
            let mut output = Pipelined::open(connection, STREAM, WindowLimits::default()).await?;
            let message = Outgoing { subject: SUBJECT, headers: "", id: None, payload: payload.clone() };
            for _ in 0..MESSAGES {
                output.send(&message).await?;
            }
            Ok(output.flush().await?)
        }
    }
}

/// One after another, without fence, marker or anything that could go wrong.
async fn batches(connection: &Connection, payload: &Bytes) -> Result<(), Failed> {
    let client = connection.client();
    let subject = async_nats::Subject::from(SUBJECT);
    for batch in 0..MESSAGES / 999 {
        // The last one stands for a marker.
        let id = format!("bench-{batch}");
        let headers = |sequence: u64| {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_BATCH_ID, id.as_str());
            headers.insert(header::NATS_BATCH_SEQUENCE, HeaderValue::from(sequence));
            headers
        };
        for sequence in 1..1_000 {
            client.publish_with_headers(subject.clone(), headers(sequence), payload.clone()).await?;
        }
        let mut headers = headers(1_000);
        headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
        let answer = client.request_with_headers(subject.clone(), headers, payload.clone()).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
        if !answer["error"].is_null() {
            return Err(answer["error"].to_string().into());
        }
    }
    Ok(())
}

/// The same message again and again.
struct Same {
    payload: Bytes,
    count: u64,
    at: u64,
}

impl Epoch for Same {
    fn count(&self) -> u64 {
        self.count
    }

    fn seek(&mut self, index: u64) -> io::Result<()> {
        self.at = index;
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Outgoing<'_>>> {
        if self.at == self.count {
            return Ok(None);
        }
        self.at += 1;
        Ok(Some(Outgoing { subject: SUBJECT, headers: "", id: None, payload: self.payload.clone() }))
    }
}
