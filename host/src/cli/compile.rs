//! `tidemill compile`: compiles a component into the cache, and may take only so much for it. The host runs it as a
//! process of its own for each component that is uploaded, as a compiler that gets stuck or eats the memory can only be
//! stopped from outside.

use std::path::{Path, PathBuf};

use clap::Args;
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use tidemill::plugin::{self, COMPONENT_BYTES_MAX};

use super::exit::Exit;

/// Standard streams, the component, the cache, and what the system's libraries open.
const FILES_MAX: u64 = 64;

/// About a tenth of the processor's time where others want it too.
const NICENESS: i32 = 10;

/// The arguments of `tidemill compile`.
#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// The component
    file: PathBuf,
    /// How much processor time it may take, in seconds
    #[arg(long, value_name = "SECONDS")]
    seconds_max: u64,
    /// How much memory it may have, in bytes of address space
    #[arg(long, value_name = "BYTES")]
    memory_bytes_max: u64,
}

pub(super) fn run(args: &CompileArgs, cache: &Path) -> Result<(), Exit> {
    limit(args).map_err(|e| Exit::failure(format!("cannot limit what compiling may take: {e}")))?;
    let path = args.file.display();
    let bytes = super::read(&args.file, COMPONENT_BYTES_MAX)
        .map_err(|e| Exit::failure(format!("cannot read the component {path}: {e}")))?;
    plugin::compile(cache, &bytes).map_err(Exit::usage)
}

/// From here on, for good: an attacker's component may get as far as running code in the compiler.
fn limit(args: &CompileArgs) -> rustix::io::Result<()> {
    let limits = [
        (Resource::As, args.memory_bytes_max),
        (Resource::Cpu, args.seconds_max),
        (Resource::Core, 0),
        (Resource::Nofile, FILES_MAX),
    ];
    for (resource, most) in limits {
        // Of processor time the soft limit comes first: its signal says why.
        let hard = if resource == Resource::Cpu { most + 1 } else { most };
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(hard) })?;
    }
    // Rows come first.
    nice(NICENESS).map(drop)
}
