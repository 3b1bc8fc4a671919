//! A world: processes on one disk, faults from a seed, and the judge at the end.

use crate::bugs::Bug;
use crate::context::{Context, Counts};
use crate::data::{Pipeline, ROW_BYTES, Row};
use crate::disk::{Folder, Trouble};
use crate::process::{Exit, Process};
use crate::random::Random;
use crate::start::Start;

/// What came of a world.
pub(crate) struct Outcome {
    /// What was wrong, if anything was.
    pub(crate) result: Result<(), String>,
    pub(crate) counts: Counts,
    /// What happened, if it was asked for.
    pub(crate) trace: Vec<String>,
}

struct World {
    pipeline: Pipeline,
    cx: Context,
    current: Life,
    /// Thought dead, and isn't.
    zombie: Option<Life>,
    /// Until when faults are thrown.
    faulty_steps: u64,
    /// On average so many steps lie between two crashes.
    crash_every: u64,
}

enum Life {
    Starting(Start),
    Running(Box<Process>),
}

/// Far more than any world needs that isn't stuck.
const STEPS_AFTER_FAULTS_MAX: u64 = 60_000;

/// Runs the world of a seed.
pub(crate) fn run(seed: u64, bug: Option<Bug>, traced: bool) -> Outcome {
    let mut random = Random::new(seed);
    let pipeline = Pipeline::new(seed, &mut random);
    let faulty_steps = random.between(0, 5000);
    let crash_every = random.between(60, 2500);
    let cx = Context::new(random, bug, traced);
    let current = Life::Starting(Start::new());
    let mut world = World { pipeline, cx, current, zombie: None, faulty_steps, crash_every };
    let result = world.run();
    let trace = world.cx.take_trace();
    Outcome { result, counts: world.cx.counts, trace }
}

impl World {
    fn run(&mut self) -> Result<(), String> {
        loop {
            self.cx.counts.steps += 1;
            self.cx.faulty = self.cx.counts.steps < self.faulty_steps;
            if self.cx.counts.steps > self.faulty_steps + STEPS_AFTER_FAULTS_MAX {
                return Err("it doesn't come to an end".to_string());
            }
            self.throw_fault();
            self.step_zombie();
            let ended = self.current.step(&self.pipeline, &mut self.cx);
            if let Some(violation) = self.cx.disk.violation.take() {
                return Err(violation);
            }
            let Err(exit) = ended else { continue };
            self.cx.note(self.current.run(), || format!("has ended: {exit:?}"));
            match exit {
                // Now and then somebody starts it once more.
                Exit::Finished { at_end: true } if !self.cx.fault(3) => return self.judge(),
                Exit::Finished { .. } | Exit::Trouble(Trouble::Fenced) => {}
                Exit::GivenUp => self.cx.counts.given_up += 1,
                Exit::Refused { transient: true, .. } => {}
                Exit::Refused { message, .. } if self.cx.is_truly_broken() => {
                    self.cx.counts.refused += 1;
                    return self
                        .judge_refusal()
                        .map_err(|e| format!("{e}, and the start was refused: {message}"));
                }
                Exit::Refused { message, .. } => {
                    return Err(format!("the start was refused without need: {message}"));
                }
                Exit::PartsLost(parts) => return Err(format!("the parts {parts:?} are nowhere")),
                Exit::Trouble(Trouble::Missing(path)) => return Err(format!("{path:?} is missing")),
            }
            self.current = Life::Starting(Start::new());
        }
    }

    fn throw_fault(&mut self) {
        let cx = &mut self.cx;
        let starting = matches!(self.current, Life::Starting(_));
        // A start is short; it is interrupted more often, so that it happens at each of its steps.
        if cx.fault(if starting { 40 } else { self.crash_every }) {
            cx.counts.interrupted_starts += u64::from(starting);
            let run = self.current.run();
            let before = std::mem::replace(&mut self.current, Life::Starting(Start::new()));
            match cx.random.below(4) {
                0 => {
                    cx.note(run, || "loss of power".to_string());
                    cx.counts.power_losses += 1;
                    cx.disk.lose_power(&mut cx.random);
                    self.zombie = None;
                }
                1 => {
                    cx.note(run, || "stopped, thought dead".to_string());
                    self.zombie = Some(before);
                }
                _ => {
                    cx.note(run, || "killed".to_string());
                    cx.counts.kills += 1;
                }
            }
        }
        if cx.fault(2500) {
            let rotten = cx.disk.rot(&mut cx.random);
            cx.counts.rotten += u64::from(rotten.is_some());
            cx.note(0, || format!("a byte is flipped in {rotten:?}"));
        }
    }

    fn step_zombie(&mut self) {
        let Some(zombie) = &mut self.zombie else { return };
        if !self.cx.random.one_in(2) {
            return;
        }
        match zombie.step(&self.pipeline, &mut self.cx) {
            Ok(()) => {}
            Err(exit) => {
                self.cx.counts.fenced += u64::from(matches!(exit, Exit::Trouble(Trouble::Fenced)));
                self.cx.note(zombie.run(), || format!("the zombie has ended: {exit:?}"));
                self.zombie = None;
            }
        }
    }

    /// What was published is what an uninterrupted run publishes.
    fn judge(&self) -> Result<(), String> {
        let (published, expected) = (self.published()?, self.pipeline.expected());
        self.cx.disk.check_committed()?;
        if published == expected {
            return Ok(());
        }
        let lost = without(&expected, &published);
        let extra = without(&published, &expected);
        Err(format!(
            "{} of {} rows are lost and {} come too often or shouldn't be: lost {:?}, extra {:?}",
            lost.len(),
            expected.len(),
            extra.len(),
            lost.iter().take(5).collect::<Vec<_>>(),
            extra.iter().take(5).collect::<Vec<_>>()
        ))
    }

    /// Nothing was published that an uninterrupted run wouldn't publish.
    fn judge_refusal(&self) -> Result<(), String> {
        self.cx.disk.check_committed()?;
        let extra = without(&self.published()?, &self.pipeline.expected());
        if extra.is_empty() { Ok(()) } else { Err(format!("{} rows come too often: {extra:?}", extra.len())) }
    }

    fn published(&self) -> Result<Vec<Row>, String> {
        let mut rows = Vec::new();
        for part in self.cx.disk.list(Folder::Published) {
            let bytes = self.cx.disk.read(&(Folder::Published, part.to_string())).unwrap_or_default();
            for row in bytes.chunks(ROW_BYTES) {
                rows.push(Row::read(row).ok_or_else(|| format!("a row of part {part} is torn"))?);
            }
        }
        rows.sort_unstable();
        Ok(rows)
    }
}

impl Life {
    fn step(&mut self, pipeline: &Pipeline, cx: &mut Context) -> Result<(), Exit> {
        match self {
            Life::Starting(start) => {
                if let Some(process) = start.step(pipeline, cx)? {
                    *self = Life::Running(Box::new(process));
                }
                Ok(())
            }
            Life::Running(process) => process.step(cx),
        }
    }

    fn run(&self) -> u64 {
        match self {
            Life::Starting(start) => start.run,
            Life::Running(process) => process.run,
        }
    }
}

/// What is in one sorted list and, as often, not in the other.
fn without(rows: &[Row], others: &[Row]) -> Vec<Row> {
    let mut others = others.iter().peekable();
    let mut rest = Vec::new();
    for row in rows {
        while others.next_if(|other| *other < row).is_some() {}
        if others.next_if_eq(&row).is_none() {
            rest.push(*row);
        }
    }
    rest
}
