//! Whether a new version can take over while the pipeline runs. Rows that are on their way between tasks at that moment
//! were made by the old version and are read by the new one; so all but what is inside of operators must be equal.

use tidemill_flow::schema::Schema;

use super::words::{differing, listed, new_and_gone, quoted};
use crate::pipeline::plan::{OperatorKind, OperatorPlan, Origin, Plan, SinkPlan, SourcePlan, Stage};
use crate::worker::differences;

/// The operators to exchange, by their numbers in the plan, if `after` can take over from `before` while it runs.
///
/// # Errors
/// Why it can't, for people.
pub fn in_place(before: &Plan, after: &Plan) -> Result<Vec<usize>, Vec<String>> {
    let mut reasons = whole(before, after);
    reasons.extend(sources(before, after));
    reasons.extend(sinks(before, after));
    let ids = |plan: &Plan| -> Vec<String> { plan.operators.iter().map(|o| o.id.clone()).collect() };
    reasons.extend(others("operator", &ids(before), &ids(after)));
    let pairs = || before.operators.iter().zip(&after.operators);
    if reasons.is_empty() {
        reasons.extend(pairs().flat_map(|(b, a)| operator(b, a)));
        reasons.extend(tasks(before, after));
    }
    // What flows where follows from all that; it is a reason of its own where nothing else explains it.
    if reasons.is_empty() {
        reasons = flows(before, after);
    }
    if reasons.is_empty() {
        let exchanged = pairs().enumerate().filter(|(_, (b, a))| is_exchanged(b, a));
        Ok(exchanged.map(|(number, _)| number).collect())
    } else {
        Err(reasons)
    }
}

/// What concerns the pipeline as a whole.
fn whole(before: &Plan, after: &Plan) -> Vec<String> {
    let parts = differing(&[
        ("name", before.name != after.name),
        ("folder", before.base != after.base),
        ("place of its dead letters", before.dead_letters != after.dead_letters),
        ("place of its late rows", before.late != after.late),
        ("section [checkpoints]", before.checkpoints != after.checkpoints),
        ("section [state]", before.state != after.state),
        ("section [restart]", before.restart != after.restart),
    ]);
    parts.into_iter().map(|part| format!("the pipeline's {part} is another")).collect()
}

/// How two lists of ids differ.
fn others(what: &str, before: &[String], after: &[String]) -> Option<String> {
    if before == after {
        return None;
    }
    let (new, gone) = new_and_gone(before.iter().map(String::as_str), after.iter().map(String::as_str));
    let mut parts = Vec::new();
    if !new.is_empty() {
        parts.push(format!("with the {what} {}", quoted(&new)));
    }
    if !gone.is_empty() {
        parts.push(format!("without the {what} {}", quoted(&gone)));
    }
    if parts.is_empty() {
        parts.push(format!("with its {what}s in another order"));
    }
    Some(format!("the pipeline goes on {}", listed(&parts)))
}

fn sources(before: &Plan, after: &Plan) -> Vec<String> {
    let ids = |plan: &Plan| -> Vec<String> { plan.sources.iter().map(|s| s.id.clone()).collect() };
    if let Some(others) = others("source", &ids(before), &ids(after)) {
        return vec![others];
    }
    let pairs = before.sources.iter().zip(&after.sources);
    let differing = pairs.filter(|(b, a)| !is_read_alike(b, a));
    differing.map(|(b, _)| format!("the source `{}` reads from elsewhere, or otherwise", b.id)).collect()
}

/// Whether two sources are the same, as far as can be told: with other fields their columns have other numbers.
fn is_read_alike(before: &SourcePlan, after: &SourcePlan) -> bool {
    let SourcePlan { id, input, schema, event_time, idle_after_ms, align } = before;
    let columns = schema != &after.schema || (input == &after.input && event_time == &after.event_time);
    columns && id == &after.id && idle_after_ms == &after.idle_after_ms && align == &after.align
}

fn sinks(before: &Plan, after: &Plan) -> Vec<String> {
    let ids = |plan: &Plan| -> Vec<String> { plan.sinks.iter().map(|s| s.id.clone()).collect() };
    if let Some(others) = others("sink", &ids(before), &ids(after)) {
        return vec![others];
    }
    let is_alike = |b: &SinkPlan, a: &SinkPlan| b.schema != a.schema || b == a;
    let pairs = before.sinks.iter().zip(&after.sinks);
    let differing = pairs.filter(|(b, a)| !is_alike(b, a));
    differing.map(|(b, _)| format!("the sink `{}` writes elsewhere, or otherwise", b.id)).collect()
}

