//! From what the user typed to what it means: fields are found and typed along every edge, before the
//! first row.

mod edges;
mod parts;

use std::path::Path;

use tidemill_flow::schema::Field;
use tidemill_flow::window::Windows;

use super::declaration::{Declaration, Errors, Operator, Problems, SourceKind, Spanned, Upstream};
use super::fields::Demands;
use super::plan::{OperatorPlan, Plan, SinkPlan};
use super::stages::assemble;
use crate::plugin::{INSTANCES_MAX, Plugin, TIME_FIELD, World};
use parts::sink;

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
    let result =
        Checker { declaration, plugins: &plugins, problems: &problems }.plan(base, default_parallelism);
    problems.settle(result)
}

struct Checker<'a> {
    declaration: &'a Declaration,
    plugins: &'a [Plugin],
    problems: &'a Problems,
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
        let wanted = self.wanted(&edges, &sinks);
        let operator_plans: Vec<OperatorPlan> = (0..self.plugins.len())
            .map(|at| self.operator(at, &inputs[at], &edges.operators[at], &demands, &wanted, &reads[at]))
            .collect();
        let source_plans = self.sources(base, &edges, &demands, &wanted.sources);
        let sink_plans: Vec<SinkPlan> =
            self.declaration.sinks.iter().zip(sinks).map(|(s, schema)| sink(s, schema, base)).collect();
        let source_plans = source_plans?;
        self.check_sinks(&sink_plans, &source_plans);
        let stages =
            assemble(self.declaration, &source_plans, &operator_plans, &sink_plans, default_parallelism);
        let instances: usize = stages.iter().map(|s| s.tasks * s.nodes.len()).sum();
        if instances > INSTANCES_MAX as usize {
            self.problems.report(
                &self.declaration.name,
                format!(
                    "the pipeline needs {instances} instances of its operators, but there can be {INSTANCES_MAX}; lower \
                     `parallelism`"
                ),
            );
        }
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
                    format!(
                        "`{id}` is a {world}, which knows no groups; only an aggregate-operator has a `key`"
                    ),
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
        if let Some((parallelism, key)) =
            operator.parallelism.filter(|p| p.get() > 1).zip(Some(&operator.key))
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
}

fn read_fields(plugin: &Plugin) -> impl Iterator<Item = &Field> {
    plugin.description().inputs[0].fields().iter().filter(|f| f.name != TIME_FIELD)
}
