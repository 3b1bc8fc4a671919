//! The running host: many pipelines, what each is meant to be, and what is done with them while they run.
//!
//! [`Service`] is the front door: the HTTP API calls it and knows nothing else. What it is told and answers is in
//! [`model`].

pub mod change;
pub mod components;
pub mod model;

mod changing;
mod deploy;
mod history;
mod logs;
mod operations;
mod record;
mod refusal;
mod replays;
mod shown;
mod supervisor;
mod taking_over;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{
    Asked, ComponentInfo, Desired, HistoryEntry, LogLine, Operation, Savepoint, SavepointInfo, State, Status,
    Stop, Summary,
};
use tidemill_checkpoint::{Name, SavepointName};
use tokio::runtime::Runtime as Executor;
use tokio::sync::{mpsc, oneshot, watch};

pub use components::Compiler;
pub use logs::Logs;
pub use refusal::{Refusal, RefusalKind};

use components::Components;
use deploy::Deployed;
use operations::{Operations, Ticket};
use record::Record;
use shown::{status, summary};
use supervisor::{Face, Request, Shared, Supervisor, What};

use crate::plugin::Runtime;

/// Requests to a pipeline that wait; it deals with one after the other.
const REQUESTS_WAITING: usize = 64;
/// The file in the data folder that the host holds.
const LOCK: &str = "lock";

/// What a host needs.
pub struct Options {
    /// What runs operators.
    pub runtime: Runtime,
    /// What compiles them.
    pub compiler: Compiler,
    /// Where their lines are collected.
    pub logs: Logs,
}

/// The host as a service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    data: PathBuf,
    shared: Shared,
    operations: Operations,
    /// Held for moments.
    pipelines: RwLock<BTreeMap<String, Pipeline>>,
    /// One `apply` after the other, so that each knows what it changes.
    applying: tokio::sync::Mutex<()>,
    /// Replays stop when it says so.
    stop: watch::Sender<bool>,
    /// Dropped here it would wait for its threads, which an async function must not.
    data_plane: Mutex<Option<Executor>>,
    /// Released when the process ends, however it ends.
    _lock: fs::File,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let data_plane = self.data_plane.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        data_plane.into_iter().for_each(Executor::shutdown_background);
    }
}

#[derive(Clone)]
struct Pipeline {
    folder: PathBuf,
    face: Arc<Mutex<Face>>,
    requests: mpsc::Sender<Request>,
}

impl Pipeline {
    fn face(&self) -> MutexGuard<'_, Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Opens the folder in which the host keeps what it shall do, makes one if there is none, and starts the pipelines
    /// that are meant to run.
    ///
    /// # Errors
    /// When another host works with the folder, or it can't be read or written.
    pub async fn open(data: &Path, options: Options) -> Result<Self, Refusal> {
        let failed = |e: std::io::Error| Refusal::failed(format!("cannot work in {}: {e}", data.display()));
        let pipelines = data.join("pipelines");
        fs::create_dir_all(&pipelines).map_err(failed)?;
        let lock = fs::File::create(data.join(LOCK)).map_err(failed)?;
        lock.try_lock().map_err(|_| {
            Refusal::conflict(format!(
                "another host works with {}; give this one another folder",
                data.display()
            ))
        })?;
        let cores = std::thread::available_parallelism().map_or(1, |c| c.get());
        // Apart from the control plane: busy pipelines must not keep the host from answering.
        let data_plane = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("tidemill-data")
            .enable_time()
            .build()
            .map_err(failed)?;
        let Options { runtime, compiler, logs } = options;
        let components = Components::open(&data.join("components"), runtime, compiler)?;
        let shared = Shared { components, logs, data_plane: data_plane.handle().clone() };
        let service = Self {
            inner: Arc::new(Inner {
                data: data.to_owned(),
                shared,
                operations: Operations::default(),
                pipelines: RwLock::default(),
                applying: tokio::sync::Mutex::default(),
                stop: watch::Sender::new(false),
                data_plane: Mutex::new(Some(data_plane)),
                _lock: lock,
            }),
        };
        for entry in fs::read_dir(&pipelines).map_err(failed)? {
            let folder = entry.map_err(failed)?.path();
            let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let record = Record::load(&folder)?;
            replays::after_restart(&folder);
            service.supervise(name, folder, record, None);
        }
        Ok(service)
    }

