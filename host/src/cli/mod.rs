//! The commands. Each is one file; this one is the table of contents.

mod build;
mod checkpoint;
mod compile;
mod completions;
mod data;
mod doctor;
mod exit;
mod inspect;
mod log;
mod new;
mod place;
mod progress;
mod remote;
mod run;
mod serve;
mod state;
mod summary;
mod table;
mod test;
mod text;

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidemill::service::Logs;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use data::DataFolder;
use exit::Exit;

/// Run streams through operators compiled to WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, about, long_about = None, after_help = exit::STATUSES)]
pub(crate) struct Arguments {
    /// Where compiled components are kept; default: `tidemill` in the user's cache folder
    #[arg(long, global = true, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// What to log, as in `info` or `tidemill=debug`; default: warnings
    #[arg(long, global = true, value_name = "FILTER", env = "TIDEMILL_LOG")]
    log: Option<String>,
    /// The folder of the host's data; default: `tidemill` in the user's folder for state
    #[arg(long, global = true, value_name = "FOLDER", env = "TIDEMILL_DATA")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a project for an operator in Rust
    New(new::NewArgs),
    /// Build the components of operators in Rust
    Build(build::BuildArgs),
    /// Show what a component is, reads, gives and needs
    Inspect(inspect::InspectArgs),
    /// Run a pipeline in the foreground, until its input ends or Ctrl-C
    Run(run::RunArgs),
    /// Run scripts through operators and pipelines, and compare what comes out
    Test(test::TestArgs),
    /// List, verify, keep and delete the checkpoints of a pipeline
    Checkpoint(checkpoint::CheckpointArgs),
    /// Look at what a checkpoint knows of each key
    #[command(subcommand)]
    State(state::StateCommand),
    /// Look at the servers and streams that a pipeline wants, and say what to change
    Doctor(doctor::DoctorArgs),
    /// Make, fill, read and trim an embedded log
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Compile a component within limits; the host runs this for each one that is uploaded
    #[command(hide = true)]
    Compile(compile::CompileArgs),
    /// Serve the API, and run the pipelines that are deployed with it
    Serve(serve::ServeArgs),
    #[command(flatten)]
    Remote(remote::RemoteCommand),
    /// Print what a shell needs to complete commands and options
    Completions(completions::CompletionsArgs),
}

/// Runs a command and says how it ended.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    // Only the host has pipelines whose lines are asked for later.
    let logs = matches!(arguments.command, Command::Serve(_)).then(Logs::default);
    let result = start_logging(arguments.log.as_deref(), logs.as_ref()).and_then(|()| {
        let cache = arguments.cache.unwrap_or_else(default_cache);
        match arguments.command {
            Command::New(new) => create(&new),
            Command::Build(build) => build::run(build),
            Command::Inspect(inspect) => inspect::run(&inspect, &cache),
            Command::Run(run) => run::run(&run, &cache),
            Command::Test(test) => test::run(&test, &cache),
            Command::Checkpoint(checkpoint) => checkpoint::run(&checkpoint),
            Command::State(state) => state::run(&state),
            Command::Doctor(doctor) => doctor::run(&doctor),
            Command::Log(log) => log::run(&log),
            Command::Compile(compile) => compile::run(&compile, &cache),
            Command::Serve(serve) => {
                serve::run(&serve, &DataFolder::find(arguments.data)?, &cache, logs.unwrap_or_default())
            }
            Command::Remote(command) => remote::run(command, &DataFolder::find(arguments.data)?),
            Command::Completions(completions) => completions::run(&completions),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}

fn create(args: &new::NewArgs) -> Result<(), Exit> {
    let project = new::run(args, std::path::Path::new("")).map_err(Exit::usage)?;
    let folder = project.display();
    print(&format!(
        "made {folder}; now: cd {folder} && cargo test && tidemill build && tidemill test tests && tidemill run pipeline.toml\n"
    ))
}

/// Reads a file that can't be larger than this, and no more of one that is, so that it is refused and not
/// read for ever.
fn read(path: &std::path::Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Prints a command's answer. Whoever reads it may stop reading: that is no failure.
fn print(text: &str) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Exit::failure(format!("cannot write the standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Says something to the person at the terminal; if nobody listens, that is no failure.
fn tell(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn start_logging(filter: Option<&str>, logs: Option<&Logs>) -> Result<(), Exit> {
    let filter = filter.unwrap_or("warn");
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|e| Exit::usage(format!("`{filter}` is no filter of log lines: {e}")))?;
    let lines = tracing_subscriber::fmt::layer().without_time().with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter);
    let collected = logs.map(|logs| logs.layer().with_filter(LevelFilter::INFO));
    tracing_subscriber::registry().with(lines).with(collected).init();
    Ok(())
}

fn default_cache() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("tidemill")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_of_all_commands_go_together() {
        super::Arguments::command().debug_assert();
    }
}
