//! How a partition of a source makes its watermarks, from its rows, its own word, or the clock.

use super::WATERMARK_MIN;

/// How the watermarks of a source's partitions are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Rows are at most so many milliseconds behind the largest time before them; with 0, they are in the order of
    /// their times.
    Bounded(i64),
    /// Records say how far time has come.
    Punctuated,
    /// A row happens when it arrives.
    Arrival,
}

/// Makes the watermarks of one partition.
#[derive(Clone, Debug)]
pub enum Watermarks {
    /// From the rows' times.
    Bounded(BoundedOutOfOrderness),
    /// From what records say.
    Punctuated(Punctuated),
    /// From the clock.
    Arrival(Arrival),
}

impl Watermarks {
    /// By a strategy, for a partition that had come to `watermark` when a checkpoint was taken;
    /// [`WATERMARK_MIN`] if there was none.
    pub fn resumed(strategy: Strategy, watermark: i64) -> Self {
        match strategy {
            Strategy::Bounded(bound_ms) => Self::Bounded(BoundedOutOfOrderness::resumed(bound_ms, watermark)),
            Strategy::Punctuated => Self::Punctuated(Punctuated { watermark }),
            Strategy::Arrival => Self::Arrival(Arrival { watermark }),
        }
    }

    /// The watermark after what was observed so far.
    pub fn watermark(&self) -> i64 {
        match self {
            Self::Bounded(bounded) => bounded.watermark(),
            Self::Punctuated(punctuated) => punctuated.watermark,
            Self::Arrival(arrival) => arrival.watermark,
        }
    }
}

/// For rows that are at most so much out of order: the watermark trails the largest time seen by the bound and one
/// millisecond, so that rows with equal times are never late.
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
    /// row is behind the one before it or right at it.
    pub fn observe(&mut self, times: &[i64]) -> Option<Vec<i64>> {
        let after = |row: usize| times[row].saturating_sub(self.bound_ms).saturating_sub(1);
        observe(&mut self.watermark, times, after)
    }
}

/// For a partition whose records say now and then how far time has come, which nobody can know better than whoever
/// wrote them.
#[derive(Clone, Debug)]
pub struct Punctuated {
    watermark: i64,
}

impl Punctuated {
    /// Goes through the times of rows in their order of arrival, and through what was said of time: `said[0]` before
    /// the first row, `said[n]` with row *n*, counted from 1, behind which it holds; [`WATERMARK_MIN`] where nothing
    /// was. Returns the watermark before each row if any row is behind the one before it or right at it.
    ///
    /// # Panics
    /// When there isn't one word more than there are rows.
    pub fn observe(&mut self, times: &[i64], said: &[i64]) -> Option<Vec<i64>> {
        assert_eq!(said.len(), times.len() + 1, "one before the rows, and one with each");
        self.watermark = self.watermark.max(said[0]);
        observe(&mut self.watermark, times, |row| said[row + 1])
    }
}

/// For rows that happen when they arrive. Times never fall, so no row is ever late, also when the clock is set back.
#[derive(Clone, Debug)]
pub struct Arrival {
    watermark: i64,
}

impl Arrival {
    /// The clock stands at `now_ms`: the time of the rows that arrive now, and the watermark comes to just before it. It
    /// does so without rows too.
    pub fn observe(&mut self, now_ms: i64) -> i64 {
        let time = now_ms.max(self.watermark.saturating_add(1));
        self.watermark = time.saturating_sub(1);
        time
    }
}

