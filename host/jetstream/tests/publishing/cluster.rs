//! Three servers, of which the stream's leader is killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemill_jetstream::{Outgoing, Pipelined, StreamWanted, WindowLimits, ensure_stream};
use tidemill_nats_test::Cluster;

use crate::kit::{Numbered, STREAM, check, connect_all, expected, open, stored, stream, wanted};

#[tokio::test(flavor = "multi_thread")]
async fn elections_lose_nothing_and_repeat_nothing() {
    let Some(cluster) = Cluster::start(3) else { return };
    let cluster = Arc::new(cluster);
    let connection = connect_all(cluster.urls()).await;
    ensure_stream(&connection, &StreamWanted { replicas: 3, ..wanted() }).await.unwrap();
    let singles = StreamWanted { replicas: 3, ..StreamWanted::new("singles", vec!["singles".to_owned()]) };
    ensure_stream(&connection, &singles).await.unwrap();

    let begin = Instant::now();
    let running = move || begin.elapsed() < Duration::from_secs(14);
    let killer = tokio::spawn({
        let (cluster, connection) = (Arc::clone(&cluster), connection.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let info = connection.stream(STREAM).await.unwrap().cached_info().clone();
            let leader = info.cluster.and_then(|cluster| cluster.leader).unwrap();
            let killed = cluster.position(&leader).unwrap();
            let restarted = Arc::clone(&cluster);
            tokio::task::spawn_blocking(move || {
                restarted.kill(killed);
                std::thread::sleep(Duration::from_secs(3));
                restarted.restart(killed);
            });
        }
    });
    let single = tokio::spawn({
        let connection = connection.clone();
        async move {
            let mut output = Pipelined::open(&connection, "singles", WindowLimits::default()).await.unwrap();
            let mut sent = 0u64;
            while running() {
                let id = sent.to_string();
                let payload = Bytes::from(id.clone());
                let message = Outgoing { subject: "singles", headers: "", id: Some(&id), payload };
                output.send(&message).await.unwrap();
                sent += 1;
            }
            output.flush().await.unwrap();
            sent
        }
    });
    let mut output = open(&connection, 1).await;
    let mut epochs = Vec::new();
    while running() {
        let epoch = epochs.len() as u64 + 1;
        let count = 100 + 700 * (epoch % 4);
        output.publish(epoch, &mut Numbered::new(epoch, count)).await.unwrap();
        epochs.push((epoch, count));
    }
    killer.await.unwrap();
    let sent = single.await.unwrap();
    println!("{} epochs, {sent} single messages", epochs.len());
    // The servers end with the last to hold them.
    let waiting = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || waiting.wait()).await.unwrap();
    check(&stored(&connection).await, &expected(epochs));
    let state = stream(&connection, "singles").await.cached_info().state.clone();
    assert_eq!(state.messages, sent);
}
