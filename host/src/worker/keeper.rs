//! The keeper: makes checkpoints true and their output seen, and forgets those that nobody needs. It waits for the
//! disk, so it works on a thread that may.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use tidemill_checkpoint::{
    Counters as ManifestCounters, Counts, Digest, FORMAT, FORMAT_IN_FLIGHT, InFlight, Kind, Manifest,
    Operator, Partition, SavepointName, Sink, Source, State as StateFiles, StateSchema, Store,
    WatermarkRange, failpoint,
};
use tidemill_flow::key::KEY_GROUPS;
use tidemill_flow::schema::Schema;

use super::JobError;
use super::clock::wall_ms;
use super::restored::{KEY_HASH, Restored, Versions, key_fields, manifest_field, position, windows};
use super::snapshot::TaskPart;
use super::state::{State, StateFile};
use crate::log::PartitionState;
use crate::pipeline::plan::{OperatorPlan, Plan, StateBackend};
use crate::sink::{self, Destination, Offsets, Part, Repeatable};
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
    /// By operator: the rows in flight to its tasks, where one of them didn't wait for all barriers.
    in_flight: BTreeMap<usize, u64>,
    /// The sum over all tasks.
    counts: Vec<u64>,
    /// By writer.
    pub(super) parts: BTreeMap<usize, Vec<Part>>,
    /// By writer, of those that recognize rows.
    repeatable: BTreeMap<usize, Repeatable>,
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
            if let Some(rows) = part.in_flight {
                *self.in_flight.entry(part.operator).or_default() += rows;
            }
            let (first, end) = (part.groups.start, part.groups.end);
            let range = WatermarkRange { first, end, watermark: part.watermark };
            self.watermarks.entry(part.operator).or_default().push(range);
        }
    }

    /// Where a writer has rows that come again behind a checkpoint; of another one it comes too late.
    pub(super) fn add_repeatable(&mut self, checkpoint: u64, writer: usize, repeatable: Option<Repeatable>) {
        if checkpoint == self.checkpoint {
            self.repeatable.extend(repeatable.map(|repeatable| (writer, repeatable)));
        }
    }
}

/// What the keeper needs to know of the pipeline, beside what comes with each checkpoint.
#[derive(Clone)]
pub(super) struct Facts {
    /// Their ids, and the partitions that earlier runs have read.
    sources: Vec<(String, Vec<Partition>)>,
    /// The number in the plan, and what stands in the manifest but the watermarks and what is in flight.
    operators: Vec<(usize, Operator)>,
    /// By the number in the plan: the fields of what may be in flight.
    inputs: Vec<Vec<tidemill_checkpoint::Field>>,
    operator_ids: Vec<String>,
    /// By operator id.
    components: BTreeMap<String, Digest>,
    generation: u64,
    sinks: Vec<String>,
    writers: Vec<WriterFacts>,
    backend: &'static str,
}

/// What the keeper needs to know of a writer.
#[derive(Clone)]
pub(super) struct WriterFacts {
    /// Its id in the manifest.
    id: String,
    /// The folder that the manifest speaks of, if it does.
    folder: Option<PathBuf>,
    has_parts: bool,
}

impl WriterFacts {
    /// Of a writer that manifests don't speak of.
    pub(super) fn unspoken(id: String) -> Self {
        Self { id, folder: None, has_parts: false }
    }

    pub(super) fn new(id: &str, destination: &Destination) -> Self {
        let folder = destination.folder().map(Path::to_path_buf);
        Self { id: id.to_owned(), folder, has_parts: destination.has_parts() }
    }
}

/// What manifests say of an operator's state, but for the watermarks and what is in flight.
pub(super) fn filed(operator: &OperatorPlan, number: u16, tasks: usize, state: Vec<StateSchema>) -> Operator {
    let collections = (0..).zip(&operator.plugin.description().collections);
    let collections = collections.map(|(number, c)| tidemill_checkpoint::Collection {
        number,
        name: c.name.clone(),
        entry: c.entry.name().to_owned(),
        value: c.value.name().to_owned(),
        expires_by: super::restored::expires_by(operator, &c.name),
    });
    Operator {
        id: operator.id.clone(),
        number,
        component: digest(operator),
        world: operator.plugin.world().name().to_owned(),
        key: key_fields(operator),
        windows: windows(operator),
        parallelism: u32::try_from(tasks).expect("few tasks"),
        state,
        collections: collections.collect(),
        watermarks: Vec::new(),
        in_flight: None,
    }
}