/// Raises the watermark row by row, to `after` each. Returns the watermark before each row if any row is behind it or
/// right at it: a session that ends where a row begins takes the row in, if the watermark hasn't just closed it.
fn observe(watermark: &mut i64, times: &[i64], after: impl Fn(usize) -> i64) -> Option<Vec<i64>> {
    let start = *watermark;
    let mut behind = false;
    for (row, &time) in times.iter().enumerate() {
        behind |= time <= watermark.saturating_add(1);
        *watermark = (*watermark).max(after(row));
    }
    behind.then(|| {
        let mut watermark = start;
        let mut before = |row| {
            let next = watermark.max(after(row));
            std::mem::replace(&mut watermark, next)
        };
        (0..times.len()).map(&mut before).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_trails_the_largest_time_by_the_bound() {
        let mut source = BoundedOutOfOrderness::new(10);
        assert_eq!(source.observe(&[100, 95, 110]), None);
        assert_eq!(source.watermark(), 99);
        // 99 is behind the 99 that 110 left, and 100 right at it; 101 isn't.
        assert_eq!(source.observe(&[101]), None);
        assert_eq!(source.observe(&[100]), Some(vec![99]));
        assert_eq!(source.observe(&[120, 99, 121]), Some(vec![99, 109, 109]));
        assert_eq!(source.watermark(), 110);
    }

    #[test]
    fn equal_times_are_never_behind() {
        let mut source = BoundedOutOfOrderness::new(0);
        assert_eq!(source.observe(&[5, 5, 6, 6]), Some(vec![WATERMARK_MIN, 4, 4, 5]));
        assert_eq!(source.watermark(), 5);
    }

    const NOTHING: i64 = WATERMARK_MIN;

    #[test]
    fn what_a_record_says_holds_behind_it() {
        let mut source = Punctuated { watermark: WATERMARK_MIN };
        assert_eq!(source.observe(&[100, 50], &[NOTHING, NOTHING, NOTHING]), None);
        assert_eq!(source.watermark, WATERMARK_MIN);
        // A row isn't late by its own word, but the next one is: up to and including what was said.
        assert_eq!(source.observe(&[60, 60, 61], &[NOTHING, 60, 40, NOTHING]), Some(vec![NOTHING, 60, 60]));
        assert_eq!(source.watermark, 60);
        assert_eq!(source.observe(&[], &[70]), None);
        assert_eq!(source.watermark, 70);
        assert_eq!(source.observe(&[70], &[20, NOTHING]), Some(vec![70]));
        assert_eq!(source.watermark, 70);
    }

    #[test]
    fn rows_happen_when_they_arrive_and_never_late() {
        let mut source = Arrival { watermark: WATERMARK_MIN };
        assert_eq!(source.observe(1000), 1000);
        assert_eq!(source.watermark, 999);
        assert_eq!(source.observe(1000), 1000);
        assert_eq!(source.observe(1500), 1500);
        // The clock was set back.
        assert_eq!(source.observe(200), 1500);
        assert_eq!(source.watermark, 1499);
        let resumed = Watermarks::resumed(Strategy::Arrival, source.watermark);
        let Watermarks::Arrival(mut source) = resumed else { panic!("as it was asked for") };
        assert_eq!(source.observe(200), 1500);
    }

    #[test]
    fn a_partition_goes_on_from_where_it_had_come() {
        for strategy in [Strategy::Bounded(5), Strategy::Punctuated, Strategy::Arrival] {
            assert_eq!(Watermarks::resumed(strategy, 77).watermark(), 77);
        }
    }

    proptest::proptest! {
        /// Row by row, in any cut into batches: the watermark before each row is the largest that any row before it
        /// has brought about, and it is told if a row is behind it or right at it.
        #[test]
        fn batches_can_be_cut_anywhere(
            rows in proptest::collection::vec((0..60_i64, proptest::option::of(0..60_i64)), 1..30),
            cuts in proptest::collection::vec(1..8_usize, 1..30),
            bound in 0..10_i64,
            punctuated: bool,
        ) {
            let strategy = if punctuated { Strategy::Punctuated } else { Strategy::Bounded(bound) };
            let mut source = Watermarks::resumed(strategy, WATERMARK_MIN);
            let after = |row: &(i64, Option<i64>)| match strategy {
                Strategy::Bounded(bound) => row.0 - bound - 1,
                Strategy::Punctuated | Strategy::Arrival => row.1.unwrap_or(WATERMARK_MIN),
            };
            let (mut from, mut cuts) = (0, cuts.into_iter().cycle());
            while from < rows.len() {
                let until = rows.len().min(from + cuts.next().unwrap());
                let times: Vec<i64> = rows[from..until].iter().map(|r| r.0).collect();
                let said: Vec<i64> = std::iter::once(WATERMARK_MIN).chain(rows[from..until].iter().map(after)).collect();
                let found = match &mut source {
                    Watermarks::Bounded(bounded) => bounded.observe(&times),
                    Watermarks::Punctuated(punctuated) => punctuated.observe(&times, &said),
                    Watermarks::Arrival(_) => unreachable!("its rows have no times before"),
                };
                let before = |row: usize| rows[..row].iter().map(after).max().unwrap_or(WATERMARK_MIN);
                let expected: Vec<i64> = (from..until).map(before).collect();
                let behind = times.iter().zip(&expected).any(|(time, watermark)| *time <= watermark.saturating_add(1));
                proptest::prop_assert_eq!(found, behind.then_some(expected));
                proptest::prop_assert_eq!(source.watermark(), before(until));
                from = until;
            }
        }
    }
}
