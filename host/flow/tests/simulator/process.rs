//! A process that runs the pipeline: sources, tasks and sinks with their channels, the coordinator, and the notices
//! between them, which may be late, out of order, lost or doubled.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_flow::checkpoint::coordinator::{Action, Coordinator, Event, Settings};
use tidemill_flow::key::owned;
use tidemill_flow::storage::InMemory;

use crate::bugs::Bug;
use crate::context::Context;
use crate::data::Pipeline;
use crate::disk::Trouble;
use crate::host::{Collector, Commit, Persist, Persisted};
use crate::inbox::Signal;
use crate::manifest::Manifest;
use crate::sink::Sink;
use crate::source::Source;
use crate::task::Task;

mod routing;

/// Why a process has ended.
#[derive(Debug)]
pub(crate) enum Exit {
    Trouble(Trouble),
    GivenUp,
    /// The last checkpoint is committed; whether all input was read.
    Finished {
        at_end: bool,
    },
    /// The start was refused; whether a file couldn't be read only this time.
    Refused {
        message: String,
        transient: bool,
    },
    PartsLost(Vec<String>),
}

impl From<Trouble> for Exit {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

pub(crate) struct Process {
    pub(crate) run: u64,
    pipeline: Pipeline,
    storage: InMemory,
    sources: Vec<Source>,
    /// Of the first stage, then of the second.
    tasks: Vec<Task>,
    parallelism: [usize; 2],
    sinks: Vec<Sink>,
    coordinator: Coordinator,
    notices: Vec<Notice>,
    acknowledged: BTreeMap<usize, Payload>,
    persist: Option<Persist>,
    commit: Option<Commit>,
    collector: Collector,
    /// Files that this process knows to be whole and durable.
    known: BTreeSet<String>,
    /// The last checkpoint, once it is triggered.
    last: u64,
}

#[derive(Clone, Debug)]
enum Notice {
    Trigger { checkpoint: u64, last: bool, source: usize },
    Acknowledged { checkpoint: u64, participant: usize, payload: Payload },
    Declined { checkpoint: u64 },
    Aborted { checkpoint: u64, receiver: usize },
    FilesTaken { checkpoint: u64, task: usize },
    Commit { checkpoint: u64, sink: usize },
    Published { checkpoint: u64, sink: usize },
}

#[derive(Clone, Debug)]
enum Payload {
    Position(u32),
    Nothing,
    Parts(Vec<String>),
}

impl Process {
    pub(crate) fn new(
        run: u64,
        pipeline: &Pipeline,
        from: Option<Manifest>,
        storage: InMemory,
        next_checkpoint: u64,
        cx: &mut Context,
    ) -> Self {
        let second = if pipeline.two_stages { cx.random.between(1, 3) as usize } else { 0 };
        let parallelism = [cx.random.between(1, 3) as usize, second];
        let sinks = cx.random.between(1, 2) as usize;
        let before = from.as_ref().map_or(parallelism[0] as u32, |m| m.parallelism);
        cx.counts.rescaled += u64::from(before != parallelism[0] as u32);
        let from = from.unwrap_or_default();
        let participants = pipeline.rows.len() + parallelism[0] + second + sinks;
        let last_stage = if second == 0 { parallelism[0] } else { second };
        let mut process = Self {
            run,
            pipeline: pipeline.clone(),
            sources: Vec::new(),
            tasks: Vec::new(),
            parallelism,
            sinks: (0..sinks).map(|s| Sink::new(run, s, last_stage)).collect(),
            coordinator: Coordinator::new(settings(cx), participants as u32, next_checkpoint, cx.now_ms),
            notices: Vec::new(),
            acknowledged: BTreeMap::new(),
            persist: None,
            commit: None,
            collector: Collector::new(
                (from.checkpoint > 0).then(|| from.name()),
                cx.random.between(1, 3) as usize,
            ),
            known: from.files.iter().cloned().collect(),
            storage,
            last: 0,
        };
        process.open_tasks(before, cx);
        for number in 0..pipeline.rows.len() {
            let position = from.positions.get(number).copied().unwrap_or(0);
            let (source, watermark) = Source::new(number, position, pipeline);
            process.sources.push(source);
            process.send(number, watermark.into_iter().collect(), cx);
        }
        cx.note(run, || {
            format!(
                "runs with {parallelism:?} tasks, {sinks} sinks, from {:?} at {:?}",
                from.name(),
                from.positions
            )
        });
        process
    }

