//! Single messages, many on their way at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_jetstream::{Error, Outgoing, Pipelined, WindowLimits};
use tidemill_nats_test::{Proxy, Server};

use crate::kit::{STREAM, check, connect, stored, with_stream};

const LIMITS: WindowLimits = WindowLimits { messages_max: 500, bytes_max: 1 << 20 };

async fn send(output: &mut Pipelined, number: u64, with_id: bool) {
    let text = format!("{number:06}");
    let id = with_id.then_some(text.as_str());
    let payload = Bytes::from(text.clone());
    output.send(&Outgoing { subject: "orders.a", headers: "", id, payload }).await.unwrap();
}

fn numbers(count: u64) -> Vec<String> {
    (0..count).map(|number| format!("{number:06}")).collect()
}

/// Sends while the server is killed now and then.
async fn send_over_kills(with_id: bool) -> Option<Vec<String>> {
    let server = Arc::new(Server::start()?);
    let connection = with_stream(&server.url()).await;
    let mut output = Pipelined::open(&connection, STREAM, LIMITS).await.unwrap();
    for number in 0..20_000 {
        if number % 4_000 == 2_000 {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                server.kill();
                std::thread::sleep(Duration::from_millis(50));
                server.restart();
            });
        }
        send(&mut output, number, with_id).await;
    }
    output.flush().await.unwrap();
    assert_eq!(output.unconfirmed(), 0);
    Some(stored(&connection).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_with_ids_are_there_once_over_kills() {
    let Some(mut found) = send_over_kills(true).await else { return };
    found.sort();
    check(&found, &numbers(20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_ids_are_there_at_least_once_over_kills() {
    let Some(found) = send_over_kills(false).await else { return };
    let found: BTreeSet<String> = found.into_iter().collect();
    check(&found.into_iter().collect::<Vec<_>>(), &numbers(20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_there_in_order_when_nothing_is_lost() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let mut output = Pipelined::open(&connection, STREAM, LIMITS).await.unwrap();
    for number in 0..5_000 {
        send(&mut output, number, false).await;
    }
    output.flush().await.unwrap();
    check(&stored(&connection).await, &numbers(5_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_or_stalls_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let direct = with_stream(&server.url()).await;
    let proxy = Arc::new(Proxy::start(&server.address()));
    let connection = connect(&proxy.url()).await;
    let mut output = Pipelined::open(&connection, STREAM, LIMITS).await.unwrap();
    for number in 0..9_000 {
        if number % 3_000 == 1_500 {
            let proxy = Arc::clone(&proxy);
            std::thread::spawn(move || {
                if number < 3_000 {
                    proxy.stall()
                } else {
                    proxy.cut()
                }
                std::thread::sleep(Duration::from_millis(200));
                proxy.heal();
            });
        }
        send(&mut output, number, true).await;
    }
    output.flush().await.unwrap();
    let mut found = stored(&direct).await;
    found.sort();
    check(&found, &numbers(9_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_named_and_leave_the_rest_alone() {
    let Some(server) = Server::with("max_payload: 65536") else { return };
    let connection = with_stream(&server.url()).await;
    let mut output = Pipelined::open(&connection, STREAM, LIMITS).await.unwrap();
    let large = Outgoing { subject: "orders.a", headers: "", id: None, payload: vec![0; 65_536 + 1].into() };
    let refused = output.send(&large).await.unwrap_err();
    assert!(refused.to_string().contains("larger than the 65536 bytes"), "{refused}");
    let stream = connection.stream(STREAM).await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_message_size = 100;
    connection.context().update_stream(config).await.unwrap();
    send(&mut output, 0, false).await;
    let large = Outgoing { subject: "orders.a", headers: "", id: None, payload: vec![0; 101].into() };
    output.send(&large).await.unwrap();
    send(&mut output, 1, false).await;
    let refused = output.flush().await.unwrap_err();
    let Error::Refused { code: 10_054, .. } = &refused else { panic!("{refused}") };
    assert!(refused.to_string().contains("`nats stream edit out --max-msg-size=…`"), "{refused}");
    output.flush().await.unwrap();
    check(&stored(&connection).await, &numbers(2));
}
