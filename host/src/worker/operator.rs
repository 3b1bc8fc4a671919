//! An operator in a task, whatever its world: what the task asks of each of them beside dealing with signals.

use std::ops::Range;

use arrow_array::ArrayRef;

use super::JobError;
use super::aggregate::AggregateNode;
use super::clock::ProcessingTime;
use super::join::JoinNode;
use super::process::ProcessNode;
use super::restored::Versions;
use super::snapshot::{OperatorPart, ROWS_PER_SLICE};
use super::state::Place;
use super::transform::{self, TransformNode};
use super::windowed::{self, WindowedNode};
use crate::pipeline::plan::{InputPlan, JoinPlan, OperatorKind, OperatorPlan};
use crate::plugin::{self, Failure, World};

/// An operator in a task.
pub(super) enum Operator {
    Transform(Box<TransformNode>),
    Aggregate(Box<AggregateNode>),
    Join(Box<JoinNode>),
    Windowed(Box<WindowedNode>),
    Process(Box<ProcessNode>),
}

/// An instance of an operator's component.
pub(super) enum Guest {
    Transform(plugin::Transform),
    Aggregate(plugin::Aggregate),
    Join(plugin::Join),
    Window(plugin::Window),
    Process(plugin::Process),
}

impl Guest {
    /// An instance with the operator's settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    pub(super) async fn start(plan: &OperatorPlan) -> Result<Self, Failure> {
        let (plugin, id, settings, limits) = (&plan.plugin, &plan.id, &plan.settings, plan.limits);
        Ok(match plugin.world() {
            World::Transform => Self::Transform(plugin.transform(id, settings, limits).await?),
            World::Aggregate => Self::Aggregate(plugin.aggregate(id, settings, limits).await?),
            World::Join => Self::Join(plugin.join(id, settings, limits).await?),
            World::Window => Self::Window(plugin.window(id, settings, limits).await?),
            World::Process => Self::Process(plugin.process(id, settings, limits).await?),
        })
    }
}

impl Guest {
    /// Makes each call again on a fresh instance, if it has a twin.
    pub(super) fn compared(self, twin: Option<plugin::Twin>) -> Self {
        match self {
            Self::Transform(guest) => Self::Transform(guest.compared(twin)),
            Self::Aggregate(guest) => Self::Aggregate(guest.compared(twin)),
            Self::Join(guest) => Self::Join(guest.compared(twin)),
            Self::Window(guest) => Self::Window(guest.compared(twin)),
            Self::Process(guest) => Self::Process(guest.compared(twin)),
        }
    }
}

/// Where an operator's state is kept, in which schemas, and on which clock it works.
pub(super) struct Ground {
    pub(super) place: Place,
    pub(super) versions: Versions,
    pub(super) clock: ProcessingTime,
}

/// Another version of an operator for a task, ready to take over.
pub(super) struct Successor {
    pub(super) guest: Guest,
    pub(super) plan: std::sync::Arc<OperatorPlan>,
    /// The schemas of its state.
    pub(super) versions: Versions,
    /// It keeps state in the same way as the version before, but for the accumulator of a new group, which is
    /// [`initial`](Self::initial).
    pub(super) same_layout: bool,
    pub(super) initial: Vec<ArrayRef>,
}