    fn open_tasks(&mut self, before: u32, cx: &mut Context) {
        let patience = [None, Some(1), Some(8)][cx.random.index(3)];
        for (stage, &tasks) in self.parallelism.iter().enumerate() {
            let channels = if stage == 0 { self.pipeline.rows.len() } else { self.parallelism[0] };
            for number in 0..tasks as u32 {
                let groups = owned(number, tasks as u32);
                let mut task = Task::new(stage as u16 + 1, groups.clone(), channels, patience);
                let moved = match cx.bug {
                    Some(Bug::GroupsMovedWrongly) if number < before => owned(number, before),
                    Some(Bug::GroupsMovedWrongly) => 0..0,
                    _ => groups,
                };
                task.load_timers(moved, if cx.has(Bug::TimersTwice) { 2 } else { 1 }, &self.storage);
                task.load_remains(&self.storage, cx);
                self.tasks.push(task);
            }
        }
    }

    /// Does one thing, or finds that there is nothing to do where chance has looked.
    pub(crate) fn step(&mut self, cx: &mut Context) -> Result<(), Exit> {
        match cx.random.below(20) {
            0..=2 => self.read_source(cx),
            3..=8 => {
                let task = cx.random.index(self.tasks.len());
                self.run_task(task, cx);
            }
            9..=10 => {
                let task = cx.random.index(self.tasks.len());
                self.tasks[task].evict(&self.storage, cx);
                if let Some(checkpoint) = self.tasks[task].drain(&self.storage, cx) {
                    self.acknowledge(checkpoint, self.sources.len() + task, Payload::Nothing, cx);
                }
            }
            11..=13 => self.run_sink(cx)?,
            14..=15 => return self.deliver(cx),
            16..=17 => return self.work(cx),
            18 => self.collector.step(self.run, self.persist.as_ref(), &mut self.known, cx)?,
            _ => return self.tick(cx),
        }
        Ok(())
    }

    fn read_source(&mut self, cx: &mut Context) {
        let number = cx.random.index(self.sources.len());
        let others_go_on = self.sources.iter().enumerate().any(|(n, s)| n != number && !s.at_end);
        let source = &mut self.sources[number];
        if source.at_end && !source.left && others_go_on && cx.random.one_in(4) {
            source.left = true;
            self.send(number, vec![Signal::End], cx);
        } else if self.has_room(number) {
            let signals = self.sources[number].read(&self.pipeline, cx);
            self.send(number, signals, cx);
        }
    }

    fn run_task(&mut self, number: usize, cx: &mut Context) {
        if !self.has_room(self.sources.len() + number) {
            return;
        }
        let participant = self.sources.len() + number;
        let task = &mut self.tasks[number];
        let first = !cx.has(Bug::InFlightProcessedLate) || cx.random.one_in(2);
        if first && let Some(signals) = task.settle(&self.storage, cx) {
            self.send(participant, signals, cx);
            return;
        }
        if let Some(checkpoint) = task.inbox.overtake(self.last, cx) {
            task.freeze(checkpoint, &self.storage, cx);
            cx.note(self.run, || {
                format!("task {number} takes its snapshot of {checkpoint}, and waits no longer")
            });
            self.send(participant, vec![Signal::Barrier(checkpoint)], cx);
            return;
        }
        let Some((channel, signal)) = task.inbox.take(cx) else { return };
        let (mut signals, snapshot) = match signal {
            Signal::Row(row) => {
                if task.inbox.records(channel, cx) {
                    task.record(&row, &self.storage, cx);
                }
                (task.row(&row, &self.storage, cx), None)
            }
            Signal::Watermark(w) => (task.watermark(channel, w, &self.storage, cx), None),
            Signal::Barrier(checkpoint) => (Vec::new(), task.inbox.barrier(channel, checkpoint, cx)),
            Signal::End => (Vec::new(), task.inbox.ended(channel, cx)),
        };
        if let Some(checkpoint) = snapshot {
            task.freeze(checkpoint, &self.storage, cx);
            signals.push(Signal::Barrier(checkpoint));
            cx.note(self.run, || format!("task {number} takes its snapshot of {checkpoint}"));
        }
        self.send(participant, signals, cx);
        if let (Some(checkpoint), true) = (snapshot, cx.has(Bug::AcknowledgedBeforeDrain)) {
            self.acknowledge(checkpoint, participant, Payload::Nothing, cx);
        }
    }

