//! Verbs that begin something with a pipeline and need few words.

use clap::Args;
use tidemill::service::model::{Asked, Promote, Savepoint, Stop};

use super::follow::begun;
use super::{BeginArgs, client, name};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;

/// The arguments of `tidemill pause`, `resume`, `delete` and `rollback`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AskArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    begin: BeginArgs,
}

/// The arguments of `tidemill stop`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StopArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    /// Take the input as ended where it stands: windows and timers fire
    #[arg(long)]
    drain: bool,
    /// Keep the last checkpoint as a savepoint of this name
    #[arg(long, value_name = "NAME", value_parser = name, conflicts_with = "drain")]
    savepoint: Option<String>,
    #[command(flatten)]
    begin: BeginArgs,
}

/// The arguments of `tidemill savepoint`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SavepointArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    /// The savepoint's name; default: one made of the time
    #[arg(value_name = "AS", value_parser = name)]
    savepoint: Option<String>,
    #[command(flatten)]
    begin: BeginArgs,
}

/// The arguments of `tidemill promote`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PromoteArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    /// The replay, as in `replay-3`
    #[arg(value_parser = name)]
    replay: String,
    #[command(flatten)]
    begin: BeginArgs,
}

/// Asks for what needs no more words.
pub(super) async fn ask(verb: &str, args: &AskArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let answer = client.post(&["pipelines", &args.name, verb], &Asked { by: args.begin.by() }).await?;
    begun(&client, answer, &args.begin).await
}

pub(super) async fn delete(args: &AskArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let answer = client.delete(&["pipelines", &args.name], &[("by", &args.begin.by())]).await?;
    begun(&client, answer, &args.begin).await
}

pub(super) async fn stop(args: &StopArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let stop = Stop { drain: args.drain, savepoint: args.savepoint.clone(), by: args.begin.by() };
    let answer = client.post(&["pipelines", &args.name, "stop"], &stop).await?;
    begun(&client, answer, &args.begin).await
}

pub(super) async fn savepoint(args: &SavepointArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let savepoint = Savepoint { name: args.savepoint.clone(), by: args.begin.by() };
    let answer = client.post(&["pipelines", &args.name, "savepoints"], &savepoint).await?;
    begun(&client, answer, &args.begin).await
}

pub(super) async fn promote(args: &PromoteArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let promote = Promote { replay: args.replay.clone(), by: args.begin.by() };
    let answer = client.post(&["pipelines", &args.name, "promote"], &promote).await?;
    begun(&client, answer, &args.begin).await
}
