//! From what the user typed to what it means: fields are found and typed along every edge, before the
//! first row.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidemill_flow::key::can_be_key;
use tidemill_flow::schema::{Field, FieldType, Schema};
use tidemill_flow::window::Windows;

use super::declaration::{
    Declaration, Decoding, Errors, FormatDecl, Operator, Pace, Problems, SinkKind, SourceKind, Spanned,
    TimestampDecl, Upstream,
};
use super::fields::{Demands, Found, Offered, Unreadable};
use super::plan::{
    EventTimePlan, OperatorKind, OperatorPlan, Origin, Plan, Read, SinkPlan, SourceInput, SourcePlan,
};
use super::stages::{assemble, expand, late_by_field};
use crate::formats::{CsvOptions, Demand, Format, TimestampUnit};
use crate::log::nexmark;
use crate::plugin::{Limits, Output, Plugin, TIME_FIELD, World};

const WINDOW_START: &str = "window_start";
const WINDOW_END: &str = "window_end";

/// Checks a pipeline against its components and makes the plan. `plugins` are the operators' components, in the
/// order of the file; relative paths are relative to `base`.
///
/// # Errors
/// Everything that doesn't fit, each with its place in the file.
pub fn plan(
    declaration: &Declaration,
    plugins: Vec<Plugin>,
    base: &Path,
    default_parallelism: usize,
) -> Result<Plan, Errors> {
    let problems = declaration.problems();
    let result = Checker { declaration, plugins: &plugins, problems: &problems }.plan(base, default_parallelism);
    problems.settle(result)
}

struct Checker<'a> {
    declaration: &'a Declaration,
    plugins: &'a [Plugin],
    problems: &'a Problems,
}

/// The fields at every point of the pipeline.
struct Edges {
    sources: Vec<Offered>,
    operators: Vec<Offered>,
}

impl Edges {
    fn of(&self, upstream: Upstream, inputs: &[Offered]) -> Offered {
        match upstream {
            Upstream::Source(s) => self.sources[s].clone(),
            Upstream::Operator(o) => self.operators[o].clone(),
            Upstream::Late(o) => {
                let late = Schema::new(vec![late_by_field()]).expect("one field");
                Offered::Extended(Box::new(inputs[o].clone()), late)
            }
        }
    }
}

