//! What is counted while a pipeline runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises; read while others add to it.
#[derive(Debug, Default)]
pub struct Counter {
    count: Arc<AtomicU64>,
    /// What it is a part of.
    total: Option<Arc<AtomicU64>>,
}

impl Counter {
    /// Adds to it, and to what it is a part of.
    pub fn add(&self, by: u64) {
        self.count.fetch_add(by, Ordering::Relaxed);
        if let Some(total) = &self.total {
            total.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A counter from 0 that is a part of this one.
    fn part(&self) -> Self {
        Self { count: Arc::default(), total: Some(self.count.clone()) }
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
    /// Time that calls of the guest took, in nanoseconds.
    pub busy_ns: Counter,
}

/// The counters of a sink.
#[derive(Debug, Default)]
pub struct SinkCounters {
    /// Rows that were written.
    pub rows: Counter,
    /// Bytes that were written.
    pub bytes: Counter,
}

impl SourceCounters {
    fn part(&self) -> Self {
        Self { rows: self.rows.part(), malformed: self.malformed.part(), bytes: self.bytes.part() }
    }

    /// What a checkpoint carries on, by name.
    pub fn named(&self) -> [(&'static str, &Counter); 3] {
        [("rows", &self.rows), ("malformed", &self.malformed), ("bytes", &self.bytes)]
    }
}

impl OperatorCounters {
    fn part(&self) -> Self {
        Self {
            rows_in: self.rows_in.part(),
            rows_out: self.rows_out.part(),
            rejected: self.rejected.part(),
            late: self.late.part(),
            partly_late: self.partly_late.part(),
            windows: self.windows.part(),
            groups_left: self.groups_left.part(),
            busy_ns: self.busy_ns.part(),
        }
    }

    /// What a checkpoint carries on, by name.
    pub fn named(&self) -> [(&'static str, &Counter); 6] {
        [
            ("rows_in", &self.rows_in),
            ("rows_out", &self.rows_out),
            ("rejected", &self.rejected),
            ("late", &self.late),
            ("partly_late", &self.partly_late),
            ("windows", &self.windows),
        ]
    }
}

impl SinkCounters {
    fn part(&self) -> Self {
        Self { rows: self.rows.part(), bytes: self.bytes.part() }
    }

    /// What a checkpoint carries on, by name.
    pub fn named(&self) -> [(&'static str, &Counter); 2] {
        [("rows", &self.rows), ("bytes", &self.bytes)]
    }
}

impl Counters {
    /// Counters from 0, for one task, that are parts of these.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            sources: self.sources.iter().map(SourceCounters::part).collect(),
            operators: self.operators.iter().map(OperatorCounters::part).collect(),
            sinks: self.sinks.iter().map(SinkCounters::part).collect(),
        }
    }

    /// The rows that all sources have read.
    pub fn rows_read(&self) -> u64 {
        self.sources.iter().map(|s| s.rows.get()).sum()
    }

    /// All that a checkpoint carries on, in an order that [`add_values`](Self::add_values) knows.
    pub fn values(&self) -> Vec<u64> {
        self.carried().map(Counter::get).collect()
    }

    /// Adds the values of counters of the same pipeline.
    pub fn add_values(&self, values: &[u64]) {
        self.carried().zip(values).for_each(|(counter, value)| counter.add(*value));
    }

    fn carried(&self) -> impl Iterator<Item = &Counter> {
        let sources = self.sources.iter().flat_map(|s| s.named().map(|(_, c)| c));
        let operators = self.operators.iter().flat_map(|o| o.named().map(|(_, c)| c));
        let sinks = self.sinks.iter().flat_map(|s| s.named().map(|(_, c)| c));
        sources.chain(operators).chain(sinks)
    }

    /// Counters at 0.
    pub fn new(sources: usize, operators: usize, sinks: usize) -> Self {
        Self {
            sources: (0..sources).map(|_| SourceCounters::default()).collect(),
            operators: (0..operators).map(|_| OperatorCounters::default()).collect(),
            sinks: (0..sinks).map(|_| SinkCounters::default()).collect(),
        }
    }
}
