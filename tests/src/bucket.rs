//! A bucket of a real object store on this machine: the Python package moto, which is installed when it is first needed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tidemill_nats_test::{python, skip};

/// It honours `If-None-Match`, without which no two runs could be kept apart.
const PACKAGE: &str = "moto[server]==5.2.5";

/// Python loads for some seconds, on a machine with other things to do for many.
const START_MAX: Duration = Duration::from_mins(1);

/// A bucket in a server of its own, which goes when the test does.
pub struct Bucket {
    server: Child,
    port: u16,
}

impl Bucket {
    /// An empty bucket; none if there is no server and none can be installed: the reason is said, and the test is
    /// counted as skipped.
    ///
    /// # Panics
    /// When the server is there and doesn't start.
    pub fn new() -> Option<Self> {
        static SERVER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match SERVER.get_or_init(|| Ok(python::install("tests-s3", PACKAGE)?.join("moto_server"))) {
            Ok(server) => Some(Self::start(server)),
            Err(why) => {
                skip(&format!("no object store to test with: {why}"));
                None
            }
        }
    }

    fn start(server: &PathBuf) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port is free");
        let port = free.port();
        let mut command = Command::new(server);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let bucket = Self { server, port };
        let started = Instant::now();
        while !bucket.ask("PUT", "/bucket").starts_with("HTTP/1.1 200") {
            assert!(started.elapsed() < START_MAX, "the object store doesn't answer on port {port}");
            std::thread::sleep(Duration::from_millis(50));
        }
        bucket
    }

    /// Lets a program find it.
    pub fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "somebody")
            .env("AWS_SECRET_ACCESS_KEY", "a-secret-that-is-never-shown")
    }

    /// The names of the objects that begin so, sorted.
    ///
    /// # Panics
    /// When the server doesn't answer.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let answer = self.ask("GET", &format!("/bucket?list-type=2&prefix={prefix}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let keys = answer.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        let mut keys: Vec<String> = keys.map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    }

    /// The whole answer to a request without a body; empty if nobody answers.
    fn ask(&self, method: &str, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
            connection.set_read_timeout(Some(Duration::from_secs(20)))?;
            write!(
                connection,
                "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        ask().unwrap_or_default()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
