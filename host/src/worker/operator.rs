//! An operator in a task, whatever its world: what the task asks of each of them beside dealing with signals.

use std::ops::Range;

use super::JobError;
use super::aggregate::AggregateNode;
use super::join::JoinNode;
use super::process::ProcessNode;
use super::snapshot::{OperatorPart, ROWS_PER_SLICE};
use super::transform::TransformNode;
use super::windowed::WindowedNode;

/// An operator in a task.
pub(super) enum Operator {
    Transform(Box<TransformNode>),
    Aggregate(Box<AggregateNode>),
    Join(Box<JoinNode>),
    Windowed(Box<WindowedNode>),
    Process(Box<ProcessNode>),
}

impl Operator {
    /// Holds other key groups from now on; what it holds stands in the storage.
    pub(super) fn reopen(&mut self, groups: Range<u32>, watermark: i64) -> Result<(), JobError> {
        match self {
            Self::Transform(_) | Self::Windowed(_) | Self::Join(_) => {
                unreachable!("nothing is in flight to it")
            }
            Self::Aggregate(aggregate) => aggregate.reopen(groups, watermark),
            Self::Process(process) => process.reopen(groups, watermark),
        }
    }

    /// Writes everything into the storage; how far time had come.
    pub(super) fn put_down(&mut self) -> Result<Option<i64>, JobError> {
        let part = self.freeze();
        while !self.write_slice(ROWS_PER_SLICE)? {}
        Ok(part.map(|p| p.watermark))
    }

    /// Whether timers are due that haven't fired.
    pub(super) fn has_due(&mut self) -> bool {
        match self {
            Self::Transform(_) | Self::Aggregate(_) => false,
            Self::Windowed(windowed) => windowed.has_due(),
            Self::Join(join) => join.has_due(),
            Self::Process(process) => process.has_due(),
        }
    }

    /// Whether timers are due that a watermark has to wait for.
    pub(super) fn has_event_due(&mut self) -> bool {
        match self {
            Self::Transform(_) | Self::Aggregate(_) => false,
            Self::Windowed(windowed) => windowed.has_event_due(),
            Self::Join(join) => join.has_due(),
            Self::Process(process) => process.has_event_due(),
        }
    }

    /// When the next timer of processing time is due, in milliseconds since the Unix epoch.
    pub(super) fn next_processing_ms(&mut self) -> Option<i64> {
        match self {
            Self::Transform(_) | Self::Aggregate(_) | Self::Join(_) => None,
            Self::Windowed(windowed) => windowed.next_processing_ms(),
            Self::Process(process) => process.next_processing_ms(),
        }
    }

    /// Begins a new epoch.
    pub(super) fn freeze(&mut self) -> Option<OperatorPart> {
        match self {
            Self::Transform(_) => None,
            Self::Aggregate(aggregate) => Some(aggregate.freeze()),
            Self::Join(join) => Some(join.freeze()),
            Self::Windowed(windowed) => Some(windowed.freeze()),
            Self::Process(process) => Some(process.freeze()),
        }
    }

    /// Writes out up to `rows_max` rows of the epoch that was frozen; says whether that was all.
    pub(super) fn write_slice(&mut self, rows_max: usize) -> Result<bool, JobError> {
        match self {
            Self::Transform(_) => Ok(true),
            Self::Aggregate(aggregate) => aggregate.write_slice(rows_max),
            Self::Join(join) => join.write_slice(rows_max),
            Self::Windowed(windowed) => windowed.write_slice(rows_max),
            Self::Process(process) => process.write_slice(rows_max),
        }
    }

    /// Keeps to its share of the memory; says whether it can't without writing into the storage.
    pub(super) fn is_crowded(&mut self) -> bool {
        match self {
            Self::Transform(_) => false,
            Self::Aggregate(aggregate) => !aggregate.evict(),
            Self::Join(join) => join.is_crowded(),
            Self::Windowed(windowed) => !windowed.evict(),
            Self::Process(process) => !process.evict(),
        }
    }

    pub(super) fn spill(&mut self) -> Result<(), JobError> {
        match self {
            Self::Transform(_) => Ok(()),
            Self::Aggregate(aggregate) => aggregate.spill(),
            Self::Join(join) => join.spill(),
            Self::Windowed(windowed) => windowed.spill(),
            Self::Process(process) => process.spill(),
        }
    }
}
