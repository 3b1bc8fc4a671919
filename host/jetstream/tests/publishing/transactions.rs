//! Epochs, each of which is there once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidemill_jetstream::{BatchLimits, Error, Outcome, Partial};
use tidemill_nats_test::{Proxy, Server};
use tokio::time::timeout;

use crate::kit::{Numbered, chance, check, connect, expected, open, stored, with_stream};

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_there_once_however_often_it_is_published() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let mut output = open(&connection, 1).await;
    assert_eq!((output.last_epoch(), output.partial()), (None, None));
    for (epoch, outcome) in [
        (3, Outcome::Committed),
        (3, Outcome::AlreadyCommitted),
        (2, Outcome::AlreadyCommitted),
        (5, Outcome::Committed),
    ] {
        assert_eq!(output.publish(epoch, &mut Numbered::new(epoch, 10)).await.unwrap(), outcome, "{epoch}");
    }
    assert_eq!(output.publish(6, &mut Numbered::new(6, 0)).await.unwrap(), Outcome::Committed);
    assert_eq!(output.last_epoch(), Some(5));
    let mut output = open(&connection, 2).await;
    assert_eq!(output.publish(5, &mut Numbered::new(5, 10)).await.unwrap(), Outcome::AlreadyCommitted);
    check(&stored(&connection).await, &expected([(3, 10), (5, 10)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_there_once_and_in_order_over_kills_of_server_and_writer() {
    let Some(server) = Server::start() else { return };
    let server = Arc::new(server);
    let connection = with_stream(&server.url()).await;
    let done = Arc::new(AtomicBool::new(false));
    let killer = std::thread::spawn({
        let (server, done) = (Arc::clone(&server), Arc::clone(&done));
        move || {
            let mut kills = 0;
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20 + chance(kills, 180)));
                server.kill();
                std::thread::sleep(Duration::from_millis(chance(kills, 60)));
                server.restart();
                kills += 1;
            }
            kills
        }
    });
    let (mut run, mut epochs, mut crashes) = (1, Vec::new(), 0);
    let mut output = open(&connection, run).await;
    for epoch in 1..=60 {
        let count = 1 + chance(epoch, 2_500);
        loop {
            let patience = Duration::from_millis(50 + 100 * chance(epoch + run, 20));
            let mut messages = Numbered::new(epoch, count);
            let published = output.publish(epoch, &mut messages);
            if epoch % 3 > 0 {
                published.await.unwrap();
                break;
            }
            // The writer ends somewhere, and another one comes.
            if let Ok(outcome) = timeout(patience, published).await {
                outcome.unwrap();
                break;
            }
            crashes += 1;
            run += 1;
            output = open(&connection, run).await;
        }
        epochs.push((epoch, count));
    }
    done.store(true, Ordering::Relaxed);
    let kills = killer.join().unwrap();
    println!("{kills} kills, {crashes} crashes");
    assert!(kills > 5, "the server was killed {kills} times only");
    check(&stored(&connection).await, &expected(epochs));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_goes_on_where_a_crash_left_it_whatever_a_batch_may_have() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let mut output = open(&connection, 1).await;
    output.publish(6, &mut Numbered::new(6, 2)).await.unwrap();
    let mut failing = Numbered::new(7, 3_500).with(|index| match index {
        2_500 => Err(io::Error::other("the disk has gone")),
        _ => Ok(()),
    });
    let failed = output.publish(7, &mut failing).await.unwrap_err();
    assert!(
        matches!(failed, Error::Epoch { .. }) && failed.to_string().ends_with("the disk has gone"),
        "{failed}"
    );

    let limits = BatchLimits { messages_max: 300, ..BatchLimits::default() };
    let mut output = open(&connection, 2).await.with_limits(limits);
    let begun = Partial { epoch: 7, messages: 1_998, of: 3_500 };
    assert_eq!((output.last_epoch(), output.partial()), (Some(6), Some(begun)));
    for (epoch, count) in [(8, 3_500), (7, 3_400)] {
        let refused = output.publish(epoch, &mut Numbered::new(epoch, count)).await.unwrap_err();
        assert!(refused.to_string().contains("1998 of the 3500 messages of epoch 7"), "{refused}");
    }
    assert_eq!(output.publish(7, &mut Numbered::new(7, 3_500)).await.unwrap(), Outcome::Committed);
    assert_eq!((output.last_epoch(), output.partial()), (Some(7), None));
    check(&stored(&connection).await, &expected([(6, 2), (7, 3_500)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_as_large_as_the_server_takes_and_bytes_allow() {
    let Some(server) = Server::with("jetstream { limits { batch { max_msgs: 100 } } }") else { return };
    let connection = with_stream(&server.url()).await;
    let mut output = open(&connection, 1).await;
    output.publish(1, &mut Numbered::new(1, 350)).await.unwrap();
    assert_eq!(output.limits().messages_max, 100);
    let mut output = open(&connection, 2).await.with_limits(BatchLimits { messages_max: 50, bytes_max: 100 });
    output.publish(2, &mut Numbered::new(2, 120)).await.unwrap();
    check(&stored(&connection).await, &expected([(1, 350), (2, 120)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn larger_batches_are_used_where_the_server_takes_them() {
    let Some(server) = Server::with("jetstream { limits { batch { max_msgs: 5000 } } }") else { return };
    let connection = with_stream(&server.url()).await;
    let limits = BatchLimits { messages_max: 5_000, ..BatchLimits::default() };
    let mut output = open(&connection, 1).await.with_limits(limits);
    output.publish(1, &mut Numbered::new(1, 4_999)).await.unwrap();
    assert_eq!(output.limits(), limits);
    let info = connection.stream("out").await.unwrap();
    // What the run began with, and one marker for the whole epoch.
    assert_eq!(info.cached_info().state.messages, 4_999 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_stalls_at_the_commit_leaves_nothing_twice() {
    let Some(server) = Server::start() else { return };
    let direct = with_stream(&server.url()).await;
    let proxy = Arc::new(Proxy::start(&server.address()));
    let connection = connect(&proxy.url()).await;
    let mut output = open(&connection, 1).await;
    let epochs: Vec<(u64, u64)> = (1..=16).map(|epoch| (epoch, 400)).collect();
    for &(epoch, count) in &epochs {
        let mut first = true;
        let proxy = Arc::clone(&proxy);
        let mut messages = Numbered::new(epoch, count).with(move |index| {
            if index + 1 == count && std::mem::take(&mut first) {
                let proxy = Arc::clone(&proxy);
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_micros(500 * epoch));
                    proxy.stall();
                    std::thread::sleep(Duration::from_millis(50));
                    // Every other time the connection is lost with what is held back, else that comes late.
                    if epoch % 2 == 0 {
                        proxy.cut();
                    }
                    std::thread::sleep(Duration::from_millis(if epoch % 4 == 1 { 2_500 } else { 50 }));
                    proxy.heal();
                });
            }
            Ok(())
        });
        output.publish(epoch, &mut messages).await.unwrap();
    }
    check(&stored(&direct).await, &expected(epochs));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_refused_in_words() {
    let Some(server) = Server::with("max_payload: 1024") else { return };
    let connection = with_stream(&server.url()).await;
    let mut output = open(&connection, 1).await;
    struct Wrong(tidemill_jetstream::Outgoing<'static>);
    impl tidemill_jetstream::Epoch for Wrong {
        fn count(&self) -> u64 {
            1
        }
        fn seek(&mut self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn next(&mut self) -> io::Result<Option<tidemill_jetstream::Outgoing<'_>>> {
            Ok(Some(self.0.clone()))
        }
    }
    let message = |subject, headers, size| {
        Wrong(tidemill_jetstream::Outgoing { subject, headers, id: None, payload: vec![b'x'; size].into() })
    };
    for (mut messages, reason) in [
        (message("orders.a", "", 2_000), "larger than the 1024 bytes"),
        (message("orders. a", "", 1), "spaces"),
        (message("tidemill.out.shop_orders.marker", "", 1), "reserved"),
        (message("orders.a", "Nats-Batch-Commit:1", 1), "is the server's"),
    ] {
        let refused = output.publish(1, &mut messages).await.unwrap_err();
        assert!(
            matches!(&refused, Error::Message { .. }) && refused.to_string().contains(reason),
            "{refused}"
        );
    }
    output.publish(1, &mut Numbered::new(1, 3)).await.unwrap();
    check(&stored(&connection).await, &expected([(1, 3)]));
}
