//! Where a run begins: at the newest checkpoint that can be believed, or at the beginning. What that means the flow
//! decides ([`tidemill_flow::checkpoint::recovery`]); here stores are opened, output is committed or discarded, and
//! state is put in its place.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use tidemill_checkpoint::{
    Becomes, CheckpointName, Kind, Listed, Manifest, Name, Problem, Selector, Store, failpoint,
};
use tidemill_flow::checkpoint::coordinator::{Coordinator, Settings};
use tidemill_flow::checkpoint::recovery::{Decision, Found, FoundState, decide, next_id};
use tidemill_state::RestoredFile;

use super::JobError;
use super::keeper::{Facts, Keeper, WriterFacts};
use super::restored::Restored;
use super::state::State;
use crate::nats::needed_window;
use crate::pipeline::plan::{CheckpointPlan, Delivery, Plan, RestartPlan, SinkOutput, SinkPlan, StatePlan};
use crate::sink::{
    self, Destination, LogSink, Memory, Offsets, Part, PartFiles, Repeatable, StreamSink, WriteError,
};
use crate::telemetry::{Counter, Counters};

/// The checkpoints of a pipeline that is about to run, and what it goes on from.
pub struct Checkpointing {
    pub(super) restored: Restored,
    pub(super) state: State,
    pub(super) destinations: Destinations,
    keeper: Arc<Keeper>,
    warnings: Vec<String>,
    settings: Settings,
    next_checkpoint: u64,
}

/// Where each writer of a pipeline writes.
#[derive(Clone)]
pub(super) struct Destinations {
    pub(super) sinks: Vec<Destination>,
    pub(super) dead_letters: Destination,
    pub(super) late: Destination,
}

impl Destinations {
    /// Without checkpoints: everything is made anew, but for logs and streams, to which is appended.
    pub(super) fn anew(plan: &Plan) -> Result<Self, JobError> {
        let sink = |sink: &SinkPlan| {
            Ok(match &sink.output {
                SinkOutput::Stdout => Destination::Stdout,
                SinkOutput::Memory => Destination::Memory(Memory::default()),
                SinkOutput::File(path) => Destination::File(path.clone()),
                SinkOutput::Log { path, partitions, .. } => {
                    log_sink(plan, sink, path, *partitions, 0).map_err(JobError::Write)?
                }
                SinkOutput::JetStream(output) => {
                    let names = (plan.name.as_str(), sink.id.as_str());
                    // Nothing is staged.
                    let to = StreamSink::open(output, names, 0, Path::new("")).map_err(JobError::Write)?;
                    Destination::Messages(to)
                }
            })
        };
        Ok(Self {
            sinks: plan.sinks.iter().map(sink).collect::<Result<_, JobError>>()?,
            dead_letters: Destination::FileIfAny(plan.dead_letters.clone()),
            late: Destination::FileIfAny(plan.late.clone()),
        })
    }

    fn of_run(plan: &Plan, run: u64, manifest: Option<&Manifest>, working: &Path) -> Result<Self, JobError> {
        let parts = |path: &std::path::Path| {
            let files = PartFiles::of(path, run).map_err(|e| JobError::Recovery(e.to_string()))?;
            files.map(Destination::Parts).ok_or_else(|| {
                JobError::Recovery(format!("{} needs one `*` in its file name", path.display()))
            })
        };
        let mut sinks = Vec::new();
        for sink in &plan.sinks {
            sinks.push(match (&sink.output, sink.delivery) {
                (SinkOutput::File(path), Delivery::ExactlyOnce) => parts(path)?,
                (SinkOutput::File(path), _) if manifest.is_some() => Destination::Appended(path.clone()),
                (SinkOutput::File(path), _) => Destination::File(path.clone()),
                (SinkOutput::Stdout, _) => Destination::Stdout,
                (SinkOutput::Memory, _) => Destination::Memory(Memory::default()),
                (SinkOutput::JetStream(output), delivery) => {
                    let names = (plan.name.as_str(), sink.id.as_str());
                    let to = StreamSink::open(output, names, run, working).map_err(failed)?;
                    let before = manifest.and_then(|m| m.sinks.iter().find(|s| s.id == sink.id));
                    let known =
                        before.and_then(|sink| sink.repeatable.as_ref()).map(repeatable).transpose()?;
                    match delivery {
                        Delivery::ExactlyOnce => {
                            if known.map(|known| to.has_any(&known)).transpose().map_err(failed)?
                                == Some(true)
                            {
                                return Err(JobError::Recovery(shown_at_once(&format!(
                                    "stream `{}`",
                                    to.stream()
                                ))));
                            }
                            Destination::Transmissions(to.take_over().map_err(failed)?)
                        }
                        Delivery::Idempotent => {
                            let window = idempotent_window(plan);
                            Destination::Messages(to.recognizing(window, known.as_ref()).map_err(failed)?)
                        }
                        Delivery::AtLeastOnce => Destination::Messages(to),
                    }
                }
                (SinkOutput::Log { path, partitions, .. }, _) => {
                    let destination = log_sink(plan, sink, path, *partitions, run).map_err(failed)?;
                    let before = manifest.and_then(|m| m.sinks.iter().find(|s| s.id == sink.id));
                    knowing(destination, before.and_then(|sink| sink.repeatable.as_ref()))?
                }
            });
        }
        Ok(Self { sinks, dead_letters: parts(&plan.dead_letters)?, late: parts(&plan.late)? })
    }

