//! Operators to stages: what can run in the task of its input does; the rest is fed through queues.

use std::path::Path;

use tidemill_flow::schema::{Field, FieldType, Schema};

use super::declaration::{Declaration, Upstream};
use super::ids::mark_ids;
use super::plan::{
    Edge, Head, Node, OperatorKind, OperatorPlan, Routing, SinkPlan, SourcePlan, Stage, Target,
};

/// The name of the column that late rows have beside their fields: how late they are for the last of their
/// windows, in milliseconds of event time.
pub const LATE_BY_FIELD: &str = "late_by_ms";

/// The name of the column that says of a late row of a join from which side it comes, `left` or `right`.
pub const LATE_SIDE_FIELD: &str = "late_side";

/// What the name of a field of the right side begins with where the left one has another of its name.
pub(super) const RIGHT_PREFIX: &str = "right_";

/// Assembles the stages. `parallelism` is what the file says of each operator, or the pipeline's.
pub(super) fn assemble(
    declaration: &Declaration,
    sources: &[SourcePlan],
    operators: &[OperatorPlan],
    sinks: &[SinkPlan],
    default_parallelism: usize,
) -> Vec<Stage> {
    let pipeline_parallelism = declaration.parallelism.map_or(default_parallelism, |p| p.get());
    let mut stages = Vec::new();
    // Where each source's or operator's rows come out: stage and node.
    let mut source_places = Vec::new();
    for (source, plan) in sources.iter().enumerate() {
        source_places.push(stages.len());
        let tasks = pipeline_parallelism.min(plan.input.partitions()).max(1);
        stages.push(Stage { tasks, head: Head::Source { source, outputs: Vec::new() }, nodes: Vec::new() });
    }
    let mut places: Vec<Option<(usize, usize)>> = vec![None; operators.len()];
    for &at in &declaration.order {
        let declared = &declaration.operators[at];
        let stage_of = |upstream: Upstream| match upstream {
            Upstream::Source(s) => source_places[s],
            Upstream::Operator(o) | Upstream::Late(o) => places[o].expect("inputs come first").0,
        };
        let wanted = match operators[at].kind.key() {
            // One group can't be shared out.
            Some([]) => Some(1),
            _ => declared.parallelism.map(|p| p.get()),
        };
        let node = Node { operator: at, outputs: Vec::new(), late: Vec::new() };
        let chained = match (&operators[at].kind, &*declared.inputs) {
            (OperatorKind::Transform, [input]) => {
                let stage = stage_of(input.value);
                (wanted.is_none_or(|w| w == stages[stage].tasks)).then_some(stage)
            }
            _ => None,
        };
        let stage = chained.unwrap_or_else(|| {
            let tasks = wanted.unwrap_or(pipeline_parallelism);
            stages.push(Stage { tasks, head: Head::Inbox, nodes: Vec::new() });
            stages.len() - 1
        });
        stages[stage].nodes.push(node);
        let node = stages[stage].nodes.len() - 1;
        places[at] = Some((stage, node));
        let is_join = matches!(operators[at].kind, OperatorKind::Join(_));
        for (number, input) in declared.inputs.iter().enumerate() {
            // The inputs of other operators are one.
            let number = if is_join { number } else { 0 };
            let target = match (chained, operators[at].kind.key_of(number)) {
                (Some(_), _) => Target::Node(node),
                (None, Some(key @ [_, ..])) => {
                    Target::Stage { stage, input: number, routing: Routing::Hash(key.to_vec()) }
                }
                (None, _) => Target::Stage { stage, input: number, routing: Routing::Rebalance },
            };
            let written = written_by(input.value, sources, operators);
            let edge = edge(&written, operators[at].input_schema(number), target);
            outputs_of(&mut stages, &source_places, &places, input.value).push(edge);
        }
    }
    for (at, sink) in declaration.sinks.iter().enumerate() {
        let written = written_by(sink.input.value, sources, operators);
        let edge = edge(&written, &sinks[at].schema, Target::Sink(at));
        outputs_of(&mut stages, &source_places, &places, sink.input.value).push(edge);
    }
    mark_ids(&mut stages, operators, sinks);
    stages
}