impl Checker<'_> {
    fn plan(&self, base: &Path, default_parallelism: usize) -> Option<Plan> {
        let operators = || self.declaration.operators.iter().zip(self.plugins);
        operators().for_each(|(o, p)| self.check_use(o, p));
        let mut demands = Demands::new(self.declaration.sources.len());
        self.ask_sources(&mut demands);
        if !self.problems.is_empty() {
            return None;
        }
        let (edges, inputs) = self.edges(&demands, true);
        let reads = self.check_reads(&inputs, &demands);
        let sinks = self.sink_schemas(&edges, &inputs, &demands);
        if !self.problems.is_empty() {
            return None;
        }
        let wanted = self.wanted(&edges, &inputs, &demands, &sinks);
        let operator_plans: Vec<OperatorPlan> = (0..self.plugins.len())
            .map(|at| self.operator(at, &inputs[at], &edges.operators[at], &demands, &wanted, &reads[at]))
            .collect();
        let source_plans = self.sources(base, &edges, &demands, &wanted.sources);
        let sink_plans: Vec<SinkPlan> =
            self.declaration.sinks.iter().zip(sinks).map(|(s, schema)| sink(s, schema, base)).collect();
        let source_plans = source_plans?;
        let stages =
            assemble(self.declaration, &source_plans, &operator_plans, &sink_plans, default_parallelism);
        Some(Plan {
            name: self.declaration.name.value.clone(),
            dead_letters: base.join(&self.declaration.dead_letters.value),
            late: base.join(&self.declaration.late.value),
            sources: source_plans,
            operators: operator_plans,
            sinks: sink_plans,
            stages,
        })
    }

    /// Whether an operator's keys in the file suit its world, and its windows its input.
    fn check_use(&self, operator: &Operator, plugin: &Plugin) {
        let world = plugin.world().name();
        let id = &operator.id.value;
        if plugin.world() != World::Aggregate {
            if let Some(key) = operator.key.first() {
                self.problems.report(
                    key,
                    format!("`{id}` is a {world}, which knows no groups; only an aggregate-operator has a `key`"),
                );
            }
            if let Some(window) = &operator.window {
                self.problems.report(
                    window,
                    format!("`{id}` is a {world}, which knows no groups; only an aggregate-operator has a `window`"),
                );
            }
        } else if let (Some(window), Windows::Tumbling { .. } | Windows::Hopping { .. }) =
            (&operator.window, operator.windows())
            && let Some(timeless) = self.timeless(&operator.inputs)
        {
            self.problems.report(
                window,
                format!(
                    "windows of event time, but the rows of `{timeless}` have none; give the source an `event_time`"
                ),
            );
        }
        let reads_time = plugin.description().inputs[0].field(TIME_FIELD).is_some();
        if reads_time && let Some(timeless) = self.timeless(&operator.inputs) {
            self.problems.report(
                &operator.component,
                format!(
                    "it reads `{TIME_FIELD}`, but the rows of `{timeless}` have no event time; give the source an \
                     `event_time`"
                ),
            );
        }
        if let Some((parallelism, key)) = operator.parallelism.filter(|p| p.get() > 1).zip(Some(&operator.key))
            && plugin.world() == World::Aggregate
            && key.is_empty()
        {
            self.problems.report(
                &operator.id,
                format!("`{id}` has no `key`, so all rows are one group and {parallelism} tasks can't share it; remove \
                         `parallelism` or add a `key`"),
            );
        }
    }

    /// The first upstream whose rows have no event time.
    fn timeless(&self, inputs: &[Spanned<Upstream>]) -> Option<String> {
        let timeless = |upstream: Upstream| match upstream {
            Upstream::Source(s) => match &self.declaration.sources[s].kind {
                SourceKind::Files { decoding, .. } | SourceKind::Stdin { decoding } => {
                    decoding.event_time.is_none().then(|| self.declaration.upstream_name(upstream))
                }
                SourceKind::Nexmark(_) => None,
            },
            Upstream::Operator(o) => match self.plugins[o].world() {
                World::Aggregate => {
                    let global = self.declaration.operators[o].windows() == Windows::Global;
                    global.then(|| self.declaration.upstream_name(upstream))
                }
                _ => self.timeless(&self.declaration.operators[o].inputs),
            },
            Upstream::Late(o) => self.timeless(&self.declaration.operators[o].inputs),
        };
        inputs.iter().find_map(|i| timeless(i.value))
    }

    /// Asks the open sources for every field that is read under a type.
    fn ask_sources(&self, demands: &mut Demands) {
        for (at, source) in self.declaration.sources.iter().enumerate() {
            if let SourceKind::Files { decoding, .. } | SourceKind::Stdin { decoding } = &source.kind
                && let Some(time) = &decoding.event_time
                && decoding.fields.is_empty()
            {
                let asked = demands.ask(at, &time.field.value, FieldType::Timestamp, "the source's event_time");
                asked.expect("nobody has asked before");
            }
        }
        let (_, inputs) = self.edges(demands, false);
        for (at, (operator, plugin)) in self.declaration.operators.iter().zip(self.plugins).enumerate() {
            for field in read_fields(plugin) {
                for source in inputs[at].open_sources(&field.name) {
                    let who = format!("operator `{}`", operator.id.value);
                    if let Err((other, first)) = demands.ask(source, &field.name, field.field_type, &who) {
                        self.problems.report(
                            &operator.component,
                            format!(
                                "`{}` reads the field `{}` of source `{}` as {}, but {first} reads it as {other}; make \
                                 them agree",
                                operator.id.value,
                                field.name,
                                self.declaration.sources[source].id.value,
                                field.field_type
                            ),
                        );
                    }
                }
            }
        }
    }

    /// The fields after each source and operator, and those before each operator. What an aggregate gives can be
    /// told when the types of its key can.
    fn edges(&self, demands: &Demands, complete: bool) -> (Edges, Vec<Offered>) {
        let sources = self.declaration.sources.iter().enumerate().map(|(at, source)| match &source.kind {
            SourceKind::Files { decoding, .. } | SourceKind::Stdin { decoding } if !decoding.fields.is_empty() => {
                Offered::Fixed { schema: declared(decoding), from_source: true }
            }
            SourceKind::Files { .. } | SourceKind::Stdin { .. } => Offered::Open(at),
            SourceKind::Nexmark(_) => Offered::Fixed { schema: nexmark::schema(), from_source: true },
        });
        let nothing = || Offered::Fixed { schema: Schema::default(), from_source: false };
        let count = self.plugins.len();
        let mut edges = Edges { sources: sources.collect(), operators: (0..count).map(|_| nothing()).collect() };
        let mut inputs: Vec<Offered> = (0..count).map(|_| nothing()).collect();
        for &at in &self.declaration.order {
            let operator = &self.declaration.operators[at];
            let mut of_inputs: Vec<Offered> = operator.inputs.iter().map(|i| edges.of(i.value, &inputs)).collect();
            inputs[at] = if of_inputs.len() == 1 { of_inputs.remove(0) } else { Offered::United(of_inputs) };
            let plugin = &self.plugins[at];
            edges.operators[at] = match (&plugin.description().output, plugin.world()) {
                (Output::Same, _) => inputs[at].clone(),
                (Output::Extended(schema), _) => Offered::Extended(Box::new(inputs[at].clone()), schema.clone()),
                (Output::Replaced(schema), World::Aggregate) if complete => {
                    let schema = self.finished(operator, &inputs[at], schema, demands);
                    Offered::Fixed { schema: schema.unwrap_or_default(), from_source: false }
                }
                (Output::Replaced(_), World::Aggregate) => nothing(),
                (Output::Replaced(schema), _) => Offered::Fixed { schema: schema.clone(), from_source: false },
            };
        }
        (edges, inputs)
    }

    /// The fields of an aggregate's results: the key, the window's bounds, and what the operator returns.
    fn finished(&self, operator: &Operator, input: &Offered, returned: &Schema, demands: &Demands) -> Option<Schema> {
        let id = &operator.id.value;
        let mut schema = Schema::default();
        let mut complete = true;
        for key in &operator.key {
            match self.find(key, input, demands, &format!("the key of `{id}`")) {
                Some(found) if !can_be_key(found.field_type) => {
                    complete = false;
                    self.problems.report(
                        key,
                        format!("the key field `{}` is a {}, which can't be compared for equality; use integer or text", key.value, found.field_type),
                    );
                }
                Some(found) => schema.set(Field {
                    name: key.value.clone(),
                    field_type: found.field_type,
                    nullable: found.nullable,
                }),
                None => complete = false,
            }
        }
        if operator.windows() != Windows::Global {
            for bound in [WINDOW_START, WINDOW_END] {
                // A key of that name stands for itself: so the results of one window are grouped by its bounds.
                if schema.field(bound).is_none() {
                    schema.set(Field::new(bound, FieldType::Timestamp));
                }
            }
        }
        for field in returned.fields() {
            if schema.field(&field.name).is_some() {
                complete = false;
                self.problems.report(
                    &operator.component,
                    format!(
                        "`{id}` returns a field `{}`, which its results have already, as key or window bound; rename the \
                         operator's field",
                        field.name
                    ),
                );
            }
            schema.set(field.clone());
        }
        complete.then_some(schema)
    }

    /// Finds a field that the file names, or reports why not.
    fn find(&self, name: &Spanned<String>, offered: &Offered, demands: &Demands, what: &str) -> Option<Found> {
        match offered.find(&name.value, demands) {
            Ok(found) => Some(found),
            Err(reason) => {
                self.problems.report(name, self.unreadable(&name.value, what, reason));
                None
            }
        }
    }

    fn unreadable(&self, field: &str, what: &str, reason: Unreadable) -> String {
        match reason {
            Unreadable::Unknown(known) => {
                let hint = super::declaration::hint(field, known.iter().map(String::as_str), '`');
                format!("{what} needs a field `{field}`, which its input doesn't have; {hint}")
            }
            Unreadable::Untyped { source } => {
                let source = &self.declaration.sources[source].id.value;
                format!(
                    "{what} needs the field `{field}` of source `{source}`, but nothing says of which type it is; add \
                     `{field} = \"text\"` or its type, and the other fields, to [sources.{source}.fields]"
                )
            }
            Unreadable::Differs(one, other) => {
                format!("{what} needs the field `{field}`, which is {one} in one of its inputs and {other} in another")
            }
        }
    }

    /// Checks every field that an operator reads; returns for each operator those that may lack a value.
    fn check_reads(&self, inputs: &[Offered], demands: &Demands) -> Vec<BTreeSet<String>> {
        let check = |(at, (operator, plugin)): (usize, (&Operator, &Plugin))| {
            let id = &operator.id.value;
            let mut reject_nulls = BTreeSet::new();
            for field in read_fields(plugin) {
                let found = match inputs[at].find(&field.name, demands) {
                    Ok(found) => found,
                    Err(reason) => {
                        let message = self.unreadable(&field.name, &format!("`{id}`"), reason);
                        self.problems.report(&operator.component, message);
                        continue;
                    }
                };
                let upstream: Vec<String> =
                    operator.inputs.iter().map(|i| format!("`{}`", self.declaration.upstream_name(i.value))).collect();
                let edge = format!("{} → `{id}`", upstream.join(", "));
                if found.field_type != field.field_type {
                    self.problems.report(
                        &operator.component,
                        format!(
                            "{edge}: the field `{}` is {}, but `{id}` reads it as {}; change the field's type in the \
                             operator, or what comes before it",
                            field.name, found.field_type, field.field_type
                        ),
                    );
                } else if found.nullable && !field.nullable {
                    if !found.may_reject {
                        self.problems.report(
                            &operator.component,
                            format!(
                                "{edge}: the field `{}` may lack a value, but `{id}` reads it as always there; make it \
                                 nullable in the operator (in Rust an `Option`), or never absent before it",
                                field.name
                            ),
                        );
                    }
                    reject_nulls.insert(field.name.clone());
                }
            }
            reject_nulls
        };
        self.declaration.operators.iter().zip(self.plugins).enumerate().map(check).collect()
    }

    fn sink_schemas(&self, edges: &Edges, inputs: &[Offered], demands: &Demands) -> Vec<Schema> {
        let schema = |sink: &super::declaration::Sink| {
            let offered = edges.of(sink.input.value, inputs);
            let Some(fields) = &sink.fields else {
                let all = offered.all(demands);
                if all.is_empty() {
                    self.problems.report(
                        &sink.input,
                        format!(
                            "nothing says which fields `{}` writes; list them in `fields` and their types in the source's",
                            sink.id.value
                        ),
                    );
                }
                return all;
            };
            let what = format!("`{}`", sink.id.value);
            let found = |name: &Spanned<String>| {
                let found = self.find(name, &offered, demands, &what)?;
                Some(Field { name: name.value.clone(), field_type: found.field_type, nullable: found.nullable })
            };
            let fields: Vec<Field> = fields.iter().filter_map(found).collect();
            Schema::new(fields).unwrap_or_default()
        };
        self.declaration.sinks.iter().map(schema).collect()
    }

    /// Which fields are read, at each source and operator: backwards from the sinks.
    fn wanted(&self, edges: &Edges, inputs: &[Offered], demands: &Demands, sinks: &[Schema]) -> Wanted {
        let count = self.plugins.len();
        let none = |n: usize| (0..n).map(|_| BTreeSet::new()).collect::<Vec<_>>();
        let mut wanted =
            Wanted { sources: none(edges.sources.len()), operators: none(count), late: none(count), inputs: none(count) };
        for (sink, schema) in self.declaration.sinks.iter().zip(sinks) {
            wanted.at(sink.input.value).extend(schema.fields().iter().map(|f| f.name.clone()));
        }
        for &at in self.declaration.order.iter().rev() {
            let (operator, plugin) = (&self.declaration.operators[at], &self.plugins[at]);
            let mut names: BTreeSet<String> = read_fields(plugin).map(|f| f.name.clone()).collect();
            names.extend(operator.key.iter().map(|k| k.value.clone()));
            if !matches!(plugin.description().output, Output::Replaced(_)) {
                let returned = plugin.description().output.returned();
                names.extend(wanted.operators[at].iter().filter(|n| returned.field(n).is_none()).cloned());
            }
            let late = late_by_field().name;
            let of_late = wanted.late[at].iter().filter(|n| **n != late || inputs[at].find(n, demands).is_ok());
            names.extend(of_late.cloned());
            for input in &operator.inputs {
                wanted.at(input.value).extend(names.iter().cloned());
            }
            wanted.inputs[at] = names;
        }
        wanted
    }

    fn operator(
        &self,
        at: usize,
        input: &Offered,
        output: &Offered,
        demands: &Demands,
        wanted: &Wanted,
        nulls: &BTreeSet<String>,
    ) -> OperatorPlan {
        let (operator, plugin) = (&self.declaration.operators[at], &self.plugins[at]);
        let schema = restrict(input, demands, &wanted.inputs[at]);
        let column = |name: &str| schema.index_of(name).expect("wanted of the input");
        let read = |f: &Field| if f.name == TIME_FIELD { Read::Time } else { Read::Column(column(&f.name)) };
        let reads = plugin.description().inputs[0].fields().iter().map(read).collect();
        let returned = plugin.description().output.returned();
        let kind = match plugin.world() {
            World::Aggregate => OperatorKind::Aggregate {
                key: operator.key.iter().map(|k| column(&k.value)).collect(),
                windows: operator.windows(),
            },
            _ => OperatorKind::Transform,
        };
        let origin = |name: &str| match (&kind, returned.index_of(name)) {
            (_, Some(at)) => Origin::Returned(at),
            (OperatorKind::Transform, None) => Origin::Input(column(name)),
            (OperatorKind::Aggregate { .. }, None) => {
                match (operator.key.iter().position(|k| k.value == name), name) {
                    (Some(at), _) => Origin::Key(at),
                    (None, WINDOW_START) => Origin::WindowStart,
                    (None, _) => Origin::WindowEnd,
                }
            }
        };
        let emitted = restrict(output, demands, &wanted.operators[at]);
        let emits = emitted.fields().iter().map(|f| (f.clone(), origin(&f.name))).collect();
        OperatorPlan {
            id: operator.id.value.clone(),
            plugin: plugin.clone(),
            settings: operator.settings.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect(),
            limits: Limits {
                memory_bytes: usize::try_from(operator.memory_bytes).unwrap_or(usize::MAX),
                call_ms: operator.call_timeout_ms.unsigned_abs(),
            },
            reject_nulls: nulls.iter().map(|n| column(n)).collect(),
            reads,
            kind: kind.clone(),
            emits,
            input: schema,
        }
    }

    fn sources(
        &self,
        base: &Path,
        edges: &Edges,
        demands: &Demands,
        wanted: &[BTreeSet<String>],
    ) -> Option<Vec<SourcePlan>> {
        let mut plans = Vec::new();
        for (at, source) in self.declaration.sources.iter().enumerate() {
            let mut names = wanted[at].clone();
            let decoding = match &source.kind {
                SourceKind::Files { decoding, .. } | SourceKind::Stdin { decoding } => Some(decoding),
                SourceKind::Nexmark(_) => None,
            };
            let time = decoding.and_then(|d| d.event_time.as_ref());
            if let Some(time) = time {
                let known = edges.sources[at].find(&time.field.value, demands);
                if let Err(reason) = known {
                    let message = self.unreadable(&time.field.value, "event_time", reason);
                    self.problems.report(&time.field, message);
                    return None;
                }
                names.insert(time.field.value.clone());
            }
            let schema = restrict(&edges.sources[at], demands, &names);
            let demanded = |d: &Decoding| schema.fields().iter().map(|f| demand(f, d)).collect::<Vec<_>>();
            let input = match &source.kind {
                SourceKind::Files { paths, decoding } => SourceInput::Files {
                    paths: self.files(base, paths)?,
                    format: format(&decoding.format),
                    demands: demanded(decoding),
                },
                SourceKind::Stdin { decoding } => {
                    SourceInput::Stdin { format: format(&decoding.format), demands: demanded(decoding) }
                }
                SourceKind::Nexmark(n) => SourceInput::Nexmark {
                    options: nexmark::Options {
                        seed: n.seed,
                        events: n.events_count,
                        events_per_second: n.events_per_second,
                        out_of_orderness_ms: n.out_of_orderness_ms.unsigned_abs(),
                        partitions: u32::try_from(n.partitions_count.get()).expect("at most 720"),
                    },
                    paced: n.pace == Pace::EventTime,
                },
            };
            let event_time = time.map(|t| EventTimePlan {
                column: schema.index_of(&t.field.value).expect("inserted above"),
                out_of_orderness_ms: t.out_of_orderness_ms,
            });
            plans.push(SourcePlan { id: source.id.value.clone(), input, schema, event_time });
        }
        Some(plans)
    }

    fn files(&self, base: &Path, patterns: &[Spanned<String>]) -> Option<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for pattern in patterns {
            match expand(base, &pattern.value) {
                Ok(more) => paths.extend(more),
                Err(message) => {
                    self.problems.report(pattern, message);
                    return None;
                }
            }
        }
        paths.sort();
        paths.dedup();
        Some(paths)
    }
}

