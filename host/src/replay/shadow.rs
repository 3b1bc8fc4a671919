//! A shadow: a pipeline's plan, run in a folder of its own up to where the live pipeline had come.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_checkpoint::{Counters, Kind, Manifest, Name, Place, SavepointName, Selector, Store};
use tidemill_flow::watermark::Strategy;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::copying::{Kept, beginning, copy_files, newest, now_ms, remove};
use super::facts::{Facts, Mark, Written, check_same_places};
use super::report::Version;
use super::{Live, Origin, ReplayError, at_file, failed};
use crate::log::{Begin, Partition, ReadPosition};
use crate::pipeline::plan::{
    Bounds, CheckpointPlan, Delivery, LogStart, Plan, RestartPlan, SinkOutput, SourceInput, StreamStart,
};
use crate::worker::{Checkpointing, Job, read_position};

/// From the start of a checkpoint of a shadow to the start of the next: what a restart of the host costs at most.
const CHECKPOINT_INTERVAL_MS: u64 = 10_000;
/// A shadow has the machine's leftovers: it isn't given up for being slow.
const CHECKPOINT_TIMEOUT_MS: u64 = 30 * 60_000;
/// How many of a shadow's checkpoints are kept: the newest, and one for the case that it is damaged.
const CHECKPOINTS_RETAINED: usize = 2;
/// How often somebody is told how far a shadow has come.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A shadow of a pipeline.
#[derive(Debug)]
pub struct Shadow {
    pub(super) folder: PathBuf,
    pub(super) facts: Facts,
}

/// How far a shadow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Rows that it has read.
    pub rows_read: u64,
    /// As many the live pipeline had read of the same stretch.
    pub rows: u64,
}

impl Shadow {
    /// Makes a shadow in a folder, which may not be there or must be empty. Of a checkpoint or savepoint it takes a copy of
    /// the state.
    ///
    /// # Errors
    /// When there is no such checkpoint or it is damaged; when the sources don't know such a place to begin, as files know
    /// no sequence, or don't have it any more; when the folder can't be written.
    pub fn create(folder: &Path, live: &Live<'_>, origin: &Origin) -> Result<Self, ReplayError> {
        let folder = std::path::absolute(folder).map_err(at_file("find", folder))?;
        std::fs::create_dir_all(&folder).map_err(at_file("make", &folder))?;
        let is_empty = std::fs::read_dir(&folder).map_err(at_file("read", &folder))?.next().is_none();
        if !is_empty {
            return Err(failed(format!(
                "{} isn't empty, so no shadow can be made there; give it another folder",
                folder.display()
            )));
        }
        let begins = match origin {
            Origin::Beginning => None,
            Origin::Sequence(sequence) => {
                begin_at(&folder, live, Begin::Sequence(*sequence))?;
                None
            }
            Origin::Time(since_ms) => {
                begin_at(&folder, live, Begin::Time(*since_ms))?;
                None
            }
            Origin::Checkpoint(number) => Some(begin_with(&folder, live, &Selector::Checkpoint(*number))?),
            Origin::Savepoint(name) => Some(begin_with(&folder, live, &Selector::Savepoint(name.clone()))?),
        };
        // Written last: with it the folder is a shadow's.
        let facts = Facts::new(&live.plan.name, origin.to_string(), begins);
        facts.write(&folder)?;
        Ok(Self { folder, facts })
    }

    /// Finds a shadow in its folder again.
    ///
    /// # Errors
    /// When there is none, or it was made by another version.
    pub fn open(folder: &Path) -> Result<Self, ReplayError> {
        let folder = std::path::absolute(folder).map_err(at_file("find", folder))?;
        let facts = Facts::read(&folder)?;
        Ok(Self { folder, facts })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The checkpoint of the live pipeline that it has come to; none: it hasn't come to the first.
    pub fn reached(&self) -> Option<u64> {
        self.facts.reached.as_ref().map(|mark| mark.checkpoint)
    }

    /// Notes what was found beside the comparison, as that an operator isn't deterministic.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add_findings(&mut self, findings: impl IntoIterator<Item = String>) -> Result<(), ReplayError> {
        for finding in findings {
            if !self.facts.findings.contains(&finding) {
                self.facts.findings.push(finding);
            }
        }
        self.facts.write(&self.folder)
    }

