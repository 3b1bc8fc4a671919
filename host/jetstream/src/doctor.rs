//! Whether servers and streams are fit for what a pipeline wants of them: what was looked at, what was found, and the
//! command or the lines of a configuration that change it.
//!
//! Nothing is written and no consumer is made: it may look at servers that are in use.

mod roles;
mod servers;
mod streams;
mod subjects;

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use crate::connection::Connection;
use crate::error::Error;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know; nothing has to be done.
    Note,
    /// It works, until something happens that will.
    Warning,
    /// It doesn't work, or loses rows.
    Error,
}

/// What was found where something was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was looked at, as in "stream `ORDERS`: replicas".
    pub what: String,
    /// What it is, as in "1".
    pub found: String,
    /// Why it matters and what to do, with the command or the lines to change; empty: nothing.
    pub advice: String,
}

/// What a stream, or a bucket, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Rows are read from it, again from a checkpoint's position after a failure.
    Read,
    /// Rows are written in atomic batches, together with markers of what has been written.
    WriteExactlyOnce,
    /// Rows are written with identifiers, by which the stream drops those that it has.
    WriteIdempotent {
        /// For how long it has to remember them: a checkpoint's interval and the longest time until a restart.
        needed_window: Duration,
    },
    /// Rows are written, after a failure some of them again.
    WriteAtLeastOnce,
    /// Checkpoints are kept in it: an object store's bucket.
    CheckpointBucket,
}

impl Role {
    fn writes_rows(self) -> bool {
        match self {
            Self::WriteExactlyOnce | Self::WriteIdempotent { .. } | Self::WriteAtLeastOnce => true,
            Self::Read | Self::CheckpointBucket => false,
        }
    }
}

/// What a pipeline wants of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The stream's name; for checkpoints the bucket's.
    pub stream: String,
    /// What it is for.
    pub role: Role,
    /// The subjects that are written, or those that are read where not all are; with wildcards for what rows decide,
    /// as in `orders.*`. None: not known, or all.
    pub subjects: Vec<String>,
    /// How many consumers the pipeline has there at once.
    pub consumers: u64,
    /// Whether the pipeline makes it if there is none.
    pub is_made: bool,
    /// The sequence from which reading has to be able to go on, from 1, as the oldest checkpoint that may be restored has
    /// it.
    pub position: Option<u64>,
}

impl Wanted {
    /// A stream for this, with one consumer if it is read.
    pub fn new(stream: impl Into<String>, role: Role) -> Self {
        let consumers = u64::from(role == Role::Read);
        Self { stream: stream.into(), role, subjects: Vec::new(), consumers, is_made: false, position: None }
    }

    /// The stream that is looked at: a bucket is one too.
    fn stream_name(&self) -> String {
        match self.role {
            Role::CheckpointBucket => format!("OBJ_{}", self.stream),
            _ => self.stream.clone(),
        }
    }

    /// A command that makes the stream as it is wanted.
    fn command(&self, replicas: usize) -> String {
        let name = &self.stream;
        if self.role == Role::CheckpointBucket {
            return format!("`nats object add {name} --storage=file --replicas={replicas}`");
        }
        let subjects =
            if self.subjects.is_empty() { vec![format!("{name}.>")] } else { self.subjects.clone() };
        let mut words =
            format!("nats stream add {name} --storage=file --retention=limits --replicas={replicas}");
        let marker = (self.role == Role::WriteExactlyOnce).then(|| crate::publish::marker_subjects(name));
        for subject in subjects.iter().chain(&marker) {
            words += &format!(" --subjects='{subject}'");
        }
        match self.role {
            Role::WriteExactlyOnce => words += " --allow-batch",
            Role::WriteIdempotent { needed_window } => {
                words += &format!(" --dupe-window={}s", needed_window.as_secs().max(1));
            }
            _ => {}
        }
        format!("`{words} --defaults`")
    }
}

/// What has been found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, what: &str, found: impl Into<String>, advice: impl Into<String>) {
        let (what, found, advice) = (what.to_owned(), found.into(), advice.into());
        let finding = Finding { severity, what, found, advice };
        // Two sinks may write to one stream.
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    fn ok(&mut self, what: &str, found: impl Into<String>) {
        self.add(Severity::Ok, what, found, "");
    }

    fn note(&mut self, what: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Note, what, found, advice);
    }

    fn warning(&mut self, what: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Warning, what, found, advice);
    }

    fn error(&mut self, what: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.add(Severity::Error, what, found, advice);
    }
}

