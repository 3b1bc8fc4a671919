//! Putting a pipeline together: its tasks, queues and writers are made from the plan, and from the checkpoint that it goes
//! on from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemill_flow::batch::Position;
use tidemill_flow::in_flight::InFlight;
use tidemill_flow::key::owned;
use tidemill_flow::row_id::{OperatorIds, PartitionIds};
use tokio::sync::{mpsc, watch};

use super::clock::ProcessingTime;
use super::compared::twin;
use super::drift::Groups;
use super::in_flight::{Recorder, Remains};
use super::inbox::{Inbox, SIGNALS_WAITING};
use super::migration::migrate;
use super::operator::{Ground, Guest, Operator, right};
use super::outlets::{Edge, Refusals, To, ToSink};
use super::rate::Rate;
use super::recovery::{Checkpointing, Destinations};
use super::restored::{Restored, Versions, has_state, read_position, state_schema};
use super::snapshot::{Command, Report, Snapshots, Wish};
use super::source::{Assigned, Cut, SourceHead, Time};
use super::state::{Place, State};
use super::swap::Swaps;
use super::task::{Head, LATE_FOR_JOIN, LATE_FOR_WINDOWS, Late, Node, Task};
use super::transform;
use super::{JobError, Signal};
use crate::formats::Encoder;
use crate::log::{Partition, partition_name};
use crate::pipeline::plan::{self, Bound, InputPlan, OperatorKind, Plan, SinkOutput, Target};
use crate::pipeline::stages::late_fields;
use crate::plugin::World;
use crate::sink::{DeadLetters, Lines, Outlet, Prepared};
use crate::telemetry::Counters;

/// What connects tasks and the coordinator.
pub(super) struct Wires {
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) reported: mpsc::UnboundedReceiver<Report>,
    pub(super) commands: watch::Sender<Command>,
    pub(super) taken: watch::Sender<u64>,
    pub(super) swaps: Arc<Swaps>,
}

impl Wires {
    pub(super) fn new() -> Self {
        let (reports, reported) = mpsc::unbounded_channel();
        Self {
            reports,
            reported,
            commands: watch::Sender::new(Command::Run),
            taken: watch::Sender::new(0),
            swaps: Arc::default(),
        }
    }
}

/// The names of all partitions, by number.
pub(super) fn partition_names(plan: &Plan) -> Arc<[String]> {
    let names = plan.sources.iter().flat_map(|s| (0..s.input.partitions()).map(|i| partition_name(s, i)));
    let names: Arc<[String]> = names.collect();
    assert!(names.len() < Position::PARTITIONS_MAX as usize, "{} partitions", names.len());
    names
}

/// Where a pipeline begins.
pub(super) struct Start<'a> {
    /// What it goes on from; none without checkpoints.
    pub(super) restored: Option<&'a Restored>,
    pub(super) state: State,
    pub(super) destinations: Destinations,
    /// The number before the run's first checkpoint.
    pub(super) after: u64,
    pub(super) clock: ProcessingTime,
}

impl<'a> Start<'a> {
    /// At a checkpoint, or at the beginning; on the clock on the wall.
    ///
    /// # Errors
    /// When a sink's log can't be opened.
    pub(super) fn of(plan: &Plan, checkpointing: Option<&'a Checkpointing>) -> Result<Self, JobError> {
        let clock = ProcessingTime::Wall;
        Ok(match checkpointing {
            Some(c) => Self {
                restored: Some(&c.restored),
                state: c.state.clone(),
                destinations: c.destinations.clone(),
                after: c.before_first(),
                clock,
            },
            None => Self {
                restored: None,
                state: State::of_run(&plan.state),
                destinations: Destinations::anew(plan)?,
                after: 0,
                clock,
            },
        })
    }
}