fn written_by(upstream: Upstream, sources: &[SourcePlan], operators: &[OperatorPlan]) -> Schema {
    match upstream {
        Upstream::Source(s) => sources[s].schema.clone(),
        Upstream::Operator(o) => operators[o].output(),
        Upstream::Late(o) => late_fields(&operators[o]),
    }
}

/// The fields of an operator's late rows.
pub fn late_fields(operator: &OperatorPlan) -> Schema {
    let OperatorKind::Join(join) = &operator.kind else { return late_schema(&operator.input) };
    let (mut schema, _) = either(&operator.input, &join.right.schema);
    late_of_join().into_iter().for_each(|field| schema.set(field));
    schema
}

/// What late rows of a join have beside their fields.
pub fn late_of_join() -> [Field; 2] {
    [Field::new(LATE_SIDE_FIELD, FieldType::Text), late_by_field()]
}

/// Rows of either side in one schema: the fields of the left one, then those of the right one. Fields of one name and
/// type are one; where the types differ, that of the right side is named `right_…`. Also the names that the fields
/// of the right side have in it.
pub fn either(left: &Schema, right: &Schema) -> (Schema, Vec<String>) {
    let optional = |field: &Field| Field { nullable: true, ..field.clone() };
    let mut schema = Schema::new(left.fields().iter().map(optional).collect()).expect("unique names");
    let mut names = Vec::new();
    for field in right.fields() {
        let mut name = field.name.clone();
        while schema.field(&name).is_some_and(|f| f.field_type != field.field_type) {
            name.insert_str(0, RIGHT_PREFIX);
        }
        schema.set(Field { name: name.clone(), ..optional(field) });
        names.push(name);
    }
    (schema, names)
}

/// The fields of late rows.
pub fn late_schema(input: &Schema) -> Schema {
    let mut schema = input.clone();
    schema.set(late_by_field());
    schema
}

/// The field [`LATE_BY_FIELD`].
pub fn late_by_field() -> Field {
    Field::new(LATE_BY_FIELD, FieldType::Integer)
}

fn edge(written: &Schema, read: &Schema, target: Target) -> Edge {
    let column =
        |name: &str| written.index_of(name).unwrap_or_else(|| panic!("`{name}` is read but not written"));
    let columns = read.fields().iter().map(|f| column(&f.name)).collect();
    Edge { columns, schema: read.clone(), target, ids: false }
}

fn outputs_of<'a>(
    stages: &'a mut [Stage],
    sources: &[usize],
    places: &[Option<(usize, usize)>],
    upstream: Upstream,
) -> &'a mut Vec<Edge> {
    match upstream {
        Upstream::Source(s) => match &mut stages[sources[s]].head {
            Head::Source { outputs, .. } => outputs,
            Head::Inbox => unreachable!("a source's stage begins with it"),
        },
        Upstream::Operator(o) => {
            let (stage, node) = places[o].expect("every operator has a place");
            &mut stages[stage].nodes[node].outputs
        }
        Upstream::Late(o) => {
            let (stage, node) = places[o].expect("every operator has a place");
            &mut stages[stage].nodes[node].late
        }
    }
}

/// The files that a pattern means, sorted; relative patterns are relative to `base`.
///
/// # Errors
/// When nothing matches, or a folder can't be read.
pub(super) fn expand(base: &Path, pattern: &str) -> Result<Vec<std::path::PathBuf>, String> {
    let base = base.to_str().ok_or_else(|| format!("the path {} isn't UTF-8", base.display()))?;
    // What the pipeline's own folder is called is no pattern.
    let full = Path::new(&glob::Pattern::escape(base)).join(pattern);
    let full = full.to_str().expect("made of text");
    let matches = glob::glob(full).map_err(|e| format!("`{pattern}` is no pattern of paths: {e}"))?;
    let mut paths = Vec::new();
    for path in matches {
        let path = path.map_err(|e| format!("cannot look for `{pattern}`: {e}"))?;
        if path.is_file() || is_pipe(&path) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(format!("no file matches `{pattern}` (looked for {full})"));
    }
    paths.sort();
    Ok(paths)
}

/// Whether what is read from it is gone.
#[cfg(unix)]
pub(super) fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo() || m.file_type().is_char_device())
}

/// Whether what is read from it is gone.
#[cfg(not(unix))]
pub(super) fn is_pipe(_: &Path) -> bool {
    false
}