impl Facts {
    pub(super) fn new(plan: &Plan, restored: &Restored, writers: Vec<WriterFacts>) -> Self {
        let mut operators = Vec::new();
        for (at, operator) in plan.operators.iter().enumerate().filter(|(_, o)| super::restored::has_state(o))
        {
            let versions = restored.versions(&operator.id);
            let stages = plan.stages.iter().filter(|s| s.nodes.iter().any(|n| n.operator == at));
            let tasks = stages.map(|s| s.tasks).sum();
            operators.push((at, filed(operator, restored.number(&operator.id), tasks, schemas(versions))));
        }
        Self {
            sources: (0..)
                .zip(&plan.sources)
                .map(|(at, s)| (s.id.clone(), restored.gone(plan, at)))
                .collect(),
            operators,
            inputs: plan
                .operators
                .iter()
                .map(|o| o.input.fields().iter().map(manifest_field).collect())
                .collect(),
            operator_ids: plan.operators.iter().map(|o| o.id.clone()).collect(),
            components: components(plan),
            generation: plan.generation,
            sinks: plan.sinks.iter().map(|s| s.id.clone()).collect(),
            writers,
            backend: match plan.state.backend {
                StateBackend::RocksDb => "rocksdb",
                StateBackend::Memory => "memory",
            },
        }
    }

    /// The same for a plan with other versions of operators, whose state is in these schemas.
    fn swapped(&self, plan: &Plan, versions: &BTreeMap<usize, Versions>) -> Self {
        let generation = plan.generation;
        let mut facts = Self { components: components(plan), generation, ..self.clone() };
        for (at, entry) in &mut facts.operators {
            let Some(versions) = versions.get(at) else { continue };
            let operator = &plan.operators[*at];
            *entry = filed(operator, entry.number, entry.parallelism as usize, schemas(versions));
        }
        facts
    }

