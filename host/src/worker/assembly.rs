//! Putting a pipeline together: its tasks, queues and writers are made from the plan, and from the checkpoint that it goes
//! on from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidemill_flow::batch::Position;
use tidemill_flow::key::owned;
use tokio::sync::{mpsc, watch};

use super::aggregate::AggregateNode;
use super::inbox::{Inbox, SIGNALS_WAITING};
use super::outlets::{Edge, To};
use super::process::ProcessNode;
use super::recovery::{Checkpointing, Destinations};
use super::restored::{Versions, state_schema};
use super::snapshot::{Command, Report, Snapshots};
use super::source::{Assigned, SourceHead};
use super::state::{Place, State};
use super::task::{Head, Late, Node, Operator, Task};
use super::transform::{self, TransformNode};
use super::{JobError, Signal};
use crate::formats::Encoder;
use crate::log::{Partition, partition_name};
use crate::pipeline::plan::{self, Plan, SinkOutput, Target};
use crate::pipeline::stages::late_schema;
use crate::plugin::World;
use crate::sink::{DeadLetters, Lines, Outlet, Prepared};
use crate::telemetry::Counters;

/// What connects tasks and the coordinator.
pub(super) struct Wires {
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) reported: mpsc::UnboundedReceiver<Report>,
    pub(super) commands: watch::Sender<Command>,
    pub(super) taken: watch::Sender<u64>,
}

impl Wires {
    pub(super) fn new() -> Self {
        let (reports, reported) = mpsc::unbounded_channel();
        Self { reports, reported, commands: watch::Sender::new(Command::Run), taken: watch::Sender::new(0) }
    }
}

/// The names of all partitions, by number.
pub(super) fn partition_names(plan: &Plan) -> Arc<[String]> {
    let names = plan.sources.iter().flat_map(|s| (0..s.input.partitions()).map(|i| partition_name(s, i)));
    let names: Arc<[String]> = names.collect();
    assert!(names.len() < Position::PARTITIONS_MAX as usize, "{} partitions", names.len());
    names
}

