//! A start, step by step, as the flow's `checkpoint` module prescribes it; it may be interrupted between any two.

use std::collections::VecDeque;

use tidemill_flow::checkpoint::commit;
use tidemill_flow::checkpoint::recovery::{Decision, FoundState, Name, decide, next_id};

use crate::bugs::Bug;
use crate::context::{Context, intent_path, manifest_path};
use crate::data::Pipeline;
use crate::disk::{Folder, Path, Trouble};
use crate::manifest::{Manifest, entries_of, names, read_all};
use crate::process::{Exit, Process};
use crate::sink::publish_part;
use crate::task::storage_of;

pub(crate) struct Start {
    pub(crate) run: u64,
    todo: VecDeque<Step>,
    from: Option<Manifest>,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    next_checkpoint: u64,
}

enum Step {
    ClaimRun,
    /// Reads everything and decides.
    Decide,
    SetAside(Path),
    /// Writes a copy of the manifest that is missing or broken: what is committed must be there twice.
    Heal(u8),
    MarkIntent(u64),
    /// Decides about the parts that are found.
    SortParts,
    Publish(String),
    SyncPublished,
    Discard(String),
}

impl Start {
    pub(crate) fn new() -> Self {
        Self {
            run: 0,
            todo: VecDeque::from([Step::ClaimRun, Step::Decide]),
            from: None,
            entries: Vec::new(),
            next_checkpoint: 0,
        }
    }

    /// Takes a step. Returns the process that runs when it was the last.
    pub(crate) fn step(&mut self, pipeline: &Pipeline, cx: &mut Context) -> Result<Option<Process>, Exit> {
        let Some(step) = self.todo.pop_front() else { return Ok(Some(self.open(pipeline, cx))) };
        cx.disk.check_fence(if self.run == 0 { u64::MAX } else { self.run })?;
        match step {
            Step::ClaimRun => self.run = cx.disk.claim_run(),
            Step::Decide => self.decide(cx)?,
            Step::SetAside(path) => {
                cx.counts.passed_over += 1;
                cx.disk.remove(self.run, &path)?;
            }
            Step::Heal(_) if cx.has(Bug::NotHealed) => {}
            Step::Heal(copy) => self.heal(copy, cx)?,
            Step::MarkIntent(checkpoint) => {
                let path = intent_path(checkpoint);
                cx.disk.write_atomically(self.run, path.clone(), Vec::new())?;
                cx.disk.sync(self.run, &path)?;
            }
            Step::SortParts => self.sort_parts(cx)?,
            Step::Publish(part) => {
                if !publish_part(self.run, &part, cx)? {
                    self.todo.push_front(Step::Publish(part));
                }
            }
            Step::SyncPublished => cx.disk.sync_published(self.run)?,
            Step::Discard(part) => cx.disk.remove(self.run, &(Folder::Staged, part))?,
        }
        Ok(None)
    }

    fn decide(&mut self, cx: &mut Context) -> Result<(), Exit> {
        let unreadable = self.a_file_that_cannot_be_read_today(cx);
        let (found, mut good) = read_all(cx, unreadable.as_ref());
        let intents: Vec<u64> = cx.disk.list(Folder::Intents).map(|i| i.parse().expect("a number")).collect();
        let committing = if cx.has(Bug::FallbackBehindCommit) { Vec::new() } else { intents.clone() };
        self.next_checkpoint = next_id(found.iter().map(|f| f.checkpoint).chain(intents));
        let broken = found.iter().filter(|f| f.state != FoundState::Verified).count();
        let decision = decide(&found, &committing);
        cx.note(self.run, || format!("{} manifests, {broken} broken: {decision:?}", found.len()));
        match decision {
            Decision::Fresh { set_aside } => self.set_aside(&set_aside, cx),
            Decision::Restore { from, set_aside } => {
                self.set_aside(&set_aside, cx);
                self.todo.extend([Step::Heal(0), Step::Heal(1)]);
                if !cx.has(Bug::NoIntentAtStart) && !cx.has(Bug::NoIntent) {
                    self.todo.push_back(Step::MarkIntent(from.checkpoint));
                }
                self.load(good.remove(&from).expect("it verified"), cx);
            }
            Decision::Refuse(message) => {
                return Err(Exit::Refused { message, transient: unreadable.is_some() });
            }
        }
        self.todo.push_back(Step::SortParts);
        Ok(())
    }

    fn a_file_that_cannot_be_read_today(&self, cx: &mut Context) -> Option<Path> {
        if !cx.fault(3) {
            return None;
        }
        let files: Vec<Path> = cx.disk.list(Folder::Files).map(|f| (Folder::Files, f.to_string())).collect();
        let path = files.get(cx.random.index(files.len().max(1))).cloned();
        cx.note(self.run, || format!("{path:?} can't be read today"));
        path
    }

    fn set_aside(&mut self, passed_over: &[Name], cx: &Context) {
        if cx.has(Bug::NothingSetAside) {
            return;
        }
        let passed_over = names(&cx.disk).into_iter().filter(|(name, _)| passed_over.contains(name));
        self.todo.extend(passed_over.map(|(name, copy)| Step::SetAside(manifest_path(name, copy))));
    }

    fn load(&mut self, manifest: Manifest, cx: &mut Context) {
        cx.counts.restored += 1;
        for file in &manifest.files {
            let bytes = cx.disk.read(&(Folder::Files, file.clone())).unwrap_or_default();
            self.entries.extend(entries_of(bytes));
        }
        self.from = Some(manifest);
    }

    fn heal(&mut self, copy: u8, cx: &mut Context) -> Result<(), Trouble> {
        let Some(manifest) = &self.from else { return Ok(()) };
        let (path, bytes) = (manifest_path(manifest.name(), copy), manifest.write());
        if cx.disk.read(&path) != Some(&bytes) {
            cx.disk.write_atomically(self.run, path.clone(), bytes)?;
        }
        // Also what is there: a start before this one may have been killed between writing it and syncing it (seed
        // 1795274893000197).
        cx.disk.sync(self.run, &path)?;
        Ok(())
    }

    fn sort_parts(&mut self, cx: &Context) -> Result<(), Exit> {
        let list = |folder| cx.disk.list(folder).map(str::to_string).collect::<Vec<_>>();
        let (staged, published) = (list(Folder::Staged), list(Folder::Published));
        let listed = self.from.as_ref().map(|m| m.parts.clone()).unwrap_or_default();
        let sorted = match cx.bug {
            Some(Bug::CommitAppends) => {
                let is_listed = |part: &&String| listed.contains(part);
                let publish = staged.iter().filter(is_listed).cloned().collect();
                let discard = staged.iter().filter(|p| !is_listed(p)).cloned().collect();
                commit::Restored { publish, discard }
            }
            Some(Bug::PendingPartsForgotten) => commit::Restored { publish: Vec::new(), discard: staged },
            Some(Bug::StagedPartsKept) => commit::Restored { publish: staged, discard: Vec::new() },
            _ => commit::restore(&listed, &staged, &published).map_err(Exit::PartsLost)?,
        };
        self.todo.extend(sorted.publish.into_iter().map(Step::Publish));
        self.todo.push_back(Step::SyncPublished);
        self.todo.extend(sorted.discard.into_iter().map(Step::Discard));
        Ok(())
    }

    fn open(&mut self, pipeline: &Pipeline, cx: &mut Context) -> Process {
        let storage = storage_of(std::mem::take(&mut self.entries));
        Process::new(self.run, pipeline, self.from.take(), storage, self.next_checkpoint, cx)
    }
}