    /// The plan of the shadow: `plan` is the pipeline's, with the components to try. It ends where the checkpoint `to` of
    /// the live pipeline has come, writes into the shadow's folder, and reads as fast as it can unless a rate is given.
    ///
    /// # Errors
    /// When the plan isn't one of this pipeline, or has other sources; when a source can't be read again.
    pub fn plan(
        &self,
        mut plan: Plan,
        to: &Manifest,
        rows_per_second_max: Option<u64>,
    ) -> Result<Plan, ReplayError> {
        self.check(&plan, to)?;
        if rows_per_second_max == Some(0) {
            return Err(failed("at 0 rows a second a replay never ends; give it one at least, or no limit"));
        }
        plan.rows_per_second_max = rows_per_second_max;
        plan.bounds = Some(Bounds::of(&plan, to));
        for source in &mut plan.sources {
            // What a bound shows of idleness is all that can be known of it. And nobody is to wait for a partition that is
            // read no further.
            (source.idle_after_ms, source.align) = (None, None);
            match &mut source.input {
                SourceInput::Nexmark { paced, .. } => *paced = false,
                SourceInput::Log { from, .. } => *from = LogStart::Beginning,
                SourceInput::JetStream { from: from @ StreamStart::End, .. } => {
                    *from = StreamStart::Beginning
                }
                SourceInput::JetStream { .. } | SourceInput::Files { .. } => {}
                SourceInput::Stdin { .. } | SourceInput::Told { .. } => {
                    return Err(failed(format!(
                        "the source `{}` can't be read again, so the pipeline can't be replayed",
                        source.id
                    )));
                }
            }
        }
        for sink in &mut plan.sinks {
            let extension = Written::of(sink).extension();
            sink.output = SinkOutput::File(self.out(&sink.id, extension));
            sink.delivery = Delivery::ExactlyOnce;
        }
        plan.dead_letters = self.folder.join("rejected/dead-letters-*.jsonl");
        plan.late = self.folder.join("rejected/late-*.jsonl");
        plan.restart = RestartPlan::None;
        plan.state.path = None;
        plan.checkpoints = Some(CheckpointPlan {
            path: self.store(),
            work: self.folder.join("work"),
            interval_ms: CHECKPOINT_INTERVAL_MS,
            min_pause_ms: 0,
            timeout_ms: CHECKPOINT_TIMEOUT_MS,
            unaligned_after_ms: None,
            tolerated_failures: 0,
            retain: CHECKPOINTS_RETAINED,
        });
        Ok(plan)
    }

    /// The files of a sink of the shadow.
    pub(super) fn out(&self, sink: &str, extension: &str) -> PathBuf {
        self.folder.join("out").join(format!("{sink}-*.{extension}"))
    }

    /// Its store.
    pub(super) fn store(&self) -> Place {
        store_in(&self.folder)
    }

    fn check(&self, plan: &Plan, to: &Manifest) -> Result<(), ReplayError> {
        let pipeline = &self.facts.pipeline;
        for other in [&plan.name, &to.pipeline] {
            if other != pipeline {
                return Err(failed(format!("this is a shadow of `{pipeline}`, and not of `{other}`")));
            }
        }
        let known = |id: &String| to.sources.iter().any(|s| s.id == *id);
        if let Some(source) = plan.sources.iter().find(|s| !known(&s.id)) {
            return Err(failed(format!(
                "the source `{}` isn't in checkpoint {} of `{pipeline}`: a shadow has the sources of its pipeline",
                source.id, to.checkpoint
            )));
        }
        if let Some(gone) = to.sources.iter().find(|s| !plan.sources.iter().any(|p| p.id == s.id)) {
            return Err(failed(format!(
                "checkpoint {} of `{pipeline}` has the source `{}`, and this plan hasn't: a shadow has the sources of its \
                 pipeline",
                to.checkpoint, gone.id
            )));
        }
        let before = self.facts.reached.as_ref().or(self.facts.begins.as_ref());
        match before.filter(|before| before.checkpoint > to.checkpoint) {
            Some(before) => Err(failed(format!(
                "the shadow is at checkpoint {} of `{pipeline}` already, behind checkpoint {}; replay again from an \
                 earlier place",
                before.checkpoint, to.checkpoint
            ))),
            None => Ok(()),
        }
    }

