//! A task: one copy of a stage. The loop below is all that a task does.

use std::pin::Pin;

use tidemill_flow::batch::Batch;
use tidemill_flow::schema::Schema;
use tidemill_flow::watermark::{Combiner, Progress};
use tokio::sync::watch;

use super::aggregate::AggregateNode;
use super::inbox::Inbox;
use super::outlets::Edge;
use super::source::{Read, SourceHead};
use super::transform::TransformNode;
use super::{Ended, JobError, Signal};
use crate::sink::{DeadLetters, Place};

/// One copy of a stage.
pub(super) struct Task {
    pub(super) head: Head,
    pub(super) nodes: Vec<Node>,
    pub(super) stop: watch::Receiver<bool>,
}

/// What begins a task.
pub(super) enum Head {
    Source(SourceHead, Vec<Edge>),
    Inbox(Inbox),
}

/// An operator in a task, with its edges.
pub(super) struct Node {
    pub(super) operator: Operator,
    pub(super) outputs: Vec<Edge>,
    pub(super) late: Late,
}

pub(super) enum Operator {
    Transform(Box<TransformNode>),
    Aggregate(Box<AggregateNode>),
}

/// Where late rows go.
pub(super) struct Late {
    /// Whoever reads them.
    pub(super) edges: Vec<Edge>,
    /// The file for those that nobody reads.
    pub(super) file: DeadLetters,
    pub(super) operator: String,
    pub(super) digest: String,
    pub(super) schema: Schema,
}

impl Task {
    /// Runs until its input ends, or the pipeline is stopped; says which.
    pub(super) async fn run(self) -> Result<Ended, JobError> {
        let Task { head, mut nodes, stop } = self;
        match head {
            Head::Source(head, edges) => run_source(head, edges, &mut nodes, stop).await,
            Head::Inbox(inbox) => run_inbox(inbox, &mut nodes).await.map(|()| Ended::Finished),
        }
    }
}

async fn run_source(
    mut head: SourceHead,
    mut edges: Vec<Edge>,
    nodes: &mut [Node],
    mut stop: watch::Receiver<bool>,
) -> Result<Ended, JobError> {
    let mut outputs = Outputs { edges: &mut edges, later: nodes, first: 0, late: None };
    let ended = loop {
        // A source whose rows are all filtered out waits for nothing: others must have their turn all the same.
        tokio::task::consume_budget().await;
        let read = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break Ended::Stopped,
            read = head.read() => read?,
        };
        let Read::Rows(partition, rows) = read else { break Ended::Finished };
        let step = head.take(partition, rows).await?;
        if let Some(batch) = step.batch {
            outputs.send(&batch).await?;
        }
        if let Some(watermark) = step.watermark {
            outputs.announce(&Signal::Watermark(watermark)).await?;
        }
    };
    outputs.announce(&Signal::End).await?;
    Ok(ended)
}

async fn run_inbox(mut inbox: Inbox, nodes: &mut [Node]) -> Result<(), JobError> {
    let mut combiner = Combiner::new(inbox.channels());
    while let Some((channel, signal)) = inbox.next().await {
        match signal {
            Signal::Batch(batch) => {
                let batch = batch.held_back_to(combiner.watermark_of_others(channel));
                deliver(nodes, 0, 0, Signal::Batch(batch)).await?;
            }
            Signal::Watermark(watermark) => match combiner.advance(channel, watermark) {
                Some(Progress::Watermark(watermark)) => {
                    deliver(nodes, 0, 0, Signal::Watermark(watermark)).await?
                }
                Some(Progress::Idle | Progress::Active) | None => {}
            },
            Signal::End => {
                if !inbox.ended(channel) {
                    return deliver(nodes, 0, 0, Signal::End).await;
                }
            }
        }
    }
    Err(JobError::Disconnected)
}

type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send + 'a>>;

/// Gives node `at` a signal, and what comes of it to those behind it, all the way, before anything else: so that
/// no more than one batch of each node is held at a time. `nodes` are those from number `first` on; a node's
/// readers in its own task come after it.
fn deliver(nodes: &mut [Node], first: usize, at: usize, signal: Signal) -> Delivery<'_> {
    Box::pin(async move {
        let (node, later) = nodes[at - first..].split_first_mut().expect("an edge leads to a node");
        let Node { operator, outputs, late } = node;
        let mut out = Outputs { edges: outputs, later, first: at + 1, late: Some(late) };
        match (operator, signal) {
            (Operator::Transform(transform), Signal::Batch(batch)) => {
                transform.process(batch, &mut out).await
            }
            (Operator::Aggregate(aggregate), Signal::Batch(batch)) => {
                aggregate.process(batch, &mut out).await
            }
            (Operator::Aggregate(aggregate), signal @ Signal::Watermark(watermark)) => {
                aggregate.advance(watermark, &mut out).await?;
                out.announce(&signal).await
            }
            (Operator::Aggregate(aggregate), Signal::End) => {
                aggregate.stop();
                out.announce(&Signal::End).await
            }
            (Operator::Transform(_), signal @ (Signal::Watermark(_) | Signal::End)) => {
                out.announce(&signal).await
            }
        }
    })
}

/// The ways out of an operator, while it works.
pub(super) struct Outputs<'a> {
    edges: &'a mut [Edge],
    /// The nodes of the task from number `first` on.
    later: &'a mut [Node],
    first: usize,
    late: Option<&'a mut Late>,
}

impl Outputs<'_> {
    /// Sends rows along every edge.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), JobError> {
        for edge in self.edges.iter_mut() {
            if let Some((node, batch)) = edge.send(batch).await? {
                deliver(self.later, self.first, node, Signal::Batch(batch)).await?;
            }
        }
        Ok(())
    }

    /// Sends late rows to whoever reads them, or to the file for late rows.
    pub(super) async fn send_late(&mut self, batch: Batch) -> Result<(), JobError> {
        let late = self.late.as_mut().expect("only operators have late rows");
        for edge in &mut late.edges {
            let to_node = edge.send(&batch).await?;
            assert!(to_node.is_none(), "late rows are read by sinks only");
        }
        if !late.edges.is_empty() {
            return Ok(());
        }
        let by = Place::Operator { id: &late.operator, digest: &late.digest };
        let reasons = vec!["every window of the row had fired"; batch.rows()];
        Ok(late.file.write_rows(by, &reasons, &batch, &late.schema).await?)
    }

    async fn announce(&mut self, signal: &Signal) -> Result<(), JobError> {
        for edge in self.edges.iter() {
            if let Some(node) = edge.announce(signal).await? {
                deliver(self.later, self.first, node, signal.clone()).await?;
            }
        }
        Ok(())
    }
}
