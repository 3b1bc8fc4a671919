//! Replays, and versions that take over: what was replayed, or what was there before.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::deploy::Deployed;
use super::model::{self, Asked, Operation, Promote, ReplayOrder, ReplaySummary, Specification};
use super::operations::Ticket;
use super::supervisor::{Request, TakeOver, What};
use super::{Pipeline, Refusal, Service, replays, savepoint_name};
use crate::replay::{Origin, Shadow};

impl Service {
    /// Starts a replay. Its id is in the operation's message.
    ///
    /// # Errors
    /// When there is no such place to begin, or other operators don't fit.
    pub async fn replay(&self, pipeline: &str, order: ReplayOrder) -> Result<Operation, Refusal> {
        order.from.parse::<Origin>().map_err(Refusal::invalid)?;
        let found = self.find(pipeline)?;
        let live = self.live(&found).await?;
        let mut specification = live.specification.clone();
        specification.components.extend(order.components.clone());
        let generation = live.plan.generation;
        let tried = Deployed::of(&specification, generation, &[], &self.inner.shared.components).await?;
        let number = {
            let mut face = found.face();
            let mut record = face.record.clone();
            record.last_replay += 1;
            record.store(&found.folder)?;
            face.record = record;
            face.record.last_replay
        };
        replays::prune(&found.folder);
        let ticket = self.inner.operations.begin(pipeline, "replay");
        let id = format!("replay-{number}");
        ticket.says(format!("{id}: starting"));
        let operation = ticket.operation();
        let (shared, stop) = (self.inner.shared.clone(), self.inner.stop.subscribe());
        let replay = replays::Replay { pipeline: found.folder, id, order, live, tried, shared, stop };
        tokio::spawn(replay.run(ticket));
        Ok(operation)
    }

    /// The replays of a pipeline, the oldest first.
    ///
    /// # Errors
    /// When there is no such pipeline.
    pub fn replays(&self, pipeline: &str) -> Result<Vec<ReplaySummary>, Refusal> {
        Ok(replays::list(&self.find(pipeline)?.folder))
    }

    /// What a replay has found, when it is done: its report as JSON, which [`crate::replay`] can make text and HTML of.
    ///
    /// # Errors
    /// When there is no such replay, or it isn't done.
    pub fn report(&self, pipeline: &str, replay: &str) -> Result<String, Refusal> {
        replays::report(&self.find(pipeline)?.folder, replay)
    }

    /// Lets the version of a replay take over.
    ///
    /// # Errors
    /// When there is no such replay, or it isn't done.
    pub async fn promote(&self, pipeline: &str, promote: Promote) -> Result<Operation, Refusal> {
        let found = self.find(pipeline)?;
        let replay = replays::summary(&found.folder, &promote.replay)?;
        if replay.state != "done" {
            return Err(Refusal::conflict(format!("`{}` is {}; it has to be done", replay.id, replay.state)));
        }
        let live = self.live(&found).await?;
        let mut specification = live.specification.clone();
        specification.components.extend(replay.order.components.clone());
        let components =
            specification.components.iter().filter(|(id, _)| replay.order.components.contains_key(*id));
        let components: Vec<String> =
            components.map(|(id, digest)| format!("`{id}` {}", &digest[..12.min(digest.len())])).collect();
        let what = format!("{} takes over with {}", replay.id, components.join(", "));
        let folder = replays::folder(&found.folder, &replay.id).join("shadow");
        if !folder.exists() {
            return Err(Refusal::conflict(format!(
                "the state of `{}` is no longer kept, only its report; replay again",
                replay.id
            )));
        }
        let shadow = Shadow::open(&folder).map_err(Refusal::conflict)?;
        let (service, name) = (self.clone(), pipeline.to_owned());
        let ticket = self.inner.operations.begin(pipeline, "promote");
        let operation = ticket.operation();
        let taking = Taking { name, shadow, live, specification, kind: "promote", what, by: promote.by };
        let (folder, mut replay) = (found.folder, replay);
        tokio::spawn(async move {
            if service.let_take_over(taking, ticket).await {
                replay.state = replays::PROMOTED.to_owned();
                replays::store(&folder, &replay);
            }
        });
        Ok(operation)
    }

