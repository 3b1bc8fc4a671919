//! `tidemill build`: operators in Rust to components.

use std::path::PathBuf;

use clap::Args;
use tidemill::toolchain::{self, Component, Options};

use super::exit::Exit;

/// The arguments of `tidemill build`.
#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    project: PathBuf,
    /// A package of the project's workspace; may be repeated
    #[arg(long = "package", short, value_name = "NAME")]
    packages: Vec<String>,
    /// Where components go; default: `target/operators` in the project's folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: BuildArgs) -> Result<(), Exit> {
    let options =
        Options { packages: args.packages, target_dir: None, output_dir: args.out, quiet: args.quiet };
    let components = toolchain::build(&args.project, &options).map_err(Exit::failure)?;
    if args.quiet {
        return Ok(());
    }
    let line = |c: &Component| format!("{}  {} bytes\n", c.path.display(), c.size_bytes);
    super::print(&components.iter().map(line).collect::<String>())
}