/// Makes the tasks of a plan, stage by stage.
pub(super) struct Builder<'a> {
    plan: &'a Plan,
    counters: Arc<Counters>,
    partitions: Arc<[String]>,
    restored: Option<&'a Restored>,
    wires: Option<&'a Wires>,
    clock: ProcessingTime,
    state: State,
    groups: Groups,
    rate: Option<Arc<Rate>>,
    /// How many have been made.
    tasks: usize,
    sinks: Vec<Outlet>,
    dead_letters: Outlet,
    late: Outlet,
    pub(super) writers: Vec<Prepared>,
    /// For each stage and task the queues that feed it.
    inboxes: Inboxes,
    /// For each stage and task, and each of its edges to a stage in the order in which the edges are made,
    /// the queues to that stage's tasks.
    senders: Senders,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        counters: Arc<Counters>,
        partitions: Arc<[String]>,
        start: Start<'a>,
        wires: Option<&'a Wires>,
    ) -> Self {
        let Start { restored, state, destinations, after, clock } = start;
        let mut writers = Vec::new();
        let mut prepare = |destination, header, sink| {
            let (outlet, writer) = Prepared::new(destination, header, sink, after);
            writers.push(writer);
            outlet
        };
        let mut sinks = Vec::new();
        for ((at, sink), destination) in plan.sinks.iter().enumerate().zip(destinations.sinks) {
            sinks.push(prepare(destination, encoder(sink).header(), Some(at)));
        }
        let dead_letters = prepare(destinations.dead_letters, Vec::new(), None);
        let late = prepare(destinations.late, Vec::new(), None);
        let (inboxes, senders) = queues(plan);
        Self {
            plan,
            counters,
            partitions,
            restored,
            wires,
            clock,
            state,
            groups: Groups::new(plan),
            rate: plan.rows_per_second_max.map(|rows| Arc::new(Rate::new(rows))),
            tasks: 0,
            sinks,
            dead_letters,
            late,
            writers,
            inboxes,
            senders,
        }
    }

    pub(super) async fn stage(
        &mut self,
        at: usize,
        stop: &watch::Receiver<Wish>,
    ) -> Result<Vec<Task>, JobError> {
        let stage = &self.plan.stages[at];
        let mut tasks = Vec::new();
        for task in 0..stage.tasks {
            let mut outlets = self.outlets(stage);
            let counters = Arc::new(self.counters.part());
            let head = match &stage.head {
                plan::Head::Source { source, outputs } => {
                    let edges = self.edges(at, task, outputs, &outlets)?;
                    let ids = outputs.iter().any(|edge| edge.ids);
                    let head = self.source(*source, task, stage.tasks, ids, &outlets, &counters)?;
                    Head::Source(head, edges)
                }
                plan::Head::Inbox => {
                    Head::Inbox(Inbox::new(std::mem::take(&mut self.inboxes[at][task]), self.patience(stage)))
                }
            };
            let mut nodes = Vec::new();
            for node in &stage.nodes {
                nodes.push(self.node(at, task, node, &outlets, &counters).await?);
            }
            let snapshots = self.wires.map(|wires| {
                let (commands, taken) = (wires.commands.subscribe(), wires.taken.subscribe());
                Snapshots::new(
                    self.tasks,
                    std::mem::take(&mut outlets.all),
                    counters,
                    wires.reports.clone(),
                    commands,
                    taken,
                    wires.swaps.clone(),
                )
            });
            self.tasks += 1;
            let (recorder, remains) = self.in_flight(stage, task)?;
            let clock = self.clock.clone();
            tasks.push(Task { head, nodes, stop: stop.clone(), clock, snapshots, recorder, remains });
        }
        Ok(tasks)
    }

    /// How long the tasks of a stage wait for barriers. Where any task may get any row, rows in flight would belong to
    /// nobody; joins and windows that fire more than once can't take them up either. There they wait until all have come.
    fn patience(&self, stage: &plan::Stage) -> Option<Duration> {
        let after_ms = self.plan.checkpoints.as_ref()?.unaligned_after_ms?;
        keyed(self.plan, stage).map(|_| Duration::from_millis(after_ms))
    }

    /// What records rows in flight to a task, and what was in flight to it.
    fn in_flight(
        &self,
        stage: &plan::Stage,
        task: usize,
    ) -> Result<(Option<Recorder>, Option<Remains>), JobError> {
        let (Some(restored), Some((operator, key))) = (self.restored, keyed(self.plan, stage)) else {
            return Ok((None, None));
        };
        let (place, _) = self.place(operator, task, stage.tasks);
        let rows = InFlight::new(place.addresses, &operator.input);
        let recorder = self.patience(stage).map(|_| Recorder::new(rows, &place, key));
        let Place { storage, addresses, groups, .. } = place;
        let remains = restored.in_flight(operator, addresses).map_err(JobError::Recovery)?;
        let remains = remains.map(|rows| {
            let ranges = restored.watermarks(&operator.id, &groups);
            Remains { rows, storage, groups, ranges }
        });
        Ok((recorder, remains))
    }

    /// One more task's ways to the writers that it may write to.
    fn outlets(&self, stage: &plan::Stage) -> Outlets {
        let (dead_letters, late) = (self.dead_letters.for_task(), self.late.for_task());
        let mut all = vec![dead_letters.clone(), late.clone()];
        let mut sinks = BTreeMap::new();
        for edge in stage.edges() {
            if let Target::Sink(sink) = edge.target
                && !sinks.contains_key(&sink)
            {
                let outlet = self.sinks[sink].for_task();
                all.push(outlet.clone());
                sinks.insert(sink, outlet);
            }
        }
        let letters = |outlet| DeadLetters::new(outlet, self.partitions.clone());
        Outlets { sinks, dead_letters: letters(dead_letters), late: letters(late), all }
    }

    fn source(
        &mut self,
        source: usize,
        task: usize,
        tasks: usize,
        ids: bool,
        outlets: &Outlets,
        counters: &Arc<Counters>,
    ) -> Result<SourceHead, JobError> {
        let plan = &self.plan.sources[source];
        let before: usize = self.plan.sources[..source].iter().map(|s| s.input.partitions()).sum();
        let mut assigned = Vec::new();
        for index in (task..plan.input.partitions()).step_by(tasks) {
            let number = u32::try_from(before + index).expect("checked with the names");
            let mut partition = Partition::open(plan, index, number)?;
            let id = self.plan.partition_id(source, index);
            let state = self.restored.and_then(|r| r.partition(&plan.id, &id));
            if let Some(state) = &state {
                partition.resume(&state.position)?;
            }
            let ids = ids.then(|| {
                let log = partition.log_identity()?;
                let name = log.map_or_else(|| id.clone(), |log| format!("{id} of {log:016x}"));
                Ok::<_, JobError>(PartitionIds::new(&self.plan.name, &plan.id, &name))
            });
            let ids = ids.transpose()?;
            let cut = self.cut(&plan.id, &id, &mut partition)?;
            assigned.push(Assigned { id, ids, partition, number, state, cut });
        }
        let time = Time {
            strategy: plan.strategy(),
            idle_after_ms: plan.idle_after_ms,
            group: plan.align.as_ref().map(|align| self.groups.join(align)),
            clock: self.clock.clone(),
        };
        Ok(SourceHead::new(
            (plan.id.clone(), source),
            plan.schema.arrow(),
            assigned,
            time,
            self.rate.clone(),
            counters.clone(),
            outlets.dead_letters.clone(),
        ))
    }

    /// Where a partition ends before its input does.
    fn cut(&self, source: &str, name: &str, partition: &mut Partition) -> Result<Option<Cut>, JobError> {
        let Some(bounds) = &self.plan.bounds else { return Ok(None) };
        let Some(bound) = bounds.get(source, name) else { return Ok(Some(Cut::Unread)) };
        let position = read_position(&bound.position);
        partition.end_at(&position.expect("a manifest's reader refuses what is no hash"))?;
        Ok(Some(match bound {
            Bound { ended: true, .. } => Cut::Ended,
            Bound { is_idle: true, .. } => Cut::Idle,
            Bound { .. } => Cut::Active,
        }))
    }

    async fn node(
        &mut self,
        stage: usize,
        task: usize,
        node: &plan::Node,
        outlets: &Outlets,
        counters: &Arc<Counters>,
    ) -> Result<Node, JobError> {
        let plan = &self.plan.operators[node.operator];
        let makes_ids = node.outputs.iter().any(|edge| edge.ids);
        let of_input = |input: InputPlan| {
            transform::Operator::new(
                plan,
                input,
                node.operator,
                makes_ids.then(|| OperatorIds::new(&self.plan.name, &plan.id)),
                counters.clone(),
                outlets.dead_letters.clone(),
                self.partitions.clone(),
            )
        };
        let places: Vec<_> =
            [Some(plan.first_input()), right(plan).cloned()].into_iter().flatten().map(of_input).collect();
        let plugin = &plan.plugin;
        let guest = Guest::start(plan).await.map_err(|failure| places[0].failed(failure, None))?;
        let guest = guest.compared(twin(self.plan, plan));
        let ground = has_state(plan).then(|| {
            let (place, versions) = self.place(plan, task, self.plan.stages[stage].tasks);
            Ground { place, versions, clock: self.clock.clone() }
        });
        if let Some(Ground { place, versions, .. }) = &ground {
            migrate(plan, place, versions).await?;
        }
        let operator = Operator::new(guest, places, plan, ground).await?;
        let late = Late {
            edges: self.edges(stage, task, &node.late, outlets)?,
            file: outlets.late.clone(),
            operator: plan.id.clone(),
            digest: plugin.digest().to_owned(),
            schema: late_fields(plan),
            reason: if plugin.world() == World::Join { LATE_FOR_JOIN } else { LATE_FOR_WINDOWS },
        };
        Ok(Node { operator, outputs: self.edges(stage, task, &node.outputs, outlets)?, late })
    }

    /// Where the state of a task's operator is kept, and the schemas in which it is.
    fn place(&self, operator: &plan::OperatorPlan, task: usize, tasks: usize) -> (Place, Versions) {
        let index = |n: usize| u32::try_from(n).expect("at most 720 tasks");
        let groups = owned(index(task), index(tasks));
        let restored = self.restored;
        let watermark = restored.and_then(|r| r.watermark(&operator.id, &groups));
        let number = restored.map_or_else(|| self.number(operator), |r| r.number(&operator.id));
        let place = Place::new(&self.state, self.plan, number, groups, watermark);
        let versions = restored.map(|r| r.versions(&operator.id).clone());
        (place, versions.unwrap_or_else(|| Versions::first(state_schema(operator))))
    }

    /// Without checkpoints: its place among the operators.
    fn number(&self, operator: &plan::OperatorPlan) -> u16 {
        let at = self.plan.operators.iter().position(|o| o.id == operator.id).expect("one of the plan");
        u16::try_from(at).expect("few operators")
    }

    fn edges(
        &mut self,
        stage: usize,
        task: usize,
        edges: &[plan::Edge],
        outlets: &Outlets,
    ) -> Result<Vec<Edge>, JobError> {
        let mut made = Vec::new();
        for edge in edges {
            let to = match &edge.target {
                Target::Node(node) => To::Node(*node),
                Target::Sink(sink) => {
                    let plan = &self.plan.sinks[*sink];
                    let refusals = Refusals {
                        id: plan.id.clone(),
                        schema: plan.schema.clone(),
                        dead_letters: outlets.dead_letters.clone(),
                    };
                    let (lines, outlet) = (lines(plan), outlets.sinks[sink].clone());
                    To::Sink(Box::new(ToSink { lines, outlet, refusals }))
                }
                Target::Stage { routing, .. } => {
                    let tasks = self.senders[stage][task].pop_front().expect("a queue for each edge");
                    To::Tasks { routing: routing.clone(), tasks, turn: task }
                }
            };
            made.push(Edge::new(edge.columns.clone(), edge.schema.arrow(), edge.ids, to));
        }
        Ok(made)
    }
}

