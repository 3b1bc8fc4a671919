//! When a partition that says nothing shall hold back nobody.

/// What was seen of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It has rows to read, or its end.
    Pending,
    /// By its own word nothing is pending.
    Silent,
    /// Nobody looks for now: we are delivering, or it has to wait for others. Its silence from here on is our doing.
    HeldBack,
}

/// Tells whether a partition is idle: when it was silent for a time, in which it wasn't held back.
///
/// The clock runs from one look to the next, as long as the first found it silent. It stops, and keeps what it has
/// counted, while the partition is held back. A row sets it to nothing.
#[derive(Clone, Debug)]
pub struct Idleness {
    after_ms: u64,
    /// For how long it has been silent.
    silent_ms: u64,
    /// Since when the clock runs; none: it stands.
    since_ms: Option<u64>,
    is_idle: bool,
}

impl Idleness {
    /// For a partition that is idle when it was silent for so long. It isn't yet, whatever it was before a restart.
    pub fn new(after_ms: u64) -> Self {
        Self { after_ms, silent_ms: 0, since_ms: None, is_idle: false }
    }

    /// Whether it is idle.
    pub fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Something was seen at `now_ms` of a clock that doesn't go back. Says whether the partition has become idle (`true`)
    /// or active (`false`), if it has become either.
    pub fn see(&mut self, now_ms: u64, seen: Seen) -> Option<bool> {
        match seen {
            Seen::Pending => {
                (self.silent_ms, self.since_ms) = (0, None);
                return std::mem::take(&mut self.is_idle).then_some(false);
            }
            Seen::Silent => {
                let since = self.since_ms.replace(now_ms).unwrap_or(now_ms);
                self.silent_ms += now_ms.saturating_sub(since);
            }
            Seen::HeldBack => {
                let since = self.since_ms.take().unwrap_or(now_ms);
                self.silent_ms += now_ms.saturating_sub(since);
                // Only when it is asked again can the partition say that there is still nothing.
                return None;
            }
        }
        (!self.is_idle && self.silent_ms >= self.after_ms).then(|| {
            self.is_idle = true;
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Seen::{HeldBack, Pending, Silent};
    use super::*;

    fn check(steps: &[(u64, Seen, Option<bool>)]) {
        let mut idleness = Idleness::new(100);
        for (at, &(now, seen, expected)) in steps.iter().enumerate() {
            assert_eq!(idleness.see(now, seen), expected, "step {at}: {seen:?} at {now}");
        }
    }

    #[test]
    fn a_partition_is_idle_after_it_was_silent_for_so_long() {
        check(&[
            (5, Silent, None),
            (60, Silent, None),
            (104, Silent, None),
            (105, Silent, Some(true)),
            (500, Silent, None),
            (501, Pending, Some(false)),
            (502, Pending, None),
            (503, Silent, None),
            (602, Silent, None),
            (603, Silent, Some(true)),
        ]);
    }

    #[test]
    fn a_row_begins_it_anew() {
        check(&[
            (0, Silent, None),
            (99, Silent, None),
            (99, Pending, None),
            (100, Silent, None),
            (199, Silent, None),
        ]);
    }

    #[test]
    fn the_clock_stands_while_we_hold_it_back() {
        check(&[
            (0, Silent, None),
            (60, Silent, None),
            (60, HeldBack, None),
            (360, Silent, None),
            (399, Silent, None),
            (400, Silent, Some(true)),
        ]);
        // Held back three times as long as it takes, without and with having been looked at.
        check(&[
            (0, HeldBack, None),
            (300, Silent, None),
            (301, Pending, None),
            (302, HeldBack, None),
            (602, Pending, None),
        ]);
    }

    #[test]
    fn an_idle_partition_stays_idle_while_it_is_held_back() {
        check(&[
            (0, Silent, None),
            (100, Silent, Some(true)),
            (101, HeldBack, None),
            (900, Silent, None),
            (901, Pending, Some(false)),
        ]);
    }

    proptest::proptest! {
        /// Against the sum over all pairs of neighbouring looks since the last row.
        #[test]
        fn silence_is_the_sum_of_the_time_behind_silent_looks(
            steps in proptest::collection::vec((0..40_u64, 0..6_u8), 1..60)
        ) {
            let mut idleness = Idleness::new(100);
            let mut seen: Vec<(u64, Seen)> = Vec::new();
            let (mut now, mut was_idle) = (0, false);
            for (wait, what) in steps {
                now += wait;
                let what = match what { 0 => Pending, 1 => HeldBack, _ => Silent };
                let told = idleness.see(now, what);
                seen.push((now, what));
                let since = seen.iter().rposition(|(_, s)| *s == Pending).map_or(0, |at| at + 1);
                let sum: u64 = seen[since..].windows(2).filter(|w| w[0].1 == Silent).map(|w| w[1].0 - w[0].0).sum();
                let is_idle = match what {
                    Pending => false,
                    HeldBack => was_idle,
                    Silent => was_idle || sum >= 100,
                };
                proptest::prop_assert_eq!(told, (is_idle != was_idle).then_some(is_idle));
                proptest::prop_assert_eq!(idleness.is_idle(), is_idle);
                was_idle = is_idle;
            }
        }
    }
}