    /// Lets the version that was there before the last swap, change or promotion take over again, with its own state.
    ///
    /// # Errors
    /// When there was none, or its state isn't kept.
    pub async fn rollback(&self, pipeline: &str, asked: Asked) -> Result<Operation, Refusal> {
        let found = self.find(pipeline)?;
        let live = self.live(&found).await?;
        let (previous, generation) = {
            let face = found.face();
            (face.record.previous.last().cloned(), face.record.last_generation + 1)
        };
        let previous = previous.ok_or_else(|| {
            Refusal::conflict(
                "there is no earlier version whose state was kept; `history` shows what there was",
            )
        })?;
        let what = format!("generation {} takes over again", previous.generation);
        let folder = found.folder.join("rollbacks").join(generation.to_string());
        // One that a crash has left behind.
        let _ = fs::remove_dir_all(&folder);
        let from = Origin::Savepoint(savepoint_name(&previous.savepoint)?);
        let live_of = live.clone();
        let shadow = tokio::task::spawn_blocking(move || {
            let live = replays::live_of(&live_of)?;
            Shadow::create(&folder, &live, &from).map_err(|e| e.to_string())
        });
        let shadow = shadow.await.map_err(Refusal::failed)?.map_err(Refusal::conflict)?;
        let (service, name) = (self.clone(), pipeline.to_owned());
        let ticket = self.inner.operations.begin(pipeline, "rollback");
        let operation = ticket.operation();
        let specification = previous.specification;
        let taking = Taking { name, shadow, live, specification, kind: "rollback", what, by: asked.by };
        tokio::spawn(async move { service.let_take_over(taking, ticket).await });
        Ok(operation)
    }

    /// What runs, or would run.
    async fn live(&self, pipeline: &Pipeline) -> Result<Arc<Deployed>, Refusal> {
        let (deployed, record) = {
            let face = pipeline.face();
            (face.deployed.clone(), face.record.clone())
        };
        match deployed {
            Some(deployed) => Ok(deployed),
            // Its supervisor hasn't come to it.
            None => {
                let components = &self.inner.shared.components;
                Deployed::of(&record.specification, record.generation, &[], components).await.map(Arc::new)
            }
        }
    }

    /// Brings a shadow near, and then has the pipeline's supervisor let it take over. Says whether it has.
    async fn let_take_over(&self, taking: Taking, ticket: Ticket) -> bool {
        let Taking { name, mut shadow, live, specification, kind, what, by } = taking;
        let shared = &self.inner.shared;
        let id = ticket.operation().id;
        let prepared = async {
            let last = self.find(&name)?.face().record.last_generation;
            let deployed = Deployed::of(&specification, last + 1, &[], &shared.components).await?;
            replays::come_near(&mut shadow, &live, &deployed, shared, &ticket)
                .await
                .map_err(Refusal::conflict)?;
            // The pipeline may have been changed meanwhile, which its supervisor finds out.
            Ok::<_, Refusal>(deployed)
        };
        let deployed = match prepared.await {
            Ok(deployed) => deployed,
            Err(refusal) => {
                ticket.failed(refusal);
                return false;
            }
        };
        let take_over = TakeOver { shadow, deployed, kind, what };
        let (accepted, answer) = oneshot::channel();
        let request = Request { what: What::TakeOver(Box::new(take_over)), by, ticket, accepted };
        if let Ok(found) = self.find(&name)
            && found.requests.send(request).await.is_ok()
            && matches!(answer.await, Ok(Ok(())))
        {
            let long = Duration::from_hours(24);
            loop {
                let Ok(operation) = self.inner.operations.wait(id, None, long).await else { return false };
                if operation.ended_ms.is_some() {
                    return operation.state == model::OperationState::Done;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        false
    }
}

/// A version that is to take over.
struct Taking {
    name: String,
    shadow: Shadow,
    live: Arc<Deployed>,
    specification: Specification,
    kind: &'static str,
    what: String,
    by: String,
}