    /// All of them in the order of their writers, each with what it is called in a manifest.
    fn named(&self, plan: &Plan) -> Vec<(String, &Destination)> {
        let sinks = plan.sinks.iter().map(|s| s.id.clone()).zip(&self.sinks);
        sinks
            .chain([("$dead-letters".to_owned(), &self.dead_letters), ("$late".to_owned(), &self.late)])
            .collect()
    }
}

impl Checkpointing {
    /// Opens the pipeline's checkpoints, if it is to have any, and makes what they say true: output that was promised is
    /// committed, other staged output is discarded, and the state is where the checkpoint left it. Until it is dropped
    /// nobody else can run the pipeline. `from` is the checkpoint or savepoint to go on from; none: the newest that is
    /// whole.
    ///
    /// # Errors
    /// When somebody else runs it, or a checkpoint is damaged and can't be passed over, or doesn't fit the plan.
    pub fn open(plan: &Plan, from: Option<&Selector>) -> Result<Option<Self>, JobError> {
        let Some(checkpoints) = &plan.checkpoints else {
            return match from {
                None => Ok(None),
                Some(from) => Err(JobError::Recovery(format!(
                    "it has no checkpoints, so it can't go on from `{from}`; add a section [checkpoints]"
                ))),
            };
        };
        failpoint::at("recovery.begin").map_err(failed)?;
        let mut store = Store::open(&checkpoints.path, &plan.name).map_err(failed)?;
        let working = plan.state.path.clone().unwrap_or_else(|| checkpoints.work.clone());
        store.download_to(working.join("downloads")).map_err(failed)?;
        let mut warnings = store.warnings().to_vec();
        let chosen = match from {
            None => choose(&mut store, &mut warnings)?,
            Some(which) => chosen_by_hand(&store, which)?,
        };
        failpoint::at("recovery.decided").map_err(failed)?;
        let next_checkpoint = chosen.next_checkpoint;
        let destinations = Destinations::of_run(plan, store.run(), chosen.manifest.as_ref(), &working)?;
        let restored = Restored::new(plan, chosen.manifest).map_err(|why| match &chosen.name {
            Some(name) => JobError::Recovery(format!(
                "it can't go on from checkpoint {} in {}: {why}",
                name.checkpoint, checkpoints.path
            )),
            None => JobError::Recovery(why),
        })?;
        let named = destinations.named(plan);
        if let (Some(_), Some(manifest)) = (from, &restored.manifest) {
            for (id, destination) in &named {
                destination.check_goes_back(id, manifest.checkpoint).map_err(JobError::Write)?;
            }
        }
        std::fs::create_dir_all(&working).map_err(failed)?;
        let manifest = restored.manifest.as_ref();
        let folder = working.join("restored");
        if let Some(manifest) = manifest {
            restore_files(&folder, |folder| store.restore(manifest, folder))?;
            bring_back_staged(manifest, &folder, &named)?;
        }
        settle_output(&store, manifest, chosen.name, &named)?;
        failpoint::at("recovery.state").map_err(failed)?;
        let state = match manifest {
            Some(manifest) => open_state(&plan.state, manifest, &working, &folder)?,
            None => State::open(&plan.state, &working, &[]).map_err(failed)?,
        };
        restored.drop_state(&*state.storage()).map_err(failed)?;
        let writers = named.iter().map(|(id, destination)| WriterFacts::new(id, destination)).collect();
        let keeper = Keeper {
            pipeline: plan.name.clone(),
            store: Mutex::new(store),
            state: state.clone(),
            facts: RwLock::new(Arc::new(Facts::new(plan, &restored, writers))),
            working,
            retain: NonZeroUsize::new(checkpoints.retain).expect("the file's reader refuses none"),
            committed: Counter::default(),
        };
        let settings = settings(checkpoints);
        Ok(Some(Self {
            restored,
            state,
            destinations,
            keeper: Arc::new(keeper),
            warnings,
            settings,
            next_checkpoint,
        }))
    }

