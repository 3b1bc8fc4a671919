//! All tests of the workspace, and their sum in the last line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};

use crate::workspace::{Profile, Workspace, cannot_start};
use crate::{Result, guests, setup};

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    let tidemill = workspace.build_host(Profile::Dev)?;
    guests::build(workspace, &tidemill)?;
    let nats_server = nats_server(workspace)?;
    workspace.say("running the tests");
    let (mut counts, passed) = run_all(workspace, &nats_server)?;
    if !passed && counts.failed == 0 {
        // A crate that doesn't compile or a test that aborts leaves no count behind.
        eprintln!("error: cargo test failed without a failed test; its messages are above; counted as one");
        counts.failed = 1;
    }
    if counts == Counts::default() {
        eprintln!("error: no test ran; there should be some in this workspace; try `cargo test --workspace`");
    }
    workspace.say("done");
    println!("{counts}");
    Ok(if counts.failed == 0 && counts.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The program that tests of NATS start; empty if there is none, which they then needn't look for themselves.
fn nats_server(workspace: &Workspace) -> Result<OsString> {
    workspace.say("looking for nats-server; where there is none, Python's pip installs one for the tests");
    match tidemill_nats_test::find() {
        Ok(program) => Ok(program.into()),
        Err(why) if tidemill_nats_test::is_named() => Err(why.to_owned()),
        Err(why) => {
            workspace.say(format_args!("tests that need nats-server are skipped: {why}"));
            Ok(OsString::new())
        }
    }
}

/// Runs them all, whichever fail; the counts and whether cargo was content.
fn run_all(workspace: &Workspace, nats_server: &OsStr) -> Result<(Counts, bool)> {
    let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    command.env(tidemill_nats_test::VARIABLE, nats_server);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot_start(&command, &error))?;
    let mut counts = Counts::default();
    let stdout = child.stdout.take().ok_or("cargo's output is not piped")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read cargo's output: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?;
    Ok((counts, status.success()))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Of the binary that runs: they were skipped, and it will count them as passed.
    not_passed: u64,
}

impl Counts {
    /// Counts a line like `test result: ok. 7 passed; 0 failed; 1 ignored; …`, and one like `test skipped: name: why`,
    /// of a test that finds out while it runs that it can't be done, and passes; others tell nothing.
    fn add(&mut self, line: &str) {
        if line.starts_with("test skipped: ") {
            self.skipped += 1;
            // Its binary's sum comes later.
            self.not_passed += 1;
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(';') {
            let mut words = part.split_whitespace().rev();
            let (Some(what), Some(Ok(count))) = (words.next(), words.next().map(str::parse::<u64>)) else {
                continue;
            };
            match what {
                "passed" => self.passed += count.saturating_sub(std::mem::take(&mut self.not_passed)),
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.01s",
            "test prints::a_test result: ok. 100 passed; ... ok",
            "test skipped: a_test: no object store",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s",
        ] {
            counts.add(line);
        }
        assert_eq!(counts.to_string(), "8 passed, 3 failed, 2 skipped");
    }
}
