//! An object store, in memory or behind this, that fails as those on a network do: before the deed, or after it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    Well,
    /// It isn't done.
    Refused,
    /// It is done, and the answer is lost.
    Lost,
    /// It is done; the client has asked again on its own, and gets the answer to the second try.
    Repeated,
    /// Something else was written at the same moment, it says; nothing was.
    Conflict,
}

/// An object store over another: one in memory, unless that is said.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

impl Default for Faulty {
    fn default() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }
}

#[derive(Debug, Default)]
struct Plan {
    /// What becomes of the next changes.
    faults: VecDeque<Fault>,
    /// Changes until the process dies.
    crash_after: Option<u64>,
    crashed: bool,
    chance: u64,
    /// The condition of a write is ignored.
    ignores_conditions: bool,
    /// What was written, in order.
    written: Vec<String>,
    /// How long the world has stood, by a clock that tests advance, and when each object was written.
    now: Duration,
    written_at: BTreeMap<String, Duration>,
}

impl Faulty {
    pub(crate) fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    pub(crate) fn next(&self, faults: &[Fault]) {
        self.plan().faults = faults.iter().copied().collect();
    }

    pub(crate) fn ignore_conditions(&self) {
        self.plan().ignores_conditions = true;
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.plan().now += time;
    }

    /// What was written since the last time.
    pub(crate) fn written(&self) -> Vec<String> {
        std::mem::take(&mut self.plan().written)
    }

    pub(crate) fn crash_after(&self, changes: u64) {
        self.plan().crash_after = Some(changes);
    }

    pub(crate) fn crashed(&self) -> bool {
        self.plan().crashed
    }

    pub(crate) fn reboot(&self, chance: u64) {
        let mut plan = self.plan();
        plan.chance = chance;
        plan.crash_after = None;
        plan.crashed = false;
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    fn fault(&self) -> Fault {
        let mut plan = self.plan();
        if plan.crashed {
            return Fault::Refused;
        }
        match plan.crash_after {
            Some(0) => {
                plan.crashed = true;
                // The constants are those of Knuth's MMIX.
                plan.chance = plan
                    .chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                return if plan.chance >> 63 == 1 { Fault::Lost } else { Fault::Refused };
            }
            Some(left) => plan.crash_after = Some(left - 1),
            None => {}
        }
        plan.faults.pop_front().unwrap_or(Fault::Well)
    }

    fn alive(&self) -> Result<()> {
        if self.plan().crashed { Err(unreachable_service()) } else { Ok(()) }
    }
}

impl Plan {
    fn note(&mut self, location: &Path) {
        self.written.push(location.to_string());
        self.written_at.insert(location.to_string(), self.now);
    }

    fn aged(&self, object: ObjectMeta) -> ObjectMeta {
        let written_at = self.written_at.get(object.location.as_ref()).copied().unwrap_or_default();
        ObjectMeta { last_modified: object.last_modified - (self.now - written_at), ..object }
    }
}

fn unreachable_service() -> Error {
    Error::Generic { store: "Faulty", source: "connection refused".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        if self.plan().ignores_conditions {
            opts.mode = PutMode::Overwrite;
        }
        let fault = self.fault();
        match fault {
            Fault::Refused => return Err(unreachable_service()),
            Fault::Conflict => {
                let (path, source) = (location.to_string(), "409 Conflict".into());
                return Err(Error::AlreadyExists { path, source });
            }
            Fault::Well | Fault::Lost | Fault::Repeated => {}
        }
        let done = self.inner.put_opts(location, payload.clone(), opts.clone()).await;
        self.plan().note(location);
        match fault {
            Fault::Lost => Err(unreachable_service()),
            Fault::Repeated => self.inner.put_opts(location, payload, opts).await,
            _ => done,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.fault() {
            Fault::Well => {
                self.plan().note(location);
                self.inner.put_multipart_opts(location, opts).await
            }
            _ => Err(unreachable_service()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let deleted = locations.then(move |location| {
            let this = this.clone();
            async move {
                let location = location?;
                let fault = this.fault();
                if fault == Fault::Refused {
                    return Err(unreachable_service());
                }
                let one = futures_util::stream::iter([Ok(location.clone())]).boxed();
                this.inner.delete_stream(one).collect::<Vec<_>>().await;
                if fault == Fault::Lost { Err(unreachable_service()) } else { Ok(location) }
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => {
                let plan = self.plan.clone();
                let aged = self.inner.list(prefix).map_ok(move |object| plan.lock().unwrap().aged(object));
                aged.boxed()
            }
            Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
