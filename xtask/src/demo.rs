//! The flights example, from a fresh checkout to its result.

use std::process::ExitCode;

use crate::workspace::{Profile, Workspace, status};
use crate::{Result, guests, setup};

const PIPELINE: &str = "examples/flights/pipeline.toml";

/// Passes on the exit status of `tidemill run`.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    let tidemill = workspace.build_host(Profile::Release)?;
    guests::build(workspace, &tidemill)?;
    workspace.say(format_args!("tidemill run {PIPELINE}"));
    let status = status(&mut workspace.command(&tidemill, ["run", PIPELINE, "--show", "8"]))?;
    let code = status.code().ok_or_else(|| format!("`tidemill run {PIPELINE}` was killed ({status})"))?;
    // Codes are a byte where they come from; anything else is only known to be a failure.
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}
