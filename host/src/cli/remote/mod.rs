//! The commands that ask a running host: each says one thing of its API, and shows what it answers.

mod change;
mod client;
mod components;
mod control;
mod follow;
mod history;
mod logs;
mod plan;
mod replay;
mod status;
#[cfg(test)]
mod tests;

use std::io::Read;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::data::DataFolder;
use super::exit::Exit;
use client::Client;

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum RemoteCommand {
    /// Show what deploying a pipeline file would do
    Plan(change::PlanArgs),
    /// Deploy a pipeline file, or change the pipeline that it describes
    Apply(change::ApplyArgs),
    /// List the host's pipelines
    List(HostArgs),
    /// Show a pipeline from near
    Status(status::StatusArgs),
    /// Stop a pipeline with a checkpoint, to go on from it later
    Pause(control::AskArgs),
    /// Let a pipeline go on that was paused or stopped, or has failed
    Resume(control::AskArgs),
    /// Stop a pipeline
    Stop(control::StopArgs),
    /// Forget a pipeline that doesn't run; its checkpoints and output stay
    Delete(control::AskArgs),
    /// Show the log of a pipeline
    Logs(logs::LogsArgs),
    /// Take a savepoint
    Savepoint(control::SavepointArgs),
    /// List what a pipeline can go on from or be replayed from
    Savepoints(status::StatusArgs),
    /// Exchange components of operators while the pipeline runs
    Swap(change::SwapArgs),
    /// Run a stretch of the input again beside the live pipeline, and compare
    Replay(replay::ReplayArgs),
    /// List the replays of a pipeline
    Replays(status::StatusArgs),
    /// Show what a replay has found
    Report(replay::ReportArgs),
    /// Replay a stretch as it was, each call twice: exits with 1 unless the output is the same
    Verify(replay::VerifyArgs),
    /// Let the version of a replay take over
    Promote(control::PromoteArgs),
    /// Let the version before the last change take over again, with its own state
    Rollback(control::AskArgs),
    /// Show what happened to a pipeline
    History(status::StatusArgs),
    /// List the components in the host's store
    Components(HostArgs),
    /// Put a component into the host's store
    Upload(components::UploadArgs),
    /// Show how something stands that takes its time
    Operation(follow::OperationArgs),
}

/// Which host is asked, and how it is shown what it answers.
#[derive(Clone, Debug, Args)]
pub(super) struct HostArgs {
    /// The host's URL; default: where the host with this data folder is reached
    #[arg(long, value_name = "URL", env = "TIDEMILL_HOST")]
    host: Option<String>,
    /// Print the host's answer as JSON
    #[arg(long)]
    json: bool,
}

/// What all commands have that begin something.
#[derive(Clone, Debug, Args)]
struct BeginArgs {
    #[command(flatten)]
    host: HostArgs,
    /// Wait for the end, and show progress; exit with 1 if it fails
    #[arg(long)]
    wait: bool,
    /// Who asks, for the history; default: the user and this machine
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl BeginArgs {
    fn by(&self) -> String {
        self.by.clone().unwrap_or_else(whoami)
    }
}

pub(super) fn run(command: RemoteCommand, data: &DataFolder) -> Result<(), Exit> {
    super::run::control_plane()?.block_on(async {
        match command {
            RemoteCommand::Plan(args) => change::plan(&args, data).await,
            RemoteCommand::Apply(args) => change::apply(&args, data).await,
            RemoteCommand::List(args) => status::list(&args, data).await,
            RemoteCommand::Status(args) => status::status(&args, data).await,
            RemoteCommand::Pause(args) => control::ask("pause", &args, data).await,
            RemoteCommand::Resume(args) => control::ask("resume", &args, data).await,
            RemoteCommand::Stop(args) => control::stop(&args, data).await,
            RemoteCommand::Delete(args) => control::delete(&args, data).await,
            RemoteCommand::Logs(args) => logs::logs(&args, data).await,
            RemoteCommand::Savepoint(args) => control::savepoint(&args, data).await,
            RemoteCommand::Savepoints(args) => history::savepoints(&args, data).await,
            RemoteCommand::Swap(args) => change::swap(&args, data).await,
            RemoteCommand::Replay(args) => replay::replay(&args, data).await,
            RemoteCommand::Replays(args) => history::replays(&args, data).await,
            RemoteCommand::Report(args) => replay::report(&args, data).await,
            RemoteCommand::Verify(args) => replay::verify(&args, data).await,
            RemoteCommand::Promote(args) => control::promote(&args, data).await,
            RemoteCommand::Rollback(args) => control::ask("rollback", &args, data).await,
            RemoteCommand::History(args) => history::history(&args, data).await,
            RemoteCommand::Components(args) => components::list(&args, data).await,
            RemoteCommand::Upload(args) => components::upload(&args, data).await,
            RemoteCommand::Operation(args) => follow::operation(&args, data).await,
        }
    })
}

/// Prints what the host said, for programs.
fn print_json(answer: &impl Serialize) -> Result<(), Exit> {
    let text = serde_json::to_string_pretty(answer).map_err(Exit::failure)?;
    super::print(&format!("{text}\n"))
}

/// Prints what the host said, for people.
fn print_text(text: &str) -> Result<(), Exit> {
    super::print(&super::text::fit_to_print(text))
}

/// How long ago something was, as the clock here has it.
fn ago(at_ms: u64) -> String {
    let at_ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
    super::text::age(jiff::Timestamp::now().as_millisecond().saturating_sub(at_ms))
}

/// A time, to the second.
fn time(at_ms: u64) -> String {
    super::text::time(i64::try_from(at_ms).unwrap_or(i64::MAX))
}

/// A cell of a table: one line.
fn cell(text: &str) -> String {
    super::text::fit_to_print(text).replace('\n', " ")
}

/// As much of a digest as people compare.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A name as the host has them; a wrong one isn't sent.
fn name(given: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&given.len()) && !given.starts_with('-') && given.bytes().all(plain) {
        return Ok(given.to_owned());
    }
    Err("a name is 1 to 63 of a-z, 0-9 and -, and has no - at the start".to_owned())
}

/// The user and this machine, as far as they are known.
fn whoami() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let mut machine = String::new();
    // Where there is no such file, the user alone has to do.
    let _ = std::fs::File::open("/proc/sys/kernel/hostname")
        .map(|file| file.take(256).read_to_string(&mut machine));
    let user = user.unwrap_or_else(|| "somebody".to_owned());
    match machine.trim() {
        "" => cell(&user),
        machine => cell(&format!("{user}@{machine}")),
    }
}

/// The client for the host that is asked.
fn client(args: &HostArgs, data: &DataFolder) -> Result<Client, Exit> {
    Client::new(args.host.as_deref(), data)
}
