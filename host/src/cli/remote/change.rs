//! `tidemill plan`, `apply` and `swap`: changing what runs.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use tidemill::pipeline::declaration::duration_ms;
use tidemill::service::model::{Apply, Plan, ProbationSettings, Specification, Swap};

use super::client::{Client, typed};
use super::components::{OperatorComponent, Uploads};
use super::follow::begun;
use super::{BeginArgs, HostArgs, client, name, plan as rendering, print_json, print_text, whoami};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;
use crate::cli::text::fit_to_print;

/// A pipeline file, and what it leaves open.
#[derive(Debug, Args)]
struct FileArgs {
    /// The pipeline file
    file: PathBuf,
    /// Tasks per stage, where the file doesn't say; default: the number of the host's cores
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=720))]
    parallelism: Option<u16>,
}

/// The arguments of `tidemill plan`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlanArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// The arguments of `tidemill apply`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ApplyArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Do this plan, as `tidemill plan` printed it, or nothing
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
    /// Allow that the state of this operator is lost; may be repeated
    #[arg(long, value_name = "OPERATOR", value_parser = name)]
    drop_state: Vec<String>,
    #[command(flatten)]
    pub(super) probation: ProbationArgs,
    #[command(flatten)]
    begin: BeginArgs,
}

/// The arguments of `tidemill swap`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwapArgs {
    /// The pipeline
    #[arg(value_parser = name)]
    name: String,
    /// An operator and its new component, a .wasm file or the digest of one in the host's store
    #[arg(required = true, value_name = "OPERATOR=COMPONENT")]
    components: Vec<OperatorComponent>,
    #[command(flatten)]
    pub(super) probation: ProbationArgs,
    #[command(flatten)]
    begin: BeginArgs,
}

/// How new versions are watched; what isn't said is as the host has it.
#[derive(Debug, Args)]
pub(super) struct ProbationArgs {
    /// Watch new versions for so long, as in `30s`, and to the next checkpoint; default: only that
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    probation: Option<u64>,
    /// The share of its rows that a new version may reject; default: 0.05
    #[arg(long, value_name = "SHARE")]
    rejected_share: Option<f64>,
    /// How many times as long as the one before a new version may take for a row; default: 10
    #[arg(long, value_name = "FACTOR")]
    slowdown: Option<f64>,
}

impl ProbationArgs {
    pub(super) fn settings(&self) -> ProbationSettings {
        let default = ProbationSettings::default();
        ProbationSettings {
            for_ms: self.probation.unwrap_or(default.for_ms),
            rejected_share_max: self.rejected_share.unwrap_or(default.rejected_share_max),
            slowdown_max: self.slowdown.unwrap_or(default.slowdown_max),
        }
    }
}

fn duration(text: &str) -> Result<u64, String> {
    duration_ms(text).map(i64::unsigned_abs)
}

pub(super) async fn plan(args: &PlanArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.host, data)?;
    let by = whoami();
    let specification = specify(&client, &args.file, &by).await?;
    let apply = Apply {
        specification,
        plan: None,
        drop_state: Vec::new(),
        probation: ProbationSettings::default(),
        by,
    };
    let (answer, plan) = ask_plan(&client, &apply).await?;
    if args.host.json {
        print_json(&answer)?;
    } else {
        print_text(&rendering::as_text(&plan))?;
    }
    refuse(&plan)
}

pub(super) async fn apply(args: &ApplyArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let by = args.begin.by();
    let specification = specify(&client, &args.file, &by).await?;
    let (drop_state, probation) = (args.drop_state.clone(), args.probation.settings());
    let mut apply = Apply { specification, plan: None, drop_state, probation, by };
    let (_, plan) = ask_plan(&client, &apply).await?;
    crate::cli::tell(&fit_to_print(&rendering::as_text(&plan)));
    refuse(&plan)?;
    // What was shown is done, or nothing.
    apply.plan = Some(args.plan.clone().unwrap_or(plan.hash));
    let answer = client.post(&["apply"], &apply).await?;
    begun(&client, answer, &args.begin).await
}

pub(super) async fn swap(args: &SwapArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.begin.host, data)?;
    let by = args.begin.by();
    let components = Uploads::new(&client, &by).await?.all(&args.components).await?;
    let swap = Swap { components, probation: args.probation.settings(), by };
    let answer = client.post(&["pipelines", &args.name, "swap"], &swap).await?;
    begun(&client, answer, &args.begin).await
}

async fn ask_plan(client: &Client, apply: &Apply) -> Result<(Value, Plan), Exit> {
    let answer = client.post(&["plan"], apply).await?;
    let plan = typed(&answer)?;
    Ok((answer, plan))
}

fn refuse(plan: &Plan) -> Result<(), Exit> {
    match plan.refusals.len() {
        0 => Ok(()),
        _ => Err(Exit::usage(format!(
            "the change of `{}` can't be done; the plan says why",
            fit_to_print(&plan.pipeline)
        ))),
    }
}

/// Reads a pipeline file, and has its components in the host's store.
async fn specify(client: &Client, args: &FileArgs, by: &str) -> Result<Specification, Exit> {
    let declaration = crate::cli::run::read_declaration(&args.file)?;
    let folder = args.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base = folder.canonicalize();
    let base = base.map_err(|e| Exit::usage(format!("cannot find the folder {}: {e}", folder.display())))?;
    let mut uploads = Uploads::new(client, by).await?;
    let mut components = std::collections::BTreeMap::new();
    for operator in &declaration.operators {
        let digest = uploads.file(&folder.join(&operator.component.value)).await?;
        components.insert(operator.id.value.clone(), digest);
    }
    let file = args.file.file_name().unwrap_or(args.file.as_os_str()).to_string_lossy();
    Ok(Specification {
        file: super::cell(&file),
        text: declaration.file.text().to_owned(),
        base,
        components,
        parallelism: args.parallelism.map(usize::from),
    })
}
