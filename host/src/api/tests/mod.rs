//! The API on a real socket, asked byte by byte: what a client library would never send is what matters.

mod description;
mod entry;
mod stopping;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime as Executor;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Access, Token, serve};
use crate::plugin::Runtime;
use crate::service::{Compiler, Logs, Options, Service};

const TOKEN: &str = "0123456789abcdef";

/// A host that serves, with no pipelines.
struct Host {
    executor: Executor,
    address: SocketAddr,
    service: Service,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<std::io::Result<()>>>,
    _folder: TempDir,
}

/// What a host in a test needs.
fn options(runtime: Runtime, folder: &TempDir) -> Options {
    Options { runtime, compiler: Compiler::new(None, folder.path().join("cache")), logs: Logs::default() }
}

impl Host {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(hosts: &[&str]) -> Self {
        let executor =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(&folder.path().join("cache")).unwrap();
        let service =
            executor.block_on(Service::open(&folder.path().join("data"), options(runtime, &folder))).unwrap();
        let listener = executor.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let access = Access::new(Token::new(TOKEN)).with_hosts(hosts.iter().map(|h| h.to_string()).collect());
        let (stop, stopped) = oneshot::channel();
        let served = executor.spawn(serve(service.clone(), listener, access, async { _ = stopped.await }));
        let (stop, served) = (Some(stop), Some(served));
        Self { executor, address, service, stop, served, _folder: folder }
    }

    /// Tells it to stop, and waits until it has.
    fn stop(&mut self) -> std::io::Result<()> {
        self.stop.take().unwrap().send(()).unwrap();
        self.executor.block_on(self.served.take().unwrap()).unwrap()
    }

    /// Sends these bytes, and takes all that comes.
    fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Reply::read(&mut stream)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A request with everything right, but for what is changed in its text.
    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let (host, length) = (self.address, body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.send(self.request(method, path, body).as_bytes())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its threads for data can't be waited for by whoever drops the service last.
        self.executor.block_on(self.service.shut_down());
    }
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A host that refuses a body closes the connection, which may come as a reset behind the answer.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// The status, and of what kind the problem is.
    fn problem(&self) -> (u16, String) {
        (self.status, self.json()["error"]["kind"].as_str().unwrap_or_default().to_owned())
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_default().to_owned()
    }
}