struct Wanted {
    sources: Vec<BTreeSet<String>>,
    operators: Vec<BTreeSet<String>>,
    late: Vec<BTreeSet<String>>,
    inputs: Vec<BTreeSet<String>>,
}

impl Wanted {
    fn at(&mut self, upstream: Upstream) -> &mut BTreeSet<String> {
        match upstream {
            Upstream::Source(s) => &mut self.sources[s],
            Upstream::Operator(o) => &mut self.operators[o],
            Upstream::Late(o) => &mut self.late[o],
        }
    }
}

fn read_fields(plugin: &Plugin) -> impl Iterator<Item = &Field> {
    plugin.description().inputs[0].fields().iter().filter(|f| f.name != TIME_FIELD)
}

fn restrict(offered: &Offered, demands: &Demands, names: &BTreeSet<String>) -> Schema {
    let fields = offered.all(demands).fields().iter().filter(|f| names.contains(&f.name)).cloned().collect();
    Schema::new(fields).expect("names of a schema are unique")
}

fn declared(decoding: &Decoding) -> Schema {
    let fields = decoding.fields.iter().map(|f| Field {
        name: f.name.value.clone(),
        field_type: f.field_type,
        // A row without event time is rejected at the source.
        nullable: f.nullable && decoding.event_time.as_ref().is_none_or(|t| t.field.value != f.name.value),
    });
    Schema::new(fields.collect()).expect("the file's keys are unique")
}

