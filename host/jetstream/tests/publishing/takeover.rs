//! Runs that take the output over from each other.

use std::time::Duration;

use tidemill_jetstream::{Error, Outcome, Transactions};
use tidemill_nats_test::{Proxy, Server};

use crate::kit::{Numbered, PRODUCER, STREAM, check, connect, expected, open, stored, with_stream};

#[tokio::test(flavor = "multi_thread")]
async fn an_older_run_writes_nothing_after_a_newer_one_came() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let mut old = open(&connection, 1).await;
    old.publish(1, &mut Numbered::new(1, 5)).await.unwrap();
    let mut new = open(&connection, 2).await;
    assert_eq!(new.last_epoch(), Some(1));
    for epoch in [2, 3] {
        let fenced = old.publish(epoch, &mut Numbered::new(epoch, 1_500)).await.unwrap_err();
        let Error::Fenced { by, producer, .. } = &fenced else { panic!("{fenced}") };
        assert!(by.contains("run 2") && producer == PRODUCER, "{fenced}");
    }
    assert!(matches!(old.renew().await, Err(Error::Fenced { .. })));
    check(&stored(&connection).await, &expected([(1, 5)]));
    assert_eq!(new.publish(2, &mut Numbered::new(2, 7)).await.unwrap(), Outcome::Committed);
    // Nor does it come back.
    let refused = Transactions::open(&connection, STREAM, PRODUCER, 1).await.err().unwrap();
    assert!(
        matches!(&refused, Error::Fenced { .. }) && refused.to_string().contains("stream purge"),
        "{refused}"
    );
    new.publish(3, &mut Numbered::new(3, 7)).await.unwrap();
    check(&stored(&connection).await, &expected([(1, 5), (2, 7), (3, 7)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_in_a_client_without_a_connection_comes_too_late() {
    let Some(server) = Server::start() else { return };
    let direct = with_stream(&server.url()).await;
    let proxy = Proxy::start(&server.address());
    let cut_off = connect(&proxy.url()).await;
    let mut old = open(&cut_off, 1).await;
    old.publish(1, &mut Numbered::new(1, 5)).await.unwrap();
    proxy.cut();
    let late = tokio::spawn(async move { old.publish(2, &mut Numbered::new(2, 200)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut new = open(&direct, 2).await;
    new.publish(2, &mut Numbered::new(2, 300)).await.unwrap();
    proxy.heal();
    let fenced = late.await.unwrap().unwrap_err();
    assert!(matches!(fenced, Error::Fenced { .. }), "{fenced}");
    new.publish(3, &mut Numbered::new(3, 3)).await.unwrap();
    check(&stored(&direct).await, &expected([(1, 5), (2, 300), (3, 3)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_server_has_half_of_is_void_for_a_newer_run() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let mut old = open(&connection, 1).await;
    let (url, slow) = (server.url(), std::sync::Arc::new(std::sync::Barrier::new(2)));
    let waiting = std::sync::Arc::clone(&slow);
    let late = tokio::spawn(async move {
        let mut messages = Numbered::new(1, 500).with(move |index| {
            // Until the other has taken over.
            if index == 250 {
                waiting.wait();
                waiting.wait();
            }
            Ok(())
        });
        old.publish(1, &mut messages).await
    });
    tokio::task::spawn_blocking({
        let slow = std::sync::Arc::clone(&slow);
        move || slow.wait()
    })
    .await
    .unwrap();
    let mut new = open(&connect(&url).await, 2).await;
    new.publish(1, &mut Numbered::new(1, 2)).await.unwrap();
    tokio::task::spawn_blocking(move || slow.wait()).await.unwrap();
    assert!(matches!(late.await.unwrap(), Err(Error::Fenced { .. })));
    check(&stored(&connection).await, &expected([(1, 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_that_is_gone_is_noticed() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let mut output = open(&connection, 1).await;
    output.publish(4, &mut Numbered::new(4, 5)).await.unwrap();
    assert!(output.check_has(Some(4)).is_ok() && output.check_has(None).is_ok());
    let missing = output.check_has(Some(5)).unwrap_err().to_string();
    assert!(missing.contains("epoch 5 of `shop/orders`, found epoch 4"), "{missing}");
    output.renew().await.unwrap();
    let stream = connection.stream(STREAM).await.unwrap();
    stream.purge().filter("tidemill.>").await.unwrap();
    let lost = output.publish(5, &mut Numbered::new(5, 5)).await.unwrap_err();
    assert!(matches!(lost, Error::Changed { .. }), "{lost}");
    let output = open(&connection, 2).await;
    assert_eq!(output.last_epoch(), None);
    let missing = output.check_has(Some(4)).unwrap_err().to_string();
    assert!(missing.contains("found no marker"), "{missing}");
    check(&stored(&connection).await, &expected([(4, 5)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_share_a_stream() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let mut one = open(&connection, 1).await;
    let mut other = Transactions::open(&connection, STREAM, "shop/bills", 1).await.unwrap();
    for epoch in 1..=20 {
        let (mut first, mut second) = (Numbered::new(epoch, 150), Numbered::new(epoch, 150));
        let (first, second) = tokio::join!(one.publish(epoch, &mut first), other.publish(epoch, &mut second));
        assert_eq!((first.unwrap(), second.unwrap()), (Outcome::Committed, Outcome::Committed));
    }
    let mut all = stored(&connection).await;
    all.sort();
    let mut twice = expected((1..=20).flat_map(|epoch| [(epoch, 150); 2]));
    twice.sort();
    check(&all, &twice);
}
