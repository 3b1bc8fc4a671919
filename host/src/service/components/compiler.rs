//! Compiling what somebody has uploaded: in a process of its own, with limits, so that a component which is made to be slow
//! or huge costs the host nothing else.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

const SECONDS_MAX: u64 = 60;
const MEMORY_BYTES_MAX: u64 = 2 << 30;

/// Functions are compiled side by side. With more threads memory would be reserved for each, and the data plane would have
/// to share its cores with more of them.
const THREADS: u64 = 2;

/// A compiler's message has some hundred bytes; a table of names may be longer.
const SAID_BYTES_MAX: u64 = 64 << 10;

/// How components are compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// The `tidemill` program, which is run for each component; none: this process compiles, without limits.
    pub program: Option<PathBuf>,
    /// The folder for compiled components; that of the runtime which loads them.
    pub cache: PathBuf,
    /// How long compiling one may take, in seconds.
    pub seconds_max: u64,
    /// How much address space the process that compiles may have, in bytes.
    pub memory_bytes_max: u64,
}

impl Compiler {
    /// Compiles with the usual limits: a minute and 2 GiB. A component with a Python interpreter inside takes 9 seconds.
    pub fn new(program: Option<PathBuf>, cache: PathBuf) -> Self {
        Self { program, cache, seconds_max: SECONDS_MAX, memory_bytes_max: MEMORY_BYTES_MAX }
    }
}

/// Why a component wasn't compiled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotCompiled {
    /// It is the component's fault: it is none, or takes too much.
    Refused(String),
    /// The compiler can't work.
    Failed(String),
}

impl Compiler {
    /// Compiles the component in a file, unless that was done before. Dropping the future stops it.
    pub(super) async fn compile(&self, program: &Path, file: &Path) -> Result<(), NotCompiled> {
        let mut command = Command::new(program);
        // What the host knows by its environment, passwords too, is none of the compiler's business.
        command.env_clear().env("RAYON_NUM_THREADS", THREADS.to_string());
        command.envs(std::env::var_os("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH", path)));
        command.arg("--cache").arg(&self.cache).args(["--log", "off", "compile"]);
        command.arg("--seconds-max").arg((self.seconds_max.saturating_mul(THREADS)).to_string());
        command.arg("--memory-bytes-max").arg(self.memory_bytes_max.to_string()).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let cannot = |e: std::io::Error| {
            NotCompiled::Failed(format!("cannot run {} to compile it: {e}", program.display()))
        };
        let mut child = command.spawn().map_err(cannot)?;
        let said = tokio::spawn(first_bytes(child.stderr.take()));
        match tokio::time::timeout(Duration::from_secs(self.seconds_max), child.wait()).await {
            Ok(status) => {
                let said = said.await.unwrap_or_default();
                self.judge(status.map_err(cannot)?, &said)
            }
            Err(_too_long) => {
                child.kill().await.map_err(cannot)?;
                Err(self.too_long())
            }
        }
    }

    fn judge(&self, status: ExitStatus, said: &str) -> Result<(), NotCompiled> {
        let message = said.trim().trim_start_matches("tidemill: ");
        match (status.code(), signal(status)) {
            (Some(0), _) => Ok(()),
            _ if lacked_memory(said) => Err(self.too_large()),
            (Some(2), _) => Err(NotCompiled::Refused(message.to_owned())),
            (_, Some(SIGXCPU)) => Err(self.too_long()),
            _ if message.is_empty() => Err(NotCompiled::Failed(format!("the compiler ended with {status}"))),
            _ => Err(NotCompiled::Failed(format!("the compiler ended with {status}: {message}"))),
        }
    }

    fn too_long(&self) -> NotCompiled {
        NotCompiled::Refused(format!("compiling it took more than {} s", self.seconds_max))
    }

    fn too_large(&self) -> NotCompiled {
        let mebibytes = self.memory_bytes_max >> 20;
        let most = match mebibytes % 1024 {
            0 => format!("{} GiB", mebibytes / 1024),
            _ => format!("{mebibytes} MiB"),
        };
        NotCompiled::Refused(format!("compiling it needed more than {most} of memory"))
    }
}

/// How Rust's allocator, the system and threads that can't be started say it.
fn lacked_memory(said: &str) -> bool {
    ["memory allocation of ", "Cannot allocate memory", "os error 12)", "os error 11)"]
        .iter()
        .any(|words| said.contains(words))
}

/// Linux and macOS agree on its number.
const SIGXCPU: i32 = 24;

fn signal(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    None
}

/// Reads to the end, so that nobody has to wait, and keeps the beginning.
async fn first_bytes(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut bytes = Vec::new();
    let mut first = (&mut from).take(SAID_BYTES_MAX);
    // What can't be read isn't told; how the process ends says the rest.
    let _ = first.read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
