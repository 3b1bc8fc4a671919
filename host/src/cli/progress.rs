//! Progress of a running pipeline, on standard error: a line that renews itself on a terminal, one every ten
//! seconds elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill::pipeline::plan::{Plan, SourceInput};
use tidemill::telemetry::Counters;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::summary::grouped;

/// Progress that is being shown.
pub(super) struct Progress {
    done: oneshot::Sender<()>,
    shown: JoinHandle<()>,
}

impl Progress {
    pub(super) fn start(plan: &Plan, counters: Arc<Counters>) -> Self {
        let (done, finished) = oneshot::channel();
        let total = total_bytes(plan);
        let shown = tokio::spawn(show(plan.name.clone(), total, counters, finished));
        Self { done, shown }
    }

    pub(super) async fn finish(self) {
        // The other end waits for nothing else; that it is gone means it has finished already.
        let _ = self.done.send(());
        let _ = self.shown.await;
    }
}

/// The size of all files that are read, if files are all that is read.
fn total_bytes(plan: &Plan) -> Option<u64> {
    let mut total = 0;
    for source in &plan.sources {
        let SourceInput::Files { paths, .. } = &source.input else { return None };
        for path in paths {
            total += std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?.len();
        }
    }
    Some(total)
}

async fn show(
    name: String,
    total: Option<u64>,
    counters: Arc<Counters>,
    mut finished: oneshot::Receiver<()>,
) {
    let terminal = io::stderr().is_terminal();
    let period = Duration::from_millis(if terminal { 200 } else { 10_000 });
    let started = Instant::now();
    let mut ticks = tokio::time::interval(period);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = &mut finished => break,
            _ = ticks.tick() => {}
        }
        let line = line(&name, total, &counters, started.elapsed());
        if terminal {
            super::tell(&format!("\r\x1b[K{line}"));
        } else {
            super::tell(&format!("{line}\n"));
        }
    }
    if terminal {
        super::tell("\r\x1b[K");
    }
}

fn line(name: &str, total: Option<u64>, counters: &Counters, elapsed: Duration) -> String {
    let rows: u64 = counters.sources.iter().map(|s| s.rows.get()).sum();
    let bytes: u64 = counters.sources.iter().map(|s| s.bytes.get()).sum();
    let written: u64 = counters.sinks.iter().map(|s| s.rows.get()).sum();
    let share = match total.filter(|t| *t > 0) {
        Some(total) => format!("{:3} %  ", bytes.min(total) * 100 / total),
        None => String::new(),
    };
    let rate = (rows as f64 / elapsed.as_secs_f64()) as u64;
    format!("{name}  {share}{} rows in, {} out, {} rows/s", grouped(rows), grouped(written), grouped(rate))
}
