//! What pipelines and their operators say, by pipeline: the last lines of each, in memory. All of it is in the host's own
//! log too, if that lets it through.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::model::LogLine;
use super::now_ms;

/// Lines of a pipeline that are remembered: some 100 bytes each.
const LINES_MAX: usize = 10_000;

/// The lines of all pipelines. Cheap to clone.
#[derive(Clone, Default)]
pub struct Logs {
    /// Held for moments.
    pipelines: Arc<Mutex<BTreeMap<String, Lines>>>,
}

#[derive(Default)]
struct Lines {
    lines: VecDeque<LogLine>,
    /// The number of the last one.
    last: watch::Sender<u64>,
}

impl Logs {
    /// The part of a subscriber that collects what is said within a span with the field `pipeline`.
    pub fn layer(&self) -> Collector {
        Collector { logs: self.clone() }
    }

    /// Adds a line.
    pub(super) fn add(&self, pipeline: &str, level: &str, operator: Option<String>, message: String) {
        let mut pipelines = self.pipelines();
        let Some(lines) = pipelines.get_mut(pipeline) else { return };
        let number = *lines.last.borrow() + 1;
        if lines.lines.len() == LINES_MAX {
            lines.lines.pop_front();
        }
        let level = level.to_owned();
        lines.lines.push_back(LogLine { number, at_ms: now_ms(), level, operator, message });
        lines.last.send_replace(number);
    }

    pub(super) fn open(&self, pipeline: &str) {
        self.pipelines().entry(pipeline.to_owned()).or_default();
    }

    pub(super) fn close(&self, pipeline: &str) {
        self.pipelines().remove(pipeline);
    }

    /// The last lines behind number `after`, at most `count`; waits for some.
    pub(super) async fn read(
        &self,
        pipeline: &str,
        after: u64,
        count: usize,
        wait: Duration,
    ) -> Vec<LogLine> {
        let Some(mut last) = self.pipelines().get(pipeline).map(|l| l.last.subscribe()) else {
            return Vec::new();
        };
        // When it is over there are none, or the pipeline is gone.
        let _ = tokio::time::timeout(wait, last.wait_for(|last| *last > after)).await;
        let pipelines = self.pipelines();
        let lines = pipelines.get(pipeline).map(|l| &l.lines);
        let behind = lines.into_iter().flatten().filter(|line| line.number > after);
        let behind: Vec<LogLine> = behind.cloned().collect();
        behind[behind.len().saturating_sub(count)..].to_vec()
    }

    fn pipelines(&self) -> MutexGuard<'_, BTreeMap<String, Lines>> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Collects the lines of pipelines.
pub struct Collector {
    logs: Logs,
}

/// The pipeline that a span is about.
struct Whose(String);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut said = Said::default();
        attributes.record(&mut said);
        if let (Some(pipeline), Some(span)) = (said.pipeline, context.span(id)) {
            span.extensions_mut().insert(Whose(pipeline));
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut scope = context.event_scope(event).into_iter().flatten();
        let pipeline = scope.find_map(|span| span.extensions().get::<Whose>().map(|whose| whose.0.clone()));
        let Some(pipeline) = pipeline else { return };
        let mut said = Said::default();
        event.record(&mut said);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        self.logs.add(&pipeline, &level, said.operator, said.message);
    }
}

#[derive(Default)]
struct Said {
    pipeline: Option<String>,
    operator: Option<String>,
    message: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}{}", self.message),
            // A string takes no harm from being written.
            name => drop(write!(self.message, " {name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "pipeline" => self.pipeline = Some(value.to_owned()),
            "operator" => self.operator = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[tokio::test]
    async fn a_pipeline_has_the_lines_that_were_said_for_it() {
        let logs = Logs::default();
        logs.open("p");
        let subscriber = tracing_subscriber::registry().with(logs.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("nobody's");
            let span = tracing::info_span!("pipeline", pipeline = "p");
            let _entered = span.enter();
            tracing::warn!(operator = "o", rows = 3, "careful");
            tracing::info_span!("inner").in_scope(|| tracing::info!("within"));
        });
        let lines = logs.read("p", 0, 10, Duration::ZERO).await;
        let told: Vec<_> = lines
            .iter()
            .map(|l| (l.number, l.level.as_str(), l.operator.as_deref(), l.message.as_str()))
            .collect();
        assert_eq!(told, [(1, "warn", Some("o"), "careful rows=3"), (2, "info", None, "within")]);
        assert_eq!(logs.read("p", 0, 1, Duration::ZERO).await[0].number, 2);
        assert!(logs.read("p", 2, 10, Duration::from_millis(1)).await.is_empty());
    }
}