    /// Whether the last run came to the end of its input: there is nothing left to do.
    pub fn has_finished(&self) -> bool {
        self.restored.has_finished()
    }

    /// What the pipeline goes on from, for people; none if it begins.
    pub fn told(&self) -> Option<String> {
        let Manifest { checkpoint, kind, .. } = self.restored.manifest.as_ref()?;
        Some(match kind {
            Kind::Finished => {
                format!(
                    "it finished with checkpoint {checkpoint}; there is nothing left to do, and what its sources have got \
                     since isn't read: to begin anew give it another `checkpoints.path`"
                )
            }
            _ => format!("going on from checkpoint {checkpoint}"),
        })
    }

    /// What was found damaged, and mended or passed over.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What had been counted at the checkpoint.
    pub fn counters(&self, plan: &Plan) -> Arc<Counters> {
        let counters = Counters::new(plan.sources.len(), plan.operators.len(), plan.sinks.len());
        self.restored.count(plan, &counters);
        Arc::new(counters)
    }

    /// The protocol for so many tasks and writers, and the keeper.
    pub(super) fn begin(self, participants: usize) -> (Coordinator, Arc<Keeper>) {
        let participants = u32::try_from(participants).expect("few tasks and writers");
        (Coordinator::new(self.settings, participants, self.next_checkpoint, 0), self.keeper)
    }

    /// The number before the run's first checkpoint.
    pub(super) fn before_first(&self) -> u64 {
        self.next_checkpoint.saturating_sub(1)
    }

    pub(super) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }
}

/// Puts the state of a checkpoint in its place. `restore` brings its files into a folder, by
/// links where it can; they are read when they are needed.
pub(super) fn restore_state(
    plan: &StatePlan,
    manifest: &Manifest,
    working: &Path,
    restore: impl FnOnce(&Path) -> Result<(), tidemill_checkpoint::Error>,
) -> Result<State, JobError> {
    let folder = working.join("restored");
    restore_files(&folder, restore)?;
    open_state(plan, manifest, working, &folder)
}

fn restore_files(
    folder: &Path,
    restore: impl FnOnce(&Path) -> Result<(), tidemill_checkpoint::Error>,
) -> Result<(), JobError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    restore(folder).map_err(failed)
}