    /// Runs from where it stands to the checkpoint `to` of the live pipeline; `plan` was made [for it](Self::plan). When
    /// the host dies meanwhile, it goes on from the shadow's own last checkpoint.
    ///
    /// # Errors
    /// [`ReplayError::Stopped`] when `stop` says so; when an operator fails, or the sources don't have the stretch any
    /// more.
    ///
    /// # Panics
    /// When the plan wasn't made for a shadow, or a task panicked.
    pub async fn run_to(
        &mut self,
        plan: Arc<Plan>,
        to: &Manifest,
        data_plane: &Handle,
        progress: &(dyn Fn(Progress) + Sync),
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), ReplayError> {
        assert!(plan.bounds.is_some(), "the plan of a shadow has bounds");
        self.check(&plan, to)?;
        self.note(&plan, to).await?;
        let begun = Instant::now();
        if !self.is_at(to)? {
            self.run(&plan, to, data_plane, progress, &mut stop).await?;
        }
        self.facts.duration_ms += u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let found = newest(&Store::look(self.store()).map_err(failed)?)?;
        let found = found.ok_or_else(|| failed("the shadow has run and has no checkpoint"))?;
        if let Err(why) = check_same_places(&found.sources, &to.sources) {
            self.facts.write(&self.folder)?;
            return Err(match *stop.borrow() {
                true => ReplayError::Stopped,
                false => failed(format!(
                    "the shadow didn't come to checkpoint {}: {why}; the source isn't what the live pipeline has read",
                    to.checkpoint
                )),
            });
        }
        (self.facts.reached, self.facts.counters) = (Some(Mark::of(to)), found.counters);
        self.facts.write(&self.folder)
    }

    /// Whether everything up to there was read and shown.
    fn is_at(&self, to: &Manifest) -> Result<bool, ReplayError> {
        let Ok(contents) = Store::look(self.store()) else { return Ok(false) };
        let Some(found) = newest(&contents)? else { return Ok(false) };
        // What was shown before it was stopped is shown; of other checkpoints that isn't known.
        let is_whole = matches!(found.kind, Kind::Last | Kind::Finished);
        Ok(is_whole && self.reached() == Some(to.checkpoint) && is_same(&found, to))
    }

    /// Notes what is known of the run before it begins.
    async fn note(&mut self, plan: &Plan, to: &Manifest) -> Result<(), ReplayError> {
        let version = |plugin: &crate::plugin::Plugin| Version {
            digest: plugin.digest().to_owned(),
            name: plugin.description().name.clone(),
            version: plugin.description().version.clone(),
        };
        self.facts.components = plan.operators.iter().map(|o| (o.id.clone(), version(&o.plugin))).collect();
        self.facts.sinks = plan.sinks.iter().map(|s| (s.id.clone(), Written::of(s))).collect();
        let has_beginning = self.facts.begins.is_some() || self.facts.origin == Origin::Beginning.to_string();
        if !has_beginning && self.facts.reached.is_none() {
            let contents = Store::look(self.store()).map_err(failed)?;
            let first = contents.read(&Selector::Checkpoint(1)).ok();
            if let Some(first) = first {
                self.facts.complete_from_ms = complete_from(plan, &first, to).await?;
            }
        }
        self.facts.write(&self.folder)
    }

    async fn run(
        &self,
        plan: &Arc<Plan>,
        to: &Manifest,
        data_plane: &Handle,
        progress: &(dyn Fn(Progress) + Sync),
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), ReplayError> {
        let opening = plan.clone();
        let opened = tokio::task::spawn_blocking(move || Checkpointing::open(&opening, None)).await;
        let opened = opened.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        let checkpointing = opened.map_err(failed)?;
        if checkpointing.as_ref().is_some_and(Checkpointing::has_finished) {
            return Ok(());
        }
        let job = Job::start(plan, data_plane, checkpointing).await.map_err(failed)?;
        let (counters, handle) = (job.counters().clone(), job.stop_handle());
        let before = rows(self.facts.begins.as_ref().map(|mark| &mark.counters));
        let rows = rows(Some(&to.counters)).saturating_sub(before);
        let tell = || progress(Progress { rows_read: counters.rows_read().saturating_sub(before), rows });
        let mut ending = std::pin::pin!(job.wait());
        let mut is_stopping = false;
        let ended = loop {
            tokio::select! {
                ended = &mut ending => break ended,
                () = stopped(stop), if !is_stopping => {
                    handle.stop();
                    is_stopping = true;
                }
                () = tokio::time::sleep(PROGRESS_INTERVAL) => tell(),
            }
        };
        tell();
        ended.map(drop).map_err(|error| failed(format!("the shadow of `{}` failed: {error}", plan.name)))
    }

    /// Removes the shadow's folder with all that is in it.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(self) -> Result<(), ReplayError> {
        remove(&self.folder)
    }

    /// The rows that it has read.
    pub(super) fn rows_read(&self) -> u64 {
        let before = rows(self.facts.begins.as_ref().map(|mark| &mark.counters));
        rows(Some(&self.facts.counters)).saturating_sub(before)
    }
}

