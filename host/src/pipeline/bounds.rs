//! Where a run ends that reads its sources only as far as another run had read them when it took a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_checkpoint::{Manifest, Operator, Partition, Position};

use super::plan::{Edge, Head, Plan, Target};

/// How far each partition is read. Those that aren't among them are not read at all: they weren't there yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// By source and name of the partition.
    partitions: BTreeMap<(String, String), Bound>,
}

/// How far a partition is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// What isn't read any more begins here.
    pub position: Position,
    /// The input ended here.
    pub ended: bool,
    /// Nobody waits for the partition's time when it has come here: it had been silent for so long.
    pub is_idle: bool,
}

impl Bounds {
    /// As far as a checkpoint of the same pipeline says.
    ///
    /// Which partitions were idle a checkpoint doesn't say, but it shows: where an operator's time is ahead of a
    /// partition's that feeds it, nobody had waited for that partition.
    pub fn of(plan: &Plan, checkpoint: &Manifest) -> Self {
        let mut partitions = BTreeMap::new();
        for source in &checkpoint.sources {
            let at = plan.sources.iter().position(|s| s.id == source.id);
            let reached = at.filter(|&at| plan.sources[at].idle_after_ms.is_some());
            let reached = reached.and_then(|at| time_behind(plan, at, &checkpoint.operators));
            for Partition { name, position, watermark, ended } in &source.partitions {
                let is_idle = !ended && reached.is_some_and(|reached| *watermark < Some(reached));
                let bound = Bound { position: position.clone(), ended: *ended, is_idle };
                partitions.insert((source.id.clone(), name.clone()), bound);
            }
        }
        Self { partitions }
    }

    /// How far a partition is read; none: not at all.
    pub fn get(&self, source: &str, partition: &str) -> Option<&Bound> {
        self.partitions.get(&(source.to_owned(), partition.to_owned()))
    }

    /// Whether all input ends there.
    pub fn are_the_end(&self) -> bool {
        self.partitions.values().all(|bound| bound.ended)
    }
}

/// How far time had come at the operator behind a source where it had come furthest.
fn time_behind(plan: &Plan, source: usize, operators: &[Operator]) -> Option<i64> {
    let behind = operators_behind(plan, source);
    let is_behind = |operator: &&Operator| behind.contains(operator.id.as_str());
    let time = |operator: &Operator| operator.watermarks.iter().map(|range| range.watermark).min();
    operators.iter().filter(is_behind).filter_map(time).max()
}

/// The ids of the operators that rows of a source come to, at once or by others.
fn operators_behind(plan: &Plan, source: usize) -> BTreeSet<&str> {
    let mut behind = BTreeSet::new();
    // By stage and node.
    let mut ahead: Vec<(usize, usize)> = Vec::new();
    let follow = |stage: usize, edges: &[Edge], ahead: &mut Vec<(usize, usize)>| {
        for edge in edges {
            match edge.target {
                Target::Node(node) => ahead.push((stage, node)),
                Target::Stage { stage, .. } => ahead.push((stage, 0)),
                Target::Sink(_) => {}
            }
        }
    };
    for (at, stage) in plan.stages.iter().enumerate() {
        if let Head::Source { source: of, outputs } = &stage.head
            && *of == source
        {
            follow(at, outputs, &mut ahead);
        }
    }
    while let Some((stage, node)) = ahead.pop() {
        let node = &plan.stages[stage].nodes[node];
        if behind.insert(plan.operators[node.operator].id.as_str()) {
            follow(stage, &node.outputs, &mut ahead);
        }
    }
    behind
}