/// Looks at the servers of a connection, at its account, and at the streams that are wanted. What can't be looked at is
/// a finding too.
pub async fn examine(connection: &Connection, wanted: &[Wanted]) -> Vec<Finding> {
    let mut findings = Findings::default();
    let servers = servers::examine(connection, wanted, &mut findings).await;
    let Some(servers) = servers else { return findings.0 };
    for wanted in wanted {
        let name = wanted.stream_name();
        let what = format!("stream `{name}`");
        match connection.stream(&name).await {
            Ok(stream) => streams::examine(stream.cached_info(), wanted, &servers, &mut findings),
            Err(Error::NoStream { .. }) if wanted.is_made => {
                findings.note(&what, "there is none", "the pipeline makes it when it runs first");
            }
            Err(Error::NoStream { .. }) if wanted.role == Role::CheckpointBucket => {
                let make = wanted.command(if servers.clustered { 3 } else { 1 });
                findings.note(
                    &what,
                    "there is none",
                    format!("it is made with the first checkpoint, or by {make}"),
                );
            }
            Err(Error::NoStream { .. }) => {
                let make = wanted.command(if servers.clustered { 3 } else { 1 });
                findings.error(&what, "there is none", format!("make it: {make}"));
            }
            Err(error @ Error::Unavailable { .. }) => {
                let advice = "a stream answers when most of its replicas are up: look at `nats server report jetstream`";
                findings.error(&what, error.to_string(), advice);
            }
            Err(error) => {
                let advice = format!("the account's user needs to publish to `$JS.API.STREAM.INFO.{name}`");
                findings.error(&what, error.to_string(), advice);
            }
        }
    }
    findings.0
}

/// The findings as text for a terminal: one a line, what to do below it, and their sum in the last line.
pub fn render(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { severity, what, found, advice } in findings {
        let word = match severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        };
        _ = writeln!(text, "{word:8} {what}: {found}");
        if !advice.is_empty() {
            _ = writeln!(text, "         {advice}");
        }
    }
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    _ = writeln!(
        text,
        "{errors} error{}, {warnings} warning{}, {} looked at",
        plural(errors),
        plural(warnings),
        findings.len()
    );
    text
}

/// Bytes for a person.
fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut shown = count;
    // Only as far as nothing is lost to rounding that would matter: 1.5 GiB are 1536 MiB.
    while unit < 4 && (shown >= 10 << 10 || shown >= 1 << 10 && shown.is_multiple_of(1 << 10)) {
        shown >>= 10;
        unit += 1;
    }
    format!("{shown} {}", ["B", "KiB", "MiB", "GiB", "TiB"][unit])
}

/// A duration for a person, in the largest unit of which it is at least two.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..2 => format!("{} ms", duration.as_millis()),
        2..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_one_a_line_with_advice_below_and_summed() {
        let finding = |severity, found: &str, advice: &str| Finding {
            severity,
            what: "stream `A`: replicas".to_owned(),
            found: found.to_owned(),
            advice: advice.to_owned(),
        };
        let findings = [finding(Severity::Ok, "3", ""), finding(Severity::Warning, "2", "take 3")];
        let expected = "ok       stream `A`: replicas: 3\n\
                        WARNING  stream `A`: replicas: 2\n         take 3\n\
                        0 errors, 1 warning, 2 looked at\n";
        assert_eq!(render(&findings), expected);
        let json = serde_json::to_value(&findings[1]).unwrap();
        assert_eq!(json["severity"], "warning");
        assert_eq!(json["advice"], "take 3");
    }

    #[test]
    fn what_matters_more_is_greater() {
        let mut all = [Severity::Error, Severity::Ok, Severity::Warning, Severity::Note];
        all.sort_unstable();
        assert_eq!(all, [Severity::Ok, Severity::Note, Severity::Warning, Severity::Error]);
    }

    #[test]
    fn numbers_are_shown_in_a_fitting_unit() {
        assert_eq!([0, 9000, 1 << 20, 3 << 29].map(bytes), ["0 B", "9000 B", "1 MiB", "1536 MiB"]);
        assert_eq!(bytes(u64::MAX), "16777215 TiB");
        let shown = [0, 90, 120, 86_400, 3 * 86_400].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(shown, ["0 ms", "90 s", "2 min", "24 h", "3 days"]);
    }

    #[test]
    fn the_command_makes_what_is_wanted() {
        let check = |role, expected: &str| {
            let command = Wanted::new("OUT", role).command(3);
            assert!(command.contains(expected), "{command}");
        };
        check(
            Role::Read,
            "nats stream add OUT --storage=file --retention=limits --replicas=3 --subjects='OUT.>'",
        );
        check(Role::WriteExactlyOnce, "--subjects='OUT.>' --subjects='tidemill.OUT.>' --allow-batch");
        let needed_window = Duration::from_secs(600);
        check(Role::WriteIdempotent { needed_window }, "--dupe-window=600s");
        check(Role::CheckpointBucket, "nats object add OUT");
    }
}
