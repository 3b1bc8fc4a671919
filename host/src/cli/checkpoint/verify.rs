//! `tidemill checkpoint verify`: every byte is read.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_checkpoint::{Contents, Error, Listed, Name, Progress, Selector};

use super::{exit, files, fit_to_print, name_as_json, size};
use crate::cli::exit::Exit;

/// A running pipeline writes one copy of a manifest and then the other; what is seen in between isn't broken.
const BETWEEN_COPIES: Duration = Duration::from_millis(500);

/// What was found of one checkpoint.
struct Finding {
    name: Name,
    files_count: u64,
    bytes: u64,
    /// All that is wrong, each with its file.
    wrong: Vec<String>,
}

pub(super) fn run(contents: &Contents, which: Option<&Selector>, json: bool) -> Result<(), Exit> {
    let names: Vec<Name> = match which {
        // Says also that there is none, in the words of everybody else.
        Some(which) => vec![contents.find(which).map_err(exit)?],
        None => contents.list().map_err(exit)?.into_iter().map(|listed| listed.name).collect(),
    };
    let progress = Shown::default();
    let mut findings = Vec::new();
    for name in names {
        findings.extend(verify(contents, name, &progress).map_err(exit)?);
    }
    progress.clear();
    super::super::print(&if json {
        format!("{:#}\n", json!({ "pipeline": contents.pipeline(), "checkpoints": as_json(&findings) }))
    } else {
        fit_to_print(&as_text(&findings))
    })?;
    let broken = findings.iter().filter(|finding| !finding.wrong.is_empty()).count();
    match broken {
        0 => Ok(()),
        _ => Err(Exit::failure(format!("{broken} of {} aren't as they were written", findings.len()))),
    }
}

/// None, if it is removed by the running pipeline meanwhile.
fn verify(contents: &Contents, name: Name, progress: &Shown) -> Result<Option<Finding>, Error> {
    let Some(mut listed) = contents.look_at(&name)? else { return Ok(None) };
    if listed.warning.is_some() {
        std::thread::sleep(BETWEEN_COPIES);
        match contents.look_at(&name)? {
            Some(again) => listed = again,
            None => return Ok(None),
        }
    }
    let Listed { name, manifest, warning } = listed;
    let mut wrong: Vec<String> = warning.into_iter().collect();
    let (mut files_count, mut bytes) = (0, 0);
    match manifest {
        Err(error) => wrong.push(error.to_string()),
        Ok(manifest) => {
            (files_count, bytes) = (manifest.state.files.len() as u64, manifest.state_bytes());
            if let Err(problems) = contents.verify(&manifest, &|now| progress.show(&name, now)) {
                if contents.look_at(&name)?.is_none() {
                    return Ok(None);
                }
                wrong.extend(problems.iter().map(ToString::to_string));
            }
        }
    }
    Ok(Some(Finding { name, files_count, bytes, wrong }))
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { name, files_count, bytes, wrong } in findings {
        let what = if wrong.is_empty() { "as it was written" } else { "NOT as it was written" };
        text += &format!("{name}: {what}; {}, {}\n", files(*files_count), size(*bytes));
        wrong.iter().for_each(|wrong| text += &format!("  {wrong}\n"));
    }
    if findings.is_empty() { "there are no checkpoints yet\n".to_owned() } else { text }
}

fn as_json(findings: &[Finding]) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "name": name_as_json(&finding.name),
            "files": finding.files_count,
            "bytes": finding.bytes,
            "good": finding.wrong.is_empty(),
            "wrong": finding.wrong,
        })
    };
    findings.iter().map(finding).collect()
}

/// Progress, where somebody is watching: a line on the terminal that renews itself.
#[derive(Default)]
struct Shown {
    /// When it was renewed last; several threads tell.
    last: Mutex<Option<Instant>>,
}

impl Shown {
    fn show(&self, name: &Name, now: Progress) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < Duration::from_millis(100)) {
            return;
        }
        *last = Some(Instant::now());
        let Progress { files_done, files_count, bytes_done, bytes_count } = now;
        let (done, all) = (size(bytes_done), size(bytes_count));
        super::super::tell(&format!("\r\x1b[K{name}: {files_done} of {files_count} files, {done} of {all}"));
    }

    fn clear(&self) {
        if self.last.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            super::super::tell("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tidemill_checkpoint::Store;

    use super::*;
    use crate::cli::checkpoint::show::tests::manifest;

    #[test]
    fn what_is_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), "orders").unwrap();
        let path = folder.path().join("CURRENT");
        for number in 1..=2 {
            fs::write(&path, format!("content {number}")).unwrap();
            let file = store.put_file(&path, false).unwrap();
            store.write_manifest(&manifest(number, 1, vec![file])).unwrap();
        }
        assert!(run(&store, None, false).is_ok());
        let of_second = store.read(&Selector::Checkpoint(2)).unwrap().state.files.remove(0);
        fs::write(store.location(&of_second), "c0ntent 2").unwrap();
        assert!(run(&store, None, false).is_err());
        assert!(run(&store, Some(&Selector::Checkpoint(1)), true).is_ok());
        assert!(run(&store, Some(&Selector::Checkpoint(2)), true).is_err());
        assert!(run(&store, Some(&Selector::Checkpoint(3)), true).is_err());
        let names = store.list().unwrap().into_iter().map(|listed| listed.name);
        let verify = |name| verify(&store, name, &Shown::default()).unwrap();
        let text = as_text(&names.filter_map(verify).collect::<Vec<_>>());
        assert!(text.starts_with("checkpoint 1 (run 1): as it was written; 1 file, 9 B\n"), "{text}");
        let second = format!(
            "checkpoint 2 (run 1): NOT as it was written; 1 file, 9 B\n  {}",
            store.location(&of_second)
        );
        assert!(text.contains(&second), "{text}");
    }
}
