//! The servers of a pipeline: connected to when they are needed first, and shared by all that read and write there.
//!
//! What is done with them runs on threads of its own: a reader must answer its server however long an operator takes, and
//! those that write, commit and recover are threads that wait.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tidemill_jetstream::{Connection, Error, Settings};
use tokio::runtime::{Builder, Handle, Runtime};

/// Reading and writing at once; more would only take turns.
const THREADS: usize = 2;

/// A server that restarts is there again in less, and a person who mistyped its name learns of it soon enough.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// Several times as long as an election.
pub const ANSWER_MAX: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);

/// The servers of a connection.
#[derive(Debug)]
pub struct Servers {
    /// The connection's id in the pipeline file.
    id: String,
    settings: Settings,
    connection: Mutex<Option<Connection>>,
}

impl PartialEq for Servers {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.settings == other.settings
    }
}

impl Eq for Servers {}

impl Servers {
    /// Servers that nobody has connected to yet.
    pub fn new(id: String, settings: Settings) -> Self {
        Self { id, settings, connection: Mutex::new(None) }
    }

    /// The connection's id in the pipeline file.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How they are reached.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connection, made when it is asked for first. Waits for it.
    ///
    /// # Errors
    /// When no server can be reached, or it lets nobody in.
    pub fn connection(&self) -> Result<Connection, Error> {
        let mut opened = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &*opened {
            return Ok(connection.clone());
        }
        let settings = self.settings.clone();
        let connection = wait(async move { connect(&settings).await })?;
        *opened = Some(connection.clone());
        Ok(connection)
    }
}

/// Connects, and tries again for a while: servers may be on their way back.
async fn connect(settings: &Settings) -> Result<Connection, Error> {
    let begun = Instant::now();
    for attempt in 1.. {
        match Connection::open(settings).await {
            Err(error) if error.is_temporary() && begun.elapsed() < CONNECT_MAX => {
                if attempt == 1 {
                    tracing::warn!("{error}; it is tried again for {} s", CONNECT_MAX.as_secs());
                }
                tokio::time::sleep(settings.reconnect.delay(attempt)).await;
            }
            connected => return connected,
        }
    }
    unreachable!("time passes")
}

/// Tries again for a while what may succeed then: a server that restarts, or is elected, answers nobody.
///
/// # Errors
/// Those that don't go by themselves, or that didn't in [`ANSWER_MAX`].
pub async fn patiently<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let begun = Instant::now();
    loop {
        match attempt().await {
            Err(error) if error.is_temporary() && begun.elapsed() < ANSWER_MAX => {
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// For how long a server must know the ids of messages, where checkpoints come in this interval and a pipeline that has
/// failed begins again after this delay at most: so that rows which come again are recognized. In milliseconds.
pub fn needed_window(interval_ms: u64, delay_ms: u64) -> Duration {
    // A process that was killed is there again in less, where something watches over it.
    Duration::from_millis(interval_ms.saturating_add(delay_ms)) + Duration::from_mins(1)
}

/// Where everything that talks to servers runs.
pub fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("tidemill-nats").enable_all();
        builder.build().expect("threads can be started")
    });
    runtime.handle()
}

/// Waits for something on [`runtime`]'s threads, from any other.
///
/// # Panics
/// When it does.
pub fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    runtime().spawn(async move { sender.send(future.await) });
    receiver.recv().expect("it doesn't panic")
}
