//! The repository's own commands: `cargo xtask NAME`.
//!
//! Standard library only, so that the first command on a bare machine starts within seconds. A command
//! says in one line what it does next, and when it fails, what failed, what was expected, what to type.

mod bench;
mod demo;
mod guests;
mod lint;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

/// A message for the person at the terminal.
type Result<T> = std::result::Result<T, String>;

struct Command {
    name: &'static str,
    about: &'static str,
    /// The exit code is the command's answer; an error is that it could not give one.
    run: fn(&Workspace) -> Result<ExitCode>,
}

/// To add a command, add a line.
const COMMANDS: [Command; 5] = [
    Command { name: "setup", about: "makes this machine ready to build operators", run: setup::run },
    Command { name: "demo", about: "builds the host and runs the flights example", run: demo::run },
    Command { name: "test", about: "runs all tests of the workspace", run: test::run },
    Command { name: "bench", about: "measures the border and the whole host, as ratios", run: bench::run },
    Command { name: "lint", about: "checks format, lints and the walls between packages", run: lint::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let found = match arguments.as_slice() {
        [name] => COMMANDS.iter().find(|command| command.name == name),
        _ => None,
    };
    let Some(command) = found else {
        eprint!("{}", usage());
        return ExitCode::from(2);
    };
    Workspace::find().and_then(|workspace| (command.run)(&workspace)).unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })
}

fn usage() -> String {
    let lines = COMMANDS.iter().map(|command| format!("  {:8}{}\n", command.name, command.about));
    format!("usage: cargo xtask COMMAND\n\n{}", lines.collect::<String>())
}
