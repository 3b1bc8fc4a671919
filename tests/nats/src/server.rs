//! A server: a process that is started, killed, paused and started again on what it had stored.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{ports, program, skip};

/// A server starts in tens of milliseconds, one that reads much back in a second; a busy machine takes its time.
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// How often other ports are tried when somebody was faster; once is rare.
const ATTEMPTS: usize = 5;
/// So much of what a server has said tells why it failed.
const LINES_SHOWN: usize = 25;

/// Small enough for a disk of a test machine, and for no test to fill by chance. Lines of a test that say something
/// else come later, and win.
const JETSTREAM: &str = "jetstream { max_mem: 256M, max_file: 4G }";

/// A server of one's own. It is killed when this is dropped, and its folder removed.
pub struct Server {
    name: String,
    port: u16,
    folder: PathBuf,
    /// Held while the process is started or ended, so that only one thread does it.
    process: Mutex<Process>,
}

struct Process {
    /// None: it doesn't run.
    child: Option<Child>,
    url: String,
    /// The address of its monitoring; another after each start.
    monitor: String,
}

impl Server {
    /// A server with JetStream and without credentials, ready to be used; none if there is no program and none can be
    /// installed: the reason is said, and the test is counted as skipped.
    ///
    /// # Panics
    /// When the program is there and doesn't start.
    pub fn start() -> Option<Self> {
        Self::with("")
    }

    /// A server with these lines in its configuration too, as in `max_payload: 64K`.
    ///
    /// # Panics
    /// When the program is there and doesn't start, as with lines that it doesn't understand.
    pub fn with(lines: &str) -> Option<Self> {
        available()?;
        let mut failed = String::new();
        for _ in 0..ATTEMPTS {
            let server = Self::new("server", ports::free(), lines);
            match server.launch() {
                Ok(()) => {
                    server.wait();
                    return Some(server);
                }
                Err(why) if port_is_taken(&why) => failed = why,
                Err(why) => panic!("{why}"),
            }
        }
        panic!("{failed}");
    }

