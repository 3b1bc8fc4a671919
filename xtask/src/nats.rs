//! The flights example between streams: a NATS server of its own, departures in one stream, results in another.
//!
//! The rows are the demo's, one message each; what is counted at the end can be compared.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use tidemill_nats_test::{Client, Message, Server};

use crate::workspace::{Profile, Workspace};
use crate::{Result, demo, guests, setup};

const DEPARTURES: &str = "examples/flights/data/flights-2013-01.csv";
/// Made anew each time: the server begins empty, and a checkpoint would know of another one's messages.
const FOLDER: &str = "examples/flights/out/nats";
/// As many rows of each result as the demo shows of a file.
const ROWS_SHOWN: usize = 8;

/// Passes on the exit status of `tidemill run`.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure(workspace)?;
    let tidemill = workspace.build_host(Profile::Release)?;
    guests::build(workspace, &tidemill)?;
    workspace.say("starting a NATS server; where there is none, Python's pip installs one");
    tidemill_nats_test::find()?;
    let server = Server::start().ok_or("there is no nats-server")?;
    let mut client = Client::connect(&server.address())?;
    client.make_stream("FLIGHTS", &["departures.*"], "")?;
    let results = ["flights.>", "tidemill.FLIGHTS_RESULTS.>"];
    client.make_stream("FLIGHTS_RESULTS", &results, r#""allow_atomic":true"#)?;
    workspace.say(format_args!("publishing {DEPARTURES} to the stream FLIGHTS at {}", server.url()));
    let count = publish(&mut client, &workspace.root.join(DEPARTURES))?;
    workspace.say(format_args!("{count} departures are in the stream"));

    let folder = workspace.root.join(FOLDER);
    // There may be none.
    _ = fs::remove_dir_all(&folder);
    let pipeline = folder.join("pipeline.toml");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&pipeline, pipeline_file(&server.url())))
        .map_err(|e| format!("cannot write {}: {e}", pipeline.display()))?;
    let code = demo::run_pipeline(workspace, &tidemill, &[&format!("{FOLDER}/pipeline.toml")])?;
    let messages = client.messages("FLIGHTS_RESULTS")?;
    show(&messages, "flights.hourly.");
    show(&messages, "flights.daily.");
    Ok(code)
}

/// Publishes each line as a JSON object, and waits until it is stored; how many there are.
fn publish(client: &mut Client, path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let origin = names.iter().position(|name| *name == "origin");
    let origin = origin.ok_or_else(|| format!("{} has no column `origin`", path.display()))?;
    let mut messages = Vec::new();
    for line in lines {
        let values: Vec<&str> = line.split(',').collect();
        if values.len() != names.len() || line.contains('"') {
            return Err(format!("{}: cannot read the line {line:?}", path.display()));
        }
        messages.push((format!("departures.{}", values[origin]), json(&names, &values)));
    }
    client.publish_all(messages)
}

/// An object with these members: a number is one, and what is empty or `NA` isn't known.
fn json(names: &[&str], values: &[&str]) -> String {
    let member = |(name, value): (&&str, &&str)| {
        let value = match *value {
            "" | "NA" => "null".to_owned(),
            number if number.parse::<i64>().is_ok() => number.to_owned(),
            text => format!("{text:?}"),
        };
        format!("{name:?}:{value}")
    };
    let members: Vec<String> = names.iter().zip(values).map(member).collect();
    format!("{{{}}}", members.join(","))
}

/// The pipeline of `examples/flights`, with streams in the place of files.
fn pipeline_file(server: &str) -> String {
    format!(
        r#"name = "flights"
dead_letters = "rejected-*.jsonl"
late = "late-*.jsonl"

[connections.local]
type = "nats"
servers = ["{server}"]

[checkpoints]
path = "checkpoints"
interval = "1s"

[sources.departures]
type = "jetstream"
connection = "local"
stream = "FLIGHTS"
until_end = true
format = "json-lines"
event_time = {{ field = "time_hour", out_of_orderness = "17h" }}

[operators.clean]
component = "../../../operators/flights_clean.wasm"
input = "departures"

[operators.by-origin]
component = "../../../operators/mean_delay.wasm"
input = "clean"
key = "origin"
window = {{ type = "tumbling", size = "1h" }}

[operators.by-carrier]
component = "../../../operators/mean_delay.wasm"
input = "clean"
key = "carrier"
window = {{ type = "hopping", size = "24h", slide = "6h" }}

[sinks.hourly-by-origin]
type = "jetstream"
input = "by-origin"
connection = "local"
stream = "FLIGHTS_RESULTS"
subject = "flights.hourly.{{origin}}"
delivery = "exactly-once"

[sinks.daily-by-carrier]
type = "jetstream"
input = "by-carrier"
connection = "local"
stream = "FLIGHTS_RESULTS"
subject = "flights.daily.{{carrier}}"
delivery = "exactly-once"
"#
    )
}

/// The first messages whose subjects begin so, and how many there are.
fn show(messages: &[Message], subject: &str) {
    let found = messages.iter().filter(|message| message.subject.starts_with(subject));
    println!("\n{subject}*: {} messages", found.clone().count());
    for message in found.take(ROWS_SHOWN) {
        println!("  {:7} {:20} {}", message.sequence, message.subject, message.text());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_an_object() {
        let object = json(&["flight", "delay", "carrier", "tail"], &["1545", "NA", "9E", ""]);
        assert_eq!(object, r#"{"flight":1545,"delay":null,"carrier":"9E","tail":null}"#);
        assert_eq!(json(&["delay"], &["-3"]), r#"{"delay":-3}"#);
    }

    #[test]
    fn each_line_is_a_message_under_its_airport() {
        let Some(server) = Server::start() else { return };
        let mut client = Client::connect(&server.address()).unwrap();
        client.make_stream("FLIGHTS", &["departures.*"], "").unwrap();
        let file = server.folder().join("flights.csv");
        fs::write(&file, "flight,origin\n1,EWR\n2,JFK\n").unwrap();
        assert_eq!(publish(&mut client, &file), Ok(2));
        let messages = client.messages("FLIGHTS").unwrap();
        let found: Vec<_> = messages.iter().map(|m| (m.subject.as_str(), m.text())).collect();
        let expected = [
            ("departures.EWR", r#"{"flight":1,"origin":"EWR"}"#),
            ("departures.JFK", r#"{"flight":2,"origin":"JFK"}"#),
        ];
        assert_eq!(found, expected.map(|(subject, text)| (subject, text.to_owned())));
        fs::write(&file, "flight,origin\n1,\"EWR, Newark\"\n").unwrap();
        assert!(publish(&mut client, &file).unwrap_err().contains("Newark"));
    }

    #[test]
    fn the_pipeline_file_names_the_server() {
        let file = pipeline_file("nats://127.0.0.1:12345");
        assert!(file.contains(r#"servers = ["nats://127.0.0.1:12345"]"#), "{file}");
        assert!(file.contains("flights.daily.{carrier}"), "{file}");
    }
}
