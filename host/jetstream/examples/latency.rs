//! How long a message takes through a pipeline: from before it is published to one stream until it is read from another.
//!
//! ```sh
//! cargo build --release -p tidemill && cargo run --release -p tidemill-jetstream --example latency
//! ```
//!
//! So many messages a second are published in a server of its own on this machine, and read by a reader of ours; the first
//! row has no pipeline in between.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::stream::Config;
use tidemill_jetstream::{Connection, Options, Reader, Settings, Start};
use tidemill_nats_test::Server;
use tokio::time::{Instant, MissedTickBehavior, interval};

const MESSAGES_PER_SECOND: u64 = 20_000;
/// In which programs warm up; these messages don't count.
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);
/// How often messages are published.
const TICK: Duration = Duration::from_millis(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let tidemill = program()?;
    let checkpoints = |interval: &str| format!("[checkpoints]\ninterval = \"{interval}\"\n");
    let cases = [
        ("none: the server alone", String::new(), None),
        ("at-least-once", checkpoints("1s"), Some("at-least-once")),
        ("idempotent", checkpoints("1s"), Some("idempotent")),
        ("exactly-once, a checkpoint each 100 ms", checkpoints("100ms"), Some("exactly-once")),
        ("exactly-once, a checkpoint each second", checkpoints("1s"), Some("exactly-once")),
    ];
    println!("| delivery | messages | p50 | p99 | p99.9 |");
    println!("|---|---:|---:|---:|---:|");
    for (name, checkpoints, delivery) in cases {
        let Some(mut latencies) = measure(&tidemill, &checkpoints, delivery).await? else { return Ok(()) };
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies.get(place).map_or(f64::NAN, |&us| us as f64 / 1000.0)
        };
        let (count, [p50, p99, p999]) = (latencies.len(), [0.5, 0.99, 0.999].map(at));
        println!("| {name} | {count} | {p50:.1} ms | {p99:.1} ms | {p999:.1} ms |");
    }
    Ok(())
}

/// The program beside this one.
fn program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("this program has no folder")?;
    let tidemill = folder.join("tidemill");
    match tidemill.exists() {
        true => Ok(tidemill),
        false => Err(format!("{} isn't there; build it first", tidemill.display()).into()),
    }
}

/// Latencies in microseconds; none without a server.
async fn measure(
    tidemill: &Path,
    checkpoints: &str,
    delivery: Option<&str>,
) -> Result<Option<Vec<u64>>, Failure> {
    let Some(server) = Server::start() else { return Ok(None) };
    let connection = Connection::open(&Settings::new(vec![server.url()])).await?;
    let config = Config { name: "IN".to_owned(), subjects: vec!["in".to_owned()], ..Config::default() };
    connection.context().create_stream(config).await?;
    let folder = tempfile::tempdir()?;
    let mut running = None;
    if let Some(delivery) = delivery {
        let pipeline = folder.path().join("pipeline.toml");
        std::fs::write(&pipeline, pipeline_file(&server.url(), checkpoints, delivery))?;
        running = Some(Running::start(tidemill, &pipeline)?);
        while connection.stream("OUT").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let stream = if running.is_some() { "OUT" } else { "IN" };
    let mut reader = Reader::open(&connection, stream, Start::Beginning, Options::default()).await?;
    // On a connection of its own, as any producer's.
    let producer = Connection::open(&Settings::new(vec![server.url()])).await?;
    let publishing = tokio::spawn(publish(producer));
    let from_us = now_us() + u64::try_from(WARM_UP.as_micros())?;
    let expected = MESSAGES_PER_SECOND * (WARM_UP + MEASURED).as_secs();
    let (mut latencies, mut count) = (Vec::new(), 0);
    while count < expected {
        let batch = reader.next().await?;
        let now = now_us();
        for message in batch.messages.iter().filter(|m| !m.subject.starts_with("tidemill.")) {
            count += 1;
            let sent = sent_us(&message.payload).ok_or("a message without its time")?;
            if sent >= from_us {
                latencies.push(now.saturating_sub(sent));
            }
        }
    }
    publishing.await??;
    drop(running);
    Ok(Some(latencies))
}

/// Publishes messages as fast as they are to come, each with the time.
async fn publish(connection: Connection) -> Result<(), Failure> {
    let per_tick = MESSAGES_PER_SECOND * u64::try_from(TICK.as_micros())? / 1_000_000;
    let ticks = (WARM_UP + MEASURED).as_micros() / TICK.as_micros();
    let mut tick = interval(TICK);
    // What was missed is made up for, and each message has the time at which it is sent.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0_u64;
    let begun = Instant::now();
    for _ in 0..ticks {
        tick.tick().await;
        for _ in 0..per_tick {
            number += 1;
            let payload = format!("{{\"t\":{},\"n\":{number},\"text\":\"{:060}\"}}", now_us(), 0);
            connection.client().publish("in", payload.into()).await?;
        }
    }
    connection.client().flush().await?;
    let behind = begun.elapsed().saturating_sub(WARM_UP + MEASURED);
    if behind > Duration::from_millis(500) {
        eprintln!("the messages were published {} ms late", behind.as_millis());
    }
    Ok(())
}

fn pipeline_file(url: &str, checkpoints: &str, delivery: &str) -> String {
    format!(
        r#"name = "latency"
{checkpoints}
[connections.local]
type = "nats"
servers = "{url}"
[sources.in]
type = "jetstream"
connection = "local"
stream = "IN"
fields = {{ t = "integer", n = "integer", text = "text" }}
[sinks.out]
type = "jetstream"
connection = "local"
input = "in"
stream = "OUT"
subject = "out"
delivery = "{delivery}"
create = {{ subjects = "out" }}
"#
    )
}

fn sent_us(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let digits = text.split_once("\"t\":")?.1;
    digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A pipeline that runs, until it is dropped.
struct Running(Child);

impl Running {
    fn start(tidemill: &Path, pipeline: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(tidemill);
        command.args(["run", "--quiet"]).arg(pipeline).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
