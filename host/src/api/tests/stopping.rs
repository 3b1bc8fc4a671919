//! How serving ends.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use super::{Access, Host, Token, options, serve};
use crate::api::Api;
use crate::plugin::Runtime;
use crate::service::Service;

#[test]
fn a_stop_waits_neither_for_idle_connections_nor_for_half_a_request() {
    let mut host = Host::start();
    let mut idle = host.connect();
    let kept = host.request("GET", "/health", "").replace("Connection: close\r\n", "");
    idle.write_all(kept.as_bytes()).unwrap();
    let mut half = host.connect();
    half.write_all(b"GET /health HT").unwrap();
    assert_eq!(host.ask("GET", "/health", "").status, 200);
    let asked = Instant::now();
    let served = host.stop();
    assert!(
        served.is_ok() && asked.elapsed() < Duration::from_secs(7),
        "{served:?} after {:?}",
        asked.elapsed()
    );
    let again = std::net::TcpStream::connect(host.address);
    assert!(again.is_err(), "it still takes connections");
}

#[test]
fn whoever_waits_for_news_is_answered_when_the_host_stops() {
    let folder = tempfile::tempdir().unwrap();
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let runtime = Runtime::new(&folder.path().join("cache")).unwrap();
        let service = Service::open(&folder.path().join("data"), options(runtime, &folder)).await.unwrap();
        let (stopper, stopping) = watch::channel(false);
        let api = Api { service: service.clone(), stopping, uploads: Arc::new(Semaphore::new(1)) };
        let ask = |wait: Duration| async move {
            tokio::time::sleep(wait).await;
            wait
        };
        assert_eq!(api.patiently(None, ask).await, Duration::ZERO);
        let asked = Instant::now();
        assert_eq!(api.patiently(Some(20), ask).await, Duration::from_millis(20));
        let waiting = api.patiently(Some(u64::MAX), ask);
        let stop = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            stopper.send_replace(true);
        };
        let (waited, ()) = tokio::join!(waiting, stop);
        assert_eq!(waited, Duration::ZERO);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        service.shut_down().await;
    });
}

#[test]
fn an_address_that_others_reach_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let runtime = Runtime::new(&folder.path().join("cache")).unwrap();
        let service = Service::open(&folder.path().join("data"), options(runtime, &folder)).await.unwrap();
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let access = Access::new(Token::new("t"));
        let error = serve(service.clone(), listener, access, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("TLS"), "{error}");
        service.shut_down().await;
    });
}
