//! `tidemill checkpoint`: what is kept of a pipeline's checkpoints, whether it is whole, and for how long it is kept.

mod show;
mod table;
mod verify;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidemill_checkpoint::{Contents, Error, Listed, Name, SavepointName, Selector, Store};

use super::exit::Exit;
use super::place::StoreArgs;
use super::summary::grouped;
use super::text::{fit_to_print, size, time};

/// The arguments of `tidemill checkpoint`.
#[derive(Debug, Args)]
pub(super) struct CheckpointArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List checkpoints and savepoints
    List(AllArgs),
    /// Show what a checkpoint consists of
    Show(OneArgs),
    /// Read every byte and say whether it is as it was written
    Verify(OneArgs),
    /// Keep a checkpoint as a savepoint, until it is deleted
    Keep(KeepArgs),
    /// Delete a checkpoint or savepoint
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct AllArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// A checkpoint's number or a savepoint's name; default: `show` the newest, `verify` all
    which: Option<Selector>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct KeepArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The checkpoint's number
    checkpoint: u64,
    /// The savepoint's name
    name: SavepointName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// A checkpoint's number or a savepoint's name
    which: Selector,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckpointArgs) -> Result<(), Exit> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Verify(args) => verify::run(&open(&args.store)?, args.which.as_ref(), args.json),
        Command::Keep(args) => keep(args),
        Command::Delete(args) => delete(args),
    }
}

fn open(store: &StoreArgs) -> Result<Contents, Exit> {
    Store::look(store.place()?).map_err(exit)
}

fn list(args: &AllArgs) -> Result<(), Exit> {
    let contents = open(&args.store)?;
    let listed = contents.list().map_err(exit)?;
    let commits = contents.commits_begun().map_err(exit)?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    super::print(&if args.json {
        format!("{:#}\n", table::as_json(contents.pipeline(), &listed, &commits))
    } else {
        fit_to_print(&table::as_text(contents.pipeline(), &listed, &commits, now_ms))
    })
}

fn show(args: &OneArgs) -> Result<(), Exit> {
    let contents = open(&args.store)?;
    let which = match &args.which {
        Some(which) => which.clone(),
        None => newest(&contents.list().map_err(exit)?)
            .ok_or_else(|| Exit::usage(format!("there is no checkpoint in {} yet", args.store)))?,
    };
    let manifest = contents.read(&which).map_err(exit)?;
    super::print(&if args.json {
        format!("{:#}\n", json!(manifest))
    } else {
        fit_to_print(&show::as_text(&manifest))
    })
}

pub(super) fn newest(listed: &[Listed]) -> Option<Selector> {
    listed.iter().rev().find_map(|listed| match &listed.name {
        Name::Checkpoint(name) => Some(Selector::Checkpoint(name.checkpoint)),
        Name::Savepoint(_) => None,
    })
}

fn keep(args: &KeepArgs) -> Result<(), Exit> {
    let KeepArgs { store, checkpoint, name, json } = args;
    open(store)?.keep(*checkpoint, name).map_err(exit)?;
    super::print(&if *json {
        format!("{:#}\n", json!({ "savepoint": name, "checkpoint": checkpoint }))
    } else {
        format!("checkpoint {checkpoint} is kept as savepoint {name}, until you delete that\n")
    })
}

fn delete(args: &DeleteArgs) -> Result<(), Exit> {
    let deleted = open(&args.store)?.delete(&args.which).map_err(exit)?;
    if args.json {
        let names: Vec<Value> = deleted.manifests.iter().map(name_as_json).collect();
        return super::print(&format!(
            "{:#}\n",
            json!({
                "deleted": names,
                "files": deleted.files_count,
                "bytes": deleted.bytes,
                "waiting": deleted.waiting,
            })
        ));
    }
    let files = match &deleted.waiting {
        Some(why) => format!("its files stay for now: {why}"),
        None => format!("with it went {}, {}", files(deleted.files_count), size(deleted.bytes)),
    };
    super::print(&fit_to_print(&format!("deleted {}; {files}\n", args.which)))
}

/// What can't be done as it was asked for is told apart from what failed.
fn exit(error: Error) -> Exit {
    match error {
        Error::NotAStore { .. }
        | Error::Missing { .. }
        | Error::Exists { .. }
        | Error::Newest { .. }
        | Error::Invalid(_)
        | Error::OtherPipeline { .. } => Exit::usage(error),
        _ => Exit::failure(error),
    }
}

fn name_as_json(name: &Name) -> Value {
    match name {
        Name::Checkpoint(name) => json!({ "checkpoint": name.checkpoint, "run": name.run }),
        Name::Savepoint(name) => json!({ "savepoint": name }),
    }
}

/// A number of files.
fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{} files", grouped(count)) }
}
