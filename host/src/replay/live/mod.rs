//! What the live pipeline has shown between two of its checkpoints. Sinks that deliver exactly once tell: their output is
//! filed by checkpoint.

mod files;
mod log;
mod stream;

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use tidemill_checkpoint::Manifest;

use super::compare::Row;
use super::facts::Written;
use super::{ReplayError, failed};
use crate::pipeline::plan::{Delivery, Plan, SinkOutput, SinkPlan};

pub(super) use files::rows_of_files;

/// Takes a row, with the number of the checkpoint with which it appeared.
pub(super) type Each<'a> = &'a mut dyn FnMut(u64, &Row) -> Result<(), ReplayError>;

/// Why the output of a sink can't be told apart by checkpoints, if it can't.
pub(super) fn cannot_tell(sink: &SinkPlan) -> Option<String> {
    let why = match (&sink.output, sink.delivery) {
        (SinkOutput::Stdout, _) => "what went to the standard output is gone".to_owned(),
        (SinkOutput::Memory, _) => "what went to memory is gone".to_owned(),
        (SinkOutput::File(_) | SinkOutput::Log { .. } | SinkOutput::JetStream(_), Delivery::ExactlyOnce) => {
            return None;
        }
        (_, Delivery::Idempotent | Delivery::AtLeastOnce) => {
            "only output of delivery = \"exactly-once\" tells which checkpoint it belongs to".to_owned()
        }
    };
    Some(why)
}

/// Hands out the rows of a sink of the live pipeline that appeared with these checkpoints.
pub(super) fn rows(
    plan: &Plan,
    sink: &SinkPlan,
    checkpoints: RangeInclusive<u64>,
    each: Each<'_>,
) -> Result<(), ReplayError> {
    let written = Written::of(sink);
    let read = match &sink.output {
        SinkOutput::File(path) => rows_of_files(path, &written, &checkpoints, each),
        SinkOutput::Log { path, .. } => {
            log::rows(path, &format!("{}/{}", plan.name, sink.id), &written, &checkpoints, each)
        }
        SinkOutput::JetStream(output) => {
            stream::rows(output, &format!("{}/{}", plan.name, sink.id), &written, &checkpoints, each)
        }
        SinkOutput::Stdout | SinkOutput::Memory => Ok(()),
    };
    read.map_err(|error| match error {
        ReplayError::Failed(why) => failed(format!("sink `{}`: {why}", sink.id)),
        ReplayError::Stopped => ReplayError::Stopped,
    })
}

/// A part of a checkpoint that isn't shown yet, if there is one.
pub(super) fn staged_part(manifest: &Manifest) -> Option<String> {
    let mut parts = manifest.sinks.iter().flat_map(|sink| sink.parts.iter().map(move |part| (sink, part)));
    let staged = parts.find(|(sink, part)| part.staged.in_folder(Path::new(&sink.destination)).exists());
    staged.map(|(sink, part)| format!("output of `{}` ({})", sink.id, part.becomes))
}

/// A checkpoint is durable before its output is shown. That takes moments, unless the pipeline is down.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until all output of a checkpoint is shown.
///
/// # Errors
/// When it isn't in half a minute.
pub(super) fn wait_until_shown(manifest: &Manifest) -> Result<(), ReplayError> {
    let begun = Instant::now();
    while let Some(part) = staged_part(manifest) {
        if begun.elapsed() > SHOWN_WITHIN {
            return Err(failed(format!(
                "{part} of checkpoint {} isn't shown yet, so nobody can compare it; let the pipeline run",
                manifest.checkpoint
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
