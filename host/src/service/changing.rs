//! Planning, deploying and changing pipelines.

use std::fs;
use std::sync::Arc;

use super::deploy::Deployed;
use super::model::{self, Apply, HistoryEntry, How, Operation, Plan, Specification, State, Swap};
use super::record::Record;
use super::supervisor::{self, Change, What};
use super::{Refusal, Service, change, history, now_ms};

impl Service {
    /// What would happen.
    ///
    /// # Errors
    /// When the pipeline file or its components are wrong.
    pub async fn plan(&self, apply: &Apply) -> Result<Plan, Refusal> {
        Ok(self.planned(&apply.specification, &apply.drop_state).await?.plan)
    }

    /// Deploys a pipeline or changes it.
    ///
    /// # Errors
    /// When the plan is another one by now, or would drop state that may not be dropped.
    pub async fn apply(&self, apply: Apply) -> Result<Operation, Refusal> {
        let _one = self.inner.applying.lock().await;
        let Apply { specification, plan: wanted, drop_state, probation, by } = apply;
        let Planned { plan, deployed, in_place } = self.planned(&specification, &drop_state).await?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != plan.hash) {
            return Err(Refusal::conflict(format!(
                "the plan `{wanted}` is out of date: what there is has changed since, and the plan is now `{}`; look at it \
                 and apply that",
                plan.hash
            )));
        }
        if !plan.refusals.is_empty() {
            return Err(Refusal::invalid(plan.refusals.join("\n")));
        }
        let lost: Vec<&str> =
            plan.drops.iter().filter(|id| !drop_state.contains(id)).map(String::as_str).collect();
        if !lost.is_empty() {
            return Err(Refusal::conflict(format!(
                "this drops the state of {}; if that is meant, say so with --drop-state {}",
                lost.join(", "),
                lost.join(" --drop-state ")
            )));
        }
        let name = deployed.plan.name.clone();
        let what = told(&plan);
        match plan.how {
            How::Nothing => {
                let ticket = self.inner.operations.begin(&name, "apply");
                let operation = ticket.operation();
                ticket.done("there is nothing to change");
                Ok(self.inner.operations.get(operation.id).unwrap_or(operation))
            }
            How::Create => self.create(name, deployed, &by).await,
            How::InPlace | How::Restart => {
                let kind = "apply";
                let change = Change { deployed, in_place, probation, kind, what };
                self.ask(&name, kind, &by, What::Change(Box::new(change))).await
            }
        }
    }

    /// Exchanges components of operators while the pipeline runs.
    ///
    /// # Errors
    /// When that can't be done in place, or another change is under way.
    pub async fn swap(&self, pipeline: &str, swap: Swap) -> Result<Operation, Refusal> {
        let _one = self.inner.applying.lock().await;
        let (mut specification, state) = {
            let found = self.find(pipeline)?;
            let face = found.face();
            (face.record.specification.clone(), face.state)
        };
        if !matches!(state, State::Running | State::Probation) {
            return Err(Refusal::conflict("it doesn't run, so nothing can be swapped; `apply` changes it"));
        }
        for (operator, digest) in swap.components {
            if !specification.components.contains_key(&operator) {
                let known: Vec<&str> = specification.components.keys().map(String::as_str).collect();
                return Err(Refusal::invalid(format!(
                    "it has no operator `{operator}`, only {}",
                    known.join(", ")
                )));
            }
            specification.components.insert(operator, digest);
        }
        let Planned { plan, deployed, in_place } = self.planned(&specification, &[]).await?;
        if !plan.refusals.is_empty() {
            return Err(Refusal::invalid(plan.refusals.join("\n")));
        }
        if plan.how == How::Restart {
            return Err(Refusal::conflict(format!(
                "it can't be swapped while it runs: {}; `apply` does it with a restart",
                plan.restart_because.join("; ")
            )));
        }
        if plan.how == How::Nothing {
            return Err(Refusal::conflict("it has these components already"));
        }
        let (kind, what) = ("swap", told(&plan));
        let change = Change { deployed, in_place, probation: swap.probation, kind, what };
        self.ask(pipeline, kind, &swap.by, What::Change(Box::new(change))).await
    }

    /// A pipeline that is new.
    async fn create(&self, name: String, deployed: Deployed, by: &str) -> Result<Operation, Refusal> {
        let folder = self.inner.data.join("pipelines").join(&name);
        let failed = |e: std::io::Error| Refusal::failed(format!("cannot make {}: {e}", folder.display()));
        // Seen only as a whole: a folder without a record would keep the host from starting.
        let making = self.inner.data.join(format!("making-{name}"));
        let _ = fs::remove_dir_all(&making);
        fs::create_dir_all(&making).map_err(failed)?;
        let record = Record::new(deployed.specification.clone());
        record.store(&making)?;
        fs::rename(&making, &folder).map_err(failed)?;
        let (by, event, message) = (by.to_owned(), "created".to_owned(), deployed.specification.file.clone());
        history::append(&folder, &HistoryEntry { at_ms: now_ms(), by, event, generation: 1, message });
        let ticket = self.inner.operations.begin(&name, "apply");
        let operation = ticket.operation();
        ticket.says("created; it is being started");
        self.supervise(name, folder, record, Some((Arc::new(deployed), ticket)));
        Ok(self.inner.operations.get(operation.id).unwrap_or(operation))
    }

    /// What a specification would change.
    async fn planned(
        &self,
        specification: &Specification,
        drop_state: &[String],
    ) -> Result<Planned, Refusal> {
        let components = &self.inner.shared.components;
        let deployed = Deployed::of(specification, 1, drop_state, components).await?;
        let name = deployed.plan.name.clone();
        let after =
            change::Wanted { specification, declaration: &deployed.declaration, plan: &deployed.plan };
        let Ok(found) = self.find(&name) else {
            let plan = change::change(None, &after);
            return Ok(Planned { plan, deployed, in_place: None });
        };
        let (live, state, last) = {
            let face = found.face();
            (face.deployed.clone(), face.state, face.record.last_generation)
        };
        let record = found.face().record.clone();
        let live = match live {
            Some(live) => live,
            None => Arc::new(Deployed::of(&record.specification, record.generation, &[], components).await?),
        };
        let of = live.clone();
        let name_of = name.clone();
        let newest = tokio::task::spawn_blocking(move || supervisor::newest(&name_of, Some(&of)));
        let manifest = newest.await.map_err(Refusal::failed)?.unwrap_or_default();
        let before = change::Deployed {
            specification: &live.specification,
            declaration: &live.declaration,
            plan: &live.plan,
            manifest: manifest.as_ref(),
            generation: record.generation,
        };
        let mut plan = change::change(Some(&before), &after);
        let mut in_place = None;
        if plan.how == How::InPlace {
            match change::in_place(&live.plan, &deployed.plan) {
                Ok(operators) if matches!(state, State::Running | State::Probation) => {
                    in_place = Some(operators)
                }
                _ => plan.how = How::Restart,
            }
        }
        let deployed = Deployed::of(specification, last + 1, drop_state, components).await?;
        Ok(Planned { plan, deployed, in_place })
    }
}

/// What a specification would change, and what it is.
struct Planned {
    plan: Plan,
    deployed: Deployed,
    /// The operators to exchange, where that can be done while it runs.
    in_place: Option<Vec<usize>>,
}

/// A plan in a few words, for the history.
fn told(plan: &Plan) -> String {
    let operator = |o: &model::OperatorChange| match (&o.component, &o.version) {
        (Some((before, after)), Some((was, is))) => {
            let short = |digest: &str| digest[..12.min(digest.len())].to_owned();
            format!("`{}` from {was} ({}) to {is} ({})", o.id, short(before), short(after))
        }
        _ => format!("`{}` {}", o.id, o.change),
    };
    let all: Vec<String> = plan.operators.iter().map(operator).chain(plan.changes.iter().cloned()).collect();
    all.join(", ")
}
