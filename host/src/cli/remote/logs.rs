//! `tidemill logs`.

use std::time::{Duration, Instant};

use clap::Args;
use tidemill::service::model::LogLine;

use super::client::{Client, typed};
use super::{HostArgs, cell, client, name, print_json, print_text, time};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;

/// How long each question waits for lines, and how many it takes.
const WAIT_MS: &str = "25000";
const COUNT: &str = "1000";

/// Before the next question, when the host had no time to wait.
const PAUSE: Duration = Duration::from_millis(500);

/// The arguments of `tidemill logs`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    /// How many of the last lines to show first
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=1000))]
    lines: u64,
    /// Go on with new lines, until Ctrl-C; as JSON, one on each line
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    host: HostArgs,
}

pub(super) async fn logs(args: &LogsArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.host, data)?;
    let path = ["pipelines", &args.name, "logs"];
    let answer = client.get(&path, &[("count", &args.lines.to_string())]).await?;
    if !args.follow {
        return match args.host.json {
            true => print_json(&answer),
            false => print_text(&as_text(&typed::<Vec<LogLine>>(&answer)?)),
        };
    }
    let lines: Vec<LogLine> = typed(&answer)?;
    tokio::select! {
        ended = follow(&client, &path, lines, args.host.json) => ended,
        _ = tokio::signal::ctrl_c() => Err(Exit::interrupted()),
    }
}

async fn follow(client: &Client, path: &[&str], first: Vec<LogLine>, json: bool) -> Result<(), Exit> {
    let (mut lines, mut after) = (first, 0);
    loop {
        match json {
            true => super::super::print(&as_json_lines(&lines)?)?,
            false => print_text(&as_text(&lines))?,
        }
        after = lines.last().map_or(after, |line| line.number);
        let asked = Instant::now();
        let query =
            [("after", after.to_string()), ("count", COUNT.to_owned()), ("wait_ms", WAIT_MS.to_owned())];
        lines =
            typed(&client.get(path, &query.each_ref().map(|(name, value)| (*name, value.as_str()))).await?)?;
        if lines.is_empty() && asked.elapsed() < PAUSE {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn as_json_lines(lines: &[LogLine]) -> Result<String, Exit> {
    let line = |line| serde_json::to_string(line).map(|json| json + "\n").map_err(Exit::failure);
    lines.iter().map(line).collect()
}

fn as_text(lines: &[LogLine]) -> String {
    let line = |line: &LogLine| {
        let operator = line.operator.as_ref().map_or_else(String::new, |id| format!("[{}] ", cell(id)));
        format!("{} {:5} {operator}{}\n", time(line.at_ms), cell(&line.level), cell(&line.message))
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_one_line() {
        let line = LogLine {
            number: 7,
            at_ms: 1_700_000_000_000,
            level: "warn".to_owned(),
            operator: Some("count".to_owned()),
            message: "a\nb\x1b[2J".to_owned(),
        };
        assert_eq!(
            as_text(std::slice::from_ref(&line)),
            "2023-11-14T22:13:20Z warn  [count] a b\u{fffd}[2J\n"
        );
        assert_eq!(as_json_lines(&[line.clone(), line]).unwrap().lines().count(), 2);
    }
}
