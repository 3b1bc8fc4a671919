//! What is counted while a pipeline runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises; read while others add to it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of a pipeline, by the numbers of its sources, operators and sinks.
#[derive(Debug)]
pub struct Counters {
    /// One for each source.
    pub sources: Vec<SourceCounters>,
    /// One for each operator.
    pub operators: Vec<OperatorCounters>,
    /// One for each sink.
    pub sinks: Vec<SinkCounters>,
}

/// The counters of a source.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Rows that were read, without the malformed ones.
    pub rows: Counter,
    /// Records that were no rows.
    pub malformed: Counter,
    /// Bytes that were decoded.
    pub bytes: Counter,
}

/// The counters of an operator, over all its tasks.
#[derive(Debug, Default)]
pub struct OperatorCounters {
    /// Rows that came in.
    pub rows_in: Counter,
    /// Rows that went on.
    pub rows_out: Counter,
    /// Rows that were rejected.
    pub rejected: Counter,
    /// Rows that came too late for all their windows.
    pub late: Counter,
    /// Rows that came too late for some of their windows, and count in the others.
    pub partly_late: Counter,
    /// Windows that fired, a task at a time.
    pub windows: Counter,
    /// Groups of unfinished windows, when the operator stopped.
    pub groups_left: Counter,
}

/// The counters of a sink.
#[derive(Debug, Default)]
pub struct SinkCounters {
    /// Rows that were written.
    pub rows: Counter,
    /// Bytes that were written.
    pub bytes: Counter,
}

impl Counters {
    /// Counters at 0.
    pub fn new(sources: usize, operators: usize, sinks: usize) -> Self {
        Self {
            sources: (0..sources).map(|_| SourceCounters::default()).collect(),
            operators: (0..operators).map(|_| OperatorCounters::default()).collect(),
            sinks: (0..sinks).map(|_| SinkCounters::default()).collect(),
        }
    }
}