/// What of an operator of the same id can't be exchanged.
fn operator(before: &OperatorPlan, after: &OperatorPlan) -> Vec<String> {
    let id = &before.id;
    let (world, new_world) = (before.plugin.world(), after.plugin.world());
    if world != new_world {
        return vec![format!("`{id}` is a {}, and becomes a {}", world.name(), new_world.name())];
    }
    let mut reasons: Vec<String> =
        (0..inputs(before)).flat_map(|input| input_reasons(before, after, input)).collect();
    let returned = |plan: &OperatorPlan| {
        let fields = plan.emits.iter().filter(|(_, origin)| matches!(origin, Origin::Returned(_)));
        Schema::new(fields.map(|(field, _)| field.clone()).collect()).expect("names are unique")
    };
    let output = differences(&returned(before), &returned(after));
    if !output.is_empty() {
        reasons.push(format!("what others read of the output of `{id}` changes: {}", listed(&output)));
    }
    // In other fields a key has other numbers.
    let same_fields = (0..inputs(before)).all(|i| before.input_schema(i) == after.input_schema(i));
    if reasons.is_empty() && same_fields && !is_same_kind(&before.kind, &after.kind) {
        reasons.push(format!("`{id}` keeps its state by another key, in other windows or for another time"));
    }
    reasons
}

fn inputs(operator: &OperatorPlan) -> usize {
    operator.plugin.description().inputs.len()
}

/// Fields that one version reads and the other doesn't.
fn input_reasons(before: &OperatorPlan, after: &OperatorPlan, input: usize) -> Vec<String> {
    let (carried, wanted) = (before.input_schema(input), after.input_schema(input));
    let reads = |plan: &OperatorPlan, field: &str| {
        plan.plugin.description().inputs.get(input).is_some_and(|schema| schema.field(field).is_some())
    };
    let side = match (inputs(before), input) {
        (2, 0) => "left input",
        (2, _) => "right input",
        _ => "input",
    };
    let id = &before.id;
    let new = wanted.fields().iter().filter(|f| carried.field(&f.name).is_none() && reads(after, &f.name));
    let new = new.map(|f| {
        format!("`{id}` of the new version reads the field `{}`, which its {side} doesn't carry now", f.name)
    });
    let gone = carried.fields().iter().filter(|f| wanted.field(&f.name).is_none() && reads(before, &f.name));
    let gone = gone.map(|f| {
        format!("`{id}` of the new version doesn't read the field `{}`, which its {side} carries now", f.name)
    });
    new.chain(gone).collect()
}

/// Whether operators keep their state alike; which columns they read of their inputs may differ.
fn is_same_kind(before: &OperatorKind, after: &OperatorKind) -> bool {
    match (before, after) {
        (OperatorKind::Join(b), OperatorKind::Join(a)) => {
            (b.spec, &b.left_key, &b.right_key, &b.right.schema)
                == (a.spec, &a.left_key, &a.right_key, &a.right.schema)
        }
        (before, after) => before == after,
    }
}

fn tasks(before: &Plan, after: &Plan) -> Vec<String> {
    let shape = |s: &Stage| (s.source(), s.nodes.iter().map(|n| n.operator).collect::<Vec<_>>());
    if before.stages.iter().map(shape).ne(after.stages.iter().map(shape)) {
        return vec!["the operators are put together in other tasks".to_owned()];
    }
    let pairs = before.stages.iter().zip(&after.stages).filter(|(b, a)| b.tasks != a.tasks);
    let told = |(b, a): (&Stage, &Stage)| {
        let sources = b.source().map(|source| before.sources[source].id.as_str());
        let operators = b.nodes.iter().map(|n| before.operators[n.operator].id.as_str());
        let ids: Vec<&str> = sources.into_iter().chain(operators).collect();
        format!("{} would run in {} tasks instead of {}", quoted(&ids), a.tasks, b.tasks)
    };
    pairs.map(told).collect()
}

/// What flows along the edges.
fn flows(before: &Plan, after: &Plan) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut add = |of: String, before: &Schema, after: &Schema| {
        let differences = differences(before, after);
        if !differences.is_empty() {
            reasons.push(format!("{of} has other fields: {}", listed(&differences)));
        }
    };
    for (b, a) in before.sources.iter().zip(&after.sources) {
        add(format!("what is read of the source `{}`", b.id), &b.schema, &a.schema);
    }
    for (b, a) in before.operators.iter().zip(&after.operators) {
        for input in 0..inputs(b) {
            add(format!("what arrives at `{}`", b.id), b.input_schema(input), a.input_schema(input));
        }
        add(format!("what goes on from `{}`", b.id), &b.output(), &a.output());
    }
    for (b, a) in before.sinks.iter().zip(&after.sinks) {
        add(format!("what the sink `{}` writes", b.id), &b.schema, &a.schema);
    }
    if reasons.is_empty() && before.stages != after.stages {
        reasons.push("rows go other ways between the operators".to_owned());
    }
    reasons
}

/// Whether anything inside an operator is another.
fn is_exchanged(before: &OperatorPlan, after: &OperatorPlan) -> bool {
    before.plugin.digest() != after.plugin.digest()
        || before.settings != after.settings
        || before.limits != after.limits
        || before.reads != after.reads
        || before.reject_nulls != after.reject_nulls
        || before.kind != after.kind
        || before.emits != after.emits
}
