//! The keeper: makes checkpoints true and their output seen, and forgets those that nobody needs. It waits for the
//! disk, so it works on a thread that may.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tidemill_checkpoint::{
    Counters as ManifestCounters, Counts, FORMAT, Kind, Manifest, Operator, Partition, Sink, Source,
    State as StateFiles, StateSchema, Store, WatermarkRange, failpoint,
};
use tidemill_flow::key::KEY_GROUPS;

use super::process::now_ms;
use super::restored::{KEY_HASH, Restored, key_fields, manifest_field, position, windows};
use super::snapshot::TaskPart;
use super::state::{State, StateFile};
use crate::log::PartitionState;
use crate::pipeline::plan::{Plan, StateBackend};
use crate::sink::{self, Part};
use crate::telemetry::{Counter, Counters};

/// What has come together for a checkpoint.
#[derive(Default)]
pub(super) struct Collected {
    checkpoint: u64,
    kind: Option<Kind>,
    begun: Option<Instant>,
    /// By source.
    partitions: BTreeMap<usize, Vec<PartitionState>>,
    /// By operator.
    watermarks: BTreeMap<usize, Vec<WatermarkRange>>,
    /// The sum over all tasks.
    counts: Vec<u64>,
    /// By writer.
    pub(super) parts: BTreeMap<usize, Vec<Part>>,
}

impl Collected {
    pub(super) fn new(checkpoint: u64, kind: Kind) -> Self {
        Self { checkpoint, kind: Some(kind), begun: Some(Instant::now()), ..Self::default() }
    }

    /// A task's part; of another checkpoint it comes too late.
    pub(super) fn add(&mut self, checkpoint: u64, part: TaskPart) {
        if checkpoint != self.checkpoint {
            return;
        }
        if let Some((source, partitions)) = part.source {
            self.partitions.entry(source).or_default().extend(partitions);
        }
        self.counts.resize(part.counts.len(), 0);
        self.counts.iter_mut().zip(part.counts).for_each(|(sum, count)| *sum += count);
        for part in part.operators {
            let (first, end) = (part.groups.start, part.groups.end);
            let range = WatermarkRange { first, end, watermark: part.watermark };
            self.watermarks.entry(part.operator).or_default().push(range);
        }
    }
}

/// What the keeper needs to know of the pipeline, beside what comes with each checkpoint.
pub(super) struct Facts {
    /// Their ids, and the partitions that earlier runs have read.
    sources: Vec<(String, Vec<Partition>)>,
    /// The number in the plan, and what stands in the manifest but the watermarks.
    operators: Vec<(usize, Operator)>,
    operator_ids: Vec<String>,
    sinks: Vec<String>,
    /// By writer: its id in the manifest, and the folder of its parts if it has some.
    writers: Vec<(String, Option<PathBuf>)>,
    backend: &'static str,
}

impl Facts {
    pub(super) fn new(plan: &Plan, restored: &Restored, writers: Vec<(String, Option<PathBuf>)>) -> Self {
        let mut operators = Vec::new();
        for (at, operator) in plan.operators.iter().enumerate().filter(|(_, o)| super::restored::has_state(o))
        {
            let versions = restored.versions(&operator.id);
            let schemas = versions.older.iter().chain([&versions.current]);
            let state = schemas.map(|(version, schema)| StateSchema {
                version: *version,
                fields: schema.fields().iter().map(manifest_field).collect(),
            });
            let stages = plan.stages.iter().filter(|s| s.nodes.iter().any(|n| n.operator == at));
            let description = operator.plugin.description();
            let collections =
                (0..).zip(&description.collections).map(|(number, c)| tidemill_checkpoint::Collection {
                    number,
                    name: c.name.clone(),
                    entry: c.entry.name().to_owned(),
                    value: c.value.name().to_owned(),
                    expires_by: super::restored::expires_by(operator, &c.name),
                });
            operators.push((
                at,
                Operator {
                    id: operator.id.clone(),
                    number: restored.number(&operator.id),
                    component: operator.plugin.digest().parse().expect("a digest is 64 hex digits"),
                    world: operator.plugin.world().name().to_owned(),
                    key: key_fields(operator),
                    windows: windows(operator),
                    parallelism: u32::try_from(stages.map(|s| s.tasks).sum::<usize>()).expect("few tasks"),
                    state: state.collect(),
                    collections: collections.collect(),
                    watermarks: Vec::new(),
                },
            ));
        }
        Self {
            sources: (0..)
                .zip(&plan.sources)
                .map(|(at, s)| (s.id.clone(), restored.gone(plan, at)))
                .collect(),
            operators,
            operator_ids: plan.operators.iter().map(|o| o.id.clone()).collect(),
            sinks: plan.sinks.iter().map(|s| s.id.clone()).collect(),
            writers,
            backend: match plan.state.backend {
                StateBackend::RocksDb => "rocksdb",
                StateBackend::Memory => "memory",
            },
        }
    }
}

/// Keeps a pipeline's checkpoints.
pub(super) struct Keeper {
    pub(super) pipeline: String,
    pub(super) store: Mutex<Store>,
    pub(super) state: State,
    pub(super) facts: Facts,
    /// The folder for what is being frozen.
    pub(super) working: PathBuf,
    pub(super) retain: NonZeroUsize,
    /// How many checkpoints of this run were committed.
    pub(super) committed: Counter,
}

