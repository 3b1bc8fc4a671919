//! What is seen of a pipeline from outside, in the words of the API.

use std::collections::BTreeMap;

use super::model::{OperatorStatus, Status, Summary};
use super::supervisor::Face;
use crate::telemetry::Counter;

/// In a list.
pub(super) fn summary(name: &str, face: &Face) -> Summary {
    Summary {
        name: name.to_owned(),
        state: face.state,
        desired: face.record.desired,
        generation: face.record.generation,
        since_ms: face.since_ms,
        rows_read: face.counters.as_ref().map_or(0, |c| c.rows_read()),
    }
}

/// From near, but for what only its checkpoints and operations tell.
pub(super) fn status(name: &str, face: &Face) -> Status {
    let named = |counts: &[(&str, &Counter)]| -> BTreeMap<String, u64> {
        counts.iter().map(|(name, counter)| ((*name).to_owned(), counter.get())).collect()
    };
    let (mut sources, mut operators, mut sinks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    if let Some(deployed) = &face.deployed {
        let plan = &deployed.plan;
        let counters = face.counters.as_deref();
        for (at, source) in plan.sources.iter().enumerate() {
            let counts = counters.and_then(|c| c.sources.get(at)).map(|c| named(&c.named()));
            sources.insert(source.id.clone(), counts.unwrap_or_default());
        }
        for (at, operator) in plan.operators.iter().enumerate() {
            let counts = counters.and_then(|c| c.operators.get(at)).map(|c| named(&c.named()));
            let description = operator.plugin.description();
            let (name, version) = (description.name.clone(), description.version.clone());
            let component = operator.plugin.digest().to_owned();
            let counts = counts.unwrap_or_default();
            operators.insert(operator.id.clone(), OperatorStatus { component, name, version, counts });
        }
        for (at, sink) in plan.sinks.iter().enumerate() {
            let counts = counters.and_then(|c| c.sinks.get(at)).map(|c| named(&c.named()));
            sinks.insert(sink.id.clone(), counts.unwrap_or_default());
        }
    }
    let (summary, message) = (summary(name, face), face.message.clone());
    Status { summary, message, checkpoint: None, sources, operators, sinks, operation: None }
}
