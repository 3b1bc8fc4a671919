//! What a run did, in numbers.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::pipeline::plan::{Plan, SinkOutput, SinkPlan};
use tidemill::sink::PartFiles;
use tidemill::telemetry::Counters;
use tidemill::worker::Ended;

/// The summary for people.
pub(super) fn as_text(
    plan: &Plan,
    counters: &Counters,
    rows_before: u64,
    ended: Ended,
    elapsed: Duration,
) -> String {
    let rows = counters.rows_read().saturating_sub(rows_before);
    let seconds = elapsed.as_secs_f64();
    let rate = (rows as f64 / seconds) as u64;
    let how = match ended {
        Ended::Finished => "finished",
        Ended::Stopped => "stopped",
    };
    let mut lines = vec![];
    for (source, c) in plan.sources.iter().zip(&counters.sources) {
        let malformed = some(c.malformed.get(), "malformed");
        lines.push((source.id.clone(), format!("{} rows read{malformed}", grouped(c.rows.get()))));
    }
    for (operator, c) in plan.operators.iter().zip(&counters.operators) {
        let left = some(c.groups_left.get(), "groups in unfinished windows");
        lines.push((
            operator.id.clone(),
            format!(
                "{} in, {} out{}{}{}{left}",
                grouped(c.rows_in.get()),
                grouped(c.rows_out.get()),
                some(c.rejected.get(), "rejected"),
                some(c.late.get(), "late"),
                some(c.partly_late.get(), "late for some of their windows")
            ),
        ));
    }
    for (sink, c) in plan.sinks.iter().zip(&counters.sinks) {
        let to = match &sink.output {
            SinkOutput::JetStream(output) => format!("the stream `{}`", output.stream),
            _ => path_of(sink).map_or("standard output".to_owned(), |p| p.display().to_string()),
        };
        lines.push((sink.id.clone(), format!("{} rows written to {to}", grouped(c.rows.get()))));
    }
    if !PartFiles::of_path(&plan.dead_letters).is_empty() {
        lines.push(("rejected rows".to_owned(), format!("with reasons in {}", plan.dead_letters.display())));
    }
    if !PartFiles::of_path(&plan.late).is_empty() {
        lines.push(("late rows".to_owned(), format!("in {}", plan.late.display())));
    }
    let width = lines.iter().map(|(id, _)| id.chars().count()).max().unwrap_or(0);
    let mut text = format!("{} {how} after {seconds:.2} s, {} rows/s\n", plan.name, grouped(rate));
    for (id, line) in lines {
        writeln!(text, "  {id:width$}  {line}").expect("a string takes text");
    }
    text
}

/// The summary for programs.
pub(super) fn as_json(plan: &Plan, counters: &Counters, ended: Ended, elapsed: Duration) -> Value {
    let sources = plan.sources.iter().zip(&counters.sources).map(|(s, c)| {
        json!({ "id": s.id, "rows": c.rows.get(), "malformed": c.malformed.get(), "bytes": c.bytes.get() })
    });
    let operators = plan.operators.iter().zip(&counters.operators).map(|(o, c)| {
        json!({
            "id": o.id,
            "rows_in": c.rows_in.get(),
            "rows_out": c.rows_out.get(),
            "rejected": c.rejected.get(),
            "late": c.late.get(),
            "partly_late": c.partly_late.get(),
            "windows": c.windows.get(),
            "groups_left": c.groups_left.get(),
        })
    });
    let sinks = plan.sinks.iter().zip(&counters.sinks).map(|(s, c)| {
        let (rows, bytes) = (c.rows.get(), c.bytes.get());
        let stream = match &s.output {
            SinkOutput::JetStream(output) => Some(&output.stream),
            _ => None,
        };
        json!({ "id": s.id, "path": path_of(s), "stream": stream, "rows": rows, "bytes": bytes })
    });
    json!({
        "pipeline": plan.name,
        "ended": match ended { Ended::Finished => "finished", Ended::Stopped => "stopped" },
        "seconds": elapsed.as_secs_f64(),
        "sources": sources.collect::<Value>(),
        "operators": operators.collect::<Value>(),
        "sinks": sinks.collect::<Value>(),
        "dead_letters": (!PartFiles::of_path(&plan.dead_letters).is_empty()).then_some(&plan.dead_letters),
        "late": (!PartFiles::of_path(&plan.late).is_empty()).then_some(&plan.late),
    })
}

/// The file or the folder that a sink writes to.
fn path_of(sink: &SinkPlan) -> Option<&Path> {
    match &sink.output {
        SinkOutput::File(path) | SinkOutput::Log { path, .. } => Some(path),
        SinkOutput::Stdout | SinkOutput::Memory | SinkOutput::JetStream(_) => None,
    }
}

fn some(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!(", {} {what}", grouped(count)) }
}

/// A number with a comma between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [0, 999, 1000, 27_004, 1_234_567].map(grouped),
            ["0", "999", "1,000", "27,004", "1,234,567"]
        );
    }
}
