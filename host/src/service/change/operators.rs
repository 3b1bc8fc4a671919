//! What a change does to each operator: what differs between its versions, and what becomes of its state.

use tidemill_checkpoint::Operator as Filed;

use super::super::model::{OperatorChange, StateChange};
use super::words::{listed, new_and_gone, quoted, size};
use super::{Deployed, Wanted};
use crate::pipeline::declaration::Declaration;
use crate::pipeline::plan::{OperatorKind, OperatorPlan, Plan};
use crate::plugin::{Output, Plugin};
use crate::worker::{Carried, carried, differences, state_of};

/// What a change does to all operators that it touches.
#[derive(Default)]
pub(super) struct Operators {
    pub(super) changes: Vec<OperatorChange>,
    /// Those whose state is lost.
    pub(super) drops: Vec<String>,
    /// What state can't be gone on from.
    pub(super) refusals: Vec<String>,
}

/// The operators of a pipeline that is new.
pub(super) fn added(plan: &Plan) -> Vec<OperatorChange> {
    plan.operators.iter().map(new).collect()
}

fn new(operator: &OperatorPlan) -> OperatorChange {
    OperatorChange {
        id: operator.id.clone(),
        change: "added".to_owned(),
        component: None,
        version: None,
        state: if state_of(operator).is_some() { StateChange::New } else { StateChange::None },
        differences: Vec::new(),
    }
}

impl Operators {
    /// `begins_anew`: nothing of what the pipeline knows is there afterwards.
    pub(super) fn new(before: &Deployed<'_>, after: &Wanted<'_>, begins_anew: bool) -> Self {
        let mut all = Self::default();
        for operator in &after.plan.operators {
            match before.plan.operators.iter().find(|o| o.id == operator.id) {
                None => all.changes.push(new(operator)),
                Some(old) => {
                    let state = match filed(before, old) {
                        state if begins_anew => all.begun_anew(operator, state.is_some()),
                        state => all.carry(operator, state, &after.plan.drop_state),
                    };
                    all.changes.extend(changed(before, after, (old, operator), state));
                }
            }
        }
        for old in &before.plan.operators {
            if after.plan.operators.iter().all(|o| o.id != old.id) {
                let state = all.dropped(&old.id, filed(before, old).is_some());
                all.changes.push(OperatorChange { change: "removed".to_owned(), state, ..new(old) });
            }
        }
        all
    }

    fn dropped(&mut self, id: &str, had_state: bool) -> StateChange {
        if !had_state {
            return StateChange::None;
        }
        self.drops.push(id.to_owned());
        StateChange::Dropped
    }

    fn begun_anew(&mut self, operator: &OperatorPlan, had_state: bool) -> StateChange {
        match self.dropped(&operator.id, had_state) {
            StateChange::None => new(operator).state,
            dropped => dropped,
        }
    }

    /// What becomes of the state that is filed under an operator's id.
    fn carry(&mut self, operator: &OperatorPlan, filed: Option<Filed>, may_drop: &[String]) -> StateChange {
        let Some(filed) = filed else { return new(operator).state };
        match carried(operator, &filed) {
            Ok(Carried::AsItIs) => StateChange::Kept,
            Ok(Carried::ByField(fields)) => StateChange::Evolved { fields },
            Ok(Carried::Migrated(fields)) => StateChange::Migrated { fields },
            Err(_) if may_drop.contains(&operator.id) => self.dropped(&operator.id, true),
            Err(why) => {
                self.refusals.push(why);
                StateChange::Dropped
            }
        }
    }
}

/// What there is of an operator's state: by the newest checkpoint; by the operator itself, if it isn't in that.
fn filed(before: &Deployed<'_>, operator: &OperatorPlan) -> Option<Filed> {
    let in_manifest = before.manifest.iter().flat_map(|m| &m.operators).find(|o| o.id == operator.id);
    // A change stops the pipeline with another checkpoint, which leaves nothing in flight.
    let settled = in_manifest.map(|filed| Filed { in_flight: None, ..filed.clone() });
    settled.or_else(|| state_of(operator))
}

/// What is told of an operator that was there before; none if nothing happens to it.
fn changed(
    before: &Deployed<'_>,
    after: &Wanted<'_>,
    (old, new): (&OperatorPlan, &OperatorPlan),
    state: StateChange,
) -> Option<OperatorChange> {
    let (b, a) = (&old.plugin, &new.plugin);
    let mut differences = Vec::new();
    if b.digest() != a.digest() {
        differences.extend(of_components(b, a));
    }
    differences.extend(of_settings(&old.settings, &new.settings));
    differences.extend(of_limits(old, new));
    differences.extend(of_use((before, old), (after, new)));
    let is_same = b.digest() == a.digest();
    let stays = matches!(state, StateChange::None | StateChange::Kept);
    let pair = |of: fn(&Plugin) -> String| (!is_same).then(|| (of(b), of(a)));
    (!(is_same && differences.is_empty() && stays)).then(|| OperatorChange {
        id: new.id.clone(),
        change: "changed".to_owned(),
        component: pair(|plugin| plugin.digest().to_owned()),
        version: pair(|plugin| format!("{} {}", plugin.description().name, plugin.description().version)),
        state,
        differences,
    })
}

