//! Finds a compiler for `wasm32-unknown-unknown` on this machine. Stands alone, on std: xtask includes this
//! file too.
//!
//! There are two ways. Either a rustc has the target's standard library; or one has the library's source, and
//! cargo builds it. The second is for machines where rustup has no network but the distribution's packages
//! are there.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What operators are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Where distributions install their own rustc, next to rustup's.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// A way to compile for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// This rustc has the target installed.
    Installed {
        /// The compiler.
        rustc: PathBuf,
    },
    /// This rustc has the standard library's source: cargo builds it once for each target folder, in about a
    /// minute.
    FromSource {
        /// The compiler.
        rustc: PathBuf,
        /// What links WebAssembly: a `rust-lld` of any version, or `wasm-ld`.
        linker: PathBuf,
    },
}

impl Toolchain {
    /// Looks for a way, as it is for a project in `folder` (which may ask for a rustc of its own).
    ///
    /// # Errors
    /// If there is none: what to type.
    pub fn find(folder: &Path) -> Result<Self, Missing> {
        let active = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let candidates = [PathBuf::from(active), PathBuf::from(SYSTEM_RUSTC)];
        let found: Vec<_> = candidates.iter().filter_map(|rustc| Rustc::ask(rustc, folder)).collect();
        if let Some(rustc) = found.iter().find(|rustc| rustc.has_target()) {
            return Ok(Self::Installed { rustc: rustc.path.clone() });
        }
        let linker = found.iter().find_map(Rustc::linker).or_else(|| in_path("wasm-ld"));
        match (found.iter().find(|rustc| rustc.has_source()), linker) {
            (Some(rustc), Some(linker)) => Ok(Self::FromSource { rustc: rustc.path.clone(), linker }),
            (Some(_), None) => Err(Missing::Linker),
            (None, _) => Err(Missing::Library),
        }
    }

    /// Makes a `cargo build` use this toolchain.
    pub fn apply(&self, cargo: &mut Command) {
        match self {
            Self::Installed { rustc } => {
                cargo.env("RUSTC", rustc);
            }
            Self::FromSource { rustc, linker } => {
                // The bootstrap switch lets a stable rustc build its own standard library.
                cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                cargo.arg("-Zbuild-std=std,panic_abort");
            }
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed { rustc } => write!(f, "{} with {TARGET}", rustc.display()),
            Self::FromSource { rustc, .. } => {
                write!(f, "{} with the standard library built from source", rustc.display())
            }
        }
    }
}

/// There is no way to compile for [`TARGET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No standard library for the target, neither built nor as source.
    Library,
    /// The source is there, but nothing that links the result.
    Linker,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library => write!(f, "no Rust compiler here can compile for {TARGET}; ")?,
            Self::Linker => write!(f, "the Rust compiler here has no linker for {TARGET}; ")?,
        }
        write!(f, "type `rustup target add {TARGET}`")?;
        if !Path::new("/etc/debian_version").exists() {
            return Ok(());
        }
        match self {
            Self::Library => {
                write!(f, ", or `apt-get install rustc-web rust-web-src` where rustup has no network")
            }
            Self::Linker => write!(f, ", or `apt-get install lld`"),
        }
    }
}

impl std::error::Error for Missing {}

/// A rustc that answers.
struct Rustc {
    path: PathBuf,
    sysroot: PathBuf,
    target_libraries: PathBuf,
}

impl Rustc {
    fn ask(path: &Path, folder: &Path) -> Option<Self> {
        let mut rustc = Command::new(path);
        rustc.current_dir(folder).args([
            "--print",
            "sysroot",
            "--print",
            "target-libdir",
            "--target",
            TARGET,
        ]);
        let answer = rustc.output().ok().filter(|answer| answer.status.success())?;
        let answer = String::from_utf8(answer.stdout).ok()?;
        let mut lines = answer.lines().map(PathBuf::from);
        Some(Self { path: path.into(), sysroot: lines.next()?, target_libraries: lines.next()? })
    }

    /// rustup makes the folder for any target that it is asked about: what counts is what lies in it.
    fn has_target(&self) -> bool {
        let Ok(mut libraries) = self.target_libraries.read_dir() else { return false };
        libraries.any(|file| {
            file.is_ok_and(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libcore-") && name.ends_with(".rlib")
            })
        })
    }

    fn has_source(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
    }

    fn linker(&self) -> Option<PathBuf> {
        let hosts = self.sysroot.join("lib/rustlib").read_dir().ok()?;
        let linker = |host: std::fs::DirEntry| host.path().join("bin/rust-lld");
        hosts.flatten().map(linker).find(|linker| linker.exists())
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|program| program.exists())
}
