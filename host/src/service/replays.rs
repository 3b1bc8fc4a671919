//! Replays: shadows of a pipeline that run beside it, and what came of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_checkpoint::{Manifest, Selector};
use tokio::sync::watch;

use super::deploy::Deployed;
use super::model::{ReplayOrder, ReplaySummary};
use super::now_ms;
use super::operations::Ticket;
use super::record::replace;
use super::refusal::Refusal;
use super::supervisor::{Shared, look, newest};
use crate::pipeline::plan::Plan;
use crate::plugin::Findings;
use crate::replay::{Live, Origin, Progress, Shadow};

const SUMMARY: &str = "replay.json";
const REPORT: &str = "report.json";
const RUNNING: &str = "running";
const DONE: &str = "done";
const FAILED: &str = "failed";
pub(super) const PROMOTED: &str = "promoted";

/// A shadow that is less than this behind in its last stretch is near enough for the pipeline to wait for it.
const NEAR: std::time::Duration = std::time::Duration::from_secs(1);
/// A shadow that hasn't come near by then never will: it is slower than the pipeline.
const ROUNDS_MAX: usize = 20;

/// Replays whose state is kept, so that they can be promoted. It may be as large as the pipeline's own.
const SHADOWS_MAX: usize = 5;

/// The folder of a replay.
pub(super) fn folder(pipeline: &Path, id: &str) -> PathBuf {
    pipeline.join("replays").join(id)
}

/// What is known of a replay.
pub(super) fn summary(pipeline: &Path, id: &str) -> Result<ReplaySummary, Refusal> {
    let is_id = id.strip_prefix("replay-").is_some_and(|n| n.parse::<u64>().is_ok());
    let text = is_id.then(|| fs::read(folder(pipeline, id).join(SUMMARY)).ok()).flatten();
    let text = text.ok_or_else(|| Refusal::not_found(format!("there is no replay `{id}`")))?;
    serde_json::from_slice(&text).map_err(|e| Refusal::failed(format!("replay `{id}`: {e}")))
}

/// All replays of a pipeline, the oldest first.
pub(super) fn list(pipeline: &Path) -> Vec<ReplaySummary> {
    let entries = fs::read_dir(pipeline.join("replays")).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut found: Vec<ReplaySummary> = names.filter_map(|id| summary(pipeline, &id).ok()).collect();
    found.sort_by_key(|r| r.id.trim_start_matches("replay-").parse::<u64>().unwrap_or(0));
    found
}

/// The report of a replay that is done.
pub(super) fn report(pipeline: &Path, id: &str) -> Result<String, Refusal> {
    let found = summary(pipeline, id)?;
    fs::read_to_string(folder(pipeline, id).join(REPORT)).map_err(|_| {
        let why = found.message.map_or(String::new(), |m| format!(": {m}"));
        Refusal::conflict(format!("replay `{id}` is {}{why}; there is no report", found.state))
    })
}

/// Replays that ran when the host ended are over.
pub(super) fn after_restart(pipeline: &Path) {
    for mut left in list(pipeline).into_iter().filter(|r| r.state == RUNNING) {
        left.state = FAILED.to_owned();
        left.message = Some("the host was stopped".to_owned());
        store(pipeline, &left);
    }
}

/// Removes the state of replays that are long past, so that no more than [`SHADOWS_MAX`] are kept; their reports stay.
pub(super) fn prune(pipeline: &Path) {
    let ended: Vec<ReplaySummary> = list(pipeline).into_iter().filter(|r| r.state != RUNNING).collect();
    for old in ended.iter().rev().skip(SHADOWS_MAX - 1) {
        let shadow = folder(pipeline, &old.id).join("shadow");
        if shadow.exists()
            && let Err(error) = fs::remove_dir_all(&shadow)
        {
            tracing::warn!("cannot remove {}: {error}", shadow.display());
        }
    }
}

pub(super) fn store(pipeline: &Path, summary: &ReplaySummary) {
    let folder = folder(pipeline, &summary.id);
    let written = fs::create_dir_all(&folder);
    let text = serde_json::to_vec_pretty(summary).map_err(std::io::Error::other);
    let written = written.and(text).and_then(|text| replace(&folder.join(SUMMARY), &text));
    if let Err(error) = written {
        tracing::error!("cannot write down how {} stands: {error}", summary.id);
    }
}

/// A replay that is about to run.
pub(super) struct Replay {
    pub(super) pipeline: PathBuf,
    pub(super) id: String,
    pub(super) order: ReplayOrder,
    /// The pipeline as it runs, and as it is tried.
    pub(super) live: Arc<Deployed>,
    pub(super) tried: Deployed,
    pub(super) shared: Shared,
    pub(super) stop: watch::Receiver<bool>,
}

