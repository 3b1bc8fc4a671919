//! `tidemill doctor`: looks at the servers and streams that a pipeline wants.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tidemill::nats::{Servers, needed_window, wait};
use tidemill::pipeline::check;
use tidemill::pipeline::declaration::{Declaration, Delivery, Restart, SinkKind, SourceKind};
use tidemill_checkpoint::Place;
use tidemill_jetstream::doctor::{self, Finding, Role, Severity, Wanted};
use tidemill_jetstream::{Error, Template};

use super::exit::Exit;

/// The arguments of `tidemill doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The pipeline file
    pipeline: PathBuf,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), Exit> {
    let declaration = super::run::read_declaration(&args.pipeline)?;
    let base = args.pipeline.parent().unwrap_or(Path::new(""));
    let servers = check::servers(&declaration, base).map_err(Exit::usage)?;
    if servers.is_empty() {
        let none = "has no section [connections.<id>], so there is nothing to look at";
        return Err(Exit::usage(format!("{} {none}", args.pipeline.display())));
    }
    let examined: Vec<(String, Vec<Finding>)> = (0..)
        .zip(&servers)
        .map(|(at, servers)| (servers.id().to_owned(), examine(servers, wanted(&declaration, at))))
        .collect();
    let told = if args.json { format!("{:#}\n", as_json(&examined)) } else { as_text(&examined) };
    super::print(&told)?;
    let mut findings = examined.iter().flat_map(|(_, findings)| findings);
    match findings.any(|finding| finding.severity == Severity::Error) {
        true => Err(Exit::failure("the pipeline can't run as it should; see the errors above")),
        false => Ok(()),
    }
}

fn examine(servers: &Arc<Servers>, wanted: Vec<Wanted>) -> Vec<Finding> {
    match servers.connection() {
        Ok(connection) => wait(async move { doctor::examine(&connection, &wanted).await }),
        Err(error) => vec![Finding {
            severity: Severity::Error,
            what: "connection".to_owned(),
            found: error.to_string(),
            advice: advice(&error).to_owned(),
        }],
    }
}

fn advice(error: &Error) -> &'static str {
    match error {
        Error::Unavailable { .. } => {
            "see that the servers run and can be reached from here, and that the credentials are theirs"
        }
        _ => "change the section of the connection",
    }
}

/// What the pipeline wants of the streams of a connection.
fn wanted(declaration: &Declaration, of: usize) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for source in &declaration.sources {
        if let SourceKind::JetStream { connection, streams, .. } = &source.kind
            && *connection == of
        {
            wanted.extend(streams.iter().map(|stream| Wanted::new(stream.value.clone(), Role::Read)));
        }
    }
    if let Some(checkpoints) = &declaration.checkpoints
        && let Place::JetStream(place) = &checkpoints.path.value
        && place.connection() == declaration.connections[of].id.value
    {
        wanted.push(Wanted::new(place.bucket(), Role::CheckpointBucket));
    }
    for sink in &declaration.sinks {
        let SinkKind::JetStream { connection, stream, subject, create, .. } = &sink.kind else { continue };
        if *connection != of {
            continue;
        }
        let role = match sink.delivery {
            Delivery::ExactlyOnce => Role::WriteExactlyOnce,
            Delivery::Idempotent => Role::WriteIdempotent { needed_window: window_of(declaration) },
            Delivery::AtLeastOnce => Role::WriteAtLeastOnce,
        };
        let subjects = Template::parse(&subject.value).map(|template| template.pattern());
        let wanted_here = Wanted::new(stream.value.clone(), role);
        let (subjects, is_made) = (subjects.into_iter().collect(), create.is_some());
        wanted.push(Wanted { subjects, is_made, ..wanted_here });
    }
    wanted
}

/// How long ids must be known.
fn window_of(declaration: &Declaration) -> Duration {
    let interval_ms = declaration.checkpoints.as_ref().map_or(0, |c| c.interval_ms);
    let delay_ms = match declaration.restart {
        Restart::None => 0,
        Restart::FromCheckpoint { delay_ms, max_delay_ms, .. } => max_delay_ms.unwrap_or(delay_ms),
    };
    needed_window(interval_ms.unsigned_abs(), delay_ms.unsigned_abs())
}

fn as_text(examined: &[(String, Vec<Finding>)]) -> String {
    let one =
        |(id, findings): &(String, Vec<Finding>)| format!("connection `{id}`\n{}", doctor::render(findings));
    examined.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn as_json(examined: &[(String, Vec<Finding>)]) -> Value {
    examined.iter().map(|(id, findings)| json!({ "connection": id, "findings": findings })).collect()
}
