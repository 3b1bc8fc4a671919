//! Watermarks: how far event time has come. A watermark of `t` says that no row with a time up to and
//! including `t` is expected any more.

/// The watermark before anything is known.
pub const WATERMARK_MIN: i64 = i64::MIN;
/// The watermark at the end of all input: every window is finished.
pub const WATERMARK_MAX: i64 = i64::MAX;

/// Makes the watermarks of one source partition, whose rows are at most so much out of order: the watermark
/// trails the largest time seen by the bound and one millisecond, so that rows with equal times are never late.
#[derive(Clone, Debug)]
pub struct BoundedOutOfOrderness {
    bound_ms: i64,
    watermark: i64,
}

impl BoundedOutOfOrderness {
    /// For rows whose times are at most `bound_ms` milliseconds behind the largest time before them.
    pub fn new(bound_ms: i64) -> Self {
        Self::resumed(bound_ms, WATERMARK_MIN)
    }

    /// One that had come to `watermark` when a checkpoint was taken.
    pub fn resumed(bound_ms: i64, watermark: i64) -> Self {
        Self { bound_ms, watermark }
    }

    /// The watermark after the rows observed so far.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Goes through the times of rows in their order of arrival. Returns the watermark before each row if any
    /// row is behind the one before it.
    pub fn observe(&mut self, times: &[i64]) -> Option<Vec<i64>> {
        let start = self.watermark;
        let mut behind = false;
        for &time in times {
            behind |= time <= self.watermark;
            self.watermark = self.watermark.max(self.after(time));
        }
        behind.then(|| {
            let mut watermark = start;
            let mut before = |&time: &i64| {
                let next = watermark.max(self.after(time));
                std::mem::replace(&mut watermark, next)
            };
            times.iter().map(&mut before).collect()
        })
    }

    fn after(&self, time: i64) -> i64 {
        time.saturating_sub(self.bound_ms).saturating_sub(1)
    }
}

/// What a [`Combiner`] has to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Event time has come this far.
    Watermark(i64),
    /// Every input is idle.
    Idle,
    /// An input has woken after all were idle.
    Active,
}

/// Combines the watermarks of several inputs: the minimum over those that are active and have caught up.
///
/// An idle input doesn't count. When it wakes it counts again as soon as its watermark has reached what was
/// passed on meanwhile. Nothing is passed on before every active input has a watermark. The rules, and the
/// tests below, are those of Flink's `StatusWatermarkValve`.
#[derive(Clone, Debug)]
pub struct Combiner {
    inputs: Vec<Input>,
    combined: i64,
    idle: bool,
}

#[derive(Clone, Debug)]
struct Input {
    watermark: i64,
    active: bool,
    /// Active, and not behind what has been passed on.
    counts: bool,
}

