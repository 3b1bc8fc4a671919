//! From what the user typed to what it means: fields are found and typed along every edge, before the
//! first row.

mod connections;
mod edges;
mod log;
mod parts;
mod sinks;
#[cfg(test)]
mod tests;
mod uses;
mod whole;

use std::path::Path;
use std::sync::Arc;

use tidemill_flow::schema::Field;

use super::declaration::{Declaration, Errors, Problems};
use super::fields::Demands;
use super::plan::{OperatorPlan, Plan};
use super::stages::assemble;
use crate::nats::Servers;
use crate::plugin::{Description, INSTANCES_MAX, Plugin, TIME_FIELD, World};

const WINDOW_START: &str = "window_start";
const WINDOW_END: &str = "window_end";
const WINDOW_FIRING: &str = "window_firing";
const WINDOW_TIMING: &str = "window_timing";

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
    let components: Vec<_> = plugins.iter().map(Component::of).collect();
    let checker = Checker { declaration, components: &components, problems: &problems };
    let result = checker.plan(&plugins, base, default_parallelism);
    problems.settle(result)
}

/// The servers of a pipeline's connections, in the order of the file; relative paths are relative to `base`.
///
/// # Errors
/// When a secret isn't where the file says.
pub fn servers(declaration: &Declaration, base: &Path) -> Result<Vec<Arc<Servers>>, Errors> {
    let problems = declaration.problems();
    let servers = Checker { declaration, components: &[], problems: &problems }.connections(base);
    problems.settle(servers)
}

struct Checker<'a> {
    declaration: &'a Declaration,
    /// What the operators' components are, in the order of the file.
    components: &'a [Component<'a>],
    problems: &'a Problems,
}

/// What a component says of itself.
#[derive(Clone, Copy)]
struct Component<'a> {
    world: World,
    description: &'a Description,
}

impl<'a> Component<'a> {
    fn of(plugin: &'a Plugin) -> Self {
        Self { world: plugin.world(), description: plugin.description() }
    }

    /// What its state for a key consists of, by name.
    fn slots(&self) -> Vec<&'a str> {
        let values = self.description.state.fields().iter().map(|f| f.name.as_str());
        values.chain(self.description.collections.iter().map(|c| c.name.as_str())).collect()
    }

    /// The fields of the rows that it reads of an input, without their time.
    fn reads(&self, input: usize) -> impl Iterator<Item = &'a Field> + use<'a> {
        let input = self.description.inputs.get(input);
        input.into_iter().flat_map(|schema| schema.fields()).filter(|f| f.name != TIME_FIELD)
    }
}

impl Checker<'_> {
    fn plan(&self, plugins: &[Plugin], base: &Path, default_parallelism: usize) -> Option<Plan> {
        let operators = self.declaration.operators.iter().zip(self.components);
        operators.for_each(|(operator, component)| self.check_use(operator, *component));
        let mut demands = Demands::new(self.declaration.sources.len());
        self.ask_sources(&mut demands);
        if !self.problems.is_empty() {
            return None;
        }
        let (edges, inputs) = self.edges(&demands, true);
        let reads = self.check_reads(&edges, &inputs, &demands);
        let sinks = self.sink_schemas(&edges, &inputs, &demands);
        if !self.problems.is_empty() {
            return None;
        }
        let wanted = self.wanted(&edges, &inputs, &sinks, &demands);
        let operator_plan = |(at, plugin): (usize, &Plugin)| {
            let columns = self.columns(
                at,
                (&inputs[at], edges.rights[at].as_ref()),
                &edges.operators[at],
                &demands,
                &wanted,
            );
            self.operator(at, plugin, columns, &reads[at])
        };
        let operator_plans: Vec<OperatorPlan> = plugins.iter().enumerate().map(operator_plan).collect();
        let connections = self.connections(base)?;
        let source_plans = self.sources(base, &connections, &edges, &demands, &wanted.sources);
        let sink_plans = self.sinks(sinks, base, &connections);
        let (source_plans, sink_plans) = (source_plans?, sink_plans?);
        self.check_outputs(&sink_plans, &source_plans);
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
            generation: 0,
            base: base.to_owned(),
            dead_letters: base.join(&self.declaration.dead_letters.value),
            late: base.join(&self.declaration.late.value),
            checkpoints: self.checkpoints(base, &connections),
            state: self.state(base),
            restart: self.restart(),
            drop_state: Vec::new(),
            verify: None,
            sources: source_plans,
            operators: operator_plans,
            sinks: sink_plans,
            stages,
            bounds: None,
            rows_per_second_max: None,
        })
    }
}
