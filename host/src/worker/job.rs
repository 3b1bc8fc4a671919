//! A running pipeline: its tasks, queues and writers are made from the plan, and waited for.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_flow::batch::Position;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::aggregate::AggregateNode;
use super::inbox::{Inbox, SIGNALS_WAITING};
use super::outlets::{Edge, To};
use super::source::{Assigned, SourceHead};
use super::task::{Head, Late, Node, Operator, Task};
use super::transform::{self, TransformNode};
use super::{JobError, Signal};
use crate::formats::Encoder;
use crate::log::{Partition, partition_name};
use crate::pipeline::plan::{self, Plan, Target};
use crate::pipeline::stages::late_schema;
use crate::plugin::World;
use crate::sink::{DeadLetters, Destination, Outlet, Prepared, Writer};
use crate::telemetry::Counters;

/// A running pipeline.
pub struct Job {
    tasks: JoinSet<Result<Ended, JobError>>,
    writers: Vec<Writer>,
    counters: Arc<Counters>,
    stop: Arc<watch::Sender<bool>>,
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its input ended, and every window fired.
    Finished,
    /// It was stopped: windows that weren't finished have no result.
    Stopped,
}

/// Asks a pipeline to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// The sources read no further; what was read goes through to the sinks.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Job {
    /// Starts a plan's tasks on a runtime for the data plane.
    ///
    /// # Errors
    /// When an output can't be made, an input's format doesn't suit, or an operator refuses its settings.
    pub async fn start(plan: &Plan, data_plane: &Handle) -> Result<Job, JobError> {
        let counters = Arc::new(Counters::new(plan.sources.len(), plan.operators.len(), plan.sinks.len()));
        let (stop, stopped) = watch::channel(false);
        let stop = Arc::new(stop);
        let partitions: Arc<[String]> = partition_names(plan);
        let mut builder = Builder::new(plan, counters.clone(), partitions)?;
        let mut tasks = Vec::new();
        for at in 0..plan.stages.len() {
            tasks.extend(builder.stage(at, &stopped).await?);
        }
        let prepared = std::mem::take(&mut builder.writers);
        // Only the tasks hold ways to the writers from here on: the last one to end closes them.
        drop(builder);
        prepared.iter().try_for_each(Prepared::check).map_err(JobError::Write)?;
        // Every operator has accepted its settings, every output can be written: now they may be overwritten.
        let writers = prepared.into_iter().map(|w| w.start(&counters)).collect::<Result<_, _>>();
        let writers = writers.map_err(JobError::Write)?;
        let mut running = JoinSet::new();
        for task in tasks {
            running.spawn_on(task.run(), data_plane);
        }
        Ok(Job { tasks: running, writers, counters, stop })
    }

    /// What is being counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// A handle to stop it.
    pub fn stop_handle(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The first thing that failed; everything else was then stopped.
    ///
    /// # Panics
    /// When a task panicked.
    pub async fn wait(mut self) -> Result<Ended, JobError> {
        let mut failed: Option<JobError> = None;
        let mut how = Ended::Finished;
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(Ended::Finished)) => {}
                Ok(Ok(Ended::Stopped)) => how = Ended::Stopped,
                Ok(Err(error)) => {
                    self.tasks.abort_all();
                    if failed.as_ref().is_none_or(|f| matches!(f, JobError::Disconnected)) {
                        failed = Some(error);
                    }
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_aborted) => {}
            }
        }
        for writer in self.writers {
            let written = tokio::task::spawn_blocking(|| writer.finish()).await;
            if let Err(error) = written.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
                && failed.as_ref().is_none_or(|f| matches!(f, JobError::Disconnected))
            {
                failed = Some(JobError::Write(error));
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(how),
        }
    }
}

/// The names of all partitions, by number.
fn partition_names(plan: &Plan) -> Arc<[String]> {
    let names = plan.sources.iter().flat_map(|s| (0..s.input.partitions()).map(|i| partition_name(s, i)));
    let names: Arc<[String]> = names.collect();
    assert!(names.len() < Position::PARTITIONS_MAX as usize, "{} partitions", names.len());
    names
}

struct Builder<'a> {
    plan: &'a Plan,
    counters: Arc<Counters>,
    partitions: Arc<[String]>,
    sinks: Vec<Outlet>,
    dead_letters: DeadLetters,
    late: DeadLetters,
    writers: Vec<Prepared>,
    /// For each stage and task the queues that feed it.
    inboxes: Inboxes,
    /// For each stage and task, and each of its edges to a stage in the order in which the edges are made,
    /// the queues to that stage's tasks.
    senders: Senders,
}

