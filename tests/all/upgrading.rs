//! What `docs/upgrading.md` shows is what happens: its commands are run, and answer what stands there.

use std::fs;
use std::path::Path;
use std::process::Command;

use tidemill_tests::{Folder, Host, command, component, workspace, workspace_file};

/// Stands in the page for what differs from run to run.
const ANYTHING: &str = "…";

#[test]
fn the_worked_example_is_what_happens() {
    let folder = folder();
    let host = Host::start(&folder);
    let page = workspace_file("docs/upgrading.md");
    let steps = steps(&page);
    assert!(steps.len() >= 12, "{} commands", steps.len());
    let mut appended = 0;
    for step in steps {
        let ended = sh(&folder, step.command);
        assert!(ended.0, "`{}` failed:\n{}", step.command, ended.1);
        let differs = difference(&step.answer, &ended.1);
        assert!(
            differs.is_none(),
            "`{}`: {}\nit answers:\n{}",
            step.command,
            differs.unwrap_or_default(),
            ended.1
        );
        if step.command.contains("log append") {
            let file = step.command.split_whitespace().last().unwrap();
            appended += fs::read_to_string(folder.path(file)).unwrap().lines().count();
        }
        // A person takes longer to type than a pipeline to read, and its next two checkpoints to come.
        for pipeline in ["turnover", "turnover-2"].into_iter().filter(|p| is_running(&host, p)) {
            let read = host.wait_until(pipeline, |status| status["sources"]["orders"]["rows"] == appended);
            let checkpoint = read["checkpoint"].as_u64().unwrap_or(0);
            host.wait_until(pipeline, |status| status["checkpoint"].as_u64() > Some(checkpoint + 1));
        }
    }
    host.stop();
}

fn is_running(host: &Host<'_>, pipeline: &str) -> bool {
    let status = host.tell(&["status", pipeline, "--json"]);
    status.status == Some(0) && status.json()["state"] == "running"
}

/// The folder in which the page's commands are typed.
fn folder() -> Folder {
    let folder = Folder::new();
    let example = workspace().join("examples/upgrade");
    for file in fs::read_dir(example).unwrap().flatten().filter(|f| f.path().is_file()) {
        folder.write(&file.file_name().to_string_lossy(), fs::read(file.path()).unwrap());
    }
    for package in ["turnover", "turnover-fixed"] {
        folder.write(
            &format!("operators/{}.wasm", package.replace('-', "_")),
            fs::read(component(package)).unwrap(),
        );
    }
    let pipeline = folder.read("pipeline.toml").replace("../operators/", "operators/");
    folder.write("pipeline.toml", pipeline);
    folder
}

struct Step<'p> {
    command: &'p str,
    answer: Vec<&'p str>,
}

/// The commands in the page's blocks of the kind `console`, each with what it answers.
fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut within = false;
    for line in page.lines() {
        match line {
            "```console" => within = true,
            "```" => within = false,
            _ if !within => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command, answer: Vec::new() }),
                None => steps.last_mut().expect("a command comes first").answer.push(line),
            },
        }
    }
    steps
}

/// Runs a command of the page: whether it ended well, and what it said.
fn sh(folder: &Folder, line: &str) -> (bool, String) {
    let program = command(Path::new("."));
    let bin = Path::new(program.get_program()).parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let line = line.replace("../operators/", "operators/");
    let mut shell = Command::new("sh");
    shell.current_dir(folder.path("")).env("PATH", format!("{}:{path}", bin.display()));
    shell.env("TIDEMILL_DATA", folder.path("data")).args(["-c", &format!("{{ {line}; }} 2>&1")]);
    let ended = shell.output().expect("there is a shell");
    (ended.status.success(), String::from_utf8(ended.stdout).unwrap())
}

/// Where an answer isn't what the page says.
fn difference(expected: &[&str], found: &str) -> Option<String> {
    let found: Vec<&str> = found.lines().collect();
    for (at, line) in expected.iter().enumerate() {
        let is = found.get(at).copied().unwrap_or("nothing");
        if !matches(line.trim_end(), is.trim_end()) {
            return Some(format!("the page has line {}\n{line}\nand it is\n{is}", at + 1));
        }
    }
    (found.len() > expected.len())
        .then(|| format!("behind what the page has comes\n{}", found[expected.len()]))
}

fn matches(expected: &str, found: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    for (at, part) in parts.iter().enumerate() {
        if at + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.is_empty()
}
