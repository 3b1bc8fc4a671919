//! The kit does what tests rely on.

#![expect(clippy::unwrap_used, reason = "a test that fails says where and why")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tidemill_nats_test::{Client, Cluster, Proxy, Server};

fn connect(address: &str) -> Client {
    Client::connect(address).unwrap()
}

/// A connection with nothing read from it yet.
fn open(address: &str) -> TcpStream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection
}

/// Whether nothing comes for a while.
fn is_silent(mut connection: &TcpStream) -> bool {
    connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let read = connection.read(&mut [0; 16]).map_err(|e| e.kind());
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    matches!(read, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// Whether the other end has closed it.
fn is_closed(mut connection: &TcpStream) -> bool {
    connection.read(&mut [0; 16]).unwrap_or(0) == 0
}

/// Reads what is there at first.
fn greeting(mut connection: &TcpStream) -> String {
    let mut text = [0; 4096];
    let count = connection.read(&mut text).unwrap();
    String::from_utf8_lossy(&text[..count]).into_owned()
}

#[test]
fn what_is_stored_is_there_after_a_kill_at_the_same_address() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    let mut client = connect(&server.address());
    client.make_stream("S", &["s.>"], "").unwrap();
    assert_eq!(client.publish("s.a", b"one"), Ok(1));
    server.kill();
    assert_eq!(TcpStream::connect(server.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(client.publish("s.a", b"lost").is_err());
    server.restart();
    assert_eq!(server.url(), url);
    let mut client = connect(&server.address());
    assert_eq!(client.publish("s.b", b"two"), Ok(2));
    let messages = client.messages("S").unwrap();
    let found: Vec<_> = messages.iter().map(|m| (m.sequence, m.subject.as_str(), m.text())).collect();
    assert_eq!(found, [(1, "s.a", "one".to_owned()), (2, "s.b", "two".to_owned())]);
}

#[test]
fn many_messages_are_stored_in_their_order() {
    let Some(server) = Server::start() else { return };
    let mut client = connect(&server.address());
    client.make_stream("S", &["s.*"], "").unwrap();
    let messages = (1..=1234).map(|i| (format!("s.{}", i % 7), i.to_string()));
    assert_eq!(client.publish_all(messages.clone()), Ok(1234));
    let found: Vec<_> =
        client.messages("S").unwrap().into_iter().map(|m| (m.subject.clone(), m.text())).collect();
    assert_eq!(found, messages.collect::<Vec<_>>());
    client.api("STREAM.MSG.DELETE.S", r#"{"seq":2}"#).unwrap();
    let left = client.messages("S").unwrap();
    assert_eq!((left.len(), left[0].sequence, left[1].sequence), (1233, 1, 3));
    let lost = client.publish_all([("s.a", "stored"), ("nowhere", "")]).unwrap_err();
    assert!(lost.contains("503"), "{lost}");
}

#[test]
fn a_client_tells_what_is_refused_and_where_nobody_answers() {
    let Some(server) = Server::start() else { return };
    let mut client = connect(&server.address());
    let nobody = client.publish("nowhere", b"").unwrap_err();
    assert!(nobody.contains("503"), "{nobody}");
    let refused = client.api("STREAM.INFO.S", "").unwrap_err();
    assert!(refused.contains("stream not found"), "{refused}");
    client.make_stream("S", &["s"], r#""max_msgs":5"#).unwrap();
    assert_eq!(client.messages("S"), Ok(Vec::new()));
    assert!(client.api("STREAM.INFO.S", "").unwrap().contains(r#""max_msgs":5"#));
}

#[test]
fn a_server_that_is_stopped_says_goodbye_and_one_that_runs_can_be_restarted() {
    let Some(server) = Server::start() else { return };
    server.stop();
    assert!(server.log().contains("Server Exiting"), "{}", server.log());
    server.restart();
    server.restart();
    connect(&server.address());
}

#[test]
fn a_paused_server_answers_when_it_goes_on() {
    let Some(server) = Server::start() else { return };
    server.pause();
    // The system accepts for it.
    let connection = open(&server.address());
    assert!(is_silent(&connection));
    server.resume();
    assert!(greeting(&connection).starts_with("INFO "));
}

#[test]
fn lines_of_the_configuration_win_and_the_store_stays_in_the_folder() {
    let Some(server) = Server::with("max_payload: 12345\njetstream { max_file: 1M }") else { return };
    let found = server.monitor("/varz");
    assert!(found.contains(r#""max_payload": 12345"#), "{found}");
    assert!(found.contains(r#""max_storage": 1000000"#), "{found}");
    let folder = server.folder().to_owned();
    assert!(found.contains(&folder.join("store").display().to_string()), "{found}");
    drop(server);
    assert!(!folder.exists());
}

#[test]
fn a_server_can_be_without_jetstream() {
    let Some(server) = Server::with("jetstream: disabled") else { return };
    let answer = connect(&server.address()).api("INFO", "").unwrap_err();
    assert!(answer.contains("503"), "{answer}");
}

#[test]
#[should_panic(expected = "nonsense")]
fn a_server_that_cannot_start_says_why() {
    if Server::with("nonsense: 1").is_none() {
        panic!("there is no server that could say: nonsense");
    }
}

#[test]
fn a_cluster_outlives_one_of_its_servers() {
    let Some(cluster) = Cluster::start(3) else { return };
    assert_eq!(cluster.urls().len(), 3);
    let mut client = connect(&cluster.server(0).address());
    client.make_stream("S", &["s"], r#""num_replicas":3"#).unwrap();
    let info = client.api("STREAM.INFO.S", "").unwrap();
    let leader = info.split(r#""leader":""#).nth(1).and_then(|rest| rest.split('"').next());
    let leader = cluster.position(leader.unwrap_or_else(|| panic!("{info}"))).expect("one of the cluster");
    assert_eq!(client.publish("s", b"one"), Ok(1));
    cluster.kill(leader);
    let mut client = connect(&cluster.server((leader + 1) % 3).address());
    let killed = Instant::now();
    while client.publish("s", b"two").is_err() {
        assert!(killed.elapsed() < Duration::from_secs(60), "no leader");
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.restart(leader);
    cluster.wait();
    assert!(client.messages("S").unwrap().len() >= 2);
}

#[test]
fn a_proxy_forwards_until_it_is_cut_and_again_when_healed() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    let mut client = connect(&proxy.address());
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    assert!(client.ping().is_err());
    let refused = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.heal();
    connect(&proxy.address());
}

#[test]
fn a_stalled_proxy_accepts_and_holds_back() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    let mut old = open(&proxy.address());
    assert!(greeting(&old).starts_with("INFO "));
    proxy.stall();
    old.write_all(b"CONNECT {}\r\nPING\r\n").unwrap();
    let new = open(&proxy.address());
    assert!(is_silent(&old) && is_silent(&new));
    proxy.heal();
    assert!(greeting(&old).contains("+OK"));
    assert!(greeting(&new).starts_with("INFO "));
    // A cut ends a stall's connections too.
    proxy.stall();
    proxy.cut();
    assert!(is_closed(&new));
}

#[test]
fn a_server_behind_a_proxy_may_come_later() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(&server.address());
    server.kill();
    assert!(is_closed(&open(&proxy.address())));
    server.restart();
    connect(&proxy.address());
}