    /// The manifest of what has come together.
    ///
    /// # Errors
    /// When a part's path can't stand in it.
    pub(super) fn manifest(
        &self,
        pipeline: &str,
        collected: Collected,
        files: Vec<tidemill_checkpoint::FileEntry>,
        counters: &Counters,
        run: u64,
    ) -> Result<Manifest, String> {
        let Facts {
            sources,
            operators,
            inputs,
            operator_ids,
            components,
            generation,
            sinks,
            writers,
            backend,
        } = self;
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
            let rows = collected.in_flight.get(at);
            let in_flight = rows.map(|&rows| InFlight { rows, fields: inputs[*at].clone() });
            Operator { watermarks: ranges, in_flight, ..operator.clone() }
        };
        let mut staged = Vec::new();
        for (writer, parts) in &collected.parts {
            let WriterFacts { id, folder: Some(folder), .. } = &writers[*writer] else { continue };
            staged.push(Sink {
                id: id.clone(),
                destination: folder.display().to_string(),
                parts: parts.iter().map(|p| p.entry()).collect::<Result<_, _>>()?,
                repeatable: collected.repeatable.get(writer).map(repeatable),
            });
        }
        let counts = |named: &[(&str, &Counter)]| -> Counts {
            named.iter().map(|(name, counter)| ((*name).to_owned(), counter.get())).collect()
        };
        Ok(Manifest {
            format: if collected.in_flight.is_empty() { FORMAT } else { FORMAT_IN_FLIGHT },
            pipeline: pipeline.to_owned(),
            checkpoint: collected.checkpoint,
            run,
            kind: collected.kind.unwrap_or(Kind::Checkpoint),
            savepoint: None,
            created_ms: wall_ms(),
            duration_ms: collected
                .begun
                .map_or(0, |b| u64::try_from(b.elapsed().as_millis()).unwrap_or(u64::MAX)),
            key_hash: KEY_HASH.to_owned(),
            key_groups: KEY_GROUPS,
            sources: sources_read,
            operators: operators.iter().map(operator).collect(),
            generation: *generation,
            components: components.clone(),
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
}

fn digest(operator: &OperatorPlan) -> Digest {
    operator.plugin.digest().parse().expect("a digest is 64 hex digits")
}

/// The components of all operators, as manifests have them.
pub(crate) fn components(plan: &Plan) -> BTreeMap<String, Digest> {
    plan.operators.iter().map(|o| (o.id.clone(), digest(o))).collect()
}

fn schemas(versions: &Versions) -> Vec<StateSchema> {
    let schemas = versions.older.iter().chain([&versions.current]);
    let schema = |(version, schema): &(u8, Schema)| StateSchema {
        version: *version,
        fields: schema.fields().iter().map(manifest_field).collect(),
    };
    schemas.map(schema).collect()
}

/// Why a checkpoint wasn't kept, or its output not shown.
pub(super) enum KeepError {
    /// A newer run has begun: nothing that this one does counts any more.
    Superseded(String),
    /// Another time it may succeed.
    Failed(String),
}

impl From<tidemill_checkpoint::Error> for KeepError {
    fn from(error: tidemill_checkpoint::Error) -> Self {
        match error {
            tidemill_checkpoint::Error::Fenced { .. } => Self::Superseded(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for KeepError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<KeepError> for JobError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::Superseded(message) => Self::Superseded(message),
            KeepError::Failed(message) => Self::Checkpoint(message),
        }
    }
}

/// Keeps a pipeline's checkpoints.
pub(super) struct Keeper {
    pub(super) pipeline: String,
    pub(super) store: Mutex<Store>,
    pub(super) state: State,
    /// Those of the next checkpoint that is persisted. Held for moments; a swap exchanges them.
    pub(super) facts: RwLock<Arc<Facts>>,
    /// The folder for what is being frozen.
    pub(super) working: PathBuf,
    pub(super) retain: NonZeroUsize,
    /// How many checkpoints of this run were committed.
    pub(super) committed: Counter,
}

impl Keeper {
    /// Whether a writer's rows appear with checkpoints.
    pub(super) fn has_parts(&self, writer: usize) -> bool {
        self.facts().writers[writer].has_parts
    }

    pub(super) fn facts(&self) -> Arc<Facts> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checkpoints that are persisted from now on are of a plan with other versions of operators, whose state is in these
    /// schemas.
    pub(super) fn swapped(&self, plan: &Plan, versions: &BTreeMap<usize, Versions>) {
        let facts = Arc::new(self.facts().swapped(plan, versions));
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
    }

    /// Keeps a checkpoint as a savepoint.
    pub(super) fn keep_as(&self, checkpoint: u64, name: &SavepointName) -> Result<(), String> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.keep(checkpoint, name).map_err(|e| e.to_string())
    }

    /// Takes the files of a checkpoint, after which `taken` is called, stores them, and at last the manifest. `counters`
    /// are what was counted before the run, and at its sinks.
    pub(super) fn persist(
        &self,
        collected: Collected,
        counters: Counters,
        taken: impl FnOnce(),
    ) -> Result<(), KeepError> {
        failpoint::at("persist.begin")?;
        let frozen = self.state.freeze(&self.working).map_err(|e| KeepError::Failed(e.to_string()))?;
        taken();
        failpoint::at("persist.frozen")?;
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        counters.add_values(&collected.counts);
        let stored = self.keep(&store, collected, &frozen, &counters);
        self.state.thaw(&frozen);
        // Files that no manifest names are no longer about to be named.
        stored.inspect_err(|_| store.abandon())?;
        Ok(failpoint::at("persist.done")?)
    }

    fn keep(
        &self,
        store: &Store,
        collected: Collected,
        frozen: &[StateFile],
        counters: &Counters,
    ) -> Result<(), KeepError> {
        let mut files = Vec::new();
        for file in frozen {
            files.push(store.put_file(&file.path, file.immutable)?);
        }
        // What waits to be published must be there for whoever goes on from the checkpoint, wherever that is.
        let parts = collected.parts.values().flatten();
        for part in parts.filter_map(|part| match part {
            Part::Stream(part) => Some(part),
            _ => None,
        }) {
            files.push(store.put_file(part.staged(), true)?);
        }
        failpoint::at("persist.files")?;
        let manifest = self
            .facts()
            .manifest(&self.pipeline, collected, files, counters, store.run())
            .map_err(KeepError::Failed)?;
        store.write_manifest(&manifest)?;
        Ok(())
    }

    /// Makes the output of a checkpoint seen, and forgets checkpoints that are too old.
    pub(super) fn commit(
        &self,
        checkpoint: u64,
        parts: &BTreeMap<usize, Vec<Part>>,
    ) -> Result<(), KeepError> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        failpoint::at("commit.begin")?;
        if parts.values().any(|p| !p.is_empty()) {
            store.begin_commit(checkpoint)?;
        }
        for parts in parts.values() {
            sink::commit(parts, false).map_err(|e| KeepError::Failed(e.to_string()))?;
        }
        failpoint::at("commit.done")?;
        self.committed.add(1);
        // What can't be removed now is removed with the next one.
        if let Err(error) = store.retain(self.retain) {
            tracing::warn!("old checkpoints of `{}` stay for now: {error}", self.pipeline);
        }
        Ok(())
    }
}

fn repeatable(repeatable: &Repeatable) -> tidemill_checkpoint::Repeatable {
    let offsets = |offsets: &Offsets| tidemill_checkpoint::Offsets {
        before: offsets.before.iter().map(|range| (range.start, range.end)).collect(),
        from: offsets.from,
    };
    tidemill_checkpoint::Repeatable {
        log: format!("{:016x}", repeatable.log),
        partitions: repeatable.partitions.iter().map(offsets).collect(),
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