/// The operator that begins a stage, and its key, if a row's key decides which task gets it.
fn keyed<'p>(plan: &'p Plan, stage: &plan::Stage) -> Option<(&'p plan::OperatorPlan, &'p [usize])> {
    let first = stage.nodes.first().filter(|_| matches!(stage.head, plan::Head::Inbox))?;
    let operator = &plan.operators[first.operator];
    match &operator.kind {
        OperatorKind::Aggregate { key, .. } | OperatorKind::Process { key, .. } => Some((operator, key)),
        OperatorKind::Transform | OperatorKind::Windowed { .. } | OperatorKind::Join(_) => None,
    }
}

/// A task's ways to the writers.
struct Outlets {
    sinks: BTreeMap<usize, Outlet>,
    dead_letters: DeadLetters,
    late: DeadLetters,
    /// All of them, once each.
    all: Vec<Outlet>,
}

/// For each stage and task the queues, each with the input that it feeds.
type Inboxes = Vec<Vec<Vec<(usize, mpsc::Receiver<Signal>)>>>;
type Senders = Vec<Vec<VecDeque<Vec<mpsc::Sender<Signal>>>>>;

/// A queue from each task to each task of the stages that it feeds.
fn queues(plan: &Plan) -> (Inboxes, Senders) {
    let mut inboxes: Inboxes =
        plan.stages.iter().map(|s| (0..s.tasks).map(|_| Vec::new()).collect()).collect();
    let mut senders: Senders =
        plan.stages.iter().map(|s| (0..s.tasks).map(|_| VecDeque::new()).collect()).collect();
    for (at, stage) in plan.stages.iter().enumerate() {
        for (target, input) in stage.edges().filter_map(plan::Edge::stage) {
            for ways_out in &mut senders[at] {
                let mut to_tasks = Vec::new();
                for inbox in &mut inboxes[target] {
                    let (sender, receiver) = mpsc::channel(SIGNALS_WAITING);
                    to_tasks.push(sender);
                    inbox.push((input, receiver));
                }
                ways_out.push_back(to_tasks);
            }
        }
    }
    (inboxes, senders)
}

fn lines(sink: &plan::SinkPlan) -> Lines {
    let log_key = match &sink.output {
        SinkOutput::Log { key, .. } => Some(key.as_slice()),
        // As for a log, times stand beside the lines.
        SinkOutput::Memory => Some(&[][..]),
        SinkOutput::File(_) | SinkOutput::Stdout | SinkOutput::JetStream(_) => None,
    };
    let lines = Lines::new(&sink.format, sink.timestamps, &sink.schema, log_key);
    match &sink.output {
        SinkOutput::JetStream(output) => lines.addressed(output),
        _ => lines,
    }
}

fn encoder(sink: &plan::SinkPlan) -> Encoder {
    let encoder = Encoder::new(&sink.format, &sink.schema).expect("the check has tried");
    encoder.with_timestamps(sink.timestamps)
}
