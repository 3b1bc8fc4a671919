//! What a reviewer should not have to look for.

use std::process::ExitCode;

use crate::workspace::{Workspace, output, shown, status};
use crate::{Result, setup};

/// Packages of the world, which the flow decides without.
const NOT_IN_FLOW: [&str; 4] = ["wasmtime", "rocksdb", "async-nats", "tokio"];

/// Does every check, also behind one that fails.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    // Clippy runs build scripts, and one of them needs a C++ compiler and libclang.
    setup::ensure(workspace)?;
    let mut failed = Vec::new();
    let mut check = |what: &str, result: Result<()>| {
        if let Err(message) = result {
            eprintln!("error: {message}");
            failed.push(what.to_owned());
        }
    };
    check("format", format(workspace));
    check("clippy", clippy(workspace));
    for package in NOT_IN_FLOW {
        check(&format!("wall against {package}"), wall(workspace, package));
    }
    if failed.is_empty() {
        workspace.say("lint found nothing");
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!("lint failed: {}", failed.join(", ")))
}

fn format(workspace: &Workspace) -> Result<()> {
    workspace.say("checking the format");
    let status = status(&mut workspace.cargo(["fmt", "--all", "--check"]))?;
    let cure = "type `cargo fmt --all` (if it is missing: `rustup component add rustfmt`)";
    if status.success() { Ok(()) } else { Err(format!("the code is not formatted; {cure}")) }
}

fn clippy(workspace: &Workspace) -> Result<()> {
    workspace.say("running clippy");
    let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    let status = status(&mut workspace.cargo(arguments))?;
    let cure = "mend what it shows above (if it is missing: `rustup component add clippy`)";
    if status.success() { Ok(()) } else { Err(format!("clippy is not content; {cure}")) }
}

/// `tidemill-flow` must not depend on this package, by whatever way.
fn wall(workspace: &Workspace, package: &str) -> Result<()> {
    workspace.say(format_args!("checking that tidemill-flow does without {package}"));
    let mut command =
        workspace.cargo(["tree", "--package", "tidemill-flow", "--edges", "normal", "--invert", package]);
    let tree = output(&mut command)?;
    let (found, told) = (String::from_utf8_lossy(&tree.stdout), String::from_utf8_lossy(&tree.stderr));
    if !found.trim().is_empty() {
        return Err(format!(
            "tidemill-flow depends on {package}; it decides, the host does: move what needs {package} there\n{found}"
        ));
    }
    // Nothing on standard output is what we hope for, but also what any other failure looks like.
    let absent = format!("package ID specification `{package}` did not match any packages");
    if told.contains("nothing to print") || told.contains(&absent) {
        return Ok(());
    }
    Err(format!("`{}` failed ({}), expected it to find nothing: {told}", shown(&command), tree.status))
}