fn demand(field: &Field, decoding: &Decoding) -> Demand {
    let is_time = decoding.event_time.as_ref().is_some_and(|t| t.field.value == field.name);
    let field = Field { nullable: field.nullable && !is_time, ..field.clone() };
    match decoding.fields.iter().find(|f| f.name.value == field.name) {
        Some(declared) => {
            Demand { field, path: declared.path.clone(), unit: declared.unit.map_or(TimestampUnit::Auto, unit) }
        }
        None => Demand::named(field),
    }
}

fn sink(sink: &super::declaration::Sink, schema: Schema, base: &Path) -> SinkPlan {
    let path = match &sink.kind {
        SinkKind::Files { path } => Some(base.join(&path.value)),
        SinkKind::Stdout => None,
    };
    SinkPlan {
        id: sink.id.value.clone(),
        path,
        format: format(&sink.format),
        timestamps: unit(sink.timestamps),
        schema,
    }
}

fn format(declared: &FormatDecl) -> Format {
    match declared {
        FormatDecl::JsonLines => Format::JsonLines,
        FormatDecl::Csv(csv) => {
            Format::Csv(CsvOptions { delimiter: csv.delimiter, header: csv.header, null: csv.null.clone() })
        }
        FormatDecl::Text => Format::Text,
    }
}

fn unit(declared: TimestampDecl) -> TimestampUnit {
    match declared {
        TimestampDecl::Rfc3339 => TimestampUnit::Rfc3339,
        TimestampDecl::Seconds => TimestampUnit::Seconds,
        TimestampDecl::Milliseconds => TimestampUnit::Milliseconds,
        TimestampDecl::Microseconds => TimestampUnit::Microseconds,
        TimestampDecl::Nanoseconds => TimestampUnit::Nanoseconds,
    }
}
