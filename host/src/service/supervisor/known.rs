//! What is known of a pipeline: what its checkpoints say, what was written down, and what is seen of it.

use std::sync::{MutexGuard, PoisonError};

use tidemill_checkpoint::{Contents, Manifest, Name, SavepointName, Selector, Store};

use super::{Deployed, Face, Next, Supervisor, Ticket};
use crate::service::model::{Desired, HistoryEntry, State};
use crate::service::record::Record;
use crate::service::refusal::Refusal;
use crate::service::{history, now_ms};

impl Supervisor {
    /// The manifest of the newest checkpoint.
    pub(super) fn newest(&self) -> Result<Option<Manifest>, String> {
        let deployed = self.face().deployed.clone();
        tokio::task::block_in_place(|| newest(&self.name, deployed.as_deref()))
    }

    /// Keeps the newest checkpoint as a savepoint.
    pub(super) fn keep_newest(&self, name: &SavepointName) -> Result<u64, String> {
        let newest = self.newest()?.ok_or("it has no checkpoint yet")?;
        let deployed = self.face().deployed.clone();
        tokio::task::block_in_place(|| {
            look(deployed.as_deref())?.keep(newest.checkpoint, name).map_err(|e| e.to_string())?;
            Ok(newest.checkpoint)
        })
    }

    pub(super) fn forget_savepoint(&self, name: &str) -> Result<(), String> {
        let which: SavepointName = name.parse()?;
        let deployed = self.face().deployed.clone();
        tokio::task::block_in_place(|| {
            let contents = look(deployed.as_deref())?;
            contents.delete(&Selector::Savepoint(which)).map(drop).map_err(|e| e.to_string())
        })
    }

    pub(super) fn rests_as_wished(
        &mut self,
        desired: Desired,
        state: State,
        by: &str,
        ticket: Ticket,
        savepoint: Option<SavepointName>,
    ) -> Next {
        let word = state.words();
        self.wants(desired, by, word);
        let next = self.rests(state, None);
        match savepoint.map(|name| self.keep_newest(&name).map(|number| (name, number))) {
            None => ticket.done(word),
            Some(Ok((name, number))) => {
                let told = format!("{word}; checkpoint {number} is kept as `{}`", name.as_str());
                self.tell(by, "savepoint", &told);
                ticket.done(told);
            }
            Some(Err(why)) => ticket.failed(format!("{word}, but without a savepoint: {why}")),
        }
        next
    }

    pub(super) fn on_or_rest(&self) -> Next {
        match self.face().record.desired {
            Desired::Running => Next::On,
            Desired::Paused | Desired::Stopped => Next::Rest(None),
        }
    }

    pub(super) fn rests(&self, state: State, message: Option<String>) -> Next {
        self.becomes(state, message);
        Next::Rest(None)
    }

    pub(super) fn becomes(&self, state: State, message: Option<String>) {
        let mut face = self.face();
        if face.state != state {
            face.since_ms = now_ms();
        }
        (face.state, face.message) = (state, message);
    }

    pub(super) fn wants(&self, desired: Desired, by: &str, why: &str) {
        if let Err(refusal) = self.change_record(|record| record.desired = desired) {
            self.says("error", &refusal.message);
        }
        self.tell(by, name_of_desired(desired), why);
    }

    /// Changes the record on the disk, and then what is seen of it.
    pub(super) fn change_record(&self, change: impl FnOnce(&mut Record)) -> Result<(), Refusal> {
        let mut face = self.face();
        let mut record = face.record.clone();
        change(&mut record);
        record.store(&self.folder)?;
        face.record = record;
        Ok(())
    }

    pub(super) fn tell(&self, by: &str, event: &str, message: &str) {
        let generation = self.face().record.generation;
        let (by, event, message) = (by.to_owned(), event.to_owned(), message.to_owned());
        history::append(&self.folder, &HistoryEntry { at_ms: now_ms(), by, event, generation, message });
    }

    pub(super) fn says(&self, level: &str, message: &str) {
        self.shared.logs.add(&self.name, level, None, message.to_owned());
    }

    pub(super) fn face(&self) -> MutexGuard<'_, Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store of a pipeline's checkpoints, to look into.
pub(in crate::service) fn look(deployed: Option<&Deployed>) -> Result<Contents, String> {
    let deployed = deployed.ok_or("its components can't be loaded")?;
    let checkpoints = deployed.plan.checkpoints.as_ref();
    let checkpoints = checkpoints.ok_or("it has no checkpoints; add a section [checkpoints] to its file")?;
    Store::look(checkpoints.path.clone()).map_err(|e| e.to_string())
}

/// The manifest of a pipeline's newest checkpoint that can be read; none: there is none yet.
pub(in crate::service) fn newest(
    pipeline: &str,
    deployed: Option<&Deployed>,
) -> Result<Option<Manifest>, String> {
    let contents = match look(deployed) {
        Ok(contents) => contents,
        // No run has begun.
        Err(_) if deployed.is_some_and(|d| d.plan.checkpoints.is_some()) => return Ok(None),
        Err(why) => return Err(why),
    };
    if contents.pipeline() != pipeline {
        return Err(format!("the checkpoints are those of the pipeline `{}`", contents.pipeline()));
    }
    let listed = contents.list().map_err(|e| e.to_string())?;
    let checkpoints = listed.into_iter().filter(|l| matches!(l.name, Name::Checkpoint(_)));
    Ok(checkpoints.filter_map(|l| l.manifest.ok()).max_by_key(|m| (m.checkpoint, m.run)))
}

fn name_of_desired(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "resumed",
        Desired::Paused => "paused",
        Desired::Stopped => "stopped",
    }
}
