//! The program under test: found or built, started, waited for.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Ended, target, workspace};

/// Nothing that a test runs takes a tenth of this, unless it hangs.
const RUN_MAX: Duration = Duration::from_mins(2);

/// The program: `TIDEMILL_BIN`, or what cargo builds in this workspace.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("TIDEMILL_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).args(["build", "--quiet", "-p", "tidemill"]).current_dir(workspace()).status();
    assert!(
        built.expect("cargo can be run").success(),
        "cargo cannot build the program; its messages are above"
    );
    target().join("debug/tidemill")
}

/// Runs the program to its end.
pub fn tidemill<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    tidemill_in(Path::new("."), arguments)
}

/// Runs the program to its end in a folder.
pub fn tidemill_in<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Ended {
    let mut command = command(folder);
    Running::start(command.args(arguments), b"").wait()
}

/// The program, to be run in a folder, with compiled components where all tests keep them.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.current_dir(folder).env("XDG_CACHE_HOME", target().join("tests-cache"));
    // What the person who runs the tests has set up must not decide them.
    let decides = |name: &str| name.starts_with("AWS_") || name.starts_with("TIDEMILL_");
    std::env::vars_os().filter(|(name, _)| decides(&name.to_string_lossy())).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command
}

/// A program that runs.
pub struct Running {
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Starts the program with this standard input.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(command: &mut Command, input: &[u8]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // Whoever doesn't read to the end closes the pipe, which is their right.
        std::thread::spawn(move || _ = stdin.write_all(&input));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Sends what Ctrl-C sends.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Sends what a supervisor of services sends.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill can be run").success(), "no process {}", self.child.id());
    }

    /// Whether it has come to its end.
    ///
    /// # Panics
    /// When that can't be asked.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// Ends it as `kill -9` does, unless it has ended.
    ///
    /// # Panics
    /// When that isn't allowed.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it doesn't come in minutes, or the program itself panicked.
    pub fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if started.elapsed() > RUN_MAX {
                _ = self.child.kill();
                let stderr = self.stderr.join().expect("read to its end");
                panic!("still running after {RUN_MAX:?}; it said:\n{}", String::from_utf8_lossy(&stderr));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let text = |output: JoinHandle<Vec<u8>>| {
            String::from_utf8(output.join().expect("read to its end")).expect("the program writes UTF-8")
        };
        let (status, signal) = (status.code(), status.signal());
        let ended = Ended { status, signal, stdout: text(self.stdout), stderr: text(self.stderr) };
        // A guest's panic is told without its thread.
        assert!(!ended.stderr.contains("thread '"), "the program panicked:\n{}", ended.stderr);
        ended
    }
}

fn collect(mut output: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}
