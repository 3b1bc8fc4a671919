//! `tidemill replay`, `report` and `verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use tidemill::service::model::{Operation, OperationState, ReplayOrder};

use super::client::{Client, typed};
use super::components::{OperatorComponent, Uploads};
use super::follow::{begun, failed, until_end};
use super::{BeginArgs, HostArgs, client, name, print_json, print_text, whoami};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;

/// Which stretch of the input.
#[derive(Debug, Args)]
struct StretchArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    /// Where it begins: beginning, sequence:N, time:2026-11-20T00:00:00Z, checkpoint:N or savepoint:NAME
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Where it ends: checkpoint:N or savepoint:NAME; default: the newest checkpoint
    #[arg(long, value_name = "PLACE")]
    to: Option<String>,
    /// How many rows a second are read at most; default: as many as possible
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    rows_per_second: Option<u64>,
}

/// The arguments of `tidemill replay`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayArgs {
    #[command(flatten)]
    stretch: StretchArgs,
    /// Another component for an operator, a .wasm file or the digest of one in the host's store; may be repeated
    #[arg(long, value_name = "OPERATOR=COMPONENT")]
    with: Vec<OperatorComponent>,
    /// Wait, and write the report to this file as a page of HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    begin: BeginArgs,
}

/// The arguments of `tidemill report`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReportArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    /// The replay, as in `replay-3`
    #[arg(value_parser = name)]
    replay: String,
    /// Write the report to this file as a page of HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
}

/// The arguments of `tidemill verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    stretch: StretchArgs,
    /// Who asks, for the history; default: the user and this machine
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

pub(super) async fn replay(args: &ReplayArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let by = args.begin.by();
    let components = match args.with.as_slice() {
        [] => Default::default(),
        with => Uploads::new(&client, &by).await?.all(with).await?,
    };
    let order = ReplayOrder { components, ..args.stretch.order(by) };
    let answer = start(&client, &args.stretch.name, &order).await?;
    if !args.begin.wait && args.html.is_none() {
        return begun(&client, answer, &args.begin).await;
    }
    let id = until_report(&client, answer).await?;
    show(&client, &args.stretch.name, &id, args.html.as_deref(), args.begin.host.json).await
}

pub(super) async fn report(args: &ReportArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.host, data)?;
    show(&client, &args.name, &args.replay, args.html.as_deref(), args.host.json).await
}

pub(super) async fn verify(args: &VerifyArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.host, data)?;
    let pipeline = &args.stretch.name;
    let order = args.stretch.order(args.by.clone().unwrap_or_else(whoami));
    let answer = start(&client, pipeline, &ReplayOrder { verify: true, ..order }).await?;
    let id = until_report(&client, answer).await?;
    let report = client.get(&["pipelines", pipeline, "replays", &id], &[]).await?;
    let Some(equal) = report["equal"].as_bool() else {
        return Err(Exit::failure("the host's report doesn't say whether the output is the same"));
    };
    show(&client, pipeline, &id, None, args.host.json).await?;
    match equal {
        true => Ok(()),
        false => Err(Exit::failure(format!(
            "`{pipeline}` didn't give the same again; the report above says where"
        ))),
    }
}

impl StretchArgs {
    fn order(&self, by: String) -> ReplayOrder {
        ReplayOrder {
            from: self.from.clone(),
            to: self.to.clone(),
            components: Default::default(),
            rows_per_second_max: self.rows_per_second,
            verify: false,
            by,
        }
    }
}

async fn start(client: &Client, pipeline: &str, order: &ReplayOrder) -> Result<Value, Exit> {
    client.post(&["pipelines", pipeline, "replays"], order).await
}

/// Waits until a replay has its report. The replay's id.
async fn until_report(client: &Client, answer: Value) -> Result<String, Exit> {
    let begun: Operation = typed(&answer)?;
    let ended: Operation = typed(&until_end(client, answer).await?)?;
    if ended.state == OperationState::Failed {
        return Err(failed(&ended));
    }
    let id = replay_id(&begun.message).or_else(|| replay_id(&ended.message));
    let lost = || Exit::failure("the host didn't say which replay it was; `tidemill replays` lists them");
    id.map(str::to_owned).ok_or_else(lost)
}

/// The first id of a replay in a message.
fn replay_id(message: &str) -> Option<&str> {
    let words = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is_id = |word: &&str| {
        let number = word.strip_prefix("replay-");
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    words.into_iter().find(is_id)
}

/// Shows a report, as the arguments have it.
async fn show(
    client: &Client,
    pipeline: &str,
    replay: &str,
    html: Option<&Path>,
    json: bool,
) -> Result<(), Exit> {
    let path = ["pipelines", pipeline, "replays", replay];
    if let Some(file) = html {
        let page = client.get_text(&path, &[("format", "html")]).await?;
        let written = std::fs::write(file, page);
        written.map_err(|e| Exit::failure(format!("cannot write {}: {e}", file.display())))?;
    }
    if json {
        return print_json(&client.get(&path, &[]).await?);
    }
    print_text(&client.get_text(&path, &[("format", "text")]).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replay_is_found_in_what_the_host_says() {
        assert_eq!(replay_id("replay-12: reads from checkpoint 3"), Some("replay-12"));
        assert_eq!(replay_id("made `replay-3`"), Some("replay-3"));
        assert_eq!([replay_id("a replay- of replay-x"), replay_id("")], [None, None]);
    }
}
