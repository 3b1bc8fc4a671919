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
use tidemill::worker::{Ended, Job};

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
    let plan = prepare(args, cache).await?;
    let cores = std::thread::available_parallelism().map_or(1, |c| c.get());
    // Apart from the control plane: a busy pipeline must not keep Ctrl-C from being heard.
    let data_plane = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .thread_name("tidemill-data")
        .enable_time()
        .build()
        .map_err(|e| Exit::failure(format!("cannot start threads: {e}")))?;
    let started = Instant::now();
    let job = match Job::start(&plan, data_plane.handle()).await {
        Ok(job) => job,
        Err(error) => {
            // Dropped here it would wait for its threads, which an async function must not.
            data_plane.shutdown_background();
            return Err(Exit::usage(format!("pipeline `{}` can't be started: {error}", plan.name)));
        }
    };
    let counters = Arc::clone(job.counters());
    let stop = job.stop_handle();
    let interrupts = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            super::tell("\nstopping; Ctrl-C again to leave at once\n");
            stop.stop();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
    let progress = (!args.quiet).then(|| Progress::start(&plan, Arc::clone(&counters)));
    let ended = job.wait().await;
    interrupts.abort();
    if let Some(progress) = progress {
        progress.finish().await;
    }
    data_plane.shutdown_background();
    let ended = ended.map_err(|e| Exit::failure(format!("pipeline `{}` failed: {e}", plan.name)))?;
    if let Some(rows) = args.show {
        for sink in &plan.sinks {
            super::print(&table::of(sink, rows))?;
        }
    }
    if args.json {
        super::print(&format!("{:#}\n", summary::as_json(&plan, &counters, ended, started.elapsed())))?;
    } else if !args.quiet {
        super::tell(&summary::as_text(&plan, &counters, ended, started.elapsed()));
    }
    match ended {
        Ended::Finished => Ok(()),
        Ended::Stopped => Err(Exit::interrupted()),
    }
}

/// Reads and checks the pipeline file and its components.
async fn prepare(args: &RunArgs, cache: &Path) -> Result<Plan, Exit> {
    let path = &args.pipeline;
    let text = std::fs::read_to_string(path)
        .map_err(|e| Exit::usage(format!("cannot read the pipeline file {}: {e}", path.display())))?;
    let refused = |errors| Exit::usage(format!("the pipeline file can't be run\n{errors}"));
    let declaration = declaration::parse(&path.display().to_string(), &text).map_err(refused)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let runtime = Runtime::new(cache).map_err(Exit::failure)?;
    let plugins = load(&runtime, &declaration, base).await.map_err(refused)?;
    let cores = std::thread::available_parallelism().map_or(1, |c| c.get());
    let parallelism = args.parallelism.map_or(cores, usize::from);
    check::plan(&declaration, plugins, base, parallelism).map_err(refused)
}

/// Loads the operators' components, each file once.
async fn load(
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
