//! Waiting for an object store: its client is asynchronous, and whoever uses a store of checkpoints waits on a thread
//! that may.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::{Handle, Runtime};

use crate::error::Error;

/// Whatever is asked of the service, and however often that has to be tried, it has failed after this. A request is
/// tried again for less (see `s3` and `jetstream`); this is for what the client doesn't bound itself, such as credentials.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(90);

/// What errors of a store that says in full what is wrong and what to do give as its name.
pub(super) const PLAIN: &str = "JetStream";

/// An object store with a thread of its own on which connections live.
pub(super) struct Engine {
    pub(super) store: Arc<dyn ObjectStore>,
    /// One thread, that only moves bytes. With a runtime that works only while somebody waits, the connections that are
    /// kept between two checkpoints would have nobody who notices that the service has closed them. None once dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    /// As people write it, with the bucket.
    pub(super) shown: String,
    /// What the names of all objects begin with: empty, or it ends in `/`.
    root: String,
    /// What to look at when the service doesn't answer.
    reached_by: &'static str,
}

impl Engine {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        shown: String,
        prefix: &str,
        reached_by: &'static str,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tidemill-objects")
            .enable_all()
            .build()
            .map_err(Error::io("start a thread for the object store"))?;
        let root = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store, handle: runtime.handle().clone(), runtime: Some(runtime), shown, root, reached_by })
    }

    /// The name of an object.
    pub(super) fn name(&self, path: &str) -> Path {
        Path::from(format!("{}{path}", self.root))
    }

    /// Where an object is in the store, of one whose name begins as all of them do.
    pub(super) fn within<'a>(&self, name: &'a Path) -> Option<&'a str> {
        name.as_ref().strip_prefix(&self.root)
    }

    /// Waits for an operation.
    pub(super) fn wait<T>(
        &self,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        self.block_on(bounded(operation))
    }

    /// Waits for several, each of which has to be [`bounded`].
    ///
    /// # Panics
    /// On a thread that drives async functions, which may not wait.
    pub(super) fn block_on<T>(&self, operations: impl Future<Output = T>) -> T {
        self.handle.block_on(operations)
    }

    /// That something couldn't be done with an object or folder, and what to do.
    pub(super) fn failed(&self, doing: &str, path: &str, error: object_store::Error) -> Error {
        Error::io(format!("{doing} {}/{path}", self.shown))(io::Error::other(self.reason(&error)))
    }

    /// Why an operation failed, in a line, with what to do. What the service says to a wrong signature repeats half the
    /// request, so of that only its code is shown.
    pub(super) fn reason(&self, error: &object_store::Error) -> String {
        let text = error.to_string();
        let code =
            text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
        let code = code.filter(|c| c.len() <= 64 && c.bytes().all(|b| b.is_ascii_alphanumeric()));
        let told = code.map(|code| format!(" ({code})")).unwrap_or_default();
        match error {
            object_store::Error::Generic { store: PLAIN, source } => line(&source.to_string()),
            _ if code == Some("NoSuchBucket") => {
                "there is no such bucket (NoSuchBucket); create it, or correct `path`".to_owned()
            }
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                format!(
                    "the service refuses these credentials{told}; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
                 AWS_SESSION_TOKEN and AWS_REGION, and that they may list, read, write and delete there"
                )
            }
            object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                format!("the service can't do that{told}; choose one that can")
            }
            _ if code.is_some() => {
                format!("the service answers with an error{told}; what is due is tried again later")
            }
            _ => {
                format!("{}; check that the service can be reached ({})", line(&text), self.reached_by)
            }
        }
    }
}

impl fmt::Debug for Engine {
    /// The client knows the credentials; they are shown nowhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // To wait for its thread isn't allowed where the last owner may be an async function; nothing is under way.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The operation, or an error when it takes too long.
pub(super) async fn bounded<T>(
    operation: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    tokio::time::timeout(OPERATION_TIMEOUT, operation).await.unwrap_or_else(|_| {
        let waited = format!("no answer within {} s", OPERATION_TIMEOUT.as_secs());
        Err(object_store::Error::Generic { store: "object store", source: waited.into() })
    })
}

/// As much of a text as fits in a line.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect()
}
