//! The example operators as components, by the name of their package.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::program::program;
use crate::{target, workspace};

/// The component of a package in `guest-examples`.
///
/// # Panics
/// When it can't be built, or there is no such package.
pub fn component(package: &str) -> PathBuf {
    static OPERATORS: OnceLock<PathBuf> = OnceLock::new();
    let path = OPERATORS.get_or_init(build_all).join(package.replace('-', "_")).with_extension("wasm");
    assert!(path.is_file(), "no {}; is `{package}` a folder of guest-examples?", path.display());
    path
}

/// Builds all of them in one go: cargo knows what is fresh.
fn build_all() -> PathBuf {
    let operators = target().join("operators");
    fs::create_dir_all(&operators).expect("the target folder can be written");
    let lock = File::create(operators.join(".tests-lock")).expect("the target folder can be written");
    // Other processes of tests may be about to do the same. Closing the file gives the lock back.
    lock.lock().expect("a file can be locked");
    let mut build = Command::new(program());
    build.current_dir(workspace()).args(["build", "--quiet", "--out"]).arg(&operators);
    for package in packages() {
        build.args(["-p", &package]);
    }
    assert!(
        build.status().expect("the program can be run").success(),
        "`{build:?}` failed; its messages are above"
    );
    operators
}

/// Each has the name of its folder.
fn packages() -> Vec<String> {
    let folders = fs::read_dir(workspace().join("guest-examples")).expect("the workspace has guest examples");
    let packages = folders.flatten().filter(|f| f.path().join("Cargo.toml").is_file());
    packages.map(|f| f.file_name().to_string_lossy().into_owned()).collect()
}
