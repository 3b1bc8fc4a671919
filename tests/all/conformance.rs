//! The conformance suite: scripts of how event time, windows, timers and restores have to behave, most of them cases that
//! other engines' tests pin down. Each is played as it stands, and with a restore between any two steps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tidemill_tests::{Folder, component, tidemill_in, workspace};

/// A folder with the scripts, and the components where they look for them.
fn suite() -> Folder {
    let folder = Folder::new();
    let scripts = fs::read_dir(workspace().join("tests/conformance")).unwrap().flatten();
    let scripts: Vec<PathBuf> = scripts.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    assert!(scripts.len() > 5, "{scripts:?}");
    for script in scripts {
        let name = script.file_name().unwrap().to_string_lossy().into_owned();
        folder.write(&format!("conformance/{name}"), fs::read(&script).unwrap());
    }
    let operators = component("sum-by-key").parent().unwrap().to_owned();
    symlink(operators, folder.path("operators")).unwrap();
    folder
}

#[track_caller]
fn check(arguments: &[&str]) {
    let folder = suite();
    let scripts = folder.files("conformance");
    let arguments = ["test", "conformance"].iter().chain(arguments);
    let ended = tidemill_in(&folder.path(""), arguments);
    assert_eq!(ended.status, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    // Those that only belong to a script are no scripts: they have no steps.
    let played = ended.stdout.lines().filter(|line| line.contains(": passed, ")).count();
    let pipelines = scripts.iter().filter(|name| name.ends_with(".pipeline.toml")).count();
    assert_eq!(played, scripts.len() - pipelines, "{}", ended.stdout);
    assert_eq!(folder.files("conformance"), scripts, "nothing is written");
}

#[test]
fn every_script_passes() {
    check(&[]);
}

#[test]
fn every_script_passes_with_a_restore_between_any_two_steps() {
    check(&["--restore-everywhere"]);
}

#[test]
fn every_script_passes_on_three_tasks() {
    check(&["--restore-everywhere", "--parallelism", "3"]);
}
