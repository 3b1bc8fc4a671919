//! Compiling a component takes as much as it may, and no more, whoever made it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidemill_tests::{Ended, Folder, component, tidemill_in};

fn compile(folder: &Path, file: &Path, seconds: &str, bytes: &str) -> Ended {
    let file = file.as_os_str();
    let limits = ["--seconds-max", seconds, "--memory-bytes-max", bytes];
    let arguments =
        ["--cache", "cache", "compile"].into_iter().chain(limits).map(AsRef::as_ref).chain([file]);
    tidemill_in(folder, arguments)
}

fn artifacts(folder: &Path) -> Vec<(String, std::time::SystemTime)> {
    let files = fs::read_dir(folder.join("cache")).into_iter().flatten().flatten();
    files
        .map(|f| (f.file_name().to_string_lossy().into_owned(), f.metadata().unwrap().modified().unwrap()))
        .collect()
}

/// An operator with a module beside its own that nobody uses: one function of a million and a half instructions.
fn bomb(folder: &Folder) -> PathBuf {
    let turn = "local.get 0 i64.const 31 i64.mul local.get 1 i64.xor local.tee 0 local.set 1 ";
    let body = turn.repeat(200_000);
    let text = format!("(module (func (export \"f\") (param i64 i64) (result i64) {body} local.get 0))");
    let module = wat::parse_str(text).unwrap();
    let mut bytes = fs::read(component("upper-case")).unwrap();
    // A section of a component: what it is, a module; its length, as LEB128; the module.
    bytes.push(1);
    let mut rest = module.len();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes.extend(module);
    let path = folder.path("bomb.wasm");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn compiling_is_stopped_when_it_takes_too_long() {
    let folder = Folder::with(&[]);
    let file = bomb(&folder);
    let begun = Instant::now();
    let ended = compile(&folder.path("."), &file, "1", "8589934592");
    // What the system sends when a process has had its time.
    assert_eq!((ended.status, ended.signal), (None, Some(24)), "{}", ended.stderr);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(artifacts(&folder.path(".")), []);
}

#[test]
fn compiling_is_stopped_when_it_needs_too_much_memory() {
    let folder = Folder::with(&[]);
    let file = bomb(&folder);
    let ended = compile(&folder.path("."), &file, "60", "314572800");
    assert_ne!(ended.status, Some(0));
    assert!(ended.stderr.contains("memory allocation of "), "{}", ended.stderr);
    assert_eq!(artifacts(&folder.path(".")), []);
    // The same limits are enough for what is no bomb.
    compile(&folder.path("."), &component("upper-case"), "60", "314572800").well();
}

#[test]
fn what_was_compiled_within_limits_is_what_runs() {
    let folder = Folder::with(&[]);
    let path = component("upper-case");
    compile(&folder.path("."), &path, "60", "2147483648").well();
    let compiled = artifacts(&folder.path("."));
    assert_eq!(compiled.len(), 1);
    let inspect = ["--cache", "cache", "inspect"].map(AsRef::as_ref);
    tidemill_in(&folder.path("."), inspect.into_iter().chain([path.as_os_str()])).well();
    assert_eq!(artifacts(&folder.path(".")), compiled, "it isn't compiled again");
    compile(&folder.path("."), &path, "60", "2147483648").well();
    assert_eq!(artifacts(&folder.path(".")), compiled);
}

#[test]
fn what_is_no_operator_is_refused_by_the_compiler_too() {
    let folder = Folder::with(&[("a.wasm", "hello")]);
    let ended = compile(&folder.path("."), &folder.path("a.wasm"), "60", "2147483648").with(2);
    assert_eq!(ended.stderr, "tidemill: it isn't a WebAssembly file\n");
}