    /// One that isn't started, with its configuration in its folder.
    pub(crate) fn new(name: &str, port: u16, lines: &str) -> Self {
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let number = SERVERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tidemill-nats-{}-{number}", std::process::id()));
        // Left by a process that was killed, long ago, and had the same number.
        _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("cannot make {}: {e}", folder.display()));
        let text = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:-1\"\n{JETSTREAM}\n{lines}\n"
        );
        fs::write(folder.join("server.conf"), text).expect("a file can be written into a new folder");
        let process =
            Process { child: None, url: format!("nats://127.0.0.1:{port}"), monitor: String::new() };
        Self { name: name.to_owned(), port, folder, process: Mutex::new(process) }
    }

    /// The name that it gives itself, as in a stream's leader.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients reach it, as in `nats://127.0.0.1:12345`; with `tls` where its lines say so.
    pub fn url(&self) -> String {
        self.process().url.clone()
    }

    /// Host and port, as in `127.0.0.1:12345`; the same for its whole life.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder with its configuration, its log and what it stores.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The end of what it has said, for a test that fails.
    pub fn log(&self) -> String {
        tail(&self.folder.join("log")) + &tail(&self.folder.join("stderr"))
    }

    /// The answer of its monitoring, as JSON text; see `/varz`, `/jsz`, `/connz`.
    ///
    /// # Panics
    /// When it doesn't run or doesn't answer.
    pub fn monitor(&self, path: &str) -> String {
        let (status, body) = self.ask(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Ends it as `kill -9` does, and waits for that; nothing if it doesn't run.
    pub fn kill(&self) {
        if let Some(mut child) = self.process().child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Ends it as Ctrl-C does, and waits for that; nothing if it doesn't run.
    ///
    /// # Panics
    /// When it doesn't end in a minute.
    pub fn stop(&self) {
        let Some(mut child) = self.process().child.take() else { return };
        signal(&child, "INT");
        let asked = Instant::now();
        while child.try_wait().expect("a child can be waited for").is_none() {
            if asked.elapsed() > STOP_MAX {
                _ = child.kill();
                _ = child.wait();
                panic!(
                    "the server {} was stopped {STOP_MAX:?} ago and still ran; it said:\n{}",
                    self.name,
                    self.log()
                );
            }
            sleep(POLL);
        }
    }

    /// Starts it again on the same port and with what it has stored, after killing it if it runs; waits until it can
    /// be used.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn restart(&self) {
        self.relaunch();
        self.wait();
    }

    /// Stops its clock: it keeps its connections and answers nothing, until [`Server::resume`].
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn pause(&self) {
        let process = self.process();
        let child = process.child.as_ref().expect("a server that is paused runs");
        signal(child, "STOP");
        // A thread that runs at this moment still does a little.
        let asked = Instant::now();
        while !is_stopped(child) {
            assert!(asked.elapsed() < STOP_MAX, "the server {} can't be paused", self.name);
            sleep(POLL);
        }
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn resume(&self) {
        signal(self.process().child.as_ref().expect("a server that goes on runs"), "CONT");
    }

    /// Kills it if it runs, and starts it on the same port, without waiting for its JetStream.
    pub(crate) fn relaunch(&self) {
        self.kill();
        let started = Instant::now();
        while let Err(why) = self.launch() {
            // Whoever took the port meanwhile may give it back.
            assert!(port_is_taken(&why) && started.elapsed() < START_MAX, "{why}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Starts the process and waits until it listens.
    ///
    /// # Errors
    /// When it ends or doesn't listen; with what it has said.
    pub(crate) fn launch(&self) -> Result<(), String> {
        let program = program::find()?;
        let stderr = File::create(self.folder.join("stderr")).map_err(|e| e.to_string())?;
        // What it says of an earlier start, as of a port that was taken, must not be read as of this one.
        _ = fs::remove_file(self.folder.join("log"));
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.join("server.conf")).arg("-l").arg(self.folder.join("log"));
        command.arg("--store_dir").arg(self.folder.join("store")).arg("--ports_file_dir").arg(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let mut process = self.process();
        let mut child = command.spawn().map_err(|e| format!("cannot start {command:?}: {e}"))?;
        // It has the number of the process in its name, and is written when the ports are open.
        let ports = self.folder.join(format!("{}_{}.ports", file_name(program), child.id()));
        let started = Instant::now();
        loop {
            let told = fs::read_to_string(&ports).unwrap_or_default();
            if let (Some(url), Some(monitor)) = (first(&told, "nats"), first(&told, "monitoring")) {
                *process = Process { child: Some(child), url, monitor };
                return Ok(());
            }
            let ended = child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || started.elapsed() > START_MAX {
                _ = child.kill();
                _ = child.wait();
                let how =
                    ended.map_or_else(|| "doesn't listen".to_owned(), |status| format!("ended ({status})"));
                return Err(format!("the server {} {how}; it said:\n{}", self.name, self.log()));
            }
            sleep(POLL);
        }
    }

    /// Waits until it can be used: with JetStream, if it has that, and in a cluster with its leader known.
    ///
    /// # Panics
    /// When that takes more than a minute.
    pub(crate) fn wait(&self) {
        let asked = Instant::now();
        loop {
            let (status, body) = self.ask("/healthz");
            if status == 200 {
                return;
            }
            let waited = asked.elapsed();
            assert!(
                waited < START_MAX,
                "the server {} isn't healthy after {waited:?}: {status} {body}; it said:\n{}",
                self.name,
                self.log()
            );
            sleep(POLL);
        }
    }

    /// Status and body of what its monitoring answers; 0 if it doesn't.
    fn ask(&self, path: &str) -> (u16, String) {
        let monitor = self.process().monitor.clone();
        let address = monitor.trim_start_matches("http://");
        let ask = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(address)?;
            connection.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(connection, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().unwrap_or_else(|e| e.to_string());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, &answer));
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, body.to_owned())
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        // A test that failed while it held this still drops the server.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.process().child.take() {
            _ = child.kill();
            _ = child.wait();
        }
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether there is a program; says that the test is skipped if not.
pub(crate) fn available() -> Option<()> {
    match program::find() {
        Ok(_) => Some(()),
        // Who names one wants the tests.
        Err(why) if program::is_named() => panic!("{why}"),
        Err(why) => {
            skip(&format!("no nats-server to test with: {why}"));
            None
        }
    }
}

/// Whether a start failed because another process has the port.
pub(crate) fn port_is_taken(why: &str) -> bool {
    why.contains("address already in use")
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(sent.expect("kill can be run").success(), "no process {}", child.id());
}

/// Whether all its threads stand still, where the system tells.
fn is_stopped(child: &Child) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
    threads.into_iter().all(|thread| {
        // As in `4711 (nats-server) T 1 …`.
        let told = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        told.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    })
}

/// The first address of a kind in a file like `{"nats":["nats://127.0.0.1:1"],"monitoring":["http://127.0.0.1:2"]}`.
fn first(ports: &str, kind: &str) -> Option<String> {
    let (_, rest) = ports.split_once(&format!("\"{kind}\":[\""))?;
    // The file may be half written.
    rest.split_once("\"]").map(|(addresses, _)| addresses.split('"').next().unwrap_or_default().to_owned())
}

fn file_name(program: &Path) -> String {
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].iter().map(|line| format!("  {line}\n")).collect()
}