impl Keeper {
    /// Whether a writer's rows appear with checkpoints.
    pub(super) fn has_parts(&self, writer: usize) -> bool {
        self.facts.writers[writer].1.is_some()
    }

    /// Takes the files of a checkpoint, after which `taken` is called, stores them, and at last the manifest. `counters`
    /// are what was counted before the run, and at its sinks.
    pub(super) fn persist(
        &self,
        collected: Collected,
        counters: Counters,
        taken: impl FnOnce(),
    ) -> Result<(), String> {
        let io = |e: std::io::Error| e.to_string();
        failpoint::at("persist.begin").map_err(io)?;
        let frozen = self.state.freeze(&self.working).map_err(|e| e.to_string())?;
        taken();
        failpoint::at("persist.frozen").map_err(io)?;
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        counters.add_values(&collected.counts);
        let stored = self.keep(&store, collected, &frozen, &counters);
        self.state.thaw(&frozen);
        // Files that no manifest names are no longer about to be named.
        stored.inspect_err(|_| store.abandon())?;
        failpoint::at("persist.done").map_err(io)
    }

    fn keep(
        &self,
        store: &Store,
        collected: Collected,
        frozen: &[StateFile],
        counters: &Counters,
    ) -> Result<(), String> {
        let mut files = Vec::new();
        for file in frozen {
            files.push(store.put_file(&file.path, file.immutable).map_err(|e| e.to_string())?);
        }
        failpoint::at("persist.files").map_err(|e| e.to_string())?;
        let manifest = self.manifest(collected, files, counters, store.run())?;
        store.write_manifest(&manifest).map(drop).map_err(|e| e.to_string())
    }

    fn manifest(
        &self,
        collected: Collected,
        files: Vec<tidemill_checkpoint::FileEntry>,
        counters: &Counters,
        run: u64,
    ) -> Result<Manifest, String> {
        let Facts { sources, operators, operator_ids, sinks, writers, backend } = &self.facts;
        let mut partitions = collected.partitions;
        let source = |(at, (id, gone)): (usize, &(String, Vec<Partition>))| {
            let read = partitions.remove(&at).unwrap_or_default();
            Source {
                id: id.clone(),
                partitions: read.iter().map(partition).chain(gone.iter().cloned()).collect(),
            }
        };
        let sources_read = sources.iter().enumerate().map(source).collect();
        let mut watermarks = collected.watermarks;
        let operator = |(at, operator): &(usize, Operator)| {
            let mut ranges = watermarks.remove(at).unwrap_or_default();
            ranges.retain(|r| r.first < r.end);
            ranges.sort_by_key(|r| r.first);
            Operator { watermarks: ranges, ..operator.clone() }
        };
        let mut staged = Vec::new();
        for (writer, parts) in &collected.parts {
            let (id, Some(folder)) = &writers[*writer] else { continue };
            let parts = parts.iter().map(|p| p.entry()).collect::<Result<_, _>>()?;
            staged.push(Sink { id: id.clone(), destination: folder.display().to_string(), parts });
        }
        let counts = |named: &[(&str, &Counter)]| -> Counts {
            named.iter().map(|(name, counter)| ((*name).to_owned(), counter.get())).collect()
        };
        Ok(Manifest {
            format: FORMAT,
            pipeline: self.pipeline.clone(),
            checkpoint: collected.checkpoint,
            run,
            kind: collected.kind.unwrap_or(Kind::Checkpoint),
            savepoint: None,
            created_ms: now_ms(),
            duration_ms: collected
                .begun
                .map_or(0, |b| u64::try_from(b.elapsed().as_millis()).unwrap_or(u64::MAX)),
            key_hash: KEY_HASH.to_owned(),
            key_groups: KEY_GROUPS,
            sources: sources_read,
            operators: operators.iter().map(operator).collect(),
            state: StateFiles { backend: (*backend).to_owned(), files },
            sinks: staged,
            counters: ManifestCounters {
                sources: sources
                    .iter()
                    .map(|(id, _)| id.clone())
                    .zip(counters.sources.iter().map(|c| counts(&c.named())))
                    .collect(),
                operators: operator_ids
                    .iter()
                    .cloned()
                    .zip(counters.operators.iter().map(|c| counts(&c.named())))
                    .collect(),
                sinks: sinks.iter().cloned().zip(counters.sinks.iter().map(|c| counts(&c.named()))).collect(),
            },
            warnings: Vec::new(),
        })
    }

    /// Makes the output of a checkpoint seen, and forgets checkpoints that are too old.
    pub(super) fn commit(&self, checkpoint: u64, parts: &BTreeMap<usize, Vec<Part>>) -> Result<(), String> {
        let io = |e: std::io::Error| e.to_string();
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        failpoint::at("commit.begin").map_err(io)?;
        if parts.values().any(|p| !p.is_empty()) {
            store.begin_commit(checkpoint).map_err(|e| e.to_string())?;
        }
        for parts in parts.values() {
            sink::commit(parts, false).map_err(|e| e.to_string())?;
        }
        failpoint::at("commit.done").map_err(io)?;
        self.committed.add(1);
        // What can't be removed now is removed with the next one.
        if let Err(error) = store.retain(self.retain) {
            tracing::warn!("old checkpoints of `{}` stay for now: {error}", self.pipeline);
        }
        Ok(())
    }
}

fn partition(state: &PartitionState) -> Partition {
    Partition {
        name: state.name.clone(),
        position: position(&state.position),
        watermark: state.watermark,
        ended: state.ended,
    }
}
