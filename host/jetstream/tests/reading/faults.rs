//! What a reader rides out.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::stream::{self, Stream};
use futures_util::TryStreamExt;
use tidemill_jetstream::{Connection, Reader, Start};
use tidemill_nats_test::{Cluster, Proxy, Server};
use tokio::time::sleep;

use crate::support::{Check, connect, fill, make, next, numbers, quick, read_past, read_to, small};

const MESSAGES: u64 = 100_000;

/// Reads all messages, as slowly as it takes for many faults to be thrown meanwhile; `fault` is told how many there
/// were before.
async fn read_with_faults(connection: &Connection, messages: u64, mut fault: impl AsyncFnMut(u64)) {
    let mut reader = Reader::open(connection, "numbers", Start::Beginning, small()).await.unwrap();
    let mut check = Check { next: 1 };
    let (faults, mut thrown) = (10, 0);
    while check.next <= messages {
        check.batch(&next(&mut reader).await.unwrap());
        if check.next > thrown * messages / faults {
            fault(thrown).await;
            thrown += 1;
        }
    }
    assert_eq!(reader.gaps(), 0);
    // It goes on.
    fill(connection, messages + 1..=messages + 10).await;
    read_to(&mut reader, messages + 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_consumer_is_made_again() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let stream = numbers(&connection).await;
    fill(&connection, 1..=MESSAGES).await;
    let mut deleted = 0;
    read_with_faults(&connection, MESSAGES, async |_| {
        let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
        for name in names {
            deleted += 1;
            stream.delete_consumer(&name).await.unwrap();
        }
    })
    .await;
    assert!(deleted >= 10, "{deleted} were deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=MESSAGES).await;
    read_with_faults(&connection, MESSAGES, async |fault| {
        if fault % 3 == 0 {
            server.kill();
            sleep(Duration::from_millis(fault * 100)).await;
            server.restart();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_made_again() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    let connection = connect(&proxy.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=MESSAGES).await;
    read_with_faults(&connection, MESSAGES, async |fault| {
        proxy.cut();
        sleep(Duration::from_millis([0, 1, 20, 300, 1500][fault as usize % 5])).await;
        proxy.heal();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_connection_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    let connection = connect(&proxy.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=MESSAGES).await;
    read_with_faults(&connection, MESSAGES, async |fault| {
        proxy.stall();
        sleep(Duration::from_millis([10, 100, 600, 1500, 5000][fault as usize % 5])).await;
        proxy.heal();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    numbers(&connection).await;
    fill(&connection, 1..=MESSAGES).await;
    read_with_faults(&connection, MESSAGES, async |fault| {
        server.pause();
        sleep(Duration::from_millis([50, 400, 1000, 3000][fault as usize % 4])).await;
        server.resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_come_while_connections_go() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    let (publishing, reading) = (connect(&server.url()).await, connect(&proxy.url()).await);
    numbers(&publishing).await;
    let mut reader = Reader::open(&reading, "numbers", Start::Beginning, quick()).await.unwrap();
    let publisher = tokio::spawn(async move {
        for first in (1..=20_000).step_by(100) {
            fill(&publishing, first..=first + 99).await;
            sleep(Duration::from_millis(5)).await;
        }
    });
    let cutter = tokio::spawn(async move {
        for pause in [0, 5, 50, 200, 0, 1, 10, 100] {
            sleep(Duration::from_millis(100)).await;
            proxy.cut();
            sleep(Duration::from_millis(pause)).await;
            proxy.heal();
        }
        proxy
    });
    read_to(&mut reader, 20_000).await;
    publisher.await.unwrap();
    drop(cutter.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leader_of_a_cluster_goes_on() {
    let Some(cluster) = Cluster::start(3) else { return };
    let urls = cluster.urls().join(",");
    let connection = connect_all(&urls).await;
    let config = stream::Config { num_replicas: 3, ..Default::default() };
    let mut stream = make(&connection, config).await;
    let messages = 20_000;
    fill(&connection, 1..=messages).await;
    let mut reader = Reader::open(&connection, "numbers", Start::Beginning, small()).await.unwrap();
    read_past(&mut reader, 1).await;
    let mut check = Check { next: reader.position().sequence + 1 };
    for last in [messages / 3, messages * 2 / 3] {
        while check.next < last {
            check.batch(&next(&mut reader).await.unwrap());
        }
        let leader = leader(&cluster, &mut stream).await;
        cluster.kill(leader);
        check.batch(&next(&mut reader).await.unwrap());
        cluster.restart(leader);
        cluster.wait();
    }
    while check.next <= messages {
        check.batch(&next(&mut reader).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_noticed() {
    let Some(cluster) = Cluster::start(3) else { return };
    let anywhere = connect(&cluster.urls()[0]).await;
    let mut stream = make(&anywhere, stream::Config::default()).await;
    let at = leader(&cluster, &mut stream).await;
    // Its own connection stays, and nobody tells it that the consumer went with the server that had it.
    let connection = connect(&cluster.urls()[(at + 1) % 3]).await;
    fill(&connection, 1..=100).await;
    let mut reader = Reader::open(&connection, "numbers", Start::Beginning, quick()).await.unwrap();
    read_to(&mut reader, 100).await;
    cluster.kill(at);
    cluster.restart(at);
    cluster.wait();
    leader(&cluster, &mut stream).await;
    fill(&connection, 101..=200).await;
    read_to(&mut reader, 200).await;
    assert_eq!(connection.client().statistics().connects.load(Ordering::Relaxed), 1);
}

/// Which server leads the stream.
async fn leader(cluster: &Cluster, stream: &mut Stream) -> usize {
    for _ in 0..100 {
        let info = stream.info().await.ok();
        let leader =
            info.and_then(|info| info.cluster.as_ref()).and_then(|cluster| cluster.leader.as_deref());
        if let Some(leader) = leader.and_then(|leader| cluster.position(leader)) {
            return leader;
        }
        sleep(Duration::from_millis(300)).await;
    }
    panic!("nobody leads the stream");
}

async fn connect_all(urls: &str) -> Connection {
    let mut settings = tidemill_jetstream::Settings::new(urls.split(',').map(str::to_owned).collect());
    settings.request_timeout = Duration::from_secs(2);
    Connection::open(&settings).await.unwrap()
}
