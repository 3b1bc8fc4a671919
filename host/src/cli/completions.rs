//! `tidemill completions`: what a shell needs to complete commands and options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::Exit;

/// The arguments of `tidemill completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Arguments::command(), "tidemill", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
