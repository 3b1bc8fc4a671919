//! The store of components: each once, under its SHA-256, with who brought it and when. What is in it has been recognized,
//! compiled and asked to describe itself.
//!
//! A component is two files: `<sha256>.wasm`, which never changes, and `<sha256>.json`, what is known of it. Each is
//! written beside its place, synced, and renamed into it; the folder belongs to one host.

mod compiler;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

pub use compiler::Compiler;

use super::model::{ComponentInfo, Upload};
use super::refusal::Refusal;
use crate::plugin::{LoadError, Plugin, Runtime, digest};
use compiler::NotCompiled;

/// Uploads of one component that are remembered; the first ones are forgotten then.
const UPLOADS_MAX: usize = 100;
/// Components that stay loaded though nobody may use them: those of a pipeline's new and old versions, as a rule.
const LOADED_MAX: usize = 32;
/// Processes that compile at a time; each may have gigabytes.
const COMPILING_MAX: usize = 1;
/// With what the names of files begin that are being written.
const HALF: &str = ".half-";

/// A store of components. Cheap to clone.
#[derive(Clone)]
pub struct Components {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    runtime: Runtime,
    compiler: Compiler,
    compiling: Semaphore,
    /// The newest last; a short lock, to look one up or add one.
    loaded: Mutex<VecDeque<Plugin>>,
    /// Held while what is known of a component is read, added to and replaced: uploads of one may come together.
    recording: Mutex<()>,
    /// The number of the next file that is written.
    half: AtomicU64,
}

impl Components {
    /// The store in a folder, which is made if there is none.
    ///
    /// # Errors
    /// When the folder can't be made or read.
    pub fn open(folder: &Path, runtime: Runtime, compiler: Compiler) -> Result<Self, Refusal> {
        let cannot = |e| Refusal::failed(format!("cannot open the components in {}: {e}", folder.display()));
        fs::create_dir_all(folder).map_err(cannot)?;
        for entry in fs::read_dir(folder).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            // Of a host that was killed while it wrote.
            if entry.file_name().to_string_lossy().starts_with(HALF) {
                fs::remove_file(entry.path()).map_err(cannot)?;
            }
        }
        let inner = Inner {
            folder: folder.to_owned(),
            runtime,
            compiler,
            compiling: Semaphore::new(COMPILING_MAX),
            loaded: Mutex::default(),
            recording: Mutex::default(),
            half: AtomicU64::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes in a component that `by` has brought from the file `file` at the time `now_ms`, in milliseconds since the
    /// epoch. One that is there already is only brought once more.
    ///
    /// # Errors
    /// When it can't be used as an operator, compiling it takes too much, or it can't be written; nothing of it is kept
    /// then.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn upload(
        &self,
        bytes: Vec<u8>,
        file: &str,
        by: &str,
        now_ms: u64,
    ) -> Result<ComponentInfo, Refusal> {
        let inner = self.inner.clone();
        let bytes = Arc::new(bytes);
        let (digest, staged) = {
            let bytes = bytes.clone();
            blocking(move || inner.stage(&bytes)).await?
        };
        let plugin = match &staged {
            None => self.plugin(&digest).await?,
            Some(staged) => {
                let whose = |e: &dyn std::fmt::Display| format!("{file} can't be used as an operator: {e}");
                self.compile(&digest, &staged.path).await.map_err(|e| e.refusal(&whose))?;
                self.load(bytes).await.map_err(|e| Refusal::invalid(whose(&e)))?
            }
        };
        let upload = Upload { at_ms: now_ms, by: by.to_owned(), file: file.to_owned() };
        let inner = self.inner.clone();
        blocking(move || {
            if let Some(staged) = staged {
                staged.keep(&inner.path(&digest, "wasm")).map_err(|e| inner.cannot_write(&digest, &e))?;
            }
            inner.remember(&plugin);
            inner.record(&plugin, upload)
        })
        .await
    }

    /// A component of the store, ready to run.
    ///
    /// # Errors
    /// When there is none of this digest, or it is damaged.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn plugin(&self, digest: &str) -> Result<Plugin, Refusal> {
        check_digest(digest)?;
        if let Some(plugin) = self.inner.recall(digest) {
            return Ok(plugin);
        }
        let (inner, wanted) = (self.inner.clone(), digest.to_owned());
        let bytes = Arc::new(blocking(move || inner.read(&wanted)).await?);
        let whose = |e: &dyn std::fmt::Display| format!("the component {digest} can't be used: {e}");
        let path = self.inner.path(digest, "wasm");
        self.compile(digest, &path).await.map_err(|e| e.refusal(&whose))?;
        let plugin = self.load(bytes).await.map_err(|e| Refusal::failed(whose(&e)))?;
        self.inner.remember(&plugin);
        Ok(plugin)
    }

    /// All components, by the names that they give themselves, and those of one name in the order in which they came.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn list(&self) -> Result<Vec<ComponentInfo>, Refusal> {
        let folder = &self.inner.folder;
        let cannot = |e| Refusal::failed(format!("cannot read the components in {}: {e}", folder.display()));
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            let Some(digest) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            if check_digest(digest).is_ok() {
                all.extend(self.inner.info(digest)?);
            }
        }
        let came_ms = |info: &ComponentInfo| info.uploads.first().map_or(0, |u| u.at_ms);
        all.sort_by(|a, b| (&a.name, came_ms(a), &a.digest).cmp(&(&b.name, came_ms(b), &b.digest)));
        Ok(all)
    }

    /// What is known of a component.
    ///
    /// # Errors
    /// When there is none of this digest, or the store can't be read.
    pub fn info(&self, digest: &str) -> Result<ComponentInfo, Refusal> {
        check_digest(digest)?;
        self.inner.info(digest)?.ok_or_else(|| not_there(digest))
    }

    /// Compiles a component, unless it was compiled before: apart, where there is a program for that.
    async fn compile(&self, digest: &str, file: &Path) -> Result<(), NotCompiled> {
        let Inner { runtime, compiler, compiling, .. } = &*self.inner;
        let Some(program) = &compiler.program else { return Ok(()) };
        if runtime.has_compiled(digest) {
            return Ok(());
        }
        // It is never closed.
        let _one_of_few = compiling.acquire().await;
        compiler.compile(program, file).await?;
        // Loading it would compile it, without limits.
        if !runtime.has_compiled(digest) {
            return Err(NotCompiled::Failed(format!(
                "{} compiles for another version of the host than this one; start the host again",
                program.display()
            )));
        }
        Ok(())
    }

    /// Reading a large component, and compiling it where there is no program for that, takes too long for a thread that
    /// others wait for.
    async fn load(&self, bytes: Arc<Vec<u8>>) -> Result<Plugin, LoadError> {
        let (runtime, handle) = (self.inner.runtime.clone(), Handle::current());
        blocking(move || handle.block_on(runtime.load(&bytes))).await
    }
}

