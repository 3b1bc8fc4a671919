//! A shadow takes the live pipeline's place: its state becomes the live pipeline's next checkpoint.
//!
//! 1. The live pipeline has stopped, with a last checkpoint of which all output is shown. The shadow has come to exactly
//!    the same place in all sources.
//! 2. The files of the shadow's state are put into the live pipeline's store. Nothing names them yet: after a crash the
//!    next run of the live pipeline removes them.
//! 3. A manifest above all others is written, in one step: with the shadow's state, and with the sources and sinks of the
//!    live pipeline's last checkpoint. From then on, and not before, the shadow has taken over: whoever starts the
//!    pipeline goes on from it. Old output goes up to there, new output begins there.
//!
//! The checkpoint before it is still there, for as long as the store keeps it: keep it as a savepoint for the way back.

use tidemill_checkpoint::{CheckpointName, Kind, Manifest, Sink, Store, failpoint};
use tidemill_flow::checkpoint::recovery::next_id;

use super::copying::{copy_files, newest, now_ms};
use super::facts::check_same_places;
use super::live::staged_part;
use super::{ReplayError, Shadow, failed};
use crate::pipeline::plan::Plan;
use crate::worker::components;

impl Shadow {
    /// Writes the shadow's state into the live pipeline's store as the checkpoint that comes after `live`, its last. The
    /// caller holds the store, so no run is going on. `plan` is the one that the pipeline is to have from then on. After an
    /// error nothing has changed, unless it came from writing the manifest: then one of both checkpoints is the newest,
    /// and whole.
    ///
    /// # Errors
    /// When the shadow isn't where `live` is, the live pipeline wasn't stopped in order or its output isn't shown yet, or
    /// something can't be read or written.
    pub fn take_over(
        &self,
        store: &Store,
        live: &Manifest,
        plan: &Plan,
    ) -> Result<CheckpointName, ReplayError> {
        let contents = Store::look(self.store()).map_err(failed)?;
        let shadow = newest(&contents)?.ok_or_else(|| failed("the shadow has no checkpoint"))?;
        check(&shadow, live, plan)?;
        let written = self.write(store, &contents, &shadow, live, plan);
        // Files that no manifest names are no longer about to be named.
        written.inspect_err(|_| store.abandon())
    }

    fn write(
        &self,
        store: &Store,
        contents: &tidemill_checkpoint::Contents,
        shadow: &Manifest,
        live: &Manifest,
        plan: &Plan,
    ) -> Result<CheckpointName, ReplayError> {
        let files = copy_files(contents, shadow, &self.folder.join("taking-over"), store)?;
        failpoint::at("takeover.files").map_err(failed)?;
        let mut manifest = live.clone();
        // Above the shadow's too: its files may stand beside those that come.
        let mut seen = store.numbers_seen().map_err(failed)?;
        seen.push(shadow.checkpoint);
        manifest.checkpoint = next_id(seen);
        (manifest.run, manifest.savepoint, manifest.created_ms) = (store.run(), None, now_ms());
        manifest.kind = if live.kind == Kind::Finished { Kind::Finished } else { Kind::Checkpoint };
        (manifest.generation, manifest.components) = (plan.generation, components(plan));
        manifest.operators.clone_from(&shadow.operators);
        manifest.state = tidemill_checkpoint::State { backend: shadow.state.backend.clone(), files };
        let is_known = |sink: &Sink| sink.id.starts_with('$') || plan.sinks.iter().any(|s| s.id == sink.id);
        manifest.sinks.retain(is_known);
        // They were shown.
        manifest.sinks.iter_mut().for_each(|sink| sink.parts.clear());
        let name = store.write_manifest(&manifest).map_err(failed)?;
        failpoint::at("takeover.manifest").map_err(failed)?;
        Ok(name)
    }
}

fn check(shadow: &Manifest, live: &Manifest, plan: &Plan) -> Result<(), ReplayError> {
    let refuse =
        |why: String| Err(failed(format!("the shadow of `{}` can't take over: {why}", live.pipeline)));
    if !matches!(live.kind, Kind::Last | Kind::Finished) {
        // At other barriers timers may be due that haven't fired; in the shadow they have.
        return refuse(format!(
            "the newest checkpoint of the live pipeline, {}, isn't one with which it stopped; stop it first",
            live.checkpoint
        ));
    }
    if let Err(why) = check_same_places(&shadow.sources, &live.sources) {
        return refuse(format!("{why}; run it to checkpoint {} first", live.checkpoint));
    }
    if !matches!(shadow.kind, Kind::Last | Kind::Finished)
        || shadow.operators.iter().any(|o| o.in_flight.is_some())
    {
        return refuse(format!("it wasn't run to its end; run it to checkpoint {} again", live.checkpoint));
    }
    if (&shadow.key_hash, shadow.key_groups) != (&live.key_hash, live.key_groups) {
        return refuse("its state is filed in another way".to_owned());
    }
    if let Some(operator) = shadow.operators.iter().find(|o| !plan.operators.iter().any(|p| p.id == o.id)) {
        return refuse(format!(
            "it has state of the operator `{}`, which the plan hasn't; replay with the plan that is to take over",
            operator.id
        ));
    }
    match staged_part(live) {
        Some(part) => refuse(format!(
            "{part} of the live pipeline isn't shown yet; let it go on for a checkpoint, and stop it again"
        )),
        None => Ok(()),
    }
}