/// Makes the tasks of a plan, stage by stage.
pub(super) struct Builder<'a> {
    plan: &'a Plan,
    counters: Arc<Counters>,
    partitions: Arc<[String]>,
    checkpointing: Option<&'a Checkpointing>,
    wires: Option<&'a Wires>,
    state: State,
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
        checkpointing: Option<&'a Checkpointing>,
        wires: Option<&'a Wires>,
    ) -> Result<Self, JobError> {
        let mut writers = Vec::new();
        let after = checkpointing.map_or(0, Checkpointing::before_first);
        let mut prepare = |destination, header, sink| {
            let (outlet, writer) = Prepared::new(destination, header, sink, after);
            writers.push(writer);
            outlet
        };
        let destinations =
            checkpointing.map_or_else(|| Destinations::anew(plan), |c| Ok(c.destinations.clone()))?;
        let state = checkpointing.map_or_else(|| State::of_run(&plan.state), |c| c.state.clone());
        let mut sinks = Vec::new();
        for ((at, sink), destination) in plan.sinks.iter().enumerate().zip(destinations.sinks) {
            sinks.push(prepare(destination, encoder(sink).header(), Some(at)));
        }
        let dead_letters = prepare(destinations.dead_letters, Vec::new(), None);
        let late = prepare(destinations.late, Vec::new(), None);
        let (inboxes, senders) = queues(plan);
        Ok(Self {
            plan,
            counters,
            partitions,
            checkpointing,
            wires,
            state,
            tasks: 0,
            sinks,
            dead_letters,
            late,
            writers,
            inboxes,
            senders,
        })
    }

    pub(super) async fn stage(
        &mut self,
        at: usize,
        stop: &watch::Receiver<bool>,
    ) -> Result<Vec<Task>, JobError> {
        let stage = &self.plan.stages[at];
        let mut tasks = Vec::new();
        for task in 0..stage.tasks {
            let mut outlets = self.outlets(stage);
            let counters = Arc::new(self.counters.part());
            let head = match &stage.head {
                plan::Head::Source { source, outputs } => {
                    let edges = self.edges(at, task, outputs, &outlets)?;
                    Head::Source(self.source(*source, task, stage.tasks, &outlets, &counters)?, edges)
                }
                plan::Head::Inbox => Head::Inbox(Inbox::new(std::mem::take(&mut self.inboxes[at][task]))),
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
                )
            });
            self.tasks += 1;
            tasks.push(Task { head, nodes, stop: stop.clone(), snapshots });
        }
        Ok(tasks)
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
        &self,
        source: usize,
        task: usize,
        tasks: usize,
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
            let state = self.checkpointing.and_then(|c| c.restored.partition(&plan.id, &id));
            if let Some(state) = &state {
                partition.resume(&state.position)?;
            }
            assigned.push(Assigned {
                id,
                partition,
                number,
                out_of_orderness_ms: plan.out_of_orderness_ms(),
                state,
            });
        }
        Ok(SourceHead::new(
            plan.id.clone(),
            source,
            plan.schema.arrow(),
            assigned,
            counters.clone(),
            outlets.dead_letters.clone(),
        ))
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
        let operator = transform::Operator::new(
            plan,
            node.operator,
            counters.clone(),
            outlets.dead_letters.clone(),
            self.partitions.clone(),
        );
        let plugin = &plan.plugin;
        let operator = match plugin.world() {
            World::Transform => match plugin.transform(&plan.id, &plan.settings, plan.limits).await {
                Ok(guest) => Operator::Transform(Box::new(TransformNode::new(operator, guest, plan))),
                Err(failure) => return Err(operator.failed(failure, None)),
            },
            World::Aggregate => match plugin.aggregate(&plan.id, &plan.settings, plan.limits).await {
                Ok(guest) => {
                    let (place, versions) = self.place(plan, task, self.plan.stages[stage].tasks);
                    let node = AggregateNode::new(operator, guest, plan, place, versions).await?;
                    Operator::Aggregate(Box::new(node))
                }
                Err(failure) => return Err(operator.failed(failure, None)),
            },
            World::Process => match plugin.process(&plan.id, &plan.settings, plan.limits).await {
                Ok(guest) => {
                    let (place, versions) = self.place(plan, task, self.plan.stages[stage].tasks);
                    Operator::Process(Box::new(ProcessNode::new(operator, guest, plan, place, &versions)?))
                }
                Err(failure) => return Err(operator.failed(failure, None)),
            },
            World::Window | World::Join => unreachable!("no plugin of this world is loaded"),
        };
        let late = Late {
            edges: self.edges(stage, task, &node.late, outlets)?,
            file: outlets.late.clone(),
            operator: plan.id.clone(),
            digest: plugin.digest().to_owned(),
            schema: late_schema(&plan.input),
        };
        Ok(Node { operator, outputs: self.edges(stage, task, &node.outputs, outlets)?, late })
    }

    /// Where the state of a task's operator is kept, and the schemas in which it is.
    fn place(&self, operator: &plan::OperatorPlan, task: usize, tasks: usize) -> (Place, Versions) {
        let index = |n: usize| u32::try_from(n).expect("at most 720 tasks");
        let groups = owned(index(task), index(tasks));
        let restored = self.checkpointing.map(|c| &c.restored);
        let watermark = restored.and_then(|r| r.watermark(&operator.id, &groups));
        let number = restored.map_or_else(|| self.number(operator), |r| r.number(&operator.id));
        let place = Place::new(&self.state, self.plan, number, groups, watermark);
        let versions = restored.map(|r| r.versions(&operator.id).clone());
        let anew = || Versions { current: (0, state_schema(operator)), older: Vec::new() };
        (place, versions.unwrap_or_else(anew))
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
                    To::Sink { lines: lines(&self.plan.sinks[*sink]), outlet: outlets.sinks[sink].clone() }
                }
                Target::Stage { routing, .. } => {
                    let tasks = self.senders[stage][task].pop_front().expect("a queue for each edge");
                    To::Tasks { routing: routing.clone(), tasks, turn: task }
                }
            };
            made.push(Edge::new(edge.columns.clone(), edge.schema.arrow(), to));
        }
        Ok(made)
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

type Inboxes = Vec<Vec<Vec<mpsc::Receiver<Signal>>>>;
type Senders = Vec<Vec<VecDeque<Vec<mpsc::Sender<Signal>>>>>;

/// A queue from each task to each task of the stages that it feeds.
fn queues(plan: &Plan) -> (Inboxes, Senders) {
    let mut inboxes: Inboxes =
        plan.stages.iter().map(|s| (0..s.tasks).map(|_| Vec::new()).collect()).collect();
    let mut senders: Senders =
        plan.stages.iter().map(|s| (0..s.tasks).map(|_| VecDeque::new()).collect()).collect();
    for (at, stage) in plan.stages.iter().enumerate() {
        for target in stage.edges().filter_map(plan::Edge::stage) {
            for ways_out in &mut senders[at] {
                let mut to_tasks = Vec::new();
                for inbox in &mut inboxes[target] {
                    let (sender, receiver) = mpsc::channel(SIGNALS_WAITING);
                    to_tasks.push(sender);
                    inbox.push(receiver);
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
        SinkOutput::File(_) | SinkOutput::Stdout => None,
    };
    Lines::new(&sink.format, sink.timestamps, &sink.schema, log_key)
}

fn encoder(sink: &plan::SinkPlan) -> Encoder {
    let encoder = Encoder::new(&sink.format, &sink.schema).expect("the check has tried");
    encoder.with_timestamps(sink.timestamps)
}
