//! The repository's own commands: `cargo xtask NAME`.
//!
//! Standard library only, so that the first command on a bare machine starts within seconds. A command
//! says in one line what it does next, and when it fails, what failed, what was expected, what to type.

mod bench;
mod demo;
mod guests;
mod lint;
mod nats;
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

/// To add a command, add a line. A name may have an option, which is part of it.
const COMMANDS: [Command; 8] = [
    Command { name: "setup", about: "makes this machine ready to build operators", run: setup::run },
    Command { name: "demo", about: "builds the host and runs the flights example", run: demo::run },
    Command { name: "demo --nats", about: "the same between streams of a NATS server", run: nats::run },
    Command { name: "test", about: "runs all tests of the workspace", run: test::run },
    Command { name: "bench", about: "measures the border and the whole host, as ratios", run: bench::run },
    Command { name: "bench --swaps", about: "measures how long rows wait for a hot swap", run: bench::swaps },
    Command { name: "bench --nats", about: "measures what lies between two streams", run: bench::nats },
    Command { name: "lint", about: "checks format, lints and the walls between packages", run: lint::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let typed = arguments.join(" ");
    let found = COMMANDS.iter().find(|command| command.name == typed);
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
    let lines = COMMANDS.iter().map(|command| format!("  {:13}{}\n", command.name, command.about));
    format!("usage: cargo xtask COMMAND\n\n{}", lines.collect::<String>())
}