/// Puts rows that wait to be published where their sinks look for them, those that aren't there any more.
fn bring_back_staged(
    manifest: &Manifest,
    restored: &Path,
    writers: &[(String, &Destination)],
) -> Result<(), JobError> {
    for sink in &manifest.sinks {
        let to =
            writers.iter().find(|(id, _)| *id == sink.id).and_then(|(_, destination)| destination.folder());
        for part in &sink.parts {
            let (Becomes::Messages { .. }, Some(folder)) = (&part.becomes, to) else { continue };
            let (from, to) = (part.staged.in_folder(restored), part.staged.in_folder(folder));
            if !to.exists() {
                std::fs::create_dir_all(folder).and_then(|()| std::fs::rename(from, to)).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Opens the state whose files were restored into a folder, which is removed.
fn open_state(
    plan: &StatePlan,
    manifest: &Manifest,
    working: &Path,
    folder: &Path,
) -> Result<State, JobError> {
    let staged: Vec<&str> = staged_names(manifest).collect();
    let files = manifest.state.files.iter().filter(|f| !staged.contains(&f.name.as_str()));
    let files: Vec<RestoredFile> = files
        .map(|f| RestoredFile { name: f.name.as_str().to_owned(), path: folder.join(f.name.as_str()) })
        .collect();
    let state = State::open(plan, working, &files).map_err(failed)?;
    std::fs::remove_dir_all(folder).map_err(failed)?;
    Ok(state)
}

/// The files of a checkpoint that aren't state, but rows which wait to be published.
fn staged_names(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let parts = manifest.sinks.iter().flat_map(|sink| &sink.parts);
    let staged = parts.filter(|part| matches!(part.becomes, Becomes::Messages { .. }));
    staged.map(|part| part.staged.as_str())
}

fn settings(plan: &CheckpointPlan) -> Settings {
    Settings {
        interval_ms: plan.interval_ms,
        min_pause_ms: plan.min_pause_ms,
        timeout_ms: plan.timeout_ms,
        tolerated_failures: plan.tolerated_failures,
    }
}

struct Chosen {
    name: Option<CheckpointName>,
    manifest: Option<Manifest>,
    next_checkpoint: u64,
}

/// The checkpoint or savepoint that a person wants to go on from.
fn chosen_by_hand(store: &Store, which: &Selector) -> Result<Chosen, JobError> {
    let manifest = store.read(which).map_err(failed)?;
    store.verify(&manifest, &|_| ()).map_err(|problems| JobError::Recovery(told(&problems)))?;
    let name = manifest.name();
    let next_checkpoint = next_id(store.numbers_seen().map_err(failed)?);
    Ok(Chosen { name: Some(name), manifest: Some(manifest), next_checkpoint })
}

/// The checkpoint to go on from. Those that are passed over are set aside: what they need may be removed.
fn choose(store: &mut Store, warnings: &mut Vec<String>) -> Result<Chosen, JobError> {
    let listed: Vec<(CheckpointName, _)> =
        store.list().map_err(failed)?.into_iter().filter_map(checkpoint).collect();
    let commits = store.commits_begun().map_err(failed)?;
    // The newest that is whole is enough: older ones are not read.
    let mut found = Vec::new();
    let mut has_whole = false;
    for (name, manifest) in listed.iter().rev() {
        let state = match manifest {
            Err(problem) => FoundState::Broken(problem.to_string()),
            Ok(_) if has_whole => FoundState::Verified,
            Ok(manifest) => match store.verify(manifest, &|_| ()) {
                Ok(_) => FoundState::Verified,
                // It may be whole: what is newer must not be passed over because a network is down.
                Err(problems) if problems.iter().any(|p| matches!(p, Problem::Unreachable { .. })) => {
                    return Err(JobError::Recovery(told(&problems)));
                }
                Err(problems) => FoundState::Broken(told(&problems)),
            },
        };
        has_whole |= state == FoundState::Verified;
        found.push(Found { checkpoint: name.checkpoint, run: name.run, state });
    }
    let next_checkpoint = next_id(store.numbers_seen().map_err(failed)?);
    let (name, set_aside) = match decide(&found, &commits) {
        Decision::Fresh { set_aside } => (None, set_aside),
        Decision::Restore { from, set_aside } => (Some(from), set_aside),
        Decision::Refuse(why) => return Err(JobError::Recovery(why)),
    };
    for name in set_aside {
        let name = CheckpointName { checkpoint: name.checkpoint, run: name.run };
        warnings
            .push(format!("checkpoint {} of run {} is damaged, and set aside", name.checkpoint, name.run));
        store.set_aside(name).map_err(failed)?;
    }
    let name = name.map(|n| CheckpointName { checkpoint: n.checkpoint, run: n.run });
    let manifest = listed.into_iter().find(|(listed, _)| Some(*listed) == name).and_then(|(_, m)| m.ok());
    Ok(Chosen { name, manifest, next_checkpoint })
}

/// Savepoints are gone on from only when a person says so.
fn checkpoint(listed: Listed) -> Option<(CheckpointName, Result<Manifest, tidemill_checkpoint::Error>)> {
    match listed.name {
        Name::Checkpoint(name) => Some((name, listed.manifest)),
        Name::Savepoint(_) => None,
    }
}

/// All of them in one line.
pub(super) fn told(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Commits what the checkpoint promises, and discards what else is staged.
fn settle_output(
    store: &Store,
    manifest: Option<&Manifest>,
    name: Option<CheckpointName>,
    writers: &[(String, &Destination)],
) -> Result<(), JobError> {
    for (id, destination) in writers {
        // What a sink that the checkpoint doesn't know finds is of nobody.
        let known = manifest.filter(|m| m.sinks.iter().any(|s| s.id == *id));
        destination.check_goes_on(id, known.map(|m| m.checkpoint)).map_err(failed)?;
    }
    let mut kept: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
    if let Some(manifest) = manifest {
        for sink in &manifest.sinks {
            let folder = PathBuf::from(&sink.destination);
            let destination =
                writers.iter().find(|(id, _)| *id == sink.id).map(|(_, destination)| *destination);
            let whose = (manifest.pipeline.as_str(), sink.id.as_str());
            let part = |entry| Part::of_entry(whose, &folder, entry, destination, store.run());
            let parts = sink.parts.iter().map(part).collect::<Result<_, _>>().map_err(JobError::Write)?;
            kept.insert(&sink.id, parts);
        }
    }
    let was_begun = match name {
        Some(name) => store.commits_begun().map_err(failed)?.contains(&name.checkpoint),
        None => false,
    };
    failpoint::at("recovery.commit").map_err(failed)?;
    if let Some(name) = name
        && kept.values().any(|parts| !parts.is_empty())
    {
        store.begin_commit(name.checkpoint).map_err(failed)?;
    }
    for parts in kept.values() {
        sink::commit(parts, was_begun).map_err(JobError::Write)?;
    }
    failpoint::at("recovery.discard").map_err(failed)?;
    for (_, destination) in writers {
        destination.discard_staged().map_err(JobError::Write)?;
    }
    Ok(())
}

/// A sink's place in a log, which is made if there is none.
fn log_sink(
    plan: &Plan,
    sink: &SinkPlan,
    path: &Path,
    partitions: u32,
    run: u64,
) -> Result<Destination, WriteError> {
    let log = LogSink::open_or_make(path, partitions, &plan.name, &sink.id, run)?;
    Ok(match sink.delivery {
        Delivery::ExactlyOnce => Destination::Transactions(log),
        Delivery::AtLeastOnce => Destination::Log(log),
        Delivery::Idempotent => Destination::Recognizing(log, None),
    })
}

/// The place in a log with what the checkpoint knows of the rows there that come again.
fn knowing(
    destination: Destination,
    known: Option<&tidemill_checkpoint::Repeatable>,
) -> Result<Destination, JobError> {
    let known = known.map(repeatable).transpose()?;
    // Of another log that stands there now, the checkpoint knows nothing.
    let of_log = |log: &LogSink| known.clone().filter(|known| known.log == log.identity());
    match destination {
        Destination::Recognizing(log, _) => {
            let known = of_log(&log);
            Ok(Destination::Recognizing(log, known))
        }
        Destination::Transactions(log) => match of_log(&log) {
            Some(known) if log.has_any(&known) => {
                Err(JobError::Recovery(shown_at_once(&format!("log {}", log.folder().display()))))
            }
            _ => Ok(Destination::Transactions(log)),
        },
        destination => Ok(destination),
    }
}

fn shown_at_once(place: &str) -> String {
    format!(
        "the {place} has rows that were shown at once since the checkpoint, which \"exactly-once\" would show again; let the \
         pipeline go on with delivery = \"idempotent\", and stop it with Ctrl-C before you change that"
    )
}

/// For how long a server has to know ids: rows that are published twice by one run are no further apart. Those of the run
/// before are looked up.
fn idempotent_window(plan: &Plan) -> Duration {
    let interval_ms = plan.checkpoints.as_ref().map_or(0, |c| c.interval_ms);
    let delay_ms = match plan.restart {
        RestartPlan::None => 0,
        RestartPlan::FromCheckpoint { max_delay_ms, .. } => max_delay_ms,
    };
    needed_window(interval_ms, delay_ms)
}

fn repeatable(known: &tidemill_checkpoint::Repeatable) -> Result<Repeatable, JobError> {
    let offsets = |offsets: &tidemill_checkpoint::Offsets| Offsets {
        before: offsets.before.iter().map(|&(first, end)| first..end).collect(),
        from: offsets.from,
    };
    let log = u64::from_str_radix(&known.log, 16).map_err(failed)?;
    Ok(Repeatable { log, partitions: known.partitions.iter().map(offsets).collect() })
}

fn failed(error: impl ToString) -> JobError {
    JobError::Recovery(error.to_string())
}
