//! Streams that are made, found, full or unfit.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use bytes::Bytes;
use tidemill_jetstream::{
    Ensured, Error, Outgoing, Pipelined, StreamWanted, Transactions, WindowLimits, check_duplicate_window,
    check_takes, ensure_stream,
};
use tidemill_nats_test::Server;

use crate::kit::{Numbered, PRODUCER, STREAM, check, connect, expected, open, stored, wanted, with_stream};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_made_once_and_never_changed() {
    let Some(server) = Server::start() else { return };
    let connection = with_stream(&server.url()).await;
    let found = ensure_stream(&connection, &wanted()).await.unwrap();
    assert_eq!(found, Ensured::Found { differences: Vec::new() });
    let max_age = Some(Duration::from_secs(60));
    let other = StreamWanted { max_age, discard: DiscardPolicy::Old, max_bytes: Some(1 << 20), ..wanted() };
    let Ensured::Found { differences } = ensure_stream(&connection, &other).await.unwrap() else {
        panic!("made anew")
    };
    let lines = ["--max-age=60s", "--max-bytes=1048576", "--discard=old"];
    assert!(
        differences.len() == 3 && lines.iter().zip(&differences).all(|(line, said)| said.contains(line)),
        "{differences:?}"
    );
    let info = connection.stream(STREAM).await.unwrap().cached_info().clone();
    assert!(info.config.max_age.is_zero() && info.config.allow_direct && info.config.allow_atomic_publish);
    check_duplicate_window(&info, Duration::from_secs(120)).unwrap();
    let short = check_duplicate_window(&info, Duration::from_secs(121)).unwrap_err().to_string();
    assert!(short.contains("for 120 s") && short.contains("--dupe-window=121s"), "{short}");
    check_takes(&info.config, "orders.*.new").unwrap();
    assert!(check_takes(&info.config, "bills.*").unwrap_err().to_string().contains("--subjects='bills.*'"));

    let overlapping = StreamWanted::new("other", vec!["orders.a".to_owned()]);
    let refused = ensure_stream(&connection, &overlapping).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { code: 10_065, .. }), "{refused}");
    let limited = StreamWanted {
        max_age: Some(Duration::from_secs(1)),
        ..StreamWanted::new("short", vec!["s".to_owned()])
    };
    assert_eq!(ensure_stream(&connection, &limited).await.unwrap(), Ensured::Made);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfit_streams_are_refused_with_the_line_to_type() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let missing = Transactions::open(&connection, STREAM, PRODUCER, 1).await.err().unwrap();
    assert!(matches!(missing, Error::NoStream { .. }), "{missing}");
    let config = |name: &str, subjects: &[&str], allow_atomic_publish| Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        allow_atomic_publish,
        ..Config::default()
    };
    for (config, line) in [
        (config("plain", &["plain", "tidemill.plain.>"], false), "`nats stream edit plain --allow-batch`"),
        (
            config("narrow", &["narrow"], true),
            "`nats stream edit narrow --subjects='narrow' --subjects='tidemill.narrow.>'`",
        ),
    ] {
        let name = config.name.clone();
        connection.context().create_stream(config).await.unwrap();
        let refused = Transactions::open(&connection, &name, PRODUCER, 1).await.err().unwrap();
        assert!(matches!(refused, Error::Unfit { .. }) && refused.to_string().contains(line), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_refuses_in_words() {
    let Some(server) = Server::start() else { return };
    let connection = connect(&server.url()).await;
    let full = StreamWanted { max_bytes: Some(100_000), ..wanted() };
    ensure_stream(&connection, &full).await.unwrap();
    let mut output = open(&connection, 1).await;
    output.publish(1, &mut Numbered::new(1, 100)).await.unwrap();
    let refused = output.publish(2, &mut Numbered::new(2, 3_000)).await.unwrap_err();
    let Error::Refused { code: 10_077, .. } = &refused else { panic!("{refused}") };
    assert!(refused.to_string().contains("--max-bytes"), "{refused}");
    check(&stored(&connection).await, &expected([(1, 100)]));

    let mut single = Pipelined::open(&connection, STREAM, WindowLimits::default()).await.unwrap();
    let message =
        Outgoing { subject: "orders.a", headers: "", id: None, payload: Bytes::from(vec![0; 1_000]) };
    let mut sent = Ok(());
    for _ in 0..200 {
        sent = single.send(&message).await;
        if sent.is_err() {
            break;
        }
    }
    let refused = match sent {
        Ok(()) => single.flush().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(refused, Error::Refused { code: 10_077, .. }), "{refused}");
}
