//! One watermark of several: how far time has come for whoever has more than one input.

use super::{WATERMARK_MAX, WATERMARK_MIN};

/// What a [`Combiner`] has to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Event time has come this far.
    Watermark(i64),
    /// No input is active any more, but one may be again.
    Idle,
    /// An input has woken after all were idle.
    Active,
}

/// Combines the watermarks of several inputs: the minimum over those that are active and have caught up.
///
/// An idle input doesn't count. When it wakes it counts again as soon as its watermark has reached what was
/// passed on meanwhile. Nothing is passed on before every active input has a watermark. When the last active input
/// goes idle, the furthest watermark of all is passed on, as nobody is left to wait for. The rules are those of
/// Flink's `StatusWatermarkValve`, but for two things. That one passes on the furthest watermark only if the last to
/// go idle had caught up; here it is always so, and the outcome doesn't depend on the order in which inputs went
/// idle. And to it an input that has ended has the watermark [`WATERMARK_MAX`], so that the end of one and the silence
/// of all others look like the end of everything; here that is told only when all have ended.
#[derive(Clone, Debug)]
pub struct Combiner {
    inputs: Vec<Input>,
    combined: i64,
    idle: bool,
}

#[derive(Clone, Debug)]
struct Input {
    /// Stays as it was when the input ends.
    watermark: i64,
    status: Status,
    /// Active, and not behind what has been passed on.
    counts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Active,
    Idle,
    Ended,
}

impl Combiner {
    /// For this many inputs, all active and without a watermark.
    pub fn new(inputs: usize) -> Self {
        let input = Input { watermark: WATERMARK_MIN, status: Status::Active, counts: true };
        Self { inputs: vec![input; inputs], combined: WATERMARK_MIN, idle: false }
    }

    /// The watermark that was passed on last.
    pub fn watermark(&self) -> i64 {
        self.combined
    }

    /// The minimum over the inputs beside `input` that count: how far a row of `input` can be late at most.
    pub fn watermark_of_others(&self, input: usize) -> i64 {
        let others = self.inputs.iter().enumerate().filter(|(at, i)| *at != input && i.counts);
        others.map(|(_, i)| i.watermark).min().unwrap_or(WATERMARK_MAX)
    }

    /// An input's watermark has advanced; to [`WATERMARK_MAX`] when it has ended. One that doesn't advance it, or comes
    /// from an idle input that hasn't ended, is ignored. Returns what to pass on.
    pub fn advance(&mut self, input: usize, watermark: i64) -> Vec<Progress> {
        if watermark == WATERMARK_MAX {
            return self.leave(input, Status::Ended);
        }
        let at = &mut self.inputs[input];
        if at.status != Status::Active || watermark <= at.watermark {
            return Vec::new();
        }
        at.watermark = watermark;
        at.counts |= watermark >= self.combined;
        self.raise_to_minimum().into_iter().collect()
    }

    /// An input has gone idle. Returns what to pass on, in this order.
    pub fn idle(&mut self, input: usize) -> Vec<Progress> {
        if self.inputs[input].status == Status::Active { self.leave(input, Status::Idle) } else { Vec::new() }
    }

    /// An idle input has rows again. Returns what to pass on, in this order.
    pub fn wake(&mut self, input: usize) -> Vec<Progress> {
        let at = &mut self.inputs[input];
        if at.status != Status::Idle {
            return Vec::new();
        }
        (at.status, at.counts) = (Status::Active, at.watermark >= self.combined);
        let active = std::mem::take(&mut self.idle).then_some(Progress::Active);
        active.into_iter().chain(self.raise_to_minimum()).collect()
    }

    /// An input counts no more.
    fn leave(&mut self, input: usize, status: Status) -> Vec<Progress> {
        let at = &mut self.inputs[input];
        (at.status, at.counts) = (status, false);
        if self.inputs.iter().all(|i| i.status == Status::Ended) {
            self.idle = false;
            return self.raise(WATERMARK_MAX).into_iter().collect();
        }
        if self.inputs.iter().any(|i| i.status == Status::Active) {
            return self.raise_to_minimum().into_iter().collect();
        }
        let idle = (!std::mem::replace(&mut self.idle, true)).then_some(Progress::Idle);
        let furthest = self.inputs.iter().map(|i| i.watermark).max().unwrap_or(WATERMARK_MIN);
        self.raise(furthest).into_iter().chain(idle).collect()
    }

    fn raise_to_minimum(&mut self) -> Option<Progress> {
        let minimum = self.inputs.iter().filter(|i| i.counts).map(|i| i.watermark).min()?;
        self.raise(minimum)
    }

    fn raise(&mut self, watermark: i64) -> Option<Progress> {
        (watermark > self.combined).then(|| {
            self.combined = watermark;
            Progress::Watermark(watermark)
        })
    }
}

#[cfg(test)]
mod tests;
