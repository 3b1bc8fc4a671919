//! What was begun, until it ends.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tidemill::service::model::{Operation, OperationState};

use super::client::{Client, typed};
use super::{BeginArgs, HostArgs, cell, client, print_json, print_text};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;
use crate::cli::tell;

/// How long each question waits for news.
const WAIT_MS: &str = "25000";

/// Before the next question, when the host had no time to wait.
const PAUSE: Duration = Duration::from_millis(500);

/// The arguments of `tidemill operation`.
#[derive(Debug, Args)]
pub(in crate::cli) struct OperationArgs {
    /// The operation's number
    id: u64,
    /// Wait for the end, and show progress; exit with 1 if it fails
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    host: HostArgs,
}

pub(super) async fn operation(args: &OperationArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.host, data)?;
    let answer = client.get(&["operations", &args.id.to_string()], &[]).await?;
    if args.wait {
        return conclude(&client, answer, args.host.json).await;
    }
    let operation: Operation = typed(&answer)?;
    if args.host.json { print_json(&answer) } else { print_text(&line(&operation)) }
}

/// Shows what was begun, or its end, as the arguments have it.
pub(super) async fn begun(client: &Client, answer: Value, args: &BeginArgs) -> Result<(), Exit> {
    let operation: Operation = typed(&answer)?;
    // What has ended already needs no waiting, and if it failed, that is what is to be told.
    if args.wait || operation.state != OperationState::Running {
        return conclude(client, answer, args.host.json).await;
    }
    if args.host.json {
        return print_json(&answer);
    }
    print_text(&format!("{}to follow it: tidemill operation {} --wait\n", line(&operation), operation.id))
}

async fn conclude(client: &Client, answer: Value, json: bool) -> Result<(), Exit> {
    let ended = until_end(client, answer).await?;
    let operation: Operation = typed(&ended)?;
    if json {
        print_json(&ended)?;
    }
    match operation.state {
        OperationState::Failed => Err(failed(&operation)),
        _ if json => Ok(()),
        _ => print_text(&format!("{}: {}\n", operation.pipeline, operation.message)),
    }
}

/// That an operation failed.
pub(super) fn failed(operation: &Operation) -> Exit {
    let Operation { pipeline, kind, message, .. } = operation;
    Exit::failure(crate::cli::text::fit_to_print(&format!("{kind} of `{pipeline}` failed: {message}")))
}

/// Waits until an operation has ended, and shows its messages meanwhile. The last answer.
pub(super) async fn until_end(client: &Client, answer: Value) -> Result<Value, Exit> {
    tokio::select! {
        ended = wait(client, answer) => ended,
        _ = tokio::signal::ctrl_c() => {
            tell("\nthe host goes on with it\n");
            Err(Exit::interrupted())
        }
    }
}

async fn wait(client: &Client, mut answer: Value) -> Result<Value, Exit> {
    let mut shown = None;
    loop {
        let operation: Operation = typed(&answer)?;
        if operation.state != OperationState::Running {
            return Ok(answer);
        }
        if shown.as_ref() != Some(&operation.message) {
            tell(&line(&operation));
        }
        let asked = Instant::now();
        let query = [("seen", operation.message.as_str()), ("wait_ms", WAIT_MS)];
        answer = client.get(&["operations", &operation.id.to_string()], &query).await?;
        let is_same = answer["message"] == operation.message.as_str() && answer["state"] == "running";
        if is_same && asked.elapsed() < PAUSE {
            tokio::time::sleep(PAUSE).await;
        }
        shown = Some(operation.message);
    }
}

fn line(operation: &Operation) -> String {
    let Operation { id, pipeline, kind, message, .. } = operation;
    let state = match operation.state {
        OperationState::Running => "is under way",
        OperationState::Done => "is done",
        OperationState::Failed => "failed",
    };
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    cell(&format!("operation {id}, {kind} of {pipeline}, {state}{message}")) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_one_line() {
        let operation = Operation {
            id: 3,
            pipeline: "orders".to_owned(),
            kind: "swap".to_owned(),
            state: OperationState::Running,
            message: "waits for\na barrier\x1b[2J".to_owned(),
            begun_ms: 0,
            ended_ms: None,
        };
        assert_eq!(
            line(&operation),
            "operation 3, swap of orders, is under way: waits for a barrier\u{fffd}[2J\n"
        );
        let silent = Operation { message: String::new(), state: OperationState::Done, ..operation };
        assert_eq!(line(&silent), "operation 3, swap of orders, is done\n");
    }
}
