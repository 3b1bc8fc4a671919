//! Compiled components on disk, so that a component is compiled once on a machine.
//!
//! The folder belongs to this user alone. A file is named by the digest of the component and by wasmtime's
//! hash of everything that its code depends on: version, settings, the processor's features.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use super::failure::LoadError;

#[derive(Clone)]
pub(super) struct Cache {
    folder: PathBuf,
    settings: u64,
}

impl Cache {
    pub(super) fn new(folder: &Path, engine: &Engine) -> Result<Self, LoadError> {
        make_private(folder).map_err(|e| {
            LoadError::new(format!(
                "cannot make the folder {} for compiled components: {e}",
                folder.display()
            ))
        })?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder: folder.to_path_buf(), settings: hasher.finish() })
    }

    /// The compiled component with this digest, compiled from `bytes` if it isn't there.
    pub(super) fn component(
        &self,
        engine: &Engine,
        digest: &str,
        bytes: &[u8],
    ) -> wasmtime::Result<Component> {
        let path = self.path(digest);
        if let Some(component) = self.load(engine, &path) {
            return Ok(component);
        }
        let component = Component::new(engine, bytes)?;
        // Without a cache the next start is slower; nothing else is lost.
        if let Err(error) = component.serialize().and_then(|code| Ok(store(&path, &code)?)) {
            tracing::warn!("cannot keep the compiled component {}: {error:#}", path.display());
        }
        Ok(component)
    }

    /// Whether there is a file of the compiled component with this digest.
    pub(super) fn has(&self, digest: &str) -> bool {
        self.path(digest).exists()
    }

    /// Compiles the component with this digest, if it isn't there.
    pub(super) fn compile(&self, engine: &Engine, digest: &str, bytes: &[u8]) -> Result<(), LoadError> {
        let path = self.path(digest);
        if self.load(engine, &path).is_some() {
            return Ok(());
        }
        let code = engine.precompile_component(bytes);
        let code = code.map_err(|e| LoadError::new(format!("it can't be compiled: {e:#}")))?;
        store(&path, &code)
            .map_err(|e| LoadError::new(format!("cannot keep what was compiled in {}: {e}", path.display())))
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{:016x}.cwasm", self.settings))
    }

    #[allow(unsafe_code)]
    fn load(&self, engine: &Engine, path: &Path) -> Option<Component> {
        if !path.exists() {
            return None;
        }
        // SAFETY: the file holds native code, which is trusted as much as this program is. It was written by
        // `store` below, into a folder that only this user can enter (`make_private`), whole, as it is
        // renamed into place after it was synced. Users' components never get here: they are `.wasm`, which
        // is compiled. wasmtime itself refuses a file of another version, other settings or another
        // processor. Measured: 0.03 ms instead of 16 ms for a small Rust component, 5 ms instead of 9 s for
        // a Python one.
        match unsafe { Component::deserialize_file(engine, path) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!("compiling anew, as {} is of no use: {error:#}", path.display());
                None
            }
        }
    }
}

fn store(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let half = path.with_extension(format!("{}.half", unique()));
    let written = write_new(&half, code).and_then(|()| fs::rename(&half, path));
    if written.is_err() {
        // What is left of it is in nobody's way; why it failed is the error to tell.
        let _ = fs::remove_file(&half);
    }
    written
}

/// A name that no other process uses, on this machine or another that shares the folder.
fn unique() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Seeded by the system for each process and value: chance without a dependency.
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(std::process::id()))
}

/// Writes a file that isn't there yet: never into one that somebody else is writing or has put there.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a folder that only this user can enter, and refuses one that others could write to.
fn make_private(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt};
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = fs::metadata(folder)?;
        if metadata.mode() & 0o022 != 0 {
            let others = "others can write to it, and could put code there; choose another with --cache, or `chmod 700` it \
                          when it is empty";
            return Err(std::io::Error::other(others));
        }
        // Whose files are we? The owner of one that we make.
        let probe = folder.join(format!(".probe-{}", unique()));
        write_new(&probe, b"")?;
        let owner = fs::metadata(&probe).map(|m| m.uid());
        fs::remove_file(&probe)?;
        if metadata.uid() != owner? {
            return Err(std::io::Error::other("it belongs to another user; choose another with --cache"));
        }
        Ok(())
    }
    #[cfg(not(unix))]
    fs::create_dir_all(folder)
}
