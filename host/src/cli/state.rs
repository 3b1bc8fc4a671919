//! `tidemill state`: what a checkpoint knows of each key.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use tidemill::worker::View;
use tidemill_checkpoint::{Place, Selector, Store};

use super::exit::Exit;
use super::place::StoreArgs;

/// The arguments of `tidemill state`.
#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// Show the state of an operator as JSON lines: rows, entries of collections, timers
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The operator's id
    operator: String,
    /// Only this key, as in `origin=EWR`; may be repeated for a key of several fields
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field_value)]
    key: Vec<(String, String)>,
    /// A checkpoint's number or a savepoint's name; default: the newest
    #[arg(long, value_name = "CHECKPOINT")]
    at: Option<Selector>,
    /// Show so many at most
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
}

fn field_value(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("expected FIELD=VALUE, as in `origin=EWR`")?;
    Ok((field.to_owned(), value.to_owned()))
}

pub(super) fn run(command: &StateCommand) -> Result<(), Exit> {
    let StateCommand::Show(args) = command;
    let place = args.store.place()?;
    let mut contents = Store::look(&place).map_err(|e| Exit::usage(e.to_string()))?;
    let which = match &args.at {
        Some(which) => which.clone(),
        None => super::checkpoint::newest(&contents.list().map_err(|e| Exit::failure(e.to_string()))?)
            .ok_or_else(|| Exit::usage(format!("there is no checkpoint in {} yet", args.store)))?,
    };
    let manifest = contents.read(&which).map_err(|e| Exit::failure(e.to_string()))?;
    let process = std::process::id();
    let folder = match &place {
        // On the store's file system, so that files can be linked.
        Place::Folder(folder) => folder.join("tmp").join(format!("view-{process}")),
        Place::S3(_) | Place::JetStream(_) => std::env::temp_dir().join(format!("tidemill-view-{process}")),
    };
    std::fs::create_dir_all(&folder)
        .map_err(|e| Exit::failure(format!("cannot make {}: {e}", folder.display())))?;
    contents.download_to(folder.join("downloads")).map_err(|e| Exit::failure(e.to_string()))?;
    let shown = show(args, View::open(&contents, &manifest, &args.operator, &folder));
    // What stays behind is only links, or in a folder for what is temporary.
    let _ = std::fs::remove_dir_all(&folder);
    shown
}

fn show(args: &ShowArgs, view: Result<View, String>) -> Result<(), Exit> {
    let view = view.map_err(Exit::failure)?;
    let (mut shown, mut more) = (0, false);
    let mut lines = String::new();
    let seen = view.each(|found| {
        if !args.key.iter().all(|wanted| has_key(&found, wanted)) {
            return true;
        }
        more = shown == args.limit;
        if !more {
            shown += 1;
            lines.push_str(&Value::Object(found).to_string());
            lines.push('\n');
        }
        !more
    });
    seen.map_err(Exit::failure)?;
    super::print(&lines)?;
    if more {
        super::tell(&format!("there is more; `--limit` shows more than {}\n", args.limit));
    } else if shown == 0 {
        super::tell("there is no such state\n");
    }
    Ok(())
}

fn has_key(found: &Map<String, Value>, (field, wanted): &(String, String)) -> bool {
    match found.get("key").and_then(|key| key.get(field)) {
        Some(Value::String(text)) => text == wanted,
        Some(value) => serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *value),
        None => false,
    }
}