impl Operator {
    /// The operator with its guest. `places`: how it stands in its task, for each of its inputs.
    pub(super) async fn new(
        guest: Guest,
        mut places: Vec<transform::Operator>,
        plan: &OperatorPlan,
        ground: Option<Ground>,
    ) -> Result<Self, JobError> {
        let second = (places.len() == 2).then(|| places.pop()).flatten();
        let operator = places.pop().expect("an operator has an input");
        if let Guest::Transform(guest) = guest {
            return Ok(Self::Transform(Box::new(TransformNode::new(operator, guest, plan))));
        }
        let Ground { place, versions, clock } = ground.expect("what isn't a transform has state");
        Ok(match guest {
            Guest::Transform(_) => unreachable!("it was made above"),
            Guest::Aggregate(guest) => match plan.kind {
                OperatorKind::Windowed { .. } => {
                    let guest = windowed::Guest::Aggregate(guest);
                    let node = WindowedNode::new(operator, guest, plan, place, clock, &versions).await?;
                    Self::Windowed(Box::new(node))
                }
                _ => Self::Aggregate(Box::new(
                    AggregateNode::new(operator, guest, plan, place, versions).await?,
                )),
            },
            Guest::Window(guest) => {
                let guest = windowed_guest(guest, plan);
                let node = WindowedNode::new(operator, guest, plan, place, clock, &versions).await?;
                Self::Windowed(Box::new(node))
            }
            Guest::Process(guest) => {
                let node = ProcessNode::new(operator, guest, plan, place, clock, &versions)?;
                Self::Process(Box::new(node))
            }
            Guest::Join(guest) => {
                let sides = [operator, second.expect("a join has two inputs")];
                let of = (plan, join_plan(plan));
                Self::Join(Box::new(JoinNode::new(sides, guest, of, place, &versions)?))
            }
        })
    }

    /// Another version takes over. All state stands in the storage if that version keeps it in another way; `watermark` is
    /// how far time has come.
    pub(super) async fn succeeded(
        mut self,
        next: Successor,
        watermark: Option<i64>,
        clock: ProcessingTime,
    ) -> Result<Self, JobError> {
        let Successor { guest, plan, versions, .. } = next;
        if next.same_layout && self.initial() == next.initial {
            self.exchange(guest, &plan);
            return Ok(self);
        }
        let (mut places, mut place) = self.into_parts();
        let inputs = [Some(plan.first_input()), right(&plan).cloned()];
        places.iter_mut().zip(inputs.iter().flatten()).for_each(|(p, input)| p.become_version(&plan, input));
        place.watermark = watermark;
        Self::new(guest, places, &plan, Some(Ground { place, versions, clock })).await
    }

    /// The accumulator of a new group, where there are groups.
    fn initial(&self) -> &[ArrayRef] {
        match self {
            Self::Aggregate(aggregate) => aggregate.initial(),
            Self::Windowed(windowed) => windowed.initial(),
            Self::Transform(_) | Self::Join(_) | Self::Process(_) => &[],
        }
    }

    fn exchange(&mut self, guest: Guest, plan: &OperatorPlan) {
        match (self, guest) {
            (Self::Transform(node), Guest::Transform(guest)) => node.exchange(guest, plan),
            (Self::Aggregate(node), Guest::Aggregate(guest)) => node.exchange(guest, plan),
            (Self::Windowed(node), Guest::Aggregate(guest)) => {
                node.exchange(windowed::Guest::Aggregate(guest), plan);
            }
            (Self::Windowed(node), Guest::Window(guest)) => node.exchange(windowed_guest(guest, plan), plan),
            (Self::Process(node), Guest::Process(guest)) => node.exchange(guest, plan),
            (Self::Join(node), Guest::Join(guest)) => node.exchange(guest, (plan, join_plan(plan))),
            _ => panic!("{} takes over from an operator of another world", plan.id),
        }
    }

    fn into_parts(self) -> (Vec<transform::Operator>, Place) {
        match self {
            Self::Transform(_) => unreachable!("a transform has no state that could be kept in another way"),
            Self::Aggregate(node) => one(node.into_parts()),
            Self::Windowed(node) => one(node.into_parts()),
            Self::Process(node) => one(node.into_parts()),
            Self::Join(node) => {
                let (sides, place) = node.into_parts();
                (sides.into(), place)
            }
        }
    }

    /// Its number in the plan.
    pub(super) fn number(&self) -> usize {
        match self {
            Self::Transform(node) => node.number(),
            Self::Aggregate(node) => node.number(),
            Self::Windowed(node) => node.number(),
            Self::Process(node) => node.number(),
            Self::Join(node) => node.number(),
        }
    }

    /// Holds other key groups from now on; what it holds stands in the storage.
    pub(super) fn reopen(&mut self, groups: Range<u32>, watermark: i64) -> Result<(), JobError> {
        match self {
            Self::Transform(_) | Self::Windowed(_) | Self::Join(_) => {
                unreachable!("nothing is in flight to it")
            }
            Self::Aggregate(aggregate) => aggregate.reopen(groups, watermark),
            Self::Process(process) => process.reopen(groups, watermark),
        }
    }

