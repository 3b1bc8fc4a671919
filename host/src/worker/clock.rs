//! Processing time: the clock on the wall, or one that somebody moves by hand. Tasks see no other, so that a pipeline can be
//! run through days in no time and the same way each time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// The clock of a pipeline's tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub enum ProcessingTime {
    /// The clock on the wall.
    Wall,
    /// One that stands still until it is set, in milliseconds since the Unix epoch.
    Manual(watch::Receiver<i64>),
}

impl ProcessingTime {
    /// Whether it goes on by itself.
    pub(super) fn moves(&self) -> bool {
        matches!(self, Self::Wall)
    }

    /// In milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        match self {
            Self::Wall => wall_ms(),
            Self::Manual(set) => *set.borrow(),
        }
    }

    /// Waits until it is this late, in milliseconds since the Unix epoch; for ever, if nobody is left to set the clock.
    pub async fn sleep_until_ms(&self, at_ms: i64) {
        match self {
            Self::Wall => {
                let wait = u64::try_from(at_ms.saturating_sub(wall_ms())).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            Self::Manual(set) => {
                if set.clone().wait_for(|now_ms| *now_ms >= at_ms).await.is_err() {
                    std::future::pending().await
                }
            }
        }
    }
}

/// The clock on the wall, in milliseconds since the Unix epoch.
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_moved_by_hand_wakes_whoever_waits_for_it() {
        let (set, clock) = watch::channel(10);
        let clock = ProcessingTime::Manual(clock);
        clock.sleep_until_ms(10).await;
        let sleeping = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until_ms(20).await }
        });
        set.send_replace(19);
        tokio::task::yield_now().await;
        assert!(!sleeping.is_finished());
        set.send_replace(20);
        sleeping.await.unwrap();
        assert_eq!(clock.now_ms(), 20);
    }
}