impl Combiner {
    /// For this many inputs, all active and without a watermark.
    pub fn new(inputs: usize) -> Self {
        let input = Input { watermark: WATERMARK_MIN, active: true, counts: true };
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

    /// An input's watermark has advanced. One that doesn't advance it, or comes from an idle input, is ignored.
    pub fn advance(&mut self, input: usize, watermark: i64) -> Option<Progress> {
        let at = &mut self.inputs[input];
        if !at.active || watermark <= at.watermark {
            return None;
        }
        at.watermark = watermark;
        at.counts |= watermark >= self.combined;
        self.raise_to_minimum()
    }

    /// An input has gone idle. Returns what to pass on, in this order.
    pub fn idle(&mut self, input: usize) -> Vec<Progress> {
        let at = &mut self.inputs[input];
        if !at.active {
            return Vec::new();
        }
        (at.active, at.counts) = (false, false);
        let held_back = at.watermark == self.combined;
        if self.inputs.iter().any(|i| i.active) {
            return if held_back { self.raise_to_minimum().into_iter().collect() } else { Vec::new() };
        }
        self.idle = true;
        let furthest = self.inputs.iter().map(|i| i.watermark).max().unwrap_or(WATERMARK_MIN);
        let flush = if held_back { self.raise(furthest) } else { None };
        flush.into_iter().chain([Progress::Idle]).collect()
    }

    /// An idle input has rows again.
    pub fn wake(&mut self, input: usize) -> Option<Progress> {
        let at = &mut self.inputs[input];
        at.active = true;
        at.counts |= at.watermark >= self.combined;
        std::mem::take(&mut self.idle).then_some(Progress::Active)
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
mod tests {
    use super::*;

    #[test]
    fn a_watermark_trails_the_largest_time_by_the_bound() {
        let mut source = BoundedOutOfOrderness::new(10);
        assert_eq!(source.observe(&[100, 95, 110]), None);
        assert_eq!(source.watermark(), 99);
        // 99 is behind the 99 that 110 left; 100 isn't.
        assert_eq!(source.observe(&[100]), None);
        assert_eq!(source.observe(&[120, 99, 121]), Some(vec![99, 109, 109]));
        assert_eq!(source.watermark(), 110);
    }

    #[test]
    fn equal_times_are_never_behind() {
        let mut source = BoundedOutOfOrderness::new(0);
        assert_eq!(source.observe(&[5, 5, 6, 6]), None);
        assert_eq!(source.watermark(), 5);
    }

    /// `w(input, watermark)`, `idle(input)`, `wake(input)` and what each passes on, as in the table of
    /// Flink's `StatusWatermarkValveTest`.
    enum Step {
        Advance(usize, i64),
        Idle(usize),
        Wake(usize),
    }
    use Progress::{Active, Idle, Watermark};
    use Step::{Advance as W, Idle as I, Wake as A};

    fn check(inputs: usize, steps: &[(Step, &[Progress])]) {
        let mut combiner = Combiner::new(inputs);
        for (at, (step, expected)) in steps.iter().enumerate() {
            let got = match *step {
                W(input, watermark) => combiner.advance(input, watermark).into_iter().collect(),
                I(input) => combiner.idle(input),
                A(input) => combiner.wake(input).into_iter().collect(),
            };
            assert_eq!(got, *expected, "step {at}");
        }
    }

    #[test]
    fn the_minimum_rises_and_waits_for_all() {
        check(1, &[(W(0, 25), &[Watermark(25)]), (W(0, 18), &[]), (W(0, 42), &[Watermark(42)])]);
        check(
            3,
            &[
                (W(0, 0), &[]),
                (W(1, 0), &[]),
                (W(2, 0), &[Watermark(0)]),
                (W(0, 12), &[]),
                (W(2, 8), &[]),
                (W(2, 10), &[]),
                (W(1, 15), &[Watermark(10)]),
                (W(2, 17), &[Watermark(12)]),
                (W(0, 20), &[Watermark(15)]),
            ],
        );
    }

    #[test]
    fn an_idle_input_does_not_count() {
        check(
            3,
            &[
                (W(0, 15), &[]),
                (W(1, 10), &[]),
                (I(2), &[Watermark(10)]),
                (W(1, 18), &[Watermark(15)]),
                (W(0, 20), &[Watermark(18)]),
            ],
        );
        check(
            3,
            &[
                (W(0, 10), &[]),
                (W(1, 5), &[]),
                (W(2, 3), &[Watermark(3)]),
                (I(0), &[]),
                (I(1), &[]),
                (I(2), &[Watermark(10), Idle]),
            ],
        );
        check(
            3,
            &[
                (W(0, 25), &[]),
                (W(1, 10), &[]),
                (W(2, 17), &[Watermark(10)]),
                (I(1), &[Watermark(17)]),
                (I(2), &[Watermark(25)]),
            ],
        );
        check(
            1,
            &[
                (W(0, 25), &[Watermark(25)]),
                (I(0), &[Idle]),
                (I(0), &[]),
                (W(0, 50), &[]),
                (A(0), &[Active]),
                (W(0, 50), &[Watermark(50)]),
            ],
        );
    }

    #[test]
    fn a_woken_input_counts_when_it_has_caught_up() {
        check(
            3,
            &[
                (W(0, 10), &[]),
                (W(1, 7), &[]),
                (W(2, 3), &[Watermark(3)]),
                (I(2), &[Watermark(7)]),
                (A(2), &[]),
                (W(2, 5), &[]),
                (W(2, 9), &[]),
                (W(1, 12), &[Watermark(9)]),
            ],
        );
    }
}
