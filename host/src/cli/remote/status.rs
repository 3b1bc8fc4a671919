//! `tidemill list` and `tidemill status`.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use tidemill::service::model::{Desired, OperationState, Status, Summary};

use super::client::typed;
use super::{HostArgs, ago, cell, client, name, print_json, print_text, short};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;
use crate::cli::summary::grouped;
use crate::cli::text::lay_out;

/// The arguments of commands that show something of a pipeline.
#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) host: HostArgs,
}

pub(super) async fn list(args: &HostArgs, data: &DataFolder) -> Result<(), Exit> {
    let answer = client(args, data)?.get(&["pipelines"], &[]).await?;
    if args.json {
        return print_json(&answer);
    }
    print_text(&list_as_text(&typed::<Vec<Summary>>(&answer)?))
}

pub(super) async fn status(args: &StatusArgs, data: &DataFolder) -> Result<(), Exit> {
    let answer = client(&args.host, data)?.get(&["pipelines", &args.name], &[]).await?;
    if args.host.json {
        return print_json(&answer);
    }
    print_text(&status_as_text(&typed(&answer)?))
}

fn list_as_text(pipelines: &[Summary]) -> String {
    if pipelines.is_empty() {
        return "there are no pipelines yet; `tidemill apply` deploys one\n".to_owned();
    }
    let titles = ["name", "state", "for", "meant to be", "generation", "rows read"].map(str::to_owned);
    let row = |p: &Summary| {
        [
            cell(&p.name),
            p.state.words().to_owned(),
            ago(p.since_ms),
            desired(p.desired).to_owned(),
            p.generation.to_string(),
            grouped(p.rows_read),
        ]
    };
    let rows: Vec<[String; 6]> = std::iter::once(titles).chain(pipelines.iter().map(row)).collect();
    lay_out(&rows, &[4, 5])
}

fn status_as_text(status: &Status) -> String {
    let mut text = String::new();
    // A string takes all that is written to it.
    let _ = write_status(&mut text, status);
    text
}

fn write_status(to: &mut String, status: &Status) -> std::fmt::Result {
    let Summary { name, state: is, desired: meant, generation, since_ms, rows_read } = &status.summary;
    write!(to, "{}: {} for {}", cell(name), is.words(), ago(*since_ms))?;
    if is.words() != desired(*meant) {
        write!(to, ", meant to be {}", desired(*meant))?;
    }
    writeln!(to, "; generation {generation}, {} rows read", grouped(*rows_read))?;
    if let Some(message) = &status.message {
        writeln!(to, "  {}", message.trim_end().replace('\n', "\n  "))?;
    }
    if let Some(checkpoint) = status.checkpoint {
        writeln!(to, "  the last complete checkpoint is {checkpoint}")?;
    }
    if let Some(operation) = status.operation.as_ref().filter(|o| o.state == OperationState::Running) {
        writeln!(
            to,
            "  operation {}, {}: {}",
            operation.id,
            cell(&operation.kind),
            cell(&operation.message)
        )?;
    }
    let mut rows = Vec::new();
    rows.extend(
        status.sources.iter().map(|(id, c)| ["  source".to_owned(), cell(id), String::new(), counts(c)]),
    );
    rows.extend(status.operators.iter().map(|(id, operator)| {
        let version = format!("{} {} ({})", operator.name, operator.version, short(&operator.component));
        ["  operator".to_owned(), cell(id), cell(&version), counts(&operator.counts)]
    }));
    rows.extend(status.sinks.iter().map(|(id, c)| ["  sink".to_owned(), cell(id), String::new(), counts(c)]));
    to.write_str(&lay_out(&rows, &[]))
}

/// Everything that isn't zero, and nothing said twice.
fn counts(counts: &BTreeMap<String, u64>) -> String {
    let some = counts.iter().filter(|(_, count)| **count > 0);
    let told: Vec<String> =
        some.map(|(what, count)| format!("{} {}", grouped(*count), cell(what).replace('_', " "))).collect();
    told.join(", ")
}

fn desired(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "running",
        Desired::Paused => "paused",
        Desired::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use tidemill::service::model::{Operation, OperatorStatus, State};

    use super::*;

    fn summary() -> Summary {
        Summary {
            name: "orders".to_owned(),
            state: State::Restarting,
            desired: Desired::Running,
            generation: 4,
            since_ms: jiff::Timestamp::now().as_millisecond() as u64 - 180_000,
            rows_read: 1_234_567,
        }
    }

    #[test]
    fn a_list_is_a_table() {
        assert_eq!(
            list_as_text(&[summary()]),
            "name    state       for    meant to be  generation  rows read\n\
             orders  restarting  3 min  running               4  1,234,567\n"
        );
        assert!(list_as_text(&[]).starts_with("there are no pipelines"));
    }

    #[test]
    fn a_status_shows_what_is_amiss_and_every_part() {
        let counts = |what: &str, count| BTreeMap::from([(what.to_owned(), count), ("late".to_owned(), 0)]);
        let status = Status {
            summary: summary(),
            message: Some("operator `count` trapped:\nunreachable\x1b[2J".to_owned()),
            checkpoint: Some(41),
            sources: BTreeMap::from([("events".to_owned(), counts("rows", 1_234_567))]),
            operators: BTreeMap::from([(
                "count".to_owned(),
                OperatorStatus {
                    component: "0123456789abcdef".repeat(4),
                    name: "count".to_owned(),
                    version: "0.2.0".to_owned(),
                    counts: counts("rows_in", 1000),
                },
            )]),
            sinks: BTreeMap::from([("out".to_owned(), counts("rows", 7))]),
            operation: Some(Operation {
                id: 3,
                pipeline: "orders".to_owned(),
                kind: "swap".to_owned(),
                state: OperationState::Running,
                message: "on probation".to_owned(),
                begun_ms: 0,
                ended_ms: None,
            }),
        };
        assert_eq!(
            crate::cli::text::fit_to_print(&status_as_text(&status)),
            "orders: restarting for 3 min, meant to be running; generation 4, 1,234,567 rows read\n\
             \x20 operator `count` trapped:\n\
             \x20 unreachable\u{fffd}[2J\n\
             \x20 the last complete checkpoint is 41\n\
             \x20 operation 3, swap: on probation\n\
             \x20 source    events                              1,234,567 rows\n\
             \x20 operator  count   count 0.2.0 (0123456789ab)  1,000 rows in\n\
             \x20 sink      out                                 7 rows\n"
        );
    }
}
