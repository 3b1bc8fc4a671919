//! What a change of a pipeline does, said before it is done: whether it can be made while the pipeline runs, what
//! becomes of each operator's state, and what can't be done at all.
//!
//! Nothing here looks at the world: what is deployed, what is wanted and the newest checkpoint come as arguments. Whether
//! state can be gone on from is decided by the code that a run begins with ([`worker::carried`](crate::worker::carried)),
//! so that a plan promises what a start keeps.

mod in_place;
mod operators;
mod pipeline;
#[cfg(test)]
mod tests;
mod words;

use tidemill_checkpoint::Manifest;

pub use in_place::in_place;

use super::model::{self, How, Specification};
use crate::pipeline::declaration::Declaration;
use crate::pipeline::plan::Plan;
use crate::plugin;
use crate::worker;
use operators::Operators;

/// A pipeline as it is.
#[derive(Clone, Copy)]
pub struct Deployed<'a> {
    /// What was asked for.
    pub specification: &'a Specification,
    /// Its pipeline file.
    pub declaration: &'a Declaration,
    /// What it means.
    pub plan: &'a Plan,
    /// Its newest checkpoint; none: it has none yet, or none at all.
    pub manifest: Option<&'a Manifest>,
    /// How often it has been changed: 1 is what was deployed first.
    pub generation: u64,
}

/// A pipeline as somebody wants it.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// What is asked for.
    pub specification: &'a Specification,
    /// Its pipeline file.
    pub declaration: &'a Declaration,
    /// What it means. Its [`drop_state`](Plan::drop_state) says which operators' state may be dropped.
    pub plan: &'a Plan,
}

/// What it would do to make `before` what is wanted; without `before`, to deploy it.
pub fn change(before: Option<&Deployed<'_>>, after: &Wanted<'_>) -> model::Plan {
    let mut plan = model::Plan {
        hash: hash(before, after.specification),
        pipeline: after.plan.name.clone(),
        how: How::Create,
        restart_because: Vec::new(),
        changes: Vec::new(),
        operators: Vec::new(),
        drops: Vec::new(),
        refusals: Vec::new(),
    };
    let Some(before) = before else {
        plan.operators = operators::added(after.plan);
        plan.changes = pipeline::made(after.declaration);
        return plan;
    };
    let same = before.specification == after.specification;
    match in_place(before.plan, after.plan) {
        _ if same => plan.how = How::Nothing,
        Ok(exchanged) if exchanged.is_empty() => plan.how = How::Nothing,
        Ok(_) => plan.how = How::InPlace,
        Err(reasons) => (plan.how, plan.restart_because) = (How::Restart, reasons),
    }
    if plan.how == How::Nothing {
        return plan;
    }
    plan.changes = pipeline::changes(before, after);
    let begins_anew =
        (plan.how == How::Restart).then(|| pipeline::begins_anew(before.plan, after.plan)).flatten();
    let operators = Operators::new(before, after, begins_anew.is_some());
    plan.changes.extend(begins_anew.map(str::to_owned));
    if begins_anew.is_none()
        && let Some(manifest) = before.manifest
    {
        plan.refusals.extend(worker::positions_fit(after.plan, manifest).err());
    }
    plan.operators = operators.changes;
    plan.drops = operators.drops;
    plan.refusals.extend(operators.refusals);
    if plan.how == How::InPlace && after.plan.checkpoints.is_none() {
        plan.how = How::Restart;
        plan.restart_because =
            vec!["without checkpoints there is no barrier at which versions change".to_owned()];
    }
    // A swap hands state over; there is no barrier at which a version forgets it.
    if plan.how == How::InPlace && !plan.drops.is_empty() {
        plan.how = How::Restart;
        plan.restart_because = vec![format!("the state of {} is dropped", words::quoted(&plan.drops))];
    }
    // All of it is made anew before the first row, which takes longer than rows should wait at a barrier.
    let is_migrated = |o: &&model::OperatorChange| matches!(o.state, model::StateChange::Migrated { .. });
    let migrated: Vec<String> = plan.operators.iter().filter(is_migrated).map(|o| o.id.clone()).collect();
    if plan.how == How::InPlace && !migrated.is_empty() {
        plan.how = How::Restart;
        plan.restart_because = vec![format!("the state of {} is migrated", words::quoted(&migrated))];
    }
    plan
}

/// Names a plan: whoever has seen one with this hash has seen what would be done to what is there.
fn hash(before: Option<&Deployed<'_>>, after: &Specification) -> String {
    // The fields of a struct have their order, and the keys of its maps are sorted.
    let facts = (before.map(|b| (b.generation, b.specification)), after);
    let mut hash = plugin::digest(&serde_json::to_vec(&facts).expect("texts and numbers are JSON"));
    hash.truncate(16);
    hash
}