fn store_in(folder: &Path) -> Place {
    Place::Folder(folder.join("checkpoints"))
}

fn is_same(found: &Manifest, to: &Manifest) -> bool {
    check_same_places(&found.sources, &to.sources).is_ok()
}

/// The rows that all sources have read.
fn rows(counters: Option<&Counters>) -> u64 {
    let sources = counters.iter().flat_map(|c| c.sources.values());
    sources.filter_map(|counts| counts.get("rows")).sum()
}

/// Whoever could stop it and is gone will never do so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

/// Lets a shadow begin without state somewhere in its sources.
fn begin_at(folder: &Path, live: &Live<'_>, begin: Begin) -> Result<(), ReplayError> {
    let store = Store::open(store_in(folder), &live.plan.name).map_err(failed)?;
    let manifest = beginning(live.plan, begin, store.run())?;
    store.write_manifest(&manifest).map(drop).map_err(failed)
}

/// Lets a shadow begin with a copy of a checkpoint.
fn begin_with(folder: &Path, live: &Live<'_>, which: &Selector) -> Result<Mark, ReplayError> {
    let contents = Store::look(live.place.clone()).map_err(failed)?;
    if let Name::Checkpoint(name) = contents.find(which).map_err(failed)? {
        tracing::debug!("{name} is kept while it is copied");
    }
    let kept = Kept::new(&contents, which, passing_name(folder)?)?;
    let store = Store::open(store_in(folder), &live.plan.name).map_err(failed)?;
    let files = copy_files(&contents, &kept.manifest, &folder.join("copying"), &store)?;
    let mut manifest = kept.manifest.clone();
    // What the live pipeline stages and shows is none of the shadow's.
    (manifest.sinks, manifest.warnings, manifest.savepoint) = (Vec::new(), Vec::new(), None);
    (manifest.kind, manifest.run, manifest.created_ms) = (Kind::Checkpoint, store.run(), now_ms());
    manifest.state.files = files;
    store.write_manifest(&manifest).map_err(failed)?;
    Ok(Mark::of(&kept.manifest))
}

/// The name of the savepoint that keeps a checkpoint while it is copied: another for each shadow.
fn passing_name(folder: &Path) -> Result<SavepointName, ReplayError> {
    let hash = xxhash_rust::xxh3::xxh3_64(folder.as_os_str().as_encoded_bytes());
    format!("replay-{hash:016x}").parse().map_err(failed)
}

/// From which event time on all rows are behind the beginning of a shadow; none: that can't be known.
///
/// The first row behind the beginning of a partition has some time t, and rows are at most d out of order: so every row
/// before it has at most t + d. Where a partition has no row behind the beginning, its watermark says how far it had come.
async fn complete_from(plan: &Plan, first: &Manifest, to: &Manifest) -> Result<Option<i64>, ReplayError> {
    let mut complete_from = None;
    for (at, source) in plan.sources.iter().enumerate() {
        let Some(Strategy::Bounded(out_of_orderness_ms)) = source.strategy() else { return Ok(None) };
        for index in 0..source.input.partitions() {
            let id = plan.partition_id(at, index);
            let place = |manifest: &Manifest| {
                let source = manifest.sources.iter().find(|s| s.id == source.id)?;
                let partition = source.partitions.iter().find(|p| p.name == id)?;
                Some((read_position(&partition.position)?, partition.watermark))
            };
            let (Some((begin, _)), Some((end, watermark))) = (place(first), place(to)) else { continue };
            let latest = match first_time(plan, (at, index), &begin, &end).await? {
                Some(time) => Some(time.saturating_add(out_of_orderness_ms)),
                None => watermark.map(|w| w.saturating_add(out_of_orderness_ms).saturating_add(1)),
            };
            complete_from = complete_from.max(latest.map(|latest| latest.saturating_add(1)));
        }
    }
    Ok(complete_from)
}

/// The event time of the first row of a partition between two places, if there is one.
async fn first_time(
    plan: &Plan,
    (source, index): (usize, usize),
    begin: &ReadPosition,
    end: &ReadPosition,
) -> Result<Option<i64>, ReplayError> {
    let mut partition = Partition::open(&plan.sources[source], index, 0).map_err(failed)?;
    partition.resume(begin).map_err(failed)?;
    partition.end_at(end).map_err(failed)?;
    while let Some(rows) = partition.next().await.map_err(failed)? {
        if let Some(time) = rows.times.as_ref().and_then(|times| times.first()) {
            return Ok(Some(*time));
        }
    }
    Ok(None)
}
