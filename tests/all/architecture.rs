//! The walls between the rooms, read from the source as it stands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tidemill_tests::{workspace, workspace_file};

/// Each room of the host's library and the rooms that it leans on, from the bottom up; itself it knows anyway.
const ROOMS: [(&str, &[&str]); 12] = [
    ("formats", &[]),
    ("nats", &[]),
    ("telemetry", &[]),
    ("toolchain", &[]),
    ("plugin", &[]),
    ("log", &["formats", "nats", "pipeline::plan"]),
    ("sink", &["formats", "nats", "pipeline::plan", "telemetry"]),
    // A source that a script feeds has the ways to its partitions in the plan.
    ("pipeline", &["formats", "log::Feeds", "log::nexmark", "nats", "plugin"]),
    ("worker", &["formats", "log", "nats", "pipeline", "plugin", "sink", "telemetry"]),
    ("replay", &["formats", "log", "nats", "pipeline", "plugin", "sink", "telemetry", "worker"]),
    ("service", &["formats", "log", "pipeline", "plugin", "replay", "sink", "telemetry", "worker"]),
    // What it takes in is no larger than what a plugin may be; its tests start hosts, which need a runtime.
    ("api", &["plugin", "replay", "service"]),
];

#[test]
fn a_room_of_the_host_leans_only_on_those_below() {
    for (room, allowed) in ROOMS {
        let files = sources(&workspace().join("host/src").join(room));
        assert!(!files.is_empty(), "host/src/{room} has no source; change the table of rooms");
        for file in files {
            for path in paths_after(&code(&file), "crate::") {
                let known = path.starts_with(&format!("{room}::")) || path == room || path.starts_with("cli");
                let known =
                    known || allowed.iter().any(|a| path == *a || path.starts_with(&format!("{a}::")));
                assert!(
                    known && !path.starts_with("cli"),
                    "{} uses crate::{path}, but `{room}` leans only on {allowed:?}; have its caller pass what it needs, \
                     or give the table of rooms its reason",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_room_of_the_host_is_in_the_table() {
    let library = workspace_file("host/src/lib.rs");
    let declared: BTreeSet<&str> = library
        .lines()
        .filter_map(|l| l.strip_prefix("pub mod "))
        .filter_map(|l| l.strip_suffix(';'))
        .collect();
    assert_eq!(declared, ROOMS.iter().map(|(room, _)| *room).collect());
}

/// The standard library's doors to the world, and to chance.
const WORLD: [&str; 9] = ["env", "fs", "io", "net", "os", "process", "sync::mpsc", "thread", "time"];

#[test]
fn the_flow_decides_without_the_world() {
    let manifest = workspace_file("host/flow/Cargo.toml");
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").expect("a list of dependencies");
    let (dependencies, _) = dependencies.split_once("\n[").unwrap_or((dependencies, ""));
    for dependency in
        dependencies.lines().filter_map(|l| l.split(['.', ' ', '=']).next()).filter(|d| !d.is_empty())
    {
        let computes = dependency.starts_with("arrow-") || ["hashbrown", "xxhash-rust"].contains(&dependency);
        assert!(computes, "the flow depends on {dependency}; what isn't computing belongs into the host");
    }
    for file in sources(&workspace().join("host/flow/src")) {
        for path in paths_after(&code(&file), "std::") {
            let outside = WORLD.iter().find(|w| path == **w || path.starts_with(&format!("{w}::")));
            assert_eq!(outside, None, "{} uses std::{path}; pass in what it should know", file.display());
        }
    }
}

#[test]
fn the_sdk_and_the_host_meet_only_in_the_contract() {
    for (package, other) in [("host", "tidemill-sdk"), ("host/flow", "tidemill-sdk"), ("sdk", "tidemill.w")] {
        let manifest = workspace_file(&format!("{package}/Cargo.toml"));
        assert!(
            !manifest.contains(other),
            "{package} depends on {other}; what both need to know stands in wit/"
        );
    }
}

#[test]
fn nothing_is_unsafe_but_the_cache_of_compiled_components() {
    let mut found = BTreeSet::new();
    for folder in ["host", "sdk/src", "xtask", "tests", "benches", "guest-examples"] {
        for file in sources(&workspace().join(folder)) {
            let code = code(&file);
            let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.into_iter().any(|word| word == "unsafe") {
                found.insert(file.strip_prefix(workspace()).expect("of the workspace").display().to_string());
            }
        }
    }
    assert_eq!(found, BTreeSet::from(["host/src/plugin/cache.rs".to_owned()]));
}

/// The files of Rust in a folder and below, or the one file of that name.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// A file without its comments and texts.
fn code(file: &Path) -> String {
    without_texts(&fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display())))
}

fn without_texts(source: &str) -> String {
    let (mut code, mut rest) = (String::new(), source);
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n')
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            let opened = 2 + hashes;
            rest[opened..].find(&end).map(|at| opened + at + end.len())
        } else if next == '"' {
            text_end(rest)
        } else if let Some(character) = ["'\"'", "'\\\"'"].iter().find(|c| rest.starts_with(**c)) {
            Some(character.len())
        } else {
            code.push(next);
            Some(next.len_utf8())
        };
        rest = skipped.map_or("", |count| &rest[count..]);
    }
    code
}

/// Where the text that begins `rest` is over.
fn text_end(rest: &str) -> Option<usize> {
    let mut escaped = true;
    let quote = |c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    };
    rest.find(quote).map(|at| at + 1)
}

/// What follows a prefix like `crate::`, up to two names; each of those in `crate::{…}`.
fn paths_after(code: &str, prefix: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let own = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        if !own {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{').and_then(|r| r.split_once("};")) {
            Some((names, _)) => paths.extend(top_level(names).iter().map(|n| first_two(n))),
            None => paths.push(first_two(rest)),
        }
    }
    paths
}

/// The pieces between commas that stand in no further braces.
fn top_level(names: &str) -> Vec<String> {
    let mut depth = 0;
    let pieces = names.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    pieces.map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

fn first_two(path: &str) -> String {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
    path[..end].split("::").filter(|n| !n.is_empty()).take(2).collect::<Vec<_>>().join("::")
}

#[test]
fn paths_are_found_however_they_are_written() {
    let code = "use crate::a::b::C;\nuse crate::{d, e::{f, g}, h::i::J};\nlet x = crate::k::l(); my_crate::m; pub(crate) n;";
    assert_eq!(paths_after(code, "crate::"), ["a::b", "d", "e", "h::i", "k::l"]);
}

#[test]
fn texts_and_comments_are_no_code() {
    let source = "a /* b */ // c\n \"d \\\" d\n d\" e '\"' f r#\"g \" g\"# h r\"i\\\" j";
    let words = without_texts(source);
    assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["a", "/*", "b", "*/", "e", "f", "h", "j"]);
}
