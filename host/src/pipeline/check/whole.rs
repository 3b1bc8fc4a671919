//! What concerns the pipeline as a whole: checkpoints, state, restarts.

use std::path::Path;
use std::sync::Arc;

use tidemill_checkpoint::Place;

use super::Checker;
use crate::nats::Servers;
use crate::pipeline::declaration::{Restart, StateBackend};
use crate::pipeline::plan::{CheckpointPlan, RestartPlan, StatePlan};

impl Checker<'_> {
    pub(super) fn checkpoints(&self, base: &Path, connections: &[Arc<Servers>]) -> Option<CheckpointPlan> {
        let declared = self.declaration.checkpoints.as_ref()?;
        let path = match declared.path.value.within(base) {
            Place::JetStream(place) => {
                let servers = connections.iter().find(|servers| servers.id() == place.connection());
                let settings = servers.expect("the file's reader has found it").settings().clone();
                Place::JetStream(place.reached_by(settings))
            }
            place => place,
        };
        Some(CheckpointPlan {
            path,
            work: base.join(&declared.work),
            interval_ms: declared.interval_ms.unsigned_abs(),
            min_pause_ms: declared.min_pause_ms.unsigned_abs(),
            timeout_ms: declared.timeout_ms.unsigned_abs(),
            unaligned_after_ms: declared.unaligned_after_ms.map(i64::unsigned_abs),
            tolerated_failures: declared.tolerated_failures,
            retain: declared.retain,
        })
    }

    pub(super) fn state(&self, base: &Path) -> StatePlan {
        let declared = &self.declaration.state;
        let usual = || {
            let checkpoints = self.declaration.checkpoints.as_ref()?;
            Some(base.join(&checkpoints.work))
        };
        let path = match declared.backend {
            StateBackend::RocksDb => declared.path.as_ref().map(|path| base.join(&path.value)).or_else(usual),
            StateBackend::Memory => None,
        };
        StatePlan { backend: declared.backend, memory_bytes: declared.memory_bytes, path }
    }

    pub(super) fn restart(&self) -> RestartPlan {
        match self.declaration.restart {
            Restart::None => RestartPlan::None,
            Restart::FromCheckpoint { attempts, delay_ms, max_delay_ms } => RestartPlan::FromCheckpoint {
                attempts,
                delay_ms: delay_ms.unsigned_abs(),
                max_delay_ms: max_delay_ms.unwrap_or(delay_ms).unsigned_abs(),
            },
        }
    }
}
