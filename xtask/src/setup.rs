//! Makes this machine ready to build the host and its operators.
//!
//! The host needs a C++ compiler and libclang (see `native`), operators a Rust compiler for wasm32-unknown-unknown.
//! For those, rustup's target is the usual way. Where rustup's servers can't be reached, Debian's `rustc-web`
//! with its sources does as well. Which of them is there is found out as `tidemill build` does it. A C compiler is
//! not looked for: without one, Rust would not have linked this program.

#[path = "../../host/src/toolchain/discover.rs"]
#[expect(dead_code, unreachable_pub, reason = "the host's file, of which this program only needs the search")]
mod discover;
mod native;

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use discover::{Missing, TARGET, Toolchain};

use crate::Result;
use crate::workspace::{Workspace, cannot_start, output, shown, status};

/// The target is a download of about 20 MB. A network that drops packets would hold rustup for minutes.
const RUSTUP_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    ensure(workspace)?;
    Ok(ExitCode::SUCCESS)
}

/// Sets up what is missing; a fraction of a second if nothing is.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    native::ensure(workspace)?;
    if find(workspace).is_ok() {
        return Ok(());
    }
    let with_rustup = add_with_rustup(workspace);
    let Err(missing) = find(workspace) else { return Ok(()) };
    let with_apt = install(workspace, packages(missing));
    // The compiler's packages bring no linker; where the active toolchain has none either, that comes second.
    let Err(missing) = find(workspace) else { return Ok(()) };
    let with_apt = with_apt.and_then(|()| install(workspace, packages(missing)));
    let Err(missing) = find(workspace) else { return Ok(()) };

    let reason = |result: Result<()>| result.err().unwrap_or("no error, but nothing has changed".to_owned());
    Err(format!(
        "operators can't be built: there is no {what} for {TARGET}\n  tried rustup: {}\n  tried apt-get: {}\n\
         type one of these, then this command again:\n  rustup target add {TARGET}\n  \
         sudo apt-get update && sudo apt-get install -y --no-install-recommends {packages}",
        reason(with_rustup),
        reason(with_apt),
        what = match missing {
            Missing::Library => "Rust standard library",
            Missing::Linker => "linker",
        },
        packages = packages(missing).join(" "),
    ))
}

fn find(workspace: &Workspace) -> std::result::Result<(), Missing> {
    let toolchain = Toolchain::find(&workspace.root)?;
    workspace.say(format_args!("operators are built by {toolchain}"));
    Ok(())
}

/// Debian's packages that bring what is missing.
fn packages(missing: Missing) -> &'static [&'static str] {
    match missing {
        Missing::Library => &["rustc-web", "rust-web-src"],
        Missing::Linker => &["lld"],
    }
}

fn add_with_rustup(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.command("rustup", ["target", "add", TARGET]);
    command.env("RUSTUP_MAX_RETRIES", "1").stdin(Stdio::null());
    workspace.say(format_args!("adding the target for operators: {}", shown(&command)));
    let mut child = command.spawn().map_err(|error| cannot_start(&command, &error))?;
    let begin = Instant::now();
    while begin.elapsed() < RUSTUP_TIMEOUT {
        match child.try_wait().map_err(|error| format!("cannot wait for rustup: {error}"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("`{}` failed ({status})", shown(&command))),
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    // It may have ended by itself just now; either way it is gone.
    child.kill().ok();
    child.wait().ok();
    Err(format!("`{}` took more than {} s and was stopped", shown(&command), RUSTUP_TIMEOUT.as_secs()))
}

/// Installs packages of Debian, if this is one and root can be had.
fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").is_file() {
        return Err("it is not on this machine".to_owned());
    }
    let prefix = root_prefix(workspace).ok_or("it needs root, and sudo asks for a password")?;
    let apt_get = |arguments: &[&str]| -> Result<bool> {
        let words = [prefix, &["apt-get"], arguments].concat();
        let mut command = workspace.command(words[0], &words[1..]);
        workspace.say(format_args!("installing Debian's packages: {}", shown(&command)));
        Ok(status(command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()))?.success())
    };
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    // The package lists may be old or not there at all: then, and only then, they are fetched.
    if apt_get(&install)? || (apt_get(&["update"])? && apt_get(&install)?) {
        return Ok(());
    }
    Err(format!("it could not install {}; its messages are above", packages.join(" and ")))
}

/// What to put before a command that needs root; `None` if that can't be had without a password.
fn root_prefix(workspace: &Workspace) -> Option<&'static [&'static str]> {
    let user = output(&mut workspace.command("id", ["-u"])).ok()?;
    if user.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    let sudo = output(workspace.command("sudo", ["-n", "true"]).stdin(Stdio::null())).ok()?;
    sudo.status.success().then_some(&["sudo", "-n"])
}