/// What a component says of itself, against another one.
fn of_components(before: &Plugin, after: &Plugin) -> Vec<String> {
    let mut all = Vec::new();
    if before.world() != after.world() {
        all.push(format!("a {} becomes a {}", before.world().name(), after.world().name()));
    }
    let (b, a) = (before.description(), after.description());
    let names: &[&str] = if a.inputs.len() == 2 { &["left input", "right input"] } else { &["input"] };
    for ((name, b), a) in names.iter().zip(&b.inputs).zip(&a.inputs) {
        all.extend(differences(b, a).into_iter().map(|difference| format!("{name}: {difference}")));
    }
    let kind = |output: &Output| match output {
        Output::Same => "rows as they came",
        Output::Extended(_) => "rows with more fields",
        Output::Replaced(_) => "rows of its own",
    };
    if kind(&b.output) != kind(&a.output) {
        all.push(format!("output: {} instead of {}", kind(&a.output), kind(&b.output)));
    }
    let output = differences(&b.output.returned(), &a.output.returned());
    all.extend(output.into_iter().map(|difference| format!("output: {difference}")));
    let (new, gone) =
        new_and_gone(before.imports().iter().map(String::as_str), after.imports().iter().map(String::as_str));
    all.extend(new.into_iter().map(|import| format!("imports `{import}` too")));
    all.extend(gone.into_iter().map(|import| format!("doesn't import `{import}` any more")));
    all
}

fn of_settings(before: &[(String, String)], after: &[(String, String)]) -> Vec<String> {
    let value = |of: &[(String, String)], name: &str| {
        of.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
    };
    let mut all = Vec::new();
    for (name, now) in after {
        all.extend(match value(before, name) {
            None => Some(format!("new setting {name} = {now:?}")),
            Some(was) if was != *now => Some(format!("setting {name} = {now:?} instead of {was:?}")),
            Some(_) => None,
        });
    }
    let gone = before.iter().filter(|(name, _)| value(after, name).is_none());
    all.extend(gone.map(|(name, _)| format!("no setting {name} any more")));
    all
}

fn of_limits(before: &OperatorPlan, after: &OperatorPlan) -> Vec<String> {
    let (b, a) = (before.limits, after.limits);
    let mut all = Vec::new();
    if b.memory_bytes != a.memory_bytes {
        all.push(format!("memory of {} instead of {}", size(a.memory_bytes), size(b.memory_bytes)));
    }
    if b.call_ms != a.call_ms {
        all.push(format!("calls of {} ms at most instead of {} ms", a.call_ms, b.call_ms));
    }
    all
}

/// How it stands in the pipeline: what it reads, by what it groups, how many tasks run it.
fn of_use(
    (before, old): (&Deployed<'_>, &OperatorPlan),
    (after, new): (&Wanted<'_>, &OperatorPlan),
) -> Vec<String> {
    let mut all = Vec::new();
    let upstreams = |of: &Declaration| -> Vec<String> {
        let operator = of.operators.iter().find(|o| o.id.value == new.id);
        operator.iter().flat_map(|o| &o.inputs).map(|input| of.upstream_name(input.value)).collect()
    };
    let (b, a) = (upstreams(before.declaration), upstreams(after.declaration));
    if b != a {
        all.push(format!("reads {} instead of {}", quoted(&a), quoted(&b)));
    }
    let (b, a) = (grouping(old), grouping(new));
    if b != a {
        all.push(format!("works {} instead of {}", listed(&a), listed(&b)));
    }
    let (b, a) = (tasks(before.plan, &new.id), tasks(after.plan, &new.id));
    if b != a {
        all.push(format!("{a} tasks instead of {b}"));
    }
    all
}

fn grouping(operator: &OperatorPlan) -> Vec<String> {
    let names = |key: &[usize], input: usize| {
        let fields = operator.input_schema(input).fields();
        format!("by [{}]", key.iter().map(|&k| fields[k].name.as_str()).collect::<Vec<_>>().join(", "))
    };
    let Some(key) = operator.kind.key() else { return vec!["row by row".to_owned()] };
    let mut all = vec![names(key, 0)];
    match &operator.kind {
        OperatorKind::Aggregate { windows, .. } => all.push(format!("in windows {windows}")),
        OperatorKind::Windowed { definition, .. } => all.push(format!("in windows {definition}")),
        OperatorKind::Join(join) => {
            all.push(format!("{} on the right", names(&join.right_key, 1)));
            all.push(join.spec.to_string());
        }
        OperatorKind::Process { ttl, .. } => all.extend(
            ttl.iter()
                .map(|ttl| format!("with `{}` for {} ms by {:?} time", ttl.slot, ttl.after_ms, ttl.clock)),
        ),
        OperatorKind::Transform => {}
    }
    all
}

fn tasks(plan: &Plan, id: &str) -> usize {
    let runs = |node: &crate::pipeline::plan::Node| plan.operators[node.operator].id == id;
    plan.stages.iter().filter(|s| s.nodes.iter().any(runs)).map(|s| s.tasks).sum()
}