    /// Writes everything into the storage; how far time had come.
    pub(super) fn put_down(&mut self) -> Result<Option<i64>, JobError> {
        let part = self.freeze();
        while !self.write_slice(ROWS_PER_SLICE)? {}
        Ok(part.map(|p| p.watermark))
    }

    /// Whether timers are due that haven't fired.
    pub(super) fn has_due(&mut self) -> bool {
        match self {
            Self::Transform(_) | Self::Aggregate(_) => false,
            Self::Windowed(windowed) => windowed.has_due(),
            Self::Join(join) => join.has_due(),
            Self::Process(process) => process.has_due(),
        }
    }

    /// Whether timers are due that a watermark has to wait for.
    pub(super) fn has_event_due(&mut self) -> bool {
        match self {
            Self::Transform(_) | Self::Aggregate(_) => false,
            Self::Windowed(windowed) => windowed.has_event_due(),
            Self::Join(join) => join.has_due(),
            Self::Process(process) => process.has_event_due(),
        }
    }

    /// When the next timer of processing time is due, in milliseconds since the Unix epoch.
    pub(super) fn next_processing_ms(&mut self) -> Option<i64> {
        match self {
            Self::Transform(_) | Self::Aggregate(_) | Self::Join(_) => None,
            Self::Windowed(windowed) => windowed.next_processing_ms(),
            Self::Process(process) => process.next_processing_ms(),
        }
    }

    /// Begins a new epoch.
    pub(super) fn freeze(&mut self) -> Option<OperatorPart> {
        match self {
            Self::Transform(_) => None,
            Self::Aggregate(aggregate) => Some(aggregate.freeze()),
            Self::Join(join) => Some(join.freeze()),
            Self::Windowed(windowed) => Some(windowed.freeze()),
            Self::Process(process) => Some(process.freeze()),
        }
    }

    /// Writes out up to `rows_max` rows of the epoch that was frozen; says whether that was all.
    pub(super) fn write_slice(&mut self, rows_max: usize) -> Result<bool, JobError> {
        match self {
            Self::Transform(_) => Ok(true),
            Self::Aggregate(aggregate) => aggregate.write_slice(rows_max),
            Self::Join(join) => join.write_slice(rows_max),
            Self::Windowed(windowed) => windowed.write_slice(rows_max),
            Self::Process(process) => process.write_slice(rows_max),
        }
    }

    /// Keeps to its share of the memory; says whether it can't without writing into the storage.
    pub(super) fn is_crowded(&mut self) -> bool {
        match self {
            Self::Transform(_) => false,
            Self::Aggregate(aggregate) => !aggregate.evict(),
            Self::Join(join) => join.is_crowded(),
            Self::Windowed(windowed) => !windowed.evict(),
            Self::Process(process) => !process.evict(),
        }
    }

    pub(super) fn spill(&mut self) -> Result<(), JobError> {
        match self {
            Self::Transform(_) => Ok(()),
            Self::Aggregate(aggregate) => aggregate.spill(),
            Self::Join(join) => join.spill(),
            Self::Windowed(windowed) => windowed.spill(),
            Self::Process(process) => process.spill(),
        }
    }
}

fn one((operator, place): (transform::Operator, Place)) -> (Vec<transform::Operator>, Place) {
    (vec![operator], place)
}

fn windowed_guest(guest: plugin::Window, plan: &OperatorPlan) -> windowed::Guest {
    windowed::Guest::Window(guest, plan.plugin.description().inputs[0].clone())
}

fn join_plan(plan: &OperatorPlan) -> &JoinPlan {
    let OperatorKind::Join(join) = &plan.kind else { panic!("{} is no join", plan.id) };
    join
}

/// The second input, of a join.
pub(super) fn right(plan: &OperatorPlan) -> Option<&InputPlan> {
    match &plan.kind {
        OperatorKind::Join(join) => Some(&join.right),
        _ => None,
    }
}