    /// Stops all pipelines, each with a checkpoint; they go on when the host is started again.
    pub async fn shut_down(&self) {
        self.inner.stop.send_replace(true);
        let names: Vec<String> = self.pipelines().keys().cloned().collect();
        let asked = names.iter().map(|name| self.ask(name, "shut down", "", What::ShutDown));
        let mut stopping = Vec::new();
        for asked in asked {
            // One that is gone has stopped.
            stopping.extend(asked.await.ok());
        }
        for operation in stopping {
            let long = Duration::from_mins(60);
            let _ = self.inner.operations.wait(operation.id, Some(&operation.message), long).await;
            while self.inner.operations.get(operation.id).is_some_and(|o| o.ended_ms.is_none()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let data_plane = self.inner.data_plane.lock().unwrap_or_else(PoisonError::into_inner).take();
        data_plane.into_iter().for_each(Executor::shutdown_background);
    }

    /// All pipelines, by name.
    pub fn list(&self) -> Vec<Summary> {
        self.pipelines().iter().map(|(name, p)| summary(name, &p.face())).collect()
    }

    /// A pipeline from near.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn status(&self, pipeline: &str) -> Result<Status, Refusal> {
        let found = self.find(pipeline)?;
        let (mut status, deployed) = {
            let face = found.face();
            (status(pipeline, &face), face.deployed.clone())
        };
        let name = pipeline.to_owned();
        let newest = tokio::task::spawn_blocking(move || supervisor::newest(&name, deployed.as_deref()));
        // One that has none, or whose store can't be reached, has no number to show.
        status.checkpoint = newest.await.ok().and_then(Result::ok).flatten().map(|m| m.checkpoint);
        status.operation = self.inner.operations.running(pipeline);
        Ok(status)
    }

    /// Takes in a component: checks, compiles and keeps it.
    ///
    /// # Errors
    /// When it can't be used as an operator, or compiling it takes too much.
    pub async fn upload(&self, bytes: Vec<u8>, file: &str, by: &str) -> Result<ComponentInfo, Refusal> {
        self.inner.shared.components.upload(bytes, file, by, now_ms()).await
    }

    /// The components in the store.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn components(&self) -> Result<Vec<ComponentInfo>, Refusal> {
        self.inner.shared.components.list()
    }

    /// Stops a pipeline with a checkpoint, to go on from it later.
    ///
    /// # Errors
    /// When there is none, or it doesn't run.
    pub async fn pause(&self, pipeline: &str, asked: Asked) -> Result<Operation, Refusal> {
        self.ask(pipeline, "pause", &asked.by, What::Pause).await
    }

    /// Lets a pipeline go on that was paused or stopped, or has failed.
    ///
    /// # Errors
    /// When there is none, or it runs.
    pub async fn resume(&self, pipeline: &str, asked: Asked) -> Result<Operation, Refusal> {
        self.ask(pipeline, "resume", &asked.by, What::Resume).await
    }

    /// Stops a pipeline.
    ///
    /// # Errors
    /// When there is none, or what is asked for can't be done.
    pub async fn stop(&self, pipeline: &str, stop: Stop) -> Result<Operation, Refusal> {
        let savepoint = stop.savepoint.map(|name| savepoint_name(&name)).transpose()?;
        self.ask(pipeline, "stop", &stop.by, What::Stop { drain: stop.drain, savepoint }).await
    }

    /// Forgets a pipeline that doesn't run, and what the host keeps of it; its checkpoints and output stay.
    ///
    /// # Errors
    /// When there is none, or it runs.
    pub async fn delete(&self, pipeline: &str, asked: Asked) -> Result<Operation, Refusal> {
        let operation = self.ask(pipeline, "delete", &asked.by, What::Delete).await?;
        let long = Duration::from_secs(10);
        let operation = self.inner.operations.wait(operation.id, Some("it has begun"), long).await?;
        if operation.state == model::OperationState::Done {
            self.inner.pipelines.write().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
        }
        Ok(operation)
    }

