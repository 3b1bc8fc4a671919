//! `tidemill run`: one pipeline in the foreground, on embedded everything.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use tidemill::pipeline::check;
use tidemill::pipeline::declaration::{self, Declaration};
use tidemill::pipeline::plan::Plan;
use tidemill::plugin::{COMPONENT_BYTES_MAX, Plugin, Runtime};
use tidemill::telemetry::Counters;
use tidemill::worker::{Checkpointing, Ended, Job, JobError, Restarts};
use tidemill_checkpoint::Selector;
use tokio::sync::watch;

use super::exit::Exit;
use super::progress::Progress;
use super::{summary, table};

/// The arguments of `tidemill run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The pipeline file
    pipeline: PathBuf,
    /// Tasks per stage, where the file doesn't say; default: the number of cores
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=720))]
    parallelism: Option<u16>,
    /// Go on from this checkpoint or savepoint, and not from the newest
    #[arg(long, value_name = "CHECKPOINT")]
    from: Option<Selector>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    /// Show neither progress nor summary
    #[arg(long, short)]
    quiet: bool,
    /// Afterwards show the first rows of each file that was written
    #[arg(long, value_name = "ROWS")]
    show: Option<usize>,
}

pub(super) fn run(args: &RunArgs, cache: &Path) -> Result<(), Exit> {
    let executor = control_plane()?;
    executor.block_on(run_pipeline(args, cache))
}

async fn run_pipeline(args: &RunArgs, cache: &Path) -> Result<(), Exit> {
    let plan = Arc::new(prepare(args, cache).await?);
    let cores = std::thread::available_parallelism().map_or(1, |c| c.get());
    // Apart from the control plane: a busy pipeline must not keep Ctrl-C from being heard.
    let data_plane = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name("tidemill-data")
        .enable_time()
        .build()
        .map_err(|e| Exit::failure(format!("cannot start threads: {e}")))?;
    let started = Instant::now();
    let ran = run_with_restarts(&plan, args, data_plane.handle()).await;
    // Dropped here it would wait for its threads, which an async function must not.
    data_plane.shutdown_background();
    let Ran { ended, counters, rows_before } = ran?;
    if let Some(rows) = args.show {
        for sink in &plan.sinks {
            super::print(&table::of(sink, rows))?;
        }
    }
    if args.json {
        super::print(&format!("{:#}\n", summary::as_json(&plan, &counters, ended, started.elapsed())))?;
    } else if !args.quiet {
        super::tell(&summary::as_text(&plan, &counters, rows_before, ended, started.elapsed()));
    }
    match ended {
        Ended::Finished => Ok(()),
        Ended::Stopped => Err(Exit::interrupted()),
    }
}

/// Runs the pipeline, from its newest checkpoint if it has some, and again after a failure as the plan says.
async fn run_with_restarts(
    plan: &Arc<Plan>,
    args: &RunArgs,
    data_plane: &tokio::runtime::Handle,
) -> Result<Ran, Exit> {
    let cannot_start =
        |e: &dyn std::fmt::Display| Exit::usage(format!("pipeline `{}` can't be started: {e}", plan.name));
    let mut presses = interrupts();
    let is_interrupted = |presses: &watch::Receiver<u32>| *presses.borrow() > 0;
    let mut restarts = Restarts::new(plan.restart);
    let mut rows_before = None;
    // Until a checkpoint is complete that comes after it, it is where a restart goes on from, too.
    let mut from = args.from.clone();
    loop {
        // Verifying a large state takes its time, and Ctrl-C must be heard meanwhile.
        let opening = tokio::task::spawn_blocking({
            let (plan, from) = (Arc::clone(plan), from.clone());
            move || Checkpointing::open(&plan, from.as_ref())
        });
        let opened = opening.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        if is_interrupted(&presses) {
            return Err(Exit::interrupted());
        }
        let job = match opened {
            Ok(checkpointing) => {
                if let Some(checkpointing) = &checkpointing {
                    for warning in checkpointing.warnings() {
                        super::tell(&format!("{}: warning: {warning}\n", plan.name));
                    }
                    if let Some(restored) = checkpointing.told().filter(|_| !args.quiet) {
                        super::tell(&format!("{}: {restored}\n", plan.name));
                    }
                    if checkpointing.has_finished() {
                        let counters = checkpointing.counters(plan);
                        return Ok(Ran {
                            ended: Ended::Finished,
                            rows_before: counters.rows_read(),
                            counters,
                        });
                    }
                }
                // A restart in between is part of this run.
                let before = || checkpointing.as_ref().map_or(0, |c| c.counters(plan).rows_read());
                rows_before.get_or_insert_with(before);
                Job::start(plan, data_plane, checkpointing).await
            }
            Err(error) => Err(error),
        };
        let job = match job {
            Ok(job) => job,
            Err(error) if restarts.are_first() => return Err(cannot_start(&error)),
            Err(error) => {
                wait_to_restart(plan, &mut restarts, &error, &mut presses).await?;
                continue;
            }
        };
        let counters = Arc::clone(job.counters());
        let progress = (!args.quiet).then(|| Progress::start(plan, Arc::clone(&counters)));
        let (stop, completed) = (job.stop_handle(), job.completed());
        let mut ending = std::pin::pin!(job.wait());
        let ended = tokio::select! {
            ended = &mut ending => ended,
            _ = presses.wait_for(|presses| *presses > 0) => {
                super::tell("\nstopping; Ctrl-C again to leave at once\n");
                stop.stop();
                ending.await
            }
        };
        if let Some(progress) = progress {
            progress.finish().await;
        }
        restarts.completed(completed());
        if completed() > 0 {
            from = None;
        }
        match ended {
            Ok(ended) => return Ok(Ran { ended, counters, rows_before: rows_before.unwrap_or(0) }),
            Err(error) => wait_to_restart(plan, &mut restarts, &error, &mut presses).await?,
        }
    }
}

