//! The example operators as components, built by the host's own `tidemill build`.

use std::path::Path;

use crate::Result;
use crate::workspace::{Workspace, succeed};

/// Where the example pipelines expect their components.
pub(crate) const FOLDER: &str = "examples/operators";

/// Builds every operator in `guest-examples` into [`FOLDER`], in one go.
///
/// The one place that knows the command line of `tidemill build`.
pub(crate) fn build(workspace: &Workspace, tidemill: &Path) -> Result<()> {
    let out = workspace.root.join(FOLDER);
    let operators = operators(&workspace.root.join("guest-examples"))?;
    workspace.say(format_args!("building the operators {}", operators.join(", ")));
    let mut build = workspace.command(tidemill, ["build"]);
    build.args(operators.iter().flat_map(|operator| ["-p", operator]));
    succeed(build.arg("--out").arg(&out))
}

/// The packages in this folder, sorted; each has the name of its own folder.
fn operators(examples: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(examples)
        .map_err(|error| format!("cannot list {}: {error}; is the checkout complete?", examples.display()))?;
    let packages = entries.flatten().filter(|entry| entry.path().join("Cargo.toml").is_file());
    let mut names: Vec<_> = packages.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}