impl Replay {
    /// Runs it to its end.
    pub(super) async fn run(self, ticket: Ticket) {
        let (at_ms, order, id) = (now_ms(), self.order.clone(), self.id.clone());
        let mut summary =
            ReplaySummary { id: id.clone(), order, at_ms, state: RUNNING.to_owned(), message: None };
        store(&self.pipeline, &summary);
        match self.replay(&ticket).await {
            Ok(told) => {
                summary.state = DONE.to_owned();
                store(&self.pipeline, &summary);
                ticket.done(format!("{id}: {told}"));
            }
            Err(why) => {
                summary.state = FAILED.to_owned();
                summary.message = Some(why.clone());
                store(&self.pipeline, &summary);
                ticket.failed(format!("{id}: {why}"));
            }
        }
    }

    async fn replay(&self, ticket: &Ticket) -> Result<String, String> {
        let from: Origin = self.order.from.parse()?;
        let to = self.to()?;
        let folder = folder(&self.pipeline, &self.id).join("shadow");
        let live = self.live.clone();
        let created = tokio::task::spawn_blocking(move || {
            let live = live_of(&live)?;
            Shadow::create(&folder, &live, &from).map_err(|e| e.to_string())
        });
        let mut shadow = created.await.map_err(|e| e.to_string())??;
        let rate = self.order.rows_per_second_max;
        let plan = shadow.plan(Plan::clone(&self.tried.plan), &to, rate).map_err(|e| e.to_string())?;
        let findings = self.order.verify.then(Findings::default);
        let plan = Arc::new(Plan { verify: findings.clone(), ..plan });
        let told = |p: Progress| ticket.says(format!("{}: {} of {} rows", self.id, p.rows_read, p.rows));
        let ran = shadow.run_to(plan, &to, &self.shared.data_plane, &told, self.stop.clone());
        ran.await.map_err(|e| e.to_string())?;
        let found = findings.map(|findings| findings.all()).unwrap_or_default();
        shadow.add_findings(found).map_err(|e| e.to_string())?;
        ticket.says(format!("{}: comparing", self.id));
        let live = self.live.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let live = live_of(&live)?;
            shadow.compare(&live).map_err(|e| e.to_string())
        });
        let report = compared.await.map_err(|e| e.to_string())??;
        let text = serde_json::to_vec_pretty(&report).map_err(|e| e.to_string())?;
        let path = self::folder(&self.pipeline, &self.id).join(REPORT);
        replace(&path, &text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(if report.equal { "no difference".to_owned() } else { "there are differences".to_owned() })
    }

    /// The checkpoint of the live pipeline up to which it is replayed.
    fn to(&self) -> Result<Manifest, String> {
        let name = &self.live.plan.name;
        match &self.order.to {
            None => newest(name, Some(&self.live))?.ok_or_else(|| {
                "the pipeline has no checkpoint yet; wait for one, or take a savepoint".to_owned()
            }),
            Some(to) => {
                let which = match to.split_once(':') {
                    Some(("checkpoint", number)) => number.parse().ok().map(Selector::Checkpoint),
                    Some(("savepoint", name)) => name.parse().ok().map(Selector::Savepoint),
                    _ => None,
                };
                let which = which.ok_or_else(|| {
                    format!("`{to}` is no place to end; say `checkpoint:NUMBER` or `savepoint:NAME`")
                })?;
                look(Some(&self.live))?.read(&which).map_err(|e| e.to_string())
            }
        }
    }
}

/// The pipeline as shadows see it.
pub(super) fn live_of(deployed: &Deployed) -> Result<Live<'_>, String> {
    let plan = &deployed.plan;
    let checkpoints =
        plan.checkpoints.as_ref().ok_or("it has no checkpoints; add a section [checkpoints]")?;
    Ok(Live { plan, place: &checkpoints.path })
}

/// Brings a shadow to a checkpoint of the live pipeline.
pub(super) async fn catch_up(
    shadow: &mut Shadow,
    deployed: &Deployed,
    to: &Manifest,
    shared: &Shared,
) -> Result<(), String> {
    let plan = shadow.plan(Plan::clone(&deployed.plan), to, None).map_err(|e| e.to_string())?;
    // Whoever holds the other end lets it come to its end.
    let (_stop, stopped) = watch::channel(false);
    let run = shadow.run_to(Arc::new(plan), to, &shared.data_plane, &|_| (), stopped);
    run.await.map_err(|e| e.to_string())
}

/// Brings a shadow near to where the live pipeline is, while that goes on.
pub(super) async fn come_near(
    shadow: &mut Shadow,
    live: &Deployed,
    deployed: &Deployed,
    shared: &Shared,
    ticket: &Ticket,
) -> Result<(), String> {
    let mut reached = None;
    for _ in 0..ROUNDS_MAX {
        let Some(to) = newest(&live.plan.name, Some(live))? else { return Ok(()) };
        if reached == Some(to.checkpoint) {
            return Ok(());
        }
        ticket.says(format!("going on to checkpoint {}", to.checkpoint));
        let begun = std::time::Instant::now();
        catch_up(shadow, deployed, &to, shared).await?;
        reached = Some(to.checkpoint);
        if begun.elapsed() < NEAR {
            return Ok(());
        }
    }
    Err(format!(
        "after {ROUNDS_MAX} rounds it is still more than {NEAR:?} behind the pipeline, so it is no faster; pause the pipeline \
         and ask again"
    ))
}