    fn run_sink(&mut self, cx: &mut Context) -> Result<(), Trouble> {
        let number = cx.random.index(self.sinks.len());
        let participant = self.sources.len() + self.tasks.len() + number;
        let sink = &mut self.sinks[number];
        if let Some((checkpoint, parts)) = sink.sync(cx)? {
            self.acknowledge(checkpoint, participant, Payload::Parts(parts), cx);
            return Ok(());
        }
        if let Some(checkpoint) = sink.publish(cx)? {
            self.notices.push(Notice::Published { checkpoint, sink: number });
            return Ok(());
        }
        let Some((channel, signal)) = sink.inbox.take(cx) else { return Ok(()) };
        let snapshot = match signal {
            Signal::Row(row) => {
                sink.row(&row, cx)?;
                None
            }
            Signal::Watermark(_) => None,
            Signal::Barrier(checkpoint) => sink.inbox.barrier(channel, checkpoint, cx),
            Signal::End => sink.inbox.ended(channel, cx),
        };
        if let Some(checkpoint) = snapshot {
            sink.close(checkpoint, cx);
        }
        Ok(())
    }

    /// What a participant has to say, unless it can't take its part.
    fn acknowledge(&mut self, checkpoint: u64, participant: usize, payload: Payload, cx: &mut Context) {
        self.notices.push(if cx.fault(60) {
            Notice::Declined { checkpoint }
        } else {
            Notice::Acknowledged { checkpoint, participant, payload }
        });
    }

    /// Delivers one of the notices, perhaps twice, perhaps not at all.
    fn deliver(&mut self, cx: &mut Context) -> Result<(), Exit> {
        if self.notices.is_empty() {
            return Ok(());
        }
        let at = cx.random.index(self.notices.len());
        let notice = self.notices.swap_remove(at);
        if cx.fault(cx.lost_one_in) {
            self.notices.push(notice.clone());
        } else if cx.fault(cx.lost_one_in) {
            cx.note(self.run, || format!("lost: {notice:?}"));
            return Ok(());
        }
        cx.note(self.run, || format!("{notice:?}"));
        match notice {
            Notice::Trigger { checkpoint, last, source } => {
                if let Some((position, signals)) = self.sources[source].trigger(checkpoint, last, cx) {
                    self.send(source, signals, cx);
                    self.acknowledge(checkpoint, source, Payload::Position(position), cx);
                }
            }
            Notice::Acknowledged { checkpoint, participant, payload } => {
                if self.coordinator.collecting() == Some(checkpoint) {
                    self.acknowledged.insert(participant, payload);
                }
                let participant = participant as u32;
                return self.tell(Event::Acknowledged { checkpoint, participant }, cx);
            }
            Notice::Declined { checkpoint } => {
                return self.tell(Event::Declined { checkpoint, reason: "no space".to_string() }, cx);
            }
            Notice::Aborted { checkpoint, receiver } => match receiver.checked_sub(self.tasks.len()) {
                None => self.tasks[receiver].aborted(checkpoint),
                Some(sink) => self.sinks[sink].aborted(checkpoint),
            },
            Notice::FilesTaken { checkpoint, task } => self.tasks[task].released(checkpoint),
            Notice::Commit { checkpoint, sink } => self.sinks[sink].commit(checkpoint),
            Notice::Published { checkpoint, sink } => {
                let done = self.commit.as_mut().is_some_and(|c| c.published(checkpoint, sink));
                if let Some(commit) = self.commit.take_if(|_| done) {
                    let name =
                        Manifest { checkpoint: commit.checkpoint, run: self.run, ..Manifest::default() }
                            .name();
                    self.collector.committed(name);
                    cx.counts.committed += 1;
                    return self.tell(Event::Committed { checkpoint: commit.checkpoint }, cx);
                }
            }
        }
        Ok(())
    }

