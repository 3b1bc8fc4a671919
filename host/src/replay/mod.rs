//! Replaying a pipeline: a *shadow* of it reads the same sources again, from one place to another where the live
//! pipeline has taken a checkpoint, with other components perhaps; what it makes is compared with what the live pipeline
//! has made of the same stretch; and at last it may take the live one's place.
//!
//! This room leans on [`worker`](crate::worker), which runs a shadow as it runs anything else, and is told by the plan where
//! to end. What always holds: a shadow writes nowhere but into its folder, until [`Shadow::take_over`] writes its state
//! into the live pipeline's store, as one checkpoint, which is there whole or not at all.

mod compare;
mod copying;
mod facts;
mod identity;
mod live;
mod origin;
mod report;
mod row;
mod shadow;
mod stretch;
mod take_over;

use std::fmt;
use std::path::Path;

use tidemill_checkpoint::Place;

use crate::pipeline::plan::Plan;

pub use origin::Origin;
pub use report::{
    Cell, Count, OperatorVersions, Report, Sample, SinkReport, Version, report_html, report_text,
};
pub use shadow::{Progress, Shadow};

/// The pipeline that a shadow is compared with.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    /// What it is.
    pub plan: &'a Plan,
    /// Where its checkpoints are.
    pub place: &'a Place,
}

/// Why a replay can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// It was stopped. It goes on from there when it is run again.
    Stopped,
    /// It has failed; the message says where, why, and what to do.
    Failed(String),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the replay was stopped"),
            Self::Failed(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ReplayError {}

fn failed(error: impl fmt::Display) -> ReplayError {
    ReplayError::Failed(error.to_string())
}

/// A failure of the file system.
fn at_file<'a>(doing: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> ReplayError + use<'a> {
    move |error| ReplayError::Failed(format!("cannot {doing} {}: {error}", path.display()))
}
