//! `tidemill test`: scripts through the real components in the real operators, on a clock that the script moves.

mod compare;
mod play;
mod rows;
mod show;

use std::path::{Path, PathBuf};

use clap::Args;
use tidemill::pipeline::declaration::script::is_script;
use tidemill::plugin::Runtime;

use super::exit::Exit;
use play::{Played, Player};

/// A larger file is no script.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// The arguments of `tidemill test`.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Scripts, and folders in which all files of TOML with a section [[step]] are scripts
    #[arg(required = true, value_name = "SCRIPT")]
    scripts: Vec<PathBuf>,
    /// Take a snapshot after each step and go on from it in the next: nothing may come out differently
    #[arg(long)]
    restore_everywhere: bool,
    /// Tasks per stage, whatever the scripts and pipelines say
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=720))]
    parallelism: Option<u16>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// A script that was played, or why it can't be.
struct Tested {
    path: PathBuf,
    played: Result<Played, String>,
}

pub(super) fn run(args: &TestArgs, cache: &Path) -> Result<(), Exit> {
    let scripts = find_all(&args.scripts)?;
    // Everything on one thread: the order in which tasks have their turns is nearly the same each time.
    let executor = super::run::control_plane()?;
    let tested = executor.block_on(async {
        let runtime = Runtime::new(cache).map_err(Exit::failure)?;
        let player = Player::new(&runtime, args.restore_everywhere, args.parallelism.map(usize::from));
        let mut tested = Vec::new();
        for path in scripts {
            let played = player.play(&path).await;
            let one = Tested { path, played };
            if !args.json {
                super::print(&show::as_text(&one))?;
            }
            tested.push(one);
        }
        Ok(tested)
    });
    // Dropped in order it would wait for tasks that hang in a guest.
    executor.shutdown_background();
    let tested: Vec<Tested> = tested?;
    if args.json {
        super::print(&format!("{:#}\n", show::as_json(&tested)))?;
    } else {
        super::print(&show::summary(&tested))?;
    }
    let wrong = tested.iter().filter(|t| t.played.is_err()).count();
    let failed = tested.iter().filter(|t| t.played.as_ref().is_ok_and(|p| !p.failures.is_empty())).count();
    match (wrong, failed) {
        (0, 0) => Ok(()),
        (0, failed) => Err(Exit::failure(format!("{} failed", show::count(failed, "script")))),
        (wrong, _) => Err(Exit::usage(format!("{} can't be played", show::count(wrong, "script")))),
    }
}

/// The scripts that these paths mean, those of a folder by name.
fn find_all(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Exit> {
    let mut scripts = Vec::new();
    for path in paths {
        let before = scripts.len();
        find(path, &mut scripts).map_err(|e| Exit::usage(format!("cannot read {}: {e}", path.display())))?;
        if scripts.len() == before {
            let path = path.display();
            return Err(Exit::usage(format!(
                "{path} has no scripts: no file of TOML with a section [[step]]"
            )));
        }
    }
    Ok(scripts)
}

fn find(path: &Path, scripts: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        scripts.push(path.to_owned());
        return Ok(());
    }
    let mut entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            find(&path, scripts)?;
        } else if path.extension().is_some_and(|e| e == "toml") {
            let bytes = super::read(&path, SCRIPT_BYTES_MAX)?;
            if is_script(&String::from_utf8_lossy(&bytes)) {
                scripts.push(path);
            }
        }
    }
    Ok(())
}
