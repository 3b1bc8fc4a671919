//! What a change of the pipeline does to its state, asked before it is made: by the rules that a run's beginning goes by.

use tidemill_checkpoint::{Manifest, Operator, StateSchema};
use tidemill_flow::schema::{Field, Schema};

use super::keeper::filed;
use super::migration::which;
use super::restored::{Restored, check, has_state, manifest_field, or_drop, reads, schema_of, state_schema};
use crate::pipeline::plan::{OperatorPlan, Plan};

/// Whether a run of this plan can go on from a checkpoint.
///
/// # Errors
/// When it can't: what differs, and what to do.
pub fn fits(plan: &Plan, manifest: &Manifest) -> Result<(), String> {
    Restored::new(plan, Some(manifest.clone())).map(drop)
}

/// Whether a run of this plan can go on from a checkpoint, whatever its operators' state is: keys are filed alike, and what
/// was read is still there.
///
/// # Errors
/// When it can't: what differs, and what to do.
pub fn positions_fit(plan: &Plan, manifest: &Manifest) -> Result<(), String> {
    check(plan, manifest)
}

/// What an operator's state becomes when an operator of the same id goes on from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It stays as it is.
    AsItIs,
    /// It is read field by field, by name: what differs, in words.
    ByField(Vec<String>),
    /// The operator's own migration makes the present state of it: what differs, in words.
    Migrated(Vec<String>),
}

/// What checkpoints say of an operator's state, but for what each adds; none: it keeps no state.
pub fn state_of(operator: &OperatorPlan) -> Option<Operator> {
    has_state(operator).then(|| {
        let fields = state_schema(operator).fields().iter().map(manifest_field).collect();
        filed(operator, 0, 1, vec![StateSchema { version: 0, fields }])
    })
}

/// What the state that is filed under an operator's id becomes.
///
/// # Errors
/// When the operator can't go on from it: both side by side.
pub fn carried(operator: &OperatorPlan, filed: &Operator) -> Result<Carried, String> {
    reads(Some(operator), filed).map_err(|why| or_drop(&why, &filed.id))?;
    let before = filed.state.last().map_or(Ok(Schema::default()), |newest| schema_of(&newest.fields))?;
    let after = state_schema(operator);
    let mut differences = differences(&before, &after);
    let collections = operator.plugin.description().collections.iter().skip(filed.collections.len());
    differences.extend(
        collections.map(|c| format!("new collection {}: {} to {}", c.name, c.entry.name(), c.value.name())),
    );
    Ok(match differences.is_empty() {
        true => Carried::AsItIs,
        false if which(operator, &before).is_some() => Carried::Migrated(differences),
        false => Carried::ByField(differences),
    })
}

/// What of a schema is new, gone or another, in words.
pub fn differences(before: &Schema, after: &Schema) -> Vec<String> {
    let gone = before.fields().iter().filter(|f| after.field(&f.name).is_none());
    let mut differences: Vec<String> = gone.map(|f| format!("no field {f} any more")).collect();
    for field in after.fields() {
        differences.extend(match before.field(&field.name) {
            None => Some(format!("new field {field}")),
            Some(was) if was != field => Some(format!("field {was} becomes {}", kind(field))),
            Some(_) => None,
        });
    }
    let names = |schema: &Schema| -> Vec<String> { schema.fields().iter().map(|f| f.name.clone()).collect() };
    if differences.is_empty() && names(before) != names(after) {
        differences.push(format!("the fields in the order {}", names(after).join(", ")));
    }
    differences
}

fn kind(field: &Field) -> String {
    format!("{}{}", field.field_type, if field.nullable { "?" } else { "" })
}

#[cfg(test)]
mod tests;