    /// Lines of a pipeline's log with numbers above `after`, at most `count` of them, the last ones if there are more;
    /// waits up to `wait` for some.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub async fn logs(
        &self,
        pipeline: &str,
        after: u64,
        count: usize,
        wait: Duration,
    ) -> Result<Vec<LogLine>, Refusal> {
        self.find(pipeline)?;
        Ok(self.inner.shared.logs.read(pipeline, after, count, wait).await)
    }

    /// Takes a savepoint.
    ///
    /// # Errors
    /// When the pipeline has no checkpoints, or the name isn't one.
    pub async fn savepoint(&self, pipeline: &str, savepoint: Savepoint) -> Result<Operation, Refusal> {
        let name = savepoint.name.unwrap_or_else(|| format!("savepoint-{}", now_ms()));
        let name = savepoint_name(&name)?;
        self.ask(pipeline, "savepoint", &savepoint.by, What::Savepoint(name)).await
    }

    /// What a pipeline can go on from or be replayed from: checkpoints, then savepoints.
    ///
    /// # Errors
    /// When there is none of this name, or its checkpoints can't be read.
    pub async fn savepoints(&self, pipeline: &str) -> Result<Vec<SavepointInfo>, Refusal> {
        let deployed = self.find(pipeline)?.face().deployed.clone();
        let listed = tokio::task::spawn_blocking(move || {
            supervisor::look(deployed.as_deref())?.list().map_err(|e| e.to_string())
        });
        let listed = listed.await.map_err(Refusal::failed)?.map_err(Refusal::conflict)?;
        let info = |listed: tidemill_checkpoint::Listed| {
            let manifest = listed.manifest.ok()?;
            let (is_savepoint, name) = match listed.name {
                Name::Checkpoint(name) => (false, name.checkpoint.to_string()),
                Name::Savepoint(name) => (true, name.as_str().to_owned()),
            };
            let state_bytes = manifest.state_bytes();
            let (checkpoint, created_ms) =
                (manifest.checkpoint, u64::try_from(manifest.created_ms).unwrap_or(0));
            Some((is_savepoint, SavepointInfo { name, checkpoint, created_ms, state_bytes }))
        };
        let mut infos: Vec<_> = listed.into_iter().filter_map(info).collect();
        infos.sort_by_key(|(is_savepoint, info)| (*is_savepoint, info.checkpoint));
        Ok(infos.into_iter().map(|(_, info)| info).collect())
    }

    /// What happened to a pipeline, the oldest first.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub fn history(&self, pipeline: &str) -> Result<Vec<HistoryEntry>, Refusal> {
        history::read(&self.find(pipeline)?.folder)
    }

    /// How something stands that takes its time; waits up to `wait` for its end or for another message than `seen`.
    ///
    /// # Errors
    /// When there is no such operation: the host knows those of its present life.
    pub async fn operation(&self, id: u64, seen: Option<&str>, wait: Duration) -> Result<Operation, Refusal> {
        self.inner.operations.wait(id, seen, wait).await
    }

    fn supervise(&self, name: String, folder: PathBuf, record: Record, new: Option<(Arc<Deployed>, Ticket)>) {
        let (deployed, starting) = new.unzip();
        self.inner.shared.logs.open(&name);
        let state = match record.desired {
            Desired::Running => State::Starting,
            Desired::Paused => State::Paused,
            Desired::Stopped => State::Stopped,
        };
        let since_ms = now_ms();
        let face = Face { record, state, since_ms, message: None, deployed, counters: None };
        let face = Arc::new(Mutex::new(face));
        let (requests, received) = mpsc::channel(REQUESTS_WAITING);
        let pipeline = Pipeline { folder: folder.clone(), face: face.clone(), requests };
        self.inner.pipelines.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), pipeline);
        let shared = self.inner.shared.clone();
        let (requests, restarts, trying) = (received, None, None);
        let (of, face) = (face.clone(), face);
        let supervised = Supervisor { name, folder, shared, face: of, requests, restarts, trying, starting };
        tokio::spawn(async move {
            // Other pipelines are none the worse for a fault of ours in this one.
            if tokio::spawn(supervised.run()).await.is_err_and(|e| e.is_panic()) {
                let mut face = face.lock().unwrap_or_else(PoisonError::into_inner);
                (face.state, face.since_ms) = (State::Failed, now_ms());
                let told = "an error within the host, which its log tells; restart the host to go on";
                face.message = Some(told.to_owned());
            }
        });
    }

    /// Hands a request to the supervisor of a pipeline; it begins unless that refuses it.
    async fn ask(&self, pipeline: &str, kind: &str, by: &str, what: What) -> Result<Operation, Refusal> {
        let found = self.find(pipeline)?;
        let ticket = self.inner.operations.begin(pipeline, kind);
        let operation = ticket.operation();
        let (accepted, answer) = oneshot::channel();
        let request = Request { what, by: by.to_owned(), ticket, accepted };
        let gone = |_| Refusal::not_found(format!("the pipeline `{pipeline}` is gone"));
        found.requests.send(request).await.map_err(|e| gone(e.to_string()))?;
        answer.await.map_err(|e| gone(e.to_string()))??;
        Ok(self.inner.operations.get(operation.id).unwrap_or(operation))
    }

    fn find(&self, pipeline: &str) -> Result<Pipeline, Refusal> {
        let found = self.pipelines().get(pipeline).cloned();
        found
            .ok_or_else(|| Refusal::not_found(format!("there is no pipeline `{pipeline}`; `list` shows all")))
    }

    fn pipelines(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Pipeline>> {
        self.inner.pipelines.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn savepoint_name(name: &str) -> Result<SavepointName, Refusal> {
    name.parse().map_err(Refusal::invalid)
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
