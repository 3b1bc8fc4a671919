//! Programs that Python's packages bring, installed when they are first needed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::target;

/// The folder of a package's programs; it is installed into `folder`, beside what cargo builds, unless it is there.
///
/// # Errors
/// When it can't be installed; the message says why.
pub fn install(folder: &str, package: &str) -> Result<PathBuf, String> {
    let (target, name) = (target(), folder);
    let folder = target.join(name);
    fs::create_dir_all(&target).map_err(|e| e.to_string())?;
    let lock = File::create(target.join(format!(".{name}-lock"))).map_err(|e| e.to_string())?;
    // Other processes of tests may be about to do the same. Closing the file gives the lock back.
    lock.lock().map_err(|e| e.to_string())?;
    let (programs, done) = (folder.join("bin"), folder.join("installed"));
    if fs::read_to_string(&done).is_ok_and(|installed| installed == package) {
        return Ok(programs);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let arguments = ["install", "--quiet", "--disable-pip-version-check", package];
    run(Command::new(programs.join("pip")).args(arguments))?;
    fs::write(&done, package).map_err(|e| e.to_string())?;
    Ok(programs)
}

fn run(command: &mut Command) -> Result<(), String> {
    let ended = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let last = said.lines().last().unwrap_or_default();
    if ended.status.success() { Ok(()) } else { Err(format!("{command:?} failed: {last}")) }
}
