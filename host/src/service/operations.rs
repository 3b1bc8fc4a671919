//! What takes its time: whoever has asked for it looks at it again until it is done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::model::{Operation, OperationState};
use super::now_ms;
use super::refusal::Refusal;

/// So many that have ended are remembered.
const ENDED_MAX: usize = 1_000;

/// All that goes on and the last that have ended. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Operations {
    /// Held for moments.
    all: Arc<Mutex<BTreeMap<u64, watch::Sender<Operation>>>>,
}

/// The side of an operation that does it. One that is dropped without a word has failed.
pub(super) struct Ticket {
    id: u64,
    operations: Operations,
}

impl Operations {
    /// Something begins.
    pub(super) fn begin(&self, pipeline: &str, kind: &str) -> Ticket {
        let mut all = self.all();
        let ended = |o: &watch::Sender<Operation>| o.borrow().state != OperationState::Running;
        if all.len() > ENDED_MAX
            && let Some(oldest) = all.iter().find(|(_, o)| ended(o)).map(|(id, _)| *id)
        {
            all.remove(&oldest);
        }
        let id = all.keys().next_back().map_or(1, |last| last + 1);
        let operation = Operation {
            id,
            pipeline: pipeline.to_owned(),
            kind: kind.to_owned(),
            state: OperationState::Running,
            message: "it has begun".to_owned(),
            begun_ms: now_ms(),
            ended_ms: None,
        };
        all.insert(id, watch::Sender::new(operation));
        drop(all);
        Ticket { id, operations: self.clone() }
    }

    pub(super) fn get(&self, id: u64) -> Option<Operation> {
        self.all().get(&id).map(|o| o.borrow().clone())
    }

    /// What goes on with a pipeline, the last that began.
    pub(super) fn running(&self, pipeline: &str) -> Option<Operation> {
        let all = self.all();
        let mut operations = all.values().rev().map(|o| o.borrow().clone());
        operations.find(|o| o.pipeline == pipeline && o.state == OperationState::Running)
    }

    /// How something stands; waits for its end, or for another message than `seen`.
    pub(super) async fn wait(
        &self,
        id: u64,
        seen: Option<&str>,
        wait: Duration,
    ) -> Result<Operation, Refusal> {
        let unknown = || {
            Refusal::not_found(format!(
                "there is no operation {id}; the host remembers those since it was started, the last {ENDED_MAX}"
            ))
        };
        let mut changes = self.all().get(&id).map(watch::Sender::subscribe).ok_or_else(unknown)?;
        let news = |o: &Operation| o.state != OperationState::Running || seen.is_none_or(|s| s != o.message);
        let waited = tokio::time::timeout(wait, changes.wait_for(news)).await;
        drop(waited);
        self.get(id).ok_or_else(unknown)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, watch::Sender<Operation>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(super) fn operation(&self) -> Operation {
        self.operations.get(self.id).expect("one that goes on is remembered")
    }

    /// Says what it is at.
    pub(super) fn says(&self, message: impl Into<String>) {
        self.change(OperationState::Running, message.into());
    }

    pub(super) fn done(self, message: impl Into<String>) {
        self.change(OperationState::Done, message.into());
    }

    pub(super) fn failed(self, message: impl std::fmt::Display) {
        self.change(OperationState::Failed, message.to_string());
    }

    fn change(&self, state: OperationState, message: String) {
        if let Some(operation) = self.operations.all().get(&self.id) {
            operation.send_modify(|o| {
                let ended_ms = (state != OperationState::Running).then(now_ms);
                *o = Operation { state, message, ended_ms, ..o.clone() };
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.operations.get(self.id).is_some_and(|o| o.state == OperationState::Running) {
            self.change(OperationState::Failed, "the host left it undone".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_of_news_and_of_the_end() {
        let operations = Operations::default();
        let ticket = operations.begin("p", "swap");
        let id = ticket.operation().id;
        let soon = Duration::from_millis(20);
        assert_eq!(operations.wait(id, Some("it has begun"), soon).await.unwrap().message, "it has begun");
        ticket.says("half of it");
        let long = Duration::from_mins(1);
        assert_eq!(operations.wait(id, Some("it has begun"), long).await.unwrap().message, "half of it");
        drop(ticket);
        let ended = operations.wait(id, Some("half of it"), long).await.unwrap();
        assert_eq!((ended.state, ended.ended_ms.is_some()), (OperationState::Failed, true));
        assert!(operations.wait(id + 1, None, soon).await.is_err());
        operations.begin("p", "stop").done("stopped");
        assert!(operations.running("p").is_none());
    }
}
