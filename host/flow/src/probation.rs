//! Whether another version of an operator does as well as the one before, by what both were seen to do.

/// What an operator has done in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Rows that came in.
    pub rows: u64,
    /// Those of them that it rejected.
    pub rejected: u64,
    /// How long its calls took, in nanoseconds.
    pub busy_ns: u64,
}

impl Seen {
    /// What it has done since it had done `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            rows: self.rows.saturating_sub(before.rows),
            rejected: self.rejected.saturating_sub(before.rejected),
            busy_ns: self.busy_ns.saturating_sub(before.busy_ns),
        }
    }

    fn rejected_share(self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.rejected as f64 / self.rows as f64 }
    }

    fn ns_per_row(self) -> f64 {
        self.busy_ns as f64 / self.rows.max(1) as f64
    }
}

/// What a version on probation may not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The share of its rows, of 1, that it may reject beyond the share that the version before rejected.
    pub rejected_share_max: f64,
    /// How many times as long as the version before it may take for a row.
    pub slowdown_max: f64,
}

/// A share of fewer rows says nothing: one bad row of three is no third.
const ROWS_FOR_SHARE: u64 = 20;
/// The first calls of an instance touch fresh memory; with so many rows that is a small part of their time.
const ROWS_FOR_TIME: u64 = 1_000;

/// Says why a version that has done `new` isn't as good as the one that had done `old`.
///
/// # Errors
/// When it rejects or takes too much; for people.
pub fn judge(old: Seen, new: Seen, limits: Limits) -> Result<(), String> {
    let (share, share_before) = (new.rejected_share(), old.rejected_share());
    if new.rows >= ROWS_FOR_SHARE && share - share_before > limits.rejected_share_max {
        return Err(format!(
            "it rejected {} of {} rows ({:.1} %), the version before {:.1} %; {:.1} % more are allowed",
            new.rejected,
            new.rows,
            share * 100.0,
            share_before * 100.0,
            limits.rejected_share_max * 100.0
        ));
    }
    let slowdown = new.ns_per_row() / old.ns_per_row();
    if old.rows.min(new.rows) >= ROWS_FOR_TIME && old.busy_ns > 0 && slowdown > limits.slowdown_max {
        return Err(format!(
            "it took {:.0} ns for a row, {slowdown:.1} times as long as the version before; {} times are allowed",
            new.ns_per_row(),
            limits.slowdown_max
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { rejected_share_max: 0.05, slowdown_max: 10.0 };

    fn check(old: (u64, u64, u64), new: (u64, u64, u64), expected: Option<&str>) {
        let seen = |(rows, rejected, busy_ns)| Seen { rows, rejected, busy_ns };
        let judged = judge(seen(old), seen(new), LIMITS);
        assert_eq!(judged.as_ref().err().map(|e| &e[..expected.map_or(0, str::len)]), expected, "{judged:?}");
    }

    #[test]
    fn a_version_that_rejects_more_than_before_is_sent_back() {
        check((1_000, 0, 1), (1_000, 50, 1), None);
        check((1_000, 0, 1), (1_000, 51, 1), Some("it rejected 51 of 1000 rows (5.1 %)"));
        // Bad data was bad before.
        check((1_000, 500, 1), (1_000, 540, 1), None);
        check((0, 0, 0), (20, 20, 1), Some("it rejected 20 of 20 rows"));
        check((0, 0, 0), (19, 19, 1), None);
    }

    #[test]
    fn a_version_that_is_far_slower_is_sent_back() {
        check((1_000, 0, 1_000), (1_000, 0, 10_000), None);
        check((1_000, 0, 1_000), (1_000, 0, 10_100), Some("it took 10 ns for a row, 10.1 times"));
        check((999, 0, 999), (5_000, 0, 5_000_000), None);
        check((1_000, 0, 0), (1_000, 0, 10_000), None);
    }

    #[test]
    fn what_was_done_before_does_not_count() {
        let at = |n| Seen { rows: n, rejected: n / 2, busy_ns: n * 3 };
        assert_eq!(at(10).since(at(4)), Seen { rows: 6, rejected: 3, busy_ns: 18 });
    }
}
