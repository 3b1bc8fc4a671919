//! Checkpoints that go from one store into another, and the one that a replay without state begins with.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tidemill_checkpoint::{
    Becomes, Contents, Counters, FORMAT, FileEntry, Kind, Manifest, Name, Partition, Problem, SavepointName,
    Selector, Source, State, Store,
};
use tidemill_flow::key::KEY_GROUPS;

use super::{ReplayError, at_file, failed};
use crate::log::{Begin, Partition as Reading};
use crate::pipeline::plan::{Plan, StateBackend};
use crate::worker::{KEY_HASH, position};

/// The newest checkpoint in a store that can be believed.
pub(super) fn newest(contents: &Contents) -> Result<Option<Manifest>, ReplayError> {
    let mut listed = contents.list().map_err(failed)?;
    listed.retain(|listed| matches!(listed.name, Name::Checkpoint(_)));
    match listed.pop() {
        None => Ok(None),
        Some(listed) => listed.manifest.map(Some).map_err(failed),
    }
}

/// A checkpoint or savepoint of a live pipeline, kept until this is dropped: the pipeline goes on meanwhile, and forgets
/// checkpoints.
pub(super) struct Kept<'a> {
    contents: &'a Contents,
    pub(super) manifest: Manifest,
    /// The savepoint that keeps it; none: it is one.
    by: Option<SavepointName>,
}

impl<'a> Kept<'a> {
    /// `name` is that of the savepoint by which a checkpoint is kept.
    pub(super) fn new(
        contents: &'a Contents,
        which: &Selector,
        name: SavepointName,
    ) -> Result<Self, ReplayError> {
        let by = match which {
            Selector::Savepoint(_) => None,
            Selector::Checkpoint(number) => {
                let left = Selector::Savepoint(name.clone());
                // Of a host that died over it.
                if contents.find(&left).is_ok() {
                    contents.delete(&left).map_err(failed)?;
                }
                contents.keep(*number, &name).map_err(failed)?;
                Some(name)
            }
        };
        let manifest = match &by {
            Some(name) => contents.read(&Selector::Savepoint(name.clone())),
            None => contents.read(which),
        };
        Ok(Self { contents, manifest: manifest.map_err(failed)?, by })
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.by.take()
            && let Err(error) = self.contents.delete(&Selector::Savepoint(name.clone()))
        {
            tracing::warn!("the savepoint {name}, which was needed for a moment, stays: {error}");
        }
    }
}

/// Brings the files of a checkpoint's state from one store into another, by way of a folder, which is then removed. Rows
/// that wait to be published are no state.
pub(super) fn copy_files(
    from: &Contents,
    manifest: &Manifest,
    by: &Path,
    to: &Store,
) -> Result<Vec<FileEntry>, ReplayError> {
    let parts = manifest.sinks.iter().flat_map(|sink| &sink.parts);
    let staged = parts.filter(|part| matches!(part.becomes, Becomes::Messages { .. }));
    let staged: BTreeSet<&str> = staged.map(|part| part.staged.as_str()).collect();
    let mut manifest = manifest.clone();
    manifest.state.files.retain(|file| !staged.contains(file.name.as_str()));
    let told = |problems: Vec<Problem>| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        failed(format!("{} is damaged: {}", manifest.name(), problems.join("; ")))
    };
    from.verify(&manifest, &|_| ()).map_err(told)?;
    remove(by)?;
    from.restore(&manifest, by).map_err(failed)?;
    let mut entries = Vec::new();
    for file in &manifest.state.files {
        entries.push(to.put_file(&by.join(file.name.as_str()), file.immutable).map_err(failed)?);
    }
    remove(by)?;
    Ok(entries)
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> Result<(), ReplayError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at_file("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// A checkpoint before anything was read, and without state, whose sources begin at a place.
///
/// # Errors
/// When a source doesn't know such places, or doesn't have this one.
pub(super) fn beginning(plan: &Plan, begin: Begin, run: u64) -> Result<Manifest, ReplayError> {
    let mut sources = Vec::new();
    let mut number = 0;
    for (at, source) in plan.sources.iter().enumerate() {
        let mut partitions = Vec::new();
        for index in 0..source.input.partitions() {
            let mut reading = Reading::open(source, index, number).map_err(failed)?;
            reading.begin_at(begin).map_err(failed)?;
            number += 1;
            partitions.push(Partition {
                name: plan.partition_id(at, index),
                position: position(&reading.position().map_err(failed)?),
                watermark: None,
                ended: false,
            });
        }
        sources.push(Source { id: source.id.clone(), partitions });
    }
    let backend = match plan.state.backend {
        StateBackend::RocksDb => "rocksdb",
        StateBackend::Memory => "memory",
    };
    Ok(Manifest {
        format: FORMAT,
        pipeline: plan.name.clone(),
        checkpoint: 1,
        run,
        kind: Kind::Checkpoint,
        savepoint: None,
        created_ms: now_ms(),
        duration_ms: 0,
        key_hash: KEY_HASH.to_owned(),
        key_groups: KEY_GROUPS,
        sources,
        operators: Vec::new(),
        generation: 0,
        components: BTreeMap::new(),
        state: State { backend: backend.to_owned(), files: Vec::new() },
        sinks: Vec::new(),
        counters: Counters::default(),
        warnings: Vec::new(),
    })
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
