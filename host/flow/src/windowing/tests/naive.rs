//! The same windows, one row at a time, every window by itself and all of them in one list.

use super::*;

#[derive(Clone, Debug)]
struct Window {
    key: i64,
    bounds: Bounds,
    sum: i64,
    new: u64,
    firings: i64,
    /// A row was accepted.
    is_there: bool,
    /// Its end has come.
    is_over: bool,
    early_at: Option<i64>,
    /// Least and greatest time.
    times: (i64, i64),
}

pub(super) struct Naive {
    definition: Definition,
    windows: Vec<Window>,
    watermark: i64,
    now: i64,
    pub(super) fired: Vec<Fired>,
    /// The values of late rows.
    pub(super) late: Vec<i64>,
}

impl Naive {
    pub(super) fn new(definition: Definition) -> Self {
        let (watermark, now) = (i64::MIN, 0);
        Self { definition, windows: Vec::new(), watermark, now, fired: Vec::new(), late: Vec::new() }
    }

    fn is_session(&self) -> bool {
        matches!(self.definition.assigner, Assigner::Session { .. })
    }

    /// How far the clock of windows has come, in terms of their last instants.
    fn passed(&self) -> i64 {
        match self.definition.time {
            Clock::Event => self.watermark,
            Clock::Processing if self.watermark == i64::MAX => i64::MAX,
            // A session's end belongs to it.
            Clock::Processing => self.now - 1 - i64::from(self.is_session()),
        }
    }

    fn last_instant(end: i64) -> i64 {
        if end == i64::MAX { end } else { end - 1 }
    }

    fn cleanup(&self, end: i64) -> i64 {
        Self::last_instant(end).saturating_add(self.definition.lateness_ms)
    }

    fn own_windows(&self, time: i64) -> Vec<Bounds> {
        match self.definition.assigner {
            Assigner::Fixed { size_ms, slide_ms, offset_ms } => (time - size_ms + 1..=time)
                .filter(|start| (start - offset_ms).rem_euclid(slide_ms) == 0)
                .map(|start| Bounds { start, end: start + size_ms })
                .collect(),
            Assigner::Session { gap_ms } => vec![Bounds { start: time, end: time + gap_ms }],
            Assigner::Count { .. } | Assigner::Global => vec![Bounds { start: i64::MIN, end: i64::MAX }],
            Assigner::Days(_) => unreachable!("tested by themselves"),
        }
    }

    pub(super) fn row(&mut self, (key, time, value): Row, watermark: i64) {
        self.advance(watermark, self.now);
        let filed = if self.definition.time == Clock::Processing { self.now } else { time };
        let mut in_time = false;
        for bounds in self.own_windows(filed) {
            in_time |= self.add(key, bounds, time, value);
        }
        if !in_time {
            self.late.push(value);
        }
    }

    fn add(&mut self, key: i64, mut bounds: Bounds, time: i64, value: i64) -> bool {
        let is_session = self.is_session();
        let belongs = |w: &Window| {
            let touches = w.bounds.start <= bounds.end && bounds.start <= w.bounds.end;
            w.key == key && if is_session { touches } else { w.bounds == bounds }
        };
        let (parts, rest): (Vec<Window>, Vec<Window>) = self.windows.iter().cloned().partition(belongs);
        for part in &parts {
            bounds.start = bounds.start.min(part.bounds.start);
            bounds.end = bounds.end.max(part.bounds.end);
        }
        if self.cleanup(bounds.end) <= self.passed() {
            return false;
        }
        self.windows = rest;
        let is_accepted = value >= 0;
        let is_over = Self::last_instant(bounds.end) <= self.passed();
        let times = (i64::MAX, i64::MIN);
        let mut whole = Window {
            key,
            bounds,
            sum: 0,
            new: 0,
            firings: 0,
            is_there: false,
            is_over,
            early_at: None,
            times,
        };
        for part in &parts {
            whole.sum += part.sum;
            whole.new += part.new;
            whole.firings += part.firings;
            whole.is_there |= part.is_there;
            whole.early_at = whole.early_at.into_iter().chain(part.early_at).min();
            whole.times = (whole.times.0.min(part.times.0), whole.times.1.max(part.times.1));
        }
        if is_accepted {
            whole.sum += value;
            whole.new += 1;
            whole.is_there = true;
            whole.times = (whole.times.0.min(time), whole.times.1.max(time));
        }
        self.after_row(whole);
        true
    }

    fn after_row(&mut self, mut whole: Window) {
        let has = |rows: u64| whole.is_there && whole.new >= rows;
        match (&self.definition.assigner, self.definition.trigger) {
            (Assigner::Count { rows }, _) if has(*rows) => {
                self.fire(&mut whole, Timing::OnTime);
                return;
            }
            (_, Trigger::Rows(rows)) if has(rows) => {
                let timing = if whole.is_over { Timing::Late } else { Timing::Early };
                self.fire(&mut whole, timing);
            }
            (_, Trigger::Completion { early_rows: Some(rows), .. }) if !whole.is_over && has(rows) => {
                self.fire(&mut whole, Timing::Early);
            }
            (_, Trigger::Completion { early_interval_ms: Some(ms), .. })
                if !whole.is_over && whole.new > 0 =>
            {
                whole.early_at = whole.early_at.or(Some(self.now + ms));
            }
            _ => {}
        }
        self.windows.push(whole);
    }

    fn fire(&mut self, window: &mut Window, timing: Timing) {
        window.firings += 1;
        let bounds = match self.definition.assigner {
            Assigner::Global => None,
            Assigner::Count { .. } => Some(Bounds { start: window.times.0, end: window.times.1 + 1 }),
            _ => Some(window.bounds),
        };
        self.fired.push(Fired { key: window.key, sum: window.sum, bounds, number: window.firings, timing });
        window.new = 0;
        window.early_at = None;
        if self.definition.mode == Mode::Discarding {
            window.sum = 0;
        }
    }

    /// The end of a batch: windows that were over and have more rows.
    pub(super) fn batch_ends(&mut self) {
        if matches!(self.definition.trigger, Trigger::Rows(_)) {
            return;
        }
        let mut windows = std::mem::take(&mut self.windows);
        for window in windows.iter_mut().filter(|w| w.is_over && w.new > 0) {
            self.fire(window, Timing::Late);
        }
        self.windows = windows;
    }

    pub(super) fn advance(&mut self, watermark: i64, now: i64) {
        (self.watermark, self.now) = (self.watermark.max(watermark), self.now.max(now));
        let (passed, completes) = (self.passed(), !matches!(self.definition.trigger, Trigger::Rows(_)));
        let accumulates = self.definition.mode == Mode::Accumulating;
        for mut window in std::mem::take(&mut self.windows) {
            let ends = !window.is_over && Self::last_instant(window.bounds.end) <= passed;
            if ends {
                window.is_over = true;
                if completes && window.is_there && (accumulates || window.new > 0) {
                    self.fire(&mut window, Timing::OnTime);
                }
                window.early_at = None;
                if completes && !window.is_there {
                    continue;
                }
            }
            if self.cleanup(window.bounds.end) <= passed {
                if completes && window.new > 0 {
                    self.fire(&mut window, Timing::Late);
                }
                continue;
            }
            if window.early_at.is_some_and(|at| at <= self.now) {
                window.early_at = None;
                if !window.is_over && window.new > 0 {
                    self.fire(&mut window, Timing::Early);
                }
            }
            self.windows.push(window);
        }
    }
}
