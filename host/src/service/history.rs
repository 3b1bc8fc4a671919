//! What happened to a pipeline: a file of lines, each an entry in JSON, to which is only appended.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::model::HistoryEntry;
use super::refusal::Refusal;

const NAME: &str = "history.jsonl";

/// Adds an entry. One that can't be written is in the host's own log at least.
pub(super) fn append(folder: &Path, entry: &HistoryEntry) {
    let path = folder.join(NAME);
    let written = OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
    });
    if let Err(error) = written {
        tracing::error!("cannot add {entry:?} to {}: {error}", path.display());
    }
}

/// All entries, the oldest first. A line that a crash has torn is left out.
///
/// # Errors
/// When the file can't be read.
pub(super) fn read(folder: &Path) -> Result<Vec<HistoryEntry>, Refusal> {
    let path = folder.join(NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Refusal::failed(format!("cannot read {}: {error}", path.display()))),
    }
}
