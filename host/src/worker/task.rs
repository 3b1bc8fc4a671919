//! A task: one copy of a stage. The loop below is all that a task does.

use std::collections::VecDeque;

use tidemill_flow::batch::Batch;
use tidemill_flow::schema::Schema;
use tidemill_flow::watermark::{Combiner, Progress};
use tokio::sync::watch;

use super::aggregate::AggregateNode;
use super::inbox::Inbox;
use super::outlets::Edge;
use super::source::{SourceHead, Step};
use super::transform::TransformNode;
use super::{JobError, Signal};
use crate::sink::{DeadLetter, DeadLetters, Place};

/// One copy of a stage.
pub(super) struct Task {
    pub(super) head: Head,
    pub(super) nodes: Nodes,
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

/// A task's operators, and what is still to be done by each: `(node, signal)`, in order.
pub(super) struct Nodes {
    pub(super) nodes: Vec<Node>,
    pub(super) work: VecDeque<(usize, Signal)>,
}

impl Task {
    /// Runs until its input ends or the pipeline is stopped.
    pub(super) async fn run(self) -> Result<(), JobError> {
        let Task { head, mut nodes, stop } = self;
        match head {
            Head::Source(head, edges) => nodes.run_source(head, edges, stop).await,
            Head::Inbox(inbox) => nodes.run_inbox(inbox).await,
        }
    }
}

impl Nodes {
    async fn run_source(
        &mut self,
        mut head: SourceHead,
        mut edges: Vec<Edge>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), JobError> {
        loop {
            let step = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                step = head.next() => step?,
            };
            match step {
                Step::Rows(batch, watermark) => {
                    let mut outputs = Outputs { edges: &mut edges, work: &mut self.work, late: None };
                    if let Some(batch) = batch {
                        outputs.send(&batch).await?;
                    }
                    if let Some(watermark) = watermark {
                        outputs.announce(&Signal::Watermark(watermark)).await?;
                    }
                    self.work().await?;
                }
                Step::End => break,
            }
        }
        Outputs { edges: &mut edges, work: &mut self.work, late: None }.announce(&Signal::End).await?;
        self.work().await
    }

    async fn run_inbox(&mut self, mut inbox: Inbox) -> Result<(), JobError> {
        let mut combiner = Combiner::new(inbox.channels());
        while let Some((channel, signal)) = inbox.next().await {
            match signal {
                Signal::Batch(batch) => {
                    let batch = batch.held_back_to(combiner.watermark_of_others(channel));
                    self.work.push_back((0, Signal::Batch(batch)));
                }
                Signal::Watermark(watermark) => match combiner.advance(channel, watermark) {
                    Some(Progress::Watermark(watermark)) => self.work.push_back((0, Signal::Watermark(watermark))),
                    Some(Progress::Idle | Progress::Active) | None => {}
                },
                Signal::End => {
                    if !inbox.ended(channel) {
                        self.work.push_back((0, Signal::End));
                        return self.work().await;
                    }
                }
            }
            self.work().await?;
        }
        Err(JobError::Disconnected)
    }

    /// Does what is to be done, until nothing is.
    async fn work(&mut self) -> Result<(), JobError> {
        while let Some((at, signal)) = self.work.pop_front() {
            let Node { operator, outputs, late } = &mut self.nodes[at];
            let mut outputs = Outputs { edges: outputs, work: &mut self.work, late: Some(late) };
            match (operator, &signal) {
                (Operator::Transform(transform), Signal::Batch(batch)) => {
                    let batch = transform.process(batch.clone()).await?;
                    outputs.send(&batch).await?;
                }
                (Operator::Aggregate(aggregate), Signal::Batch(batch)) => {
                    aggregate.process(batch.clone(), &mut outputs).await?;
                }
                (Operator::Aggregate(aggregate), Signal::Watermark(watermark)) => {
                    aggregate.advance(*watermark, &mut outputs).await?;
                    outputs.announce(&signal).await?;
                }
                (Operator::Aggregate(aggregate), Signal::End) => {
                    aggregate.stop();
                    outputs.announce(&signal).await?;
                }
                (Operator::Transform(_), Signal::Watermark(_) | Signal::End) => outputs.announce(&signal).await?,
            }
        }
        Ok(())
    }
}

/// The ways out of an operator, while it works.
pub(super) struct Outputs<'a> {
    edges: &'a mut [Edge],
    work: &'a mut VecDeque<(usize, Signal)>,
    late: Option<&'a mut Late>,
}

impl Outputs<'_> {
    /// Sends rows along every edge.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), JobError> {
        send(self.edges, self.work, batch).await
    }

    /// Sends late rows to whoever reads them, or to the file for late rows.
    pub(super) async fn send_late(&mut self, batch: Batch) -> Result<(), JobError> {
        let late = self.late.as_mut().expect("only operators have late rows");
        if !late.edges.is_empty() {
            return send(&mut late.edges, self.work, &batch).await;
        }
        let by = Place::Operator { id: &late.operator, digest: &late.digest };
        let position = |row: usize| batch.positions.as_ref().map(|p| p[row]);
        let letter = |row| DeadLetter { by, reason: "every window of the row had fired", position: position(row) };
        let letters: Vec<DeadLetter<'_>> = (0..batch.rows()).map(letter).collect();
        Ok(late.file.write_rows(&letters, &batch.columns, &late.schema).await?)
    }

    async fn announce(&mut self, signal: &Signal) -> Result<(), JobError> {
        for edge in self.edges.iter() {
            if let Some(node) = edge.announce(signal).await? {
                self.work.push_back((node, signal.clone()));
            }
        }
        Ok(())
    }
}

async fn send(
    edges: &mut [Edge],
    work: &mut VecDeque<(usize, Signal)>,
    batch: &Batch,
) -> Result<(), JobError> {
    for edge in edges {
        if let Some((node, batch)) = edge.send(batch).await? {
            work.push_back((node, Signal::Batch(batch)));
        }
    }
    Ok(())
}
