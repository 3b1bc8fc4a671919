//! Sources that keep together: one that is far ahead of the others waits for them.

use super::{WATERMARK_MAX, WATERMARK_MIN};

/// How far the members of a group have come. Whoever is too far ahead of the one that is furthest behind reads no
/// further: what it read would only lie in windows that wait for the others.
#[derive(Clone, Debug)]
pub struct Drift {
    members: Vec<i64>,
    minimum: i64,
}

impl Drift {
    /// For this many members, none of which has come anywhere.
    pub fn new(members: usize) -> Self {
        Self { members: vec![WATERMARK_MIN; members], minimum: WATERMARK_MIN }
    }

    /// A member has come to `watermark`, or back to it, as one that was idle may; [`WATERMARK_MAX`] of one that is
    /// idle or has ended, so that it holds back nobody. Says whether the minimum is another one now.
    pub fn report(&mut self, member: usize, watermark: i64) -> bool {
        self.members[member] = watermark;
        let minimum = self.members.iter().copied().min().unwrap_or(WATERMARK_MAX);
        std::mem::replace(&mut self.minimum, minimum) != minimum
    }

    /// Whether something that has come to `watermark`, and may be ahead by `max_ms` milliseconds, reads on. What has no
    /// watermark yet always does, and so does what the others wait for.
    pub fn lets_read(&self, watermark: i64, max_ms: i64) -> bool {
        watermark <= self.minimum.saturating_add(max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_too_far_ahead_waits_for_the_last() {
        let mut group = Drift::new(3);
        assert!(group.lets_read(WATERMARK_MIN, 10));
        assert!(!group.report(0, 100), "two have come nowhere");
        assert!(!group.lets_read(100, 10));
        assert!(!group.report(1, 95));
        assert!(group.report(2, 90));
        assert!(group.lets_read(100, 10));
        assert!(!group.lets_read(101, 10));
        assert!(group.lets_read(101, 11), "each says for itself how far");
        assert!(group.report(2, 93));
        assert!(group.lets_read(101, 10));
    }

    #[test]
    fn who_is_idle_or_has_ended_holds_back_nobody() {
        let mut group = Drift::new(2);
        group.report(0, 1000);
        assert!(!group.lets_read(1000, 10));
        assert!(group.report(1, WATERMARK_MAX));
        assert!(group.lets_read(1000, 10));
        // Awake again, and behind.
        assert!(group.report(1, 50));
        assert!(!group.lets_read(1000, 10));
        assert!(group.report(1, WATERMARK_MAX));
        assert!(group.report(0, WATERMARK_MAX));
        assert!(group.lets_read(WATERMARK_MAX - 1, i64::MAX), "nothing overflows");
    }

    proptest::proptest! {
        /// Somebody can always go on: whoever is furthest behind.
        #[test]
        fn the_last_is_never_held(
            reports in proptest::collection::vec((0..4_usize, 0..1000_i64), 0..50), max_ms in 0..100_i64
        ) {
            let mut group = Drift::new(4);
            let mut members = [WATERMARK_MIN; 4];
            for (member, watermark) in reports {
                let before = *members.iter().min().unwrap();
                members[member] = watermark;
                let minimum = *members.iter().min().unwrap();
                proptest::prop_assert_eq!(group.report(member, watermark), minimum != before);
                for watermark in members {
                    let ahead = i128::from(watermark) - i128::from(minimum);
                    proptest::prop_assert_eq!(group.lets_read(watermark, max_ms), ahead <= i128::from(max_ms));
                }
            }
        }
    }
}
