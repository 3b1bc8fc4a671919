//! Where rows carry ids: on the way to sinks that recognize copies by them, and nowhere else.

use super::plan::{Delivery, Edge, Head, OperatorKind, OperatorPlan, SinkPlan, Stage, Target};

/// Marks the edges on which rows need their ids. Stages and nodes are in the order of the data flow, so from behind each
/// reader is known before those who feed it.
pub(super) fn mark_ids(stages: &mut [Stage], operators: &[OperatorPlan], sinks: &[SinkPlan]) {
    // Whether the first node of a stage wants ids.
    let mut stage_wants = vec![false; stages.len()];
    for at in (0..stages.len()).rev() {
        let stage = &mut stages[at];
        let mut node_wants = vec![false; stage.nodes.len()];
        for (number, node) in stage.nodes.iter_mut().enumerate().rev() {
            let wants = |target: &Target| wants(target, &node_wants, &stage_wants, sinks);
            let (late, results) = (mark(&mut node.late, wants), mark(&mut node.outputs, wants));
            node_wants[number] = match operators[node.operator].kind {
                OperatorKind::Transform | OperatorKind::Process { .. } => late || results,
                // Results have ids of their windows, whatever the rows have.
                OperatorKind::Aggregate { .. } => late,
                // These have none: a sink that needs them is refused behind them.
                OperatorKind::Windowed { .. } | OperatorKind::Join(_) => late,
            };
        }
        match &mut stage.head {
            Head::Source { outputs, .. } => {
                mark(outputs, |target| wants(target, &node_wants, &stage_wants, sinks));
            }
            Head::Inbox => stage_wants[at] = node_wants.first().is_some_and(|wants| *wants),
        }
    }
}

fn wants(target: &Target, node_wants: &[bool], stage_wants: &[bool], sinks: &[SinkPlan]) -> bool {
    match target {
        Target::Node(node) => node_wants[*node],
        Target::Sink(sink) => sinks[*sink].delivery == Delivery::Idempotent,
        Target::Stage { stage, .. } => stage_wants[*stage],
    }
}

/// Marks each edge whose reader wants ids; says whether there is one.
fn mark(edges: &mut [Edge], wants: impl Fn(&Target) -> bool) -> bool {
    edges.iter_mut().for_each(|edge| edge.ids = wants(&edge.target));
    edges.iter().any(|edge| edge.ids)
}
