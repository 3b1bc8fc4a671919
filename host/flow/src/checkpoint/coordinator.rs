//! The coordinator of a pipeline's checkpoints: one in flight at a time, triggered at an interval, persisted when all
//! participants have acknowledged it, committed when it is durable, given up when one declines or time runs out.
//!
//! A checkpoint whose acknowledgements are complete can't be given up by time: whether its manifest became durable is
//! unknown until the host says so, and a durable checkpoint is true even if nobody waits for it any more.

/// How often checkpoints are taken, and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the trigger of one to the trigger of the next, in milliseconds.
    pub interval_ms: u64,
    /// From the end of one, good or bad, to the trigger of the next at least, in milliseconds. After a failure a
    /// savepoint and the last checkpoint wait for it too, so that a lasting fault isn't tried again in a circle.
    pub min_pause_ms: u64,
    /// From the trigger to the last acknowledgement at most, in milliseconds.
    pub timeout_ms: u64,
    /// How many checkpoints in a row may fail. With one more the coordinator gives up; 0 forgives none.
    pub tolerated_failures: u32,
}

/// What the coordinator is told. Whatever doesn't concern the checkpoint in flight, because it comes late, twice or
/// from nobody known, is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A participant has taken its part of a checkpoint, and all of that can be read by others.
    Acknowledged {
        /// The checkpoint.
        checkpoint: u64,
        /// Which participant, from 0.
        participant: u32,
    },
    /// A participant can't take its part.
    Declined {
        /// The checkpoint.
        checkpoint: u64,
        /// Why, for the person who reads the log.
        reason: String,
    },
    /// The manifest is durable.
    Durable {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// The manifest isn't durable, and nobody will write it any more. It may nonetheless be found at the next start
    /// (a failed sync says nothing about the disk), so what it names must stay until a later one is committed.
    NotDurable {
        /// The checkpoint.
        checkpoint: u64,
        /// Why, for the person who reads the log.
        reason: String,
    },
    /// All output up to the checkpoint is published.
    Committed {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// All sources are at their end: a last checkpoint is due.
    InputEnded,
    /// The pipeline is to stop where it stands: a last checkpoint is due.
    Stop,
    /// A savepoint was asked for: a checkpoint that is triggered from now on, as soon as possible.
    Asked,
}

/// What the host has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a checkpoint: sources put its barrier behind what they have sent.
    Trigger {
        /// The checkpoint.
        checkpoint: u64,
        /// Nothing comes after its barrier.
        last: bool,
        /// It answers to [`Event::Asked`] and is to be kept until a person deletes it.
        asked: bool,
    },
    /// All have acknowledged: take the files and write the manifest.
    Persist {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// The manifest is durable: publish all output up to the checkpoint.
    Commit {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// The checkpoint is given up: tell the participants. What sinks have staged for it belongs to the next one.
    Abort {
        /// The checkpoint.
        checkpoint: u64,
        /// Why, for the person who reads the log.
        reason: String,
    },
    /// More checkpoints in a row have failed than are tolerated: the run has to end. Nothing follows.
    GiveUp {
        /// Why the last of them failed, and how many they were.
        reason: String,
    },
    /// The last checkpoint is committed. Nothing follows.
    Finished,
}

/// Where the coordinator stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No checkpoint is in flight.
    Idle,
    /// Acknowledgements are being collected.
    Collecting {
        /// The checkpoint.
        checkpoint: u64,
        /// The participants that haven't acknowledged.
        missing: Vec<u32>,
    },
    /// All have acknowledged; the manifest is being written.
    Persisting {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// The manifest is durable; output is being published.
    Committing {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// The last checkpoint is committed.
    Finished,
    /// More checkpoints in a row have failed than are tolerated.
    GivenUp,
}

/// Decides when a pipeline's checkpoints begin, are persisted, committed and given up. See the module.
#[derive(Clone, Debug)]
pub struct Coordinator {
    settings: Settings,
    participants: u32,
    next_checkpoint: u64,
    phase: Phase,
    /// When the interval has passed.
    due_ms: u64,
    /// Until when nothing is triggered, whoever asks.
    not_before_ms: u64,
    /// Until when nothing is triggered that nobody asks for.
    held_until_ms: u64,
    /// A savepoint is wanted and none is in flight for it.
    asked: bool,
    /// The next checkpoint is the last.
    ending: bool,
    failures_in_a_row: u32,
    last_committed: Option<u64>,
}

#[derive(Clone, Debug)]
enum Phase {
    Idle,
    Collecting { flight: Flight, missing: Vec<u32> },
    Persisting(Flight),
    Committing(Flight),
    Finished,
    GivenUp,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    checkpoint: u64,
    triggered_ms: u64,
    last: bool,
    asked: bool,
}

impl Coordinator {
    /// For participants 0 to `participants` − 1. Checkpoints are numbered from `next_checkpoint`; the first is
    /// triggered when an interval has passed.
    ///
    /// # Panics
    /// When there are no participants.
    pub fn new(settings: Settings, participants: u32, next_checkpoint: u64, now_ms: u64) -> Self {
        assert!(participants > 0, "a checkpoint without participants says nothing");
        Self {
            settings,
            participants,
            next_checkpoint,
            phase: Phase::Idle,
            due_ms: now_ms.saturating_add(settings.interval_ms),
            not_before_ms: now_ms,
            held_until_ms: now_ms,
            asked: false,
            ending: false,
            failures_in_a_row: 0,
            last_committed: None,
        }
    }

    /// Something has happened. `now_ms` is monotone.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => self.give_up_overdue(now_ms, &mut actions),
            Event::Acknowledged { checkpoint, participant } => {
                self.acknowledged(checkpoint, participant, &mut actions);
            }
            Event::Declined { checkpoint, reason } => match self.phase {
                Phase::Collecting { flight, .. } if flight.checkpoint == checkpoint => {
                    self.failed(flight, reason, now_ms, &mut actions);
                }
                _ => {}
            },
            Event::NotDurable { checkpoint, reason } => match self.phase {
                Phase::Persisting(flight) if flight.checkpoint == checkpoint => {
                    self.failed(flight, reason, now_ms, &mut actions);
                }
                _ => {}
            },
            Event::Durable { checkpoint } => match self.phase {
                Phase::Persisting(flight) if flight.checkpoint == checkpoint => {
                    self.failures_in_a_row = 0;
                    self.phase = Phase::Committing(flight);
                    actions.push(Action::Commit { checkpoint });
                }
                _ => {}
            },
            Event::Committed { checkpoint } => match self.phase {
                Phase::Committing(flight) if flight.checkpoint == checkpoint => {
                    self.committed(flight, now_ms, &mut actions);
                }
                _ => {}
            },
            Event::InputEnded | Event::Stop => self.ending = true,
            Event::Asked => self.asked = true,
        }
        self.trigger_if_due(now_ms, &mut actions);
        actions
    }

    /// No checkpoint is triggered before that time unless somebody asks for one, or it is the last.
    pub fn hold(&mut self, until_ms: u64) {
        self.held_until_ms = self.held_until_ms.max(until_ms);
    }

    /// When a [`Event::Tick`] is wanted; none if something else has to happen first.
    pub fn wake_at_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::Idle => Some(self.next_trigger_ms()),
            Phase::Collecting { flight, .. } => Some(self.deadline_ms(flight)),
            Phase::Persisting(_) | Phase::Committing(_) | Phase::Finished | Phase::GivenUp => None,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Idle => State::Idle,
            Phase::Collecting { flight, missing } => {
                State::Collecting { checkpoint: flight.checkpoint, missing: missing.clone() }
            }
            Phase::Persisting(flight) => State::Persisting { checkpoint: flight.checkpoint },
            Phase::Committing(flight) => State::Committing { checkpoint: flight.checkpoint },
            Phase::Finished => State::Finished,
            Phase::GivenUp => State::GivenUp,
        }
    }

    /// The checkpoint whose acknowledgements are being collected.
    pub fn collecting(&self) -> Option<u64> {
        match &self.phase {
            Phase::Collecting { flight, .. } => Some(flight.checkpoint),
            _ => None,
        }
    }

    /// The checkpoint of this run whose output was published last.
    pub fn last_committed(&self) -> Option<u64> {
        self.last_committed
    }

    /// How many checkpoints have failed since the last one that didn't.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    fn acknowledged(&mut self, checkpoint: u64, participant: u32, actions: &mut Vec<Action>) {
        let Phase::Collecting { flight, missing } = &mut self.phase else { return };
        if flight.checkpoint != checkpoint {
            return;
        }
        missing.retain(|&m| m != participant);
        if missing.is_empty() {
            self.phase = Phase::Persisting(*flight);
            actions.push(Action::Persist { checkpoint });
        }
    }

    fn give_up_overdue(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let Phase::Collecting { flight, missing } = &self.phase else { return };
        if now_ms < self.deadline_ms(flight) {
            return;
        }
        let reason = format!(
            "{} of {} participants haven't acknowledged within {} ms",
            missing.len(),
            self.participants,
            self.settings.timeout_ms
        );
        self.failed(*flight, reason, now_ms, actions);
    }

    fn failed(&mut self, flight: Flight, reason: String, now_ms: u64, actions: &mut Vec<Action>) {
        self.failures_in_a_row += 1;
        self.asked |= flight.asked;
        self.pause(flight, now_ms);
        self.not_before_ms = now_ms.saturating_add(self.settings.min_pause_ms);
        self.phase = Phase::Idle;
        actions.push(Action::Abort { checkpoint: flight.checkpoint, reason: reason.clone() });
        if self.failures_in_a_row > self.settings.tolerated_failures {
            self.phase = Phase::GivenUp;
            let reason = format!("{} checkpoints in a row have failed: {reason}", self.failures_in_a_row);
            actions.push(Action::GiveUp { reason });
        }
    }

    fn committed(&mut self, flight: Flight, now_ms: u64, actions: &mut Vec<Action>) {
        self.last_committed = Some(flight.checkpoint);
        self.pause(flight, now_ms);
        self.phase = Phase::Idle;
        if flight.last {
            self.phase = Phase::Finished;
            actions.push(Action::Finished);
        }
    }

    fn pause(&mut self, flight: Flight, now_ms: u64) {
        let interval_ms = flight.triggered_ms.saturating_add(self.settings.interval_ms);
        self.due_ms = interval_ms.max(now_ms.saturating_add(self.settings.min_pause_ms));
    }

    fn trigger_if_due(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Idle) || now_ms < self.next_trigger_ms() {
            return;
        }
        let (last, asked) = (self.ending, std::mem::take(&mut self.asked));
        let flight = Flight { checkpoint: self.next_checkpoint, triggered_ms: now_ms, last, asked };
        self.next_checkpoint += 1;
        self.phase = Phase::Collecting { flight, missing: (0..self.participants).collect() };
        actions.push(Action::Trigger { checkpoint: flight.checkpoint, last, asked });
    }

    fn next_trigger_ms(&self) -> u64 {
        if self.asked || self.ending { self.not_before_ms } else { self.due_ms.max(self.held_until_ms) }
    }

    fn deadline_ms(&self, flight: &Flight) -> u64 {
        flight.triggered_ms.saturating_add(self.settings.timeout_ms)
    }
}

#[cfg(test)]
mod tests;
