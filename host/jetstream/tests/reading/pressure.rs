//! A reader that isn't asked for what it has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::stream::{self, ConsumerLimits};
use tidemill_jetstream::{Options, Reader, Start};
use tidemill_nats_test::Server;
use tokio::time::sleep;

use crate::support::{connect, fill, fill_with, make, next, numbers, quick, read_past, read_to, small};

fn sized(sequence: u64, bytes: usize) -> String {
    let number = sequence.to_string();
    "0".repeat(bytes - number.len()) + &number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_isnt_taken_stays_at_the_server() {
    let Some(server) = Server::start() else { return };
    let (publishing, reading) = (connect(&server.url()).await, connect(&server.url()).await);
    numbers(&publishing).await;
    let (messages, bytes) = (400, 200 << 10);
    fill_with(&publishing, (1..=messages).map(|number| sized(number, bytes))).await;
    let options = Options { buffer_bytes: 2 << 20, ..quick() };
    let mut reader = Reader::open(&reading, "numbers", Start::Beginning, options).await.unwrap();
    let received = || reading.client().statistics().in_bytes.load(Ordering::Relaxed);
    // Several heartbeats and expired pulls.
    sleep(Duration::from_secs(2)).await;
    let kept = received();
    assert!(kept < 3 << 20, "{kept} bytes are kept");
    let (mut expected, mut taken) = (1, 0);
    while expected <= messages {
        let batch = next(&mut reader).await.unwrap();
        for message in batch.messages {
            assert_eq!((message.sequence, &*message.payload), (expected, sized(expected, bytes).as_bytes()));
            taken += message.payload.len() as u64;
            expected += 1;
        }
        if expected % 50 == 0 {
            sleep(Duration::from_millis(300)).await;
            let kept = received() - taken;
            assert!(kept < 3 << 20, "{kept} bytes are kept");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_larger_than_the_buffer_comes() {
    let Some(server) = Server::with("max_payload: 8M") else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    let sizes = [100, 5 << 20, 100, 100, 3 << 20, 2 << 20, 70_000, 10, 260_000, 262_144, 5 << 20];
    let payloads = || (1_u64..).zip(sizes).map(|(number, bytes)| sized(number, bytes));
    fill_with(&connection, payloads()).await;
    for buffer_bytes in [4 << 10, 1 << 20, 4 << 20, 64 << 20] {
        let options = Options { buffer_bytes, ..quick() };
        let mut reader = Reader::open(&connection, "numbers", Start::Beginning, options).await.unwrap();
        let mut read = Vec::new();
        while read.len() < sizes.len() {
            read.extend(next(&mut reader).await.unwrap().messages.into_iter().map(|message| message.payload));
        }
        assert!(read.into_iter().eq(payloads()), "with {buffer_bytes}");
        assert!(reader.is_caught_up());
        // The last is as large as its history may be.
        let options = Options { buffer_bytes, ..quick() };
        Reader::resume(&connection, "numbers", reader.position(), options).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_may_be_limited() {
    let limits = "jetstream { max_mem: 256M, max_file: 4G, limits { max_request_batch: 70 } }";
    let Some(server) = Server::with(limits) else { return };
    let connection = connect(&server.url()).await;
    let inactive_threshold = Duration::from_millis(500);
    let consumer_limits = Some(ConsumerLimits { inactive_threshold, max_ack_pending: 10 });
    make(&connection, stream::Config { consumer_limits, ..Default::default() }).await;
    fill(&connection, 1..=20_000).await;
    let mut reader = Reader::open(&connection, "numbers", Start::Beginning, small()).await.unwrap();
    read_past(&mut reader, 1).await;
    // It is held back, and the server removes its consumer.
    sleep(Duration::from_secs(2)).await;
    read_to(&mut reader, 20_000).await;
}
