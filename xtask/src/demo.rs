//! The flights example, from a fresh checkout to its result.

use std::path::Path;
use std::process::ExitCode;

use crate::workspace::{Profile, Workspace, shown, status};
use crate::{Result, guests, setup};

const PIPELINE: &str = "examples/flights/pipeline.toml";

/// Passes on the exit status of `tidemill run`.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    let tidemill = workspace.build_host(Profile::Release)?;
    guests::build(workspace, &tidemill)?;
    run_pipeline(workspace, &tidemill, &[PIPELINE, "--show", "8"])
}

/// `tidemill run` with these arguments, and its exit status.
pub(crate) fn run_pipeline(workspace: &Workspace, tidemill: &Path, arguments: &[&str]) -> Result<ExitCode> {
    let mut command = workspace.command(tidemill, ["run"]);
    command.args(arguments);
    workspace.say(shown(&command));
    let status = status(&mut command)?;
    let code = status.code().ok_or_else(|| format!("`{}` was killed ({status})", shown(&command)))?;
    // Codes are a byte where they come from; anything else is only known to be a failure.
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}
