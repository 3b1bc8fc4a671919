//! A plan, for people.

use std::fmt::Write;

use tidemill::service::model::{How, OperatorChange, Plan, StateChange};

use super::{cell, short};
use crate::cli::text::lay_out;

/// What would happen, to each operator and its state.
pub(super) fn as_text(plan: &Plan) -> String {
    let mut text = String::new();
    // A string takes all that is written to it.
    let _ = write(&mut text, plan);
    text
}

fn write(to: &mut String, plan: &Plan) -> std::fmt::Result {
    writeln!(to, "{}: {}", cell(&plan.pipeline), how(plan.how))?;
    for reason in &plan.restart_because {
        writeln!(to, "  not in place: {}", cell(reason))?;
    }
    for change in &plan.changes {
        writeln!(to, "  {}", cell(change))?;
    }
    let rows: Vec<[String; 4]> = plan.operators.iter().map(row).collect();
    // A row is followed by what differs; it never has a line's end itself.
    for (operator, line) in plan.operators.iter().zip(lay_out(&rows, &[]).lines()) {
        writeln!(to, "{line}")?;
        for field in fields(&operator.state).iter().chain(&operator.differences) {
            writeln!(to, "      {}", cell(field))?;
        }
    }
    for operator in &plan.drops {
        writeln!(to, "  the state of `{0}` would be lost; --drop-state {0} allows that", cell(operator))?;
    }
    for refusal in &plan.refusals {
        writeln!(to, "  it can't be done: {}", cell(refusal))?;
    }
    writeln!(to, "plan {}", cell(&plan.hash))
}

fn how(how: How) -> &'static str {
    match how {
        How::Nothing => "there is nothing to do",
        How::Create => "is new, and will be deployed",
        How::InPlace => "will change in place, at a barrier, while it runs",
        How::Restart => "will be stopped with a checkpoint, and begin again from it",
    }
}

fn row(operator: &OperatorChange) -> [String; 4] {
    let version = match (&operator.version, &operator.component) {
        (Some((before, after)), _) if before != after => format!("{before} -> {after}"),
        (Some((version, _)), Some((before, after))) => {
            format!("{version}, {} -> {}", short(before), short(after))
        }
        (_, Some((before, after))) => format!("{} -> {}", short(before), short(after)),
        (Some((version, _)), None) => version.clone(),
        (None, None) => String::new(),
    };
    [
        format!("  {}", cell(&operator.id)),
        cell(&operator.change),
        cell(&version),
        state(&operator.state).to_owned(),
    ]
}

fn state(state: &StateChange) -> &'static str {
    match state {
        StateChange::None => "no state",
        StateChange::New => "state: begins without any",
        StateChange::Kept => "state: kept as it is",
        StateChange::Evolved { .. } => "state: kept, field by field",
        StateChange::Migrated { .. } => "state: made anew by the new version's migration",
        StateChange::Dropped => "state: LOST",
    }
}

fn fields(state: &StateChange) -> &[String] {
    match state {
        StateChange::Evolved { fields } | StateChange::Migrated { fields } => fields,
        StateChange::None | StateChange::New | StateChange::Kept | StateChange::Dropped => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_happens_to_each_state() {
        let operator = |id: &str, version: Option<(&str, &str)>, state| OperatorChange {
            id: id.to_owned(),
            change: "changed".to_owned(),
            component: Some(("0123456789abcdef".repeat(4), "fedcba9876543210".repeat(4))),
            version: version.map(|(before, after)| (before.to_owned(), after.to_owned())),
            state,
            differences: vec!["memory: 64 MiB before, 128 MiB now".to_owned()],
        };
        let plan = Plan {
            hash: "4be1".to_owned(),
            pipeline: "orders".to_owned(),
            how: How::Restart,
            restart_because: vec!["a source has changed".to_owned()],
            changes: vec!["source `events`: another path".to_owned()],
            operators: vec![
                operator(
                    "count",
                    Some(("count 0.1.0", "count 0.2.0")),
                    StateChange::Evolved { fields: vec!["new field n: integer".to_owned()] },
                ),
                operator("sum\x1b[2J", None, StateChange::Dropped),
            ],
            drops: vec!["sum".to_owned()],
            refusals: vec!["the sink `out` can't go back".to_owned()],
        };
        assert_eq!(
            as_text(&plan),
            "orders: will be stopped with a checkpoint, and begin again from it\n\
             \x20 not in place: a source has changed\n\
             \x20 source `events`: another path\n\
             \x20 count    changed  count 0.1.0 -> count 0.2.0    state: kept, field by field\n\
             \x20     new field n: integer\n\
             \x20     memory: 64 MiB before, 128 MiB now\n\
             \x20 sum\u{fffd}[2J  changed  0123456789ab -> fedcba987654  state: LOST\n\
             \x20     memory: 64 MiB before, 128 MiB now\n\
             \x20 the state of `sum` would be lost; --drop-state sum allows that\n\
             \x20 it can't be done: the sink `out` can't go back\n\
             plan 4be1\n"
        );
    }
}