/// What came of a run.
struct Ran {
    ended: Ended,
    counters: Arc<Counters>,
    /// Rows that earlier runs had read.
    rows_before: u64,
}

/// Counts how often Ctrl-C was pressed; the second time the process ends at once.
fn interrupts() -> watch::Receiver<u32> {
    let (pressed, presses) = watch::channel(0);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            pressed.send_modify(|presses| *presses += 1);
            if *pressed.borrow() > 1 {
                std::process::exit(130);
            }
        }
        // Without a way to hear it, nobody presses it.
        std::future::pending::<()>().await;
    });
    presses
}

/// Waits as long as the plan says before the next start; the failure itself, if there is to be none.
async fn wait_to_restart(
    plan: &Plan,
    restarts: &mut Restarts,
    error: &JobError,
    presses: &mut watch::Receiver<u32>,
) -> Result<(), Exit> {
    let failed = |why: &str| Exit::failure(format!("pipeline `{}` failed: {error}{why}", plan.name));
    // Two runs that take the checkpoints from each other would go on so for ever.
    if *presses.borrow() > 0 || matches!(error, JobError::Superseded(_)) {
        return Err(failed(""));
    }
    let Some(delay) = restarts.delay() else { return Err(failed(&restarts.gave_up())) };
    super::tell(&format!("pipeline `{}` failed: {error}\n{restarts}, in {delay:?}\n", plan.name));
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        _ = presses.wait_for(|presses| *presses > 0) => Err(Exit::interrupted()),
    }
}

/// Reads and checks the pipeline file and its components.
async fn prepare(args: &RunArgs, cache: &Path) -> Result<Plan, Exit> {
    let path = &args.pipeline;
    let declaration = read_declaration(path)?;
    let refused = |errors| Exit::usage(format!("the pipeline file can't be run\n{errors}"));
    let base = path.parent().unwrap_or(Path::new(""));
    let runtime = Runtime::new(cache).map_err(Exit::failure)?;
    let plugins = load(&runtime, &declaration, base).await.map_err(refused)?;
    let cores = std::thread::available_parallelism().map_or(1, |c| c.get());
    let parallelism = args.parallelism.map_or(cores, usize::from);
    check::plan(&declaration, plugins, base, parallelism).map_err(refused)
}

/// Reads a pipeline file.
pub(super) fn read_declaration(path: &Path) -> Result<Declaration, Exit> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Exit::usage(format!("cannot read the pipeline file {}: {e}", path.display())))?;
    declaration::parse(&path.display().to_string(), &text)
        .map_err(|errors| Exit::usage(format!("the pipeline file can't be run\n{errors}")))
}

/// Loads the operators' components, each file once.
pub(super) async fn load(
    runtime: &Runtime,
    declaration: &Declaration,
    base: &Path,
) -> Result<Vec<Plugin>, declaration::Errors> {
    let problems = declaration.problems();
    let mut loaded: HashMap<PathBuf, Plugin> = HashMap::new();
    let mut plugins = Vec::new();
    for operator in &declaration.operators {
        let path = base.join(&operator.component.value);
        if let Some(plugin) = loaded.get(&path) {
            plugins.push(plugin.clone());
            continue;
        }
        let plugin = match super::read(&path, COMPONENT_BYTES_MAX) {
            Err(error) => Err(format!("cannot read the component {}: {error}", path.display())),
            Ok(bytes) => {
                let plugin = runtime.load(&bytes).await;
                plugin.map_err(|e| format!("{} can't be used as an operator: {e}", path.display()))
            }
        };
        match plugin {
            Ok(plugin) => {
                loaded.insert(path, plugin.clone());
                plugins.push(plugin);
            }
            Err(message) => problems.report(&operator.component, message),
        }
    }
    problems.settle((plugins.len() == declaration.operators.len()).then_some(plugins))
}

/// A runtime for everything but the data: signals, progress, compilation.
pub(super) fn control_plane() -> Result<tokio::runtime::Runtime, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Exit::failure(format!("cannot start the control plane: {e}")))
}