impl<'a> Builder<'a> {
    fn new(plan: &'a Plan, counters: Arc<Counters>, partitions: Arc<[String]>) -> Result<Self, JobError> {
        let mut writers = Vec::new();
        let mut prepare = |destination, header, sink| {
            let (outlet, writer) = Prepared::new(destination, header, sink);
            writers.push(writer);
            outlet
        };
        let mut sinks = Vec::new();
        for (at, sink) in plan.sinks.iter().enumerate() {
            let destination = sink.path.clone().map_or(Destination::Stdout, Destination::File);
            sinks.push(prepare(destination, encoder(sink).header(), Some(at)));
        }
        let dead_letters = prepare(Destination::FileIfAny(plan.dead_letters.clone()), Vec::new(), None);
        let late = prepare(Destination::FileIfAny(plan.late.clone()), Vec::new(), None);
        let (inboxes, senders) = queues(plan);
        Ok(Self {
            plan,
            dead_letters: DeadLetters::new(dead_letters, partitions.clone()),
            late: DeadLetters::new(late, partitions.clone()),
            counters,
            partitions,
            sinks,
            writers,
            inboxes,
            senders,
        })
    }

    async fn stage(&mut self, at: usize, stop: &watch::Receiver<bool>) -> Result<Vec<Task>, JobError> {
        let stage = &self.plan.stages[at];
        let mut tasks = Vec::new();
        for task in 0..stage.tasks {
            let head = match &stage.head {
                plan::Head::Source { source, outputs } => {
                    let edges = self.edges(at, task, outputs)?;
                    Head::Source(self.source(*source, task, stage.tasks)?, edges)
                }
                plan::Head::Inbox => Head::Inbox(Inbox::new(std::mem::take(&mut self.inboxes[at][task]))),
            };
            let mut nodes = Vec::new();
            for node in &stage.nodes {
                nodes.push(self.node(at, task, node).await?);
            }
            tasks.push(Task { head, nodes, stop: stop.clone() });
        }
        Ok(tasks)
    }

    fn source(&self, source: usize, task: usize, tasks: usize) -> Result<SourceHead, JobError> {
        let plan = &self.plan.sources[source];
        let before: usize = self.plan.sources[..source].iter().map(|s| s.input.partitions()).sum();
        let mut assigned = Vec::new();
        for index in (task..plan.input.partitions()).step_by(tasks) {
            let number = u32::try_from(before + index).expect("checked with the names");
            let partition = Partition::open(plan, index, number)?;
            assigned.push(Assigned { partition, number, out_of_orderness_ms: plan.out_of_orderness_ms() });
        }
        Ok(SourceHead::new(
            plan.id.clone(),
            source,
            plan.schema.arrow(),
            assigned,
            self.counters.clone(),
            self.dead_letters.clone(),
        ))
    }

    async fn node(&mut self, stage: usize, task: usize, node: &plan::Node) -> Result<Node, JobError> {
        let plan = &self.plan.operators[node.operator];
        let operator = transform::Operator::new(
            plan,
            node.operator,
            self.counters.clone(),
            self.dead_letters.clone(),
            self.partitions.clone(),
        );
        let plugin = &plan.plugin;
        let operator = match plugin.world() {
            World::Transform => match plugin.transform(&plan.id, &plan.settings, plan.limits).await {
                Ok(guest) => Operator::Transform(Box::new(TransformNode::new(operator, guest, plan))),
                Err(failure) => return Err(operator.failed(failure, None)),
            },
            World::Aggregate => match plugin.aggregate(&plan.id, &plan.settings, plan.limits).await {
                Ok(guest) => Operator::Aggregate(Box::new(AggregateNode::new(operator, guest, plan).await?)),
                Err(failure) => return Err(operator.failed(failure, None)),
            },
            World::Window | World::Join | World::Process => unreachable!("no plugin of this world is loaded"),
        };
        let late = Late {
            edges: self.edges(stage, task, &node.late)?,
            file: self.late.clone(),
            operator: plan.id.clone(),
            digest: plugin.digest().to_owned(),
            schema: late_schema(&plan.input),
        };
        Ok(Node { operator, outputs: self.edges(stage, task, &node.outputs)?, late })
    }

    fn edges(&mut self, stage: usize, task: usize, edges: &[plan::Edge]) -> Result<Vec<Edge>, JobError> {
        let mut made = Vec::new();
        for edge in edges {
            let to = match &edge.target {
                Target::Node(node) => To::Node(*node),
                Target::Sink(sink) => {
                    To::Sink { encoder: encoder(&self.plan.sinks[*sink]), outlet: self.sinks[*sink].clone() }
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

fn encoder(sink: &plan::SinkPlan) -> Encoder {
    let encoder = Encoder::new(&sink.format, &sink.schema).expect("the check has tried");
    encoder.with_timestamps(sink.timestamps)
}