    /// A step of writing or committing a checkpoint.
    fn work(&mut self, cx: &mut Context) -> Result<(), Exit> {
        if let Some(persist) = &mut self.persist {
            let checkpoint = persist.checkpoint();
            match persist.step(&self.storage, &mut self.known, cx)? {
                Persisted::Going => {}
                Persisted::FilesTaken => {
                    let all = (0..self.tasks.len()).map(|task| Notice::FilesTaken { checkpoint, task });
                    self.notices.extend(all);
                }
                Persisted::Durable => {
                    self.persist = None;
                    cx.note(self.run, || format!("{checkpoint} is durable"));
                    return self.tell(Event::Durable { checkpoint }, cx);
                }
                Persisted::NotDurable => {
                    self.persist = None;
                    cx.counts.not_durable += 1;
                    return self.tell(Event::NotDurable { checkpoint, reason: "no space".to_string() }, cx);
                }
            }
        } else if let Some(commit) = &mut self.commit {
            let checkpoint = commit.checkpoint;
            let sinks = commit.step(self.run, cx)?;
            if self.notices.is_empty() {
                self.notices.extend(sinks.into_iter().map(|sink| Notice::Commit { checkpoint, sink }));
            }
        }
        Ok(())
    }

    fn tick(&mut self, cx: &mut Context) -> Result<(), Exit> {
        cx.now_ms += cx.random.below(8);
        if self.sources.iter().all(|s| s.at_end) {
            self.tell(Event::InputEnded, cx)?;
        } else if cx.fault(400) {
            self.tell(Event::Stop, cx)?;
        } else if cx.fault(50) {
            self.tell(Event::Asked, cx)?;
        }
        self.tell(Event::Tick, cx)
    }

    fn tell(&mut self, event: Event, cx: &mut Context) -> Result<(), Exit> {
        for action in self.coordinator.on(event, cx.now_ms) {
            cx.note(self.run, || format!("{action:?}"));
            match action {
                Action::Trigger { checkpoint, last, .. } => {
                    self.acknowledged.clear();
                    self.last = if last { checkpoint } else { self.last };
                    let all =
                        (0..self.sources.len()).map(|source| Notice::Trigger { checkpoint, last, source });
                    self.notices.extend(all);
                }
                Action::Persist { checkpoint } => {
                    self.persist = Some(Persist::new(self.manifest(checkpoint)));
                    if cx.has(Bug::CommitBeforeDurable) {
                        let all = (0..self.sinks.len()).map(|sink| Notice::Commit { checkpoint, sink });
                        self.notices.extend(all);
                    }
                }
                Action::Commit { checkpoint } => {
                    self.commit = Some(Commit::new(checkpoint, self.sinks.len(), cx))
                }
                Action::Abort { checkpoint, .. } => {
                    cx.counts.aborted += 1;
                    // Many never hear of it: then the next barrier has to tell them.
                    let receivers = (0..self.tasks.len() + self.sinks.len()).filter(|_| !cx.fault(2));
                    self.notices.extend(receivers.map(|receiver| Notice::Aborted { checkpoint, receiver }));
                }
                Action::GiveUp { .. } => return Err(Exit::GivenUp),
                Action::Finished => {
                    return Err(Exit::Finished { at_end: self.sources.iter().all(|s| s.at_end) });
                }
            }
        }
        Ok(())
    }

    fn manifest(&mut self, checkpoint: u64) -> Manifest {
        let mut manifest = Manifest {
            checkpoint,
            run: self.run,
            parallelism: self.parallelism[0] as u32,
            ..Manifest::default()
        };
        for payload in std::mem::take(&mut self.acknowledged).into_values() {
            match payload {
                Payload::Position(position) => manifest.positions.push(position),
                Payload::Parts(parts) => manifest.parts.extend(parts),
                Payload::Nothing => {}
            }
        }
        manifest
    }
}

fn settings(cx: &mut Context) -> Settings {
    if !cx.faulty {
        return Settings { interval_ms: 400, min_pause_ms: 20, timeout_ms: 1_000_000, tolerated_failures: 9 };
    }
    Settings {
        interval_ms: cx.random.between(5, 80),
        min_pause_ms: cx.random.below(30),
        timeout_ms: cx.random.between(20, 400),
        tolerated_failures: cx.random.below(4) as u32,
    }
}
