//! By what two rows of a sink are known to be the same result, and which of them can be compared at all: read from the
//! plan.

use std::collections::BTreeSet;

use tidemill_flow::window::Windows;
use tidemill_flow::windowing::Assigner;

use crate::pipeline::plan::{Edge, Head, OperatorKind, OperatorPlan, Origin as Column, Plan, Target};

/// By what rows of a sink are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The fields with the key, the bounds of the window and the number of its firing; none: the whole row.
    pub(super) fields: Vec<String>,
    /// How rows show that they depend on nothing before a time.
    pub(super) complete: Completeness,
    /// Results may be under way at a barrier: timers that are due fire behind it.
    pub(super) fires_late: bool,
}

/// How rows show that they depend on nothing before a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Completeness {
    /// By the start of their window, which is so long after that time at least, in milliseconds.
    Windows { field: String, after_ms: i64 },
    /// Not at all: why.
    Unknown(&'static str),
    /// They never do.
    #[default]
    Always,
}

/// Who writes to an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Writer {
    Source,
    /// By stage and node.
    Node(usize, usize),
}

impl Identity {
    /// Of a sink of a plan.
    pub(super) fn of(plan: &Plan, sink: usize) -> Self {
        let writers = writers(plan, &Target::Sink(sink));
        let mut identity = match writers.as_slice() {
            [(Writer::Node(stage, node), edge, false)] => {
                let operator = &plan.operators[plan.stages[*stage].nodes[*node].operator];
                Self { fields: fields(operator, edge), complete: complete(operator, edge), fires_late: false }
            }
            // Rows as they were read, late ones, or of several operators.
            _ => Self::default(),
        };
        let mut before = BTreeSet::new();
        let mut ahead: Vec<Writer> = writers.iter().map(|(writer, ..)| *writer).collect();
        let feeds: BTreeSet<Writer> = ahead.iter().copied().collect();
        while let Some(writer) = ahead.pop() {
            let Writer::Node(stage, node) = writer else { continue };
            if !before.insert((stage, node)) {
                continue;
            }
            let of_node = writers_of_node(plan, stage, node);
            ahead.extend(of_node);
        }
        for (stage, node) in before {
            let operator = &plan.operators[plan.stages[stage].nodes[node].operator];
            let keeps = !matches!(operator.kind, OperatorKind::Transform);
            identity.fires_late |= matches!(
                operator.kind,
                OperatorKind::Windowed { .. } | OperatorKind::Process { .. } | OperatorKind::Join(_)
            );
            if keeps && !feeds.contains(&Writer::Node(stage, node)) {
                identity.complete = Completeness::Unknown("an operator before the last has state of its own");
            }
        }
        identity
    }
}

/// Who writes to a target, by which edge, and whether late rows.
fn writers<'p>(plan: &'p Plan, target: &Target) -> Vec<(Writer, &'p Edge, bool)> {
    let mut found = Vec::new();
    let is_it = |edge: &&Edge| edge.target == *target;
    for (at, stage) in plan.stages.iter().enumerate() {
        if let Head::Source { outputs, .. } = &stage.head {
            found.extend(outputs.iter().filter(is_it).map(|edge| (Writer::Source, edge, false)));
        }
        for (number, node) in stage.nodes.iter().enumerate() {
            let writer = Writer::Node(at, number);
            found.extend(node.outputs.iter().filter(is_it).map(|edge| (writer, edge, false)));
            found.extend(node.late.iter().filter(is_it).map(|edge| (writer, edge, true)));
        }
    }
    found
}

fn writers_of_node(plan: &Plan, stage: usize, node: usize) -> Vec<Writer> {
    let leads_here = |from: usize, edge: &Edge| match edge.target {
        Target::Node(to) => from == stage && to == node,
        Target::Stage { stage: to, .. } => to == stage && node == 0,
        Target::Sink(_) => false,
    };
    let mut found = Vec::new();
    for (from, stage) in plan.stages.iter().enumerate() {
        for (number, node) in stage.nodes.iter().enumerate() {
            if node.outputs.iter().any(|edge| leads_here(from, edge)) {
                found.push(Writer::Node(from, number));
            }
        }
    }
    found
}

/// The fields by which rows of an operator are known at the end of an edge; none, if they don't tell all of it.
fn fields(operator: &OperatorPlan, edge: &Edge) -> Vec<String> {
    let Some(key) = operator.kind.key() else { return Vec::new() };
    let mut fields = Vec::new();
    let (mut keys, mut has_window) = (BTreeSet::new(), false);
    for (at, name) in columns(edge) {
        match operator.emits.get(at).map(|(_, origin)| *origin) {
            Some(Column::Key(of_key)) => _ = keys.insert(of_key),
            Some(Column::Input(column)) => match key.iter().position(|&k| k == column) {
                Some(of_key) => _ = keys.insert(of_key),
                None => continue,
            },
            Some(Column::WindowStart | Column::WindowEnd) => has_window = true,
            Some(Column::WindowFiring) => {}
            Some(Column::Returned(_) | Column::WindowTiming) | None => continue,
        }
        fields.push(name);
    }
    let needs_window = match &operator.kind {
        OperatorKind::Aggregate { windows, .. } => *windows != Windows::Global,
        OperatorKind::Windowed { definition, .. } => definition.assigner != Assigner::Global,
        // A join has many rows of a key, and of one pair of rows only one: the whole row tells them apart.
        OperatorKind::Join(_) => return Vec::new(),
        OperatorKind::Process { .. } | OperatorKind::Transform => false,
    };
    let is_told = keys.len() == key.len() && (has_window || !needs_window);
    if is_told { fields } else { Vec::new() }
}

/// The columns of an edge by their number at the writer, with their names.
fn columns(edge: &Edge) -> impl Iterator<Item = (usize, String)> {
    let names = edge.schema.fields().iter().map(|field| field.name.clone());
    edge.columns.iter().copied().zip(names)
}

fn complete(operator: &OperatorPlan, edge: &Edge) -> Completeness {
    let after_ms = match &operator.kind {
        OperatorKind::Transform => return Completeness::Always,
        OperatorKind::Aggregate { windows: Windows::Tumbling { .. } | Windows::Hopping { .. }, .. } => 0,
        OperatorKind::Windowed { definition, .. } => match &definition.assigner {
            Assigner::Fixed { .. } | Assigner::Days(_) => 0,
            // What seems to begin behind the place may have begun before it.
            Assigner::Session { gap_ms } => *gap_ms,
            Assigner::Count { .. } | Assigner::Global => {
                return Completeness::Unknown("its windows have no times");
            }
        },
        OperatorKind::Aggregate { windows: Windows::Global, .. } => {
            return Completeness::Unknown("its windows have no times");
        }
        OperatorKind::Process { .. } | OperatorKind::Join(_) => {
            return Completeness::Unknown("results depend on rows from before the replay begins");
        }
    };
    let start = columns(edge)
        .find(|(at, _)| operator.emits.get(*at).is_some_and(|(_, origin)| *origin == Column::WindowStart));
    match start {
        Some((_, field)) => Completeness::Windows { field, after_ms },
        None => Completeness::Unknown("rows don't have `window_start`, which would tell the complete ones"),
    }
}