impl NotCompiled {
    fn refusal(&self, whose: &dyn Fn(&dyn std::fmt::Display) -> String) -> Refusal {
        match self {
            Self::Refused(why) => Refusal::invalid(whose(why)),
            Self::Failed(why) => Refusal::failed(whose(why)),
        }
    }
}

impl Inner {
    fn path(&self, digest: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{digest}.{extension}"))
    }

    fn cannot_write(&self, digest: &str, e: &std::io::Error) -> Refusal {
        Refusal::failed(format!("cannot write the component {digest} in {}: {e}", self.folder.display()))
    }

    /// Writes a component beside its place, unless it is in its place, whole.
    fn stage(&self, bytes: &[u8]) -> Result<(String, Option<Staged>), Refusal> {
        let digest = digest(bytes);
        if fs::read(self.path(&digest, "wasm")).is_ok_and(|kept| kept == bytes) {
            return Ok((digest, None));
        }
        let staged = self.write(bytes).map_err(|e| self.cannot_write(&digest, &e))?;
        Ok((digest, Some(staged)))
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<Staged> {
        let number = self.half.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{HALF}{number}"));
        let mut file = fs::File::options().write(true).create_new(true).open(&path)?;
        let staged = Staged { path };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(staged)
    }

    /// The bytes of a component.
    fn read(&self, wanted: &str) -> Result<Vec<u8>, Refusal> {
        let path = self.path(wanted, "wasm");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(not_there(wanted)),
            read => read.map_err(|e| Refusal::failed(format!("cannot read {}: {e}", path.display())))?,
        };
        let found = digest(&bytes);
        if found != wanted {
            return Err(Refusal::failed(format!(
                "{} is damaged: the SHA-256 of its content is {found}; upload the component again",
                path.display()
            )));
        }
        Ok(bytes)
    }

    /// What is known of a component; none: there is none of this digest.
    fn info(&self, digest: &str) -> Result<Option<ComponentInfo>, Refusal> {
        let path = self.path(digest, "json");
        let text = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| Refusal::failed(format!("cannot read {}: {e}", path.display())))?,
        };
        let info = serde_json::from_slice(&text);
        info.map(Some).map_err(|e| {
            let path = path.display();
            Refusal::failed(format!("{path} is damaged: {e}; remove it and upload the component again"))
        })
    }

    /// Adds an upload to what is known of a component.
    fn record(&self, plugin: &Plugin, upload: Upload) -> Result<ComponentInfo, Refusal> {
        let _alone = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = plugin.digest();
        let known = self.info(digest)?;
        let mut info = known.unwrap_or_else(|| ComponentInfo {
            digest: digest.to_owned(),
            bytes: plugin.size_bytes() as u64,
            world: plugin.world().name().to_owned(),
            name: plugin.description().name.clone(),
            version: plugin.description().version.clone(),
            imports: plugin.imports().to_vec(),
            uploads: Vec::new(),
        });
        info.uploads.push(upload);
        let too_many = info.uploads.len().saturating_sub(UPLOADS_MAX);
        info.uploads.drain(..too_many);
        let text = serde_json::to_vec_pretty(&info).expect("texts and numbers are JSON");
        let written = self.write(&text).and_then(|staged| staged.keep(&self.path(digest, "json")));
        written.map_err(|e| self.cannot_write(digest, &e))?;
        Ok(info)
    }

    fn recall(&self, digest: &str) -> Option<Plugin> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().find(|plugin| plugin.digest() == digest).cloned()
    }

    fn remember(&self, plugin: &Plugin) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|other| other.digest() != plugin.digest());
        loaded.push_back(plugin.clone());
        if loaded.len() > LOADED_MAX {
            loaded.pop_front();
        }
    }
}

/// A file that is whole, and goes unless it is kept.
struct Staged {
    path: PathBuf,
}

impl Staged {
    /// Puts it into its place, whatever was there, for good.
    fn keep(self, place: &Path) -> std::io::Result<()> {
        fs::rename(&self.path, place)?;
        let folder = place.parent().unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // One that was kept isn't there any more; one that stays is removed when the store is opened again.
        let _ = fs::remove_file(&self.path);
    }
}

/// Digests become parts of paths.
fn check_digest(digest: &str) -> Result<(), Refusal> {
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digest.len() == 64 && digest.bytes().all(is_hex) {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "`{}` is no digest of a component, which is a SHA-256 in 64 hexadecimal digits, small ones",
        digest.escape_debug()
    )))
}

fn not_there(digest: &str) -> Refusal {
    Refusal::not_found(format!("the host has no component {digest}; upload it first"))
}

/// Runs what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}
