//! When a failed pipeline is started again, and when that is given up.

use std::fmt;
use std::time::Duration;

use crate::pipeline::plan::RestartPlan;

/// Counts the failures since a checkpoint was last completed.
#[derive(Debug)]
pub struct Restarts {
    plan: RestartPlan,
    failures: u32,
    has_started: bool,
}

impl Restarts {
    /// None yet.
    pub fn new(plan: RestartPlan) -> Self {
        Self { plan, failures: 0, has_started: false }
    }

    /// Whether the pipeline has never run: then it is wrong, and not unlucky.
    pub fn are_first(&self) -> bool {
        !self.has_started
    }

    /// A run is over that has completed so many checkpoints. One that has got somewhere was no failure in vain.
    pub fn completed(&mut self, checkpoints: u64) {
        self.has_started = true;
        if checkpoints > 0 {
            self.failures = 0;
        }
    }

    /// How long to wait before the next start; none: give up.
    pub fn delay(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        self.plan.delay_ms(self.failures).map(Duration::from_millis)
    }

    /// What to say when it is given up.
    pub fn gave_up(&self) -> String {
        match self.plan {
            RestartPlan::None => String::new(),
            RestartPlan::FromCheckpoint { .. } => {
                format!("\ngiven up after {} failures in a row; its last checkpoint stays", self.failures)
            }
        }
    }
}

impl fmt::Display for Restarts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "starting again from the last checkpoint (failure {} in a row)", self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_completed_a_checkpoint_is_forgiven() {
        let plan = RestartPlan::FromCheckpoint { attempts: 2, delay_ms: 100, max_delay_ms: 150 };
        let mut restarts = Restarts::new(plan);
        let mut delays =
            |n: usize| (0..n).map(|_| restarts.delay().map(|d| d.as_millis())).collect::<Vec<_>>();
        assert_eq!(delays(3), [Some(100), Some(150), None]);
        restarts.completed(1);
        assert_eq!(restarts.delay(), Some(Duration::from_millis(100)));
        assert_eq!(Restarts::new(RestartPlan::None).delay(), None);
    }
}
