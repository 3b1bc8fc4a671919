//! From a specification to what can be run: the file parsed, its components loaded, all of it checked.

use std::sync::Arc;

use super::components::Components;
use super::model::Specification;
use super::refusal::Refusal;
use crate::pipeline::check;
use crate::pipeline::declaration::{self, Declaration};
use crate::pipeline::plan::Plan;

/// A pipeline that can be run.
pub(super) struct Deployed {
    pub(super) specification: Specification,
    pub(super) declaration: Declaration,
    pub(super) plan: Arc<Plan>,
}

impl Deployed {
    /// Checks a specification. `generation` is the one that its checkpoints bear; `drop_state` are the operators whose state
    /// may be lost.
    ///
    /// # Errors
    /// When the file or a component is wrong, or they don't fit each other.
    pub(super) async fn of(
        specification: &Specification,
        generation: u64,
        drop_state: &[String],
        components: &Components,
    ) -> Result<Self, Refusal> {
        let Specification { file, text, base, components: digests, parallelism } = specification;
        if !base.is_absolute() {
            return Err(Refusal::invalid(format!("`base` is {}, which isn't absolute", base.display())));
        }
        let wrong = |errors| Refusal::invalid(format!("the pipeline file can't be run\n{errors}"));
        let declaration = declaration::parse(file, text).map_err(wrong)?;
        if let Some(unknown) =
            digests.keys().find(|id| declaration.operators.iter().all(|o| o.id.value != **id))
        {
            return Err(Refusal::invalid(format!(
                "there is a component for `{unknown}`, but no such operator"
            )));
        }
        let mut plugins = Vec::new();
        for operator in &declaration.operators {
            let id = &operator.id.value;
            let digest = digests.get(id).ok_or_else(|| {
                Refusal::invalid(format!("`components` has no component for the operator `{id}`"))
            })?;
            plugins.push(components.plugin(digest).await?);
        }
        let cores = std::thread::available_parallelism().map_or(1, |c| c.get());
        let mut plan =
            check::plan(&declaration, plugins, base, parallelism.unwrap_or(cores)).map_err(wrong)?;
        plan.generation = generation;
        plan.drop_state = drop_state.to_vec();
        Ok(Self { specification: specification.clone(), declaration, plan: Arc::new(plan) })
    }
}
