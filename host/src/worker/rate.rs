//! How many rows a second the sources of a run read together, where that is limited.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What wasn't read in so much time may be made up for: else every pause of a busy machine would be lost for good.
const SAVED_MAX: Duration = Duration::from_millis(100);

/// A bucket of rows, from which all source tasks of a run take: whoever has read rows waits for its next ones until the
/// bucket is filled again. A task takes a batch at a time, so each gets as much as any other.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u64,
    /// From when on rows may be read. Held for an addition.
    free_at: Mutex<Instant>,
}

impl Rate {
    /// # Panics
    /// When it allows no row at all.
    pub(super) fn new(per_second: u64) -> Self {
        assert!(per_second > 0, "a rate of no rows");
        Self { per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// So many rows were read.
    pub(super) fn spend(&self, rows: usize) {
        let rows = u32::try_from(rows).expect("a batch has few rows");
        let takes = Duration::from_secs(1).mul_f64(f64::from(rows) / self.per_second as f64);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = Instant::now().checked_sub(SAVED_MAX);
        *free_at = saved.map_or(*free_at, |saved| saved.max(*free_at)) + takes;
    }

    /// Waits until rows may be read. Others may have read some by then, so it looks again.
    pub(super) async fn wait(&self) {
        loop {
            let free_at = *self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            if free_at <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(free_at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_share_the_rows_of_a_second() {
        let rate = Arc::new(Rate::new(1_000));
        let begun = Instant::now();
        let read = |rate: Arc<Rate>| async move {
            let mut rows = 0_u64;
            while begun.elapsed() < Duration::from_secs(10) {
                rate.wait().await;
                rate.spend(50);
                rows += 50;
            }
            rows
        };
        let (one, other) = tokio::join!(read(rate.clone()), read(rate));
        assert!((9_900..=10_300).contains(&(one + other)), "{one} and {other} rows in ten seconds");
        assert!(one.abs_diff(other) <= 1_000, "{one} and {other} rows in ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_made_up_for_but_not_a_long_one() {
        let rate = Rate::new(1_000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..10 {
            rate.wait().await;
            rate.spend(100);
        }
        rate.wait().await;
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(890) && took < Duration::from_millis(910), "{took:?}");
    }
}
