//! What a run goes on from: a checkpoint's manifest, read with the plan beside it.

use std::collections::BTreeMap;
use std::ops::Range;

use tidemill_checkpoint::{Counts, Field as ManifestField, Kind, Manifest, Partition, Position, StateSchema};
use tidemill_flow::in_flight::InFlight;
use tidemill_flow::key::KEY_GROUPS;
use tidemill_flow::rows::compatible;
use tidemill_flow::schema::{Field, FieldType, Schema};
use tidemill_flow::storage::{Addresses, Storage, StorageError, Write, Writes};
use tidemill_flow::watermark::WATERMARK_MIN;
use tidemill_flow::windowing::Layout;

use tidemill_jetstream::Position as StreamPosition;

use super::migration;
use crate::log::{FilePosition, LogPosition, PartitionState, ReadPosition};
use crate::pipeline::plan::{Clock, OperatorKind, OperatorPlan, Plan};
use crate::plugin::World;
use crate::telemetry::{Counter, Counters};

/// How keys are hashed: another hash would look for state where it isn't.
pub(crate) const KEY_HASH: &str = "xxh3-64, seed 0";

/// The state of an operator in the schemas of the versions that wrote it.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    /// The version that is written from now on, and its schema.
    pub(super) current: (u8, Schema),
    /// Those in which rows may be found.
    pub(super) older: Vec<(u8, Schema)>,
    /// Those that are found no more when the operator's migration is through with them.
    pub(super) migrated: Vec<(u8, Schema)>,
}

impl Versions {
    /// Those of an operator that begins without state.
    pub(super) fn first(current: Schema) -> Self {
        Self { current: (0, current), older: Vec::new(), migrated: Vec::new() }
    }
}

/// What a run goes on from; nothing, if it begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Restored {
    pub(super) manifest: Option<Manifest>,
    operators: BTreeMap<String, Known>,
    /// The numbers under which state is filed that nobody goes on from.
    dropped: Vec<u16>,
}

/// What is known of an operator.
#[derive(Clone, Debug)]
struct Known {
    number: u16,
    versions: Versions,
}

impl Restored {
    /// Reads a manifest for a plan. What it has of operators whose state is dropped is as if it weren't there.
    ///
    /// # Errors
    /// When the checkpoint can't be gone on from with this plan: what differs, and what to do.
    pub(super) fn new(plan: &Plan, mut manifest: Option<Manifest>) -> Result<Self, String> {
        let in_manifest = manifest.iter().flat_map(|m| &m.operators);
        // Counted before any is dropped: one that begins anew doesn't begin where its old rows are.
        let mut next = in_manifest.map(|o| o.number + 1).max().unwrap_or(0);
        let mut dropped = Vec::new();
        if let Some(manifest) = &mut manifest {
            check(plan, manifest)?;
            dropped = dropped_operators(plan, manifest)?;
            manifest.operators.retain(|o| !dropped.contains(&o.number));
        }
        let mut operators = BTreeMap::new();
        for operator in plan.operators.iter().filter(|o| has_state(o)) {
            let before = manifest.iter().flat_map(|m| &m.operators).find(|o| o.id == operator.id);
            let current = state_schema(operator);
            let known = match before {
                Some(before) => {
                    Known { number: before.number, versions: versions(operator, current, &before.state)? }
                }
                None => {
                    let number = next;
                    next += 1;
                    Known { number, versions: Versions::first(current) }
                }
            };
            operators.insert(operator.id.clone(), known);
        }
        Ok(Self { manifest, operators, dropped })
    }

    /// Removes the state that is dropped: its numbers will be given to others.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub(super) fn drop_state(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        let range = |&operator: &u16| {
            let (from, end) = Addresses { operator }.all();
            Write::DeleteRange(from, end)
        };
        storage.write(Writes { list: self.dropped.iter().map(range).collect() })
    }

    /// Whether there is nothing left to do.
    pub(super) fn has_finished(&self) -> bool {
        self.manifest.as_ref().is_some_and(|m| m.kind == Kind::Finished)
    }

    /// Where a partition goes on, if it was read before.
    pub(super) fn partition(&self, source: &str, name: &str) -> Option<PartitionState> {
        let source = self.manifest.as_ref()?.sources.iter().find(|s| s.id == source)?;
        let partition = source.partitions.iter().find(|p| p.name == name)?;
        Some(PartitionState {
            name: partition.name.clone(),
            position: read_position(&partition.position)?,
            watermark: partition.watermark,
            ended: partition.ended,
        })
    }

    /// Partitions of a source that were read to their end and aren't there now: if they come back, they have been read.
    pub(super) fn gone(&self, plan: &Plan, source: usize) -> Vec<Partition> {
        let ids = partition_ids(plan, source);
        let sources = self.manifest.iter().flat_map(|m| &m.sources);
        let partitions = sources.filter(|s| s.id == plan.sources[source].id).flat_map(|s| &s.partitions);
        partitions.filter(|p| !ids.contains(&p.name)).cloned().collect()
    }

    /// The number under which an operator's state is filed.
    ///
    /// # Panics
    /// When the operator has no state.
    pub(super) fn number(&self, operator: &str) -> u16 {
        self.operators[operator].number
    }

    /// The schemas of an operator's state.
    ///
    /// # Panics
    /// When the operator has no state.
    pub(super) fn versions(&self, operator: &str) -> &Versions {
        &self.operators[operator].versions
    }

    /// The schemas of the state of all operators that have some, by their numbers.
    pub(super) fn all_versions(&self, plan: &Plan) -> BTreeMap<usize, Versions> {
        let with_state = plan.operators.iter().enumerate().filter(|(_, o)| has_state(o));
        with_state.map(|(at, o)| (at, self.versions(&o.id).clone())).collect()
    }

    /// How far time had come for these key groups of an operator, at least; none if it wasn't in the checkpoint.
    pub(super) fn watermark(&self, operator: &str, groups: &Range<u32>) -> Option<i64> {
        let operator = self.manifest.as_ref()?.operators.iter().find(|o| o.id == operator)?;
        let ranges = operator.watermarks.iter().filter(|r| r.first < groups.end && groups.start < r.end);
        Some(ranges.map(|r| r.watermark).min().unwrap_or(WATERMARK_MIN))
    }

    /// How far time had come for these key groups of an operator, by the tasks that had them.
    pub(super) fn watermarks(&self, operator: &str, groups: &Range<u32>) -> Vec<(Range<u32>, i64)> {
        let operators = self.manifest.iter().flat_map(|m| &m.operators).filter(|o| o.id == operator);
        let ranges = operators.flat_map(|o| &o.watermarks);
        let within = ranges.map(|r| (r.first.max(groups.start)..r.end.min(groups.end), r.watermark));
        within.filter(|(range, _)| !range.is_empty()).collect()
    }

    /// What reads the rows that were in flight to an operator; none if its tasks had waited for all barriers.
    ///
    /// # Errors
    /// When they can't be read as what the operator is given now.
    pub(super) fn in_flight(
        &self,
        operator: &OperatorPlan,
        addresses: Addresses,
    ) -> Result<Option<InFlight>, String> {
        let mut operators = self.manifest.iter().flat_map(|m| &m.operators);
        let before = operators.find(|o| o.id == operator.id);
        before.map_or(Ok(None), |before| in_flight(operator, before, addresses))
    }

    /// Goes on counting where the checkpoint had come.
    pub(super) fn count(&self, plan: &Plan, counters: &Counters) {
        let Some(manifest) = &self.manifest else { return };
        let add = |counts: Option<&Counts>, counters: &[(&str, &Counter)]| {
            for (name, counter) in counters {
                counter.add(counts.and_then(|c| c.get(*name)).copied().unwrap_or(0));
            }
        };
        for (source, c) in plan.sources.iter().zip(&counters.sources) {
            add(manifest.counters.sources.get(&source.id), &c.named());
        }
        for (operator, c) in plan.operators.iter().zip(&counters.operators) {
            add(manifest.counters.operators.get(&operator.id), &c.named());
        }
        for (sink, c) in plan.sinks.iter().zip(&counters.sinks) {
            add(manifest.counters.sinks.get(&sink.id), &c.named());
        }
    }
}

/// Whether an operator keeps state.
pub(super) fn has_state(operator: &OperatorPlan) -> bool {
    operator.plugin.world() != World::Transform
}

/// The fields of an operator's state as they are written.
pub(super) fn state_schema(operator: &OperatorPlan) -> Schema {
    let state = &operator.plugin.description().state;
    match operator.kind {
        OperatorKind::Process { .. } => {
            let layout = super::process::layout(operator, 0, &[]);
            layout.expect("the check has tried").schema().clone()
        }
        OperatorKind::Windowed { .. } if operator.plugin.world() == World::Window => {
            Layout::schema_of_rows(&operator.plugin.description().inputs[0]).expect("the check has tried")
        }
        OperatorKind::Windowed { .. } => Layout::schema_of_accumulators(state).expect("the check has tried"),
        OperatorKind::Join(ref join) => {
            let layout = super::join::layout(operator, join, 0, &[]);
            layout.expect("names are unique on each side").schema().clone()
        }
        OperatorKind::Aggregate { .. } | OperatorKind::Transform => state.clone(),
    }
}

/// The fields of an operator's key.
pub(super) fn key_fields(operator: &OperatorPlan) -> Vec<ManifestField> {
    let key = operator.kind.key().unwrap_or_default();
    key.iter().map(|&k| manifest_field(&operator.input.fields()[k])).collect()
}

pub(super) fn manifest_field(field: &Field) -> ManifestField {
    ManifestField {
        name: field.name.clone(),
        r#type: field.field_type.name().to_owned(),
        nullable: field.nullable,
    }
}

/// Where a partition goes on, as a manifest has it.
pub(crate) fn position(position: &ReadPosition) -> Position {
    match position {
        ReadPosition::File(FilePosition { byte, line, within_overlong, tail_bytes, tail_hash }) => {
            Position::File {
                byte: *byte,
                line: *line,
                within_overlong: *within_overlong,
                tail_bytes: *tail_bytes,
                tail_hash: format!("{tail_hash:016x}"),
            }
        }
        ReadPosition::Generated { last } => Position::Generated { last: *last },
        ReadPosition::Stream(StreamPosition { identity, sequence, history }) => Position::Stream {
            stream: format!("{identity:016x}"),
            sequence: *sequence,
            history: format!("{history:016x}"),
        },
        ReadPosition::Log(LogPosition { identity, offset, history }) => Position::Log {
            log: format!("{identity:016x}"),
            offset: *offset,
            history: format!("{history:016x}"),
        },
    }
}

/// None: a hash isn't one, which the manifest's reader has refused.
pub(crate) fn read_position(position: &Position) -> Option<ReadPosition> {
    match position {
        Position::File { byte, line, within_overlong, tail_bytes, tail_hash } => {
            Some(ReadPosition::File(FilePosition {
                byte: *byte,
                line: *line,
                within_overlong: *within_overlong,
                tail_bytes: *tail_bytes,
                tail_hash: u64::from_str_radix(tail_hash, 16).ok()?,
            }))
        }
        Position::Generated { last } => Some(ReadPosition::Generated { last: *last }),
        Position::Stream { stream, sequence, history } => Some(ReadPosition::Stream(StreamPosition {
            identity: u64::from_str_radix(stream, 16).ok()?,
            sequence: *sequence,
            history: u64::from_str_radix(history, 16).ok()?,
        })),
        Position::Log { log, offset, history } => Some(ReadPosition::Log(LogPosition {
            identity: u64::from_str_radix(log, 16).ok()?,
            offset: *offset,
            history: u64::from_str_radix(history, 16).ok()?,
        })),
    }
}

const BEGIN_ANEW: &str = "put back what was, or begin anew with another `checkpoints.path`";

/// Whether a checkpoint can be gone on from with this plan at all, whatever its operators' state is.
pub(super) fn check(plan: &Plan, manifest: &Manifest) -> Result<(), String> {
    let refuse = |why: String| Err(format!("{why}; {BEGIN_ANEW}"));
    if (manifest.key_hash.as_str(), manifest.key_groups) != (KEY_HASH, KEY_GROUPS) {
        return refuse(format!(
            "its state is filed by {} in {} key groups, and this version files by {KEY_HASH} in {KEY_GROUPS}",
            manifest.key_hash, manifest.key_groups
        ));
    }
    for source in &manifest.sources {
        if let Some(at) = plan.sources.iter().position(|s| s.id == source.id) {
            let ids = partition_ids(plan, at);
            if let Some(gone) = source.partitions.iter().find(|p| !p.ended && !ids.contains(&p.name)) {
                return refuse(format!(
                    "the source `{}` had not read {} to its end, and it isn't there any more",
                    source.id, gone.name
                ));
            }
        } else {
            return refuse(format!(
                "the source `{}` is in it, and the pipeline has none of this id",
                source.id
            ));
        }
    }
    Ok(())
}

/// The numbers under which state is filed that is dropped.
///
/// # Errors
/// When there is state that can't be gone on from, and that nobody has allowed to drop.
fn dropped_operators(plan: &Plan, manifest: &Manifest) -> Result<Vec<u16>, String> {
    let mut dropped = Vec::new();
    for before in &manifest.operators {
        let Err(why) = reads(plan.operators.iter().find(|o| o.id == before.id), before) else { continue };
        let rows = before.in_flight.as_ref().map_or(0, |in_flight| in_flight.rows);
        match (plan.drop_state.contains(&before.id), rows) {
            (true, 0) => {}
            (false, 0) => return Err(or_drop(&why, &before.id)),
            (false, _) => return Err(why),
            (true, rows) => {
                return Err(format!(
                    "{rows} rows are in flight to `{}`, of the version before, and would be lost with its state; {RUN_IT_AGAIN}",
                    before.id
                ));
            }
        }
        dropped.push(before.number);
    }
    Ok(dropped)
}

const RUN_IT_AGAIN: &str = "run that one again and stop it, which leaves nothing in flight, or go on from a \
                            checkpoint without";

/// A message with the way out that a person has who doesn't need the state. A table stands at the end of some.
pub(super) fn or_drop(why: &str, operator: &str) -> String {
    let separator = if why.contains('\n') { "\n" } else { "; " };
    format!(
        "{why}{separator}to go on without the state of `{operator}`: `tidemill apply --drop-state {operator}`"
    )
}

/// Whether an operator can go on from state that is filed under its id.
pub(super) fn reads(
    operator: Option<&OperatorPlan>,
    before: &tidemill_checkpoint::Operator,
) -> Result<(), String> {
    let refuse = |why: String| Err(format!("{why}; {BEGIN_ANEW}"));
    let Some(operator) = operator else {
        return refuse(format!(
            "it has state of the operator `{}`, which the pipeline no longer has",
            before.id
        ));
    };
    check_collections(operator, before)?;
    let now = (operator.plugin.world().name().to_owned(), key_fields(operator), windows(operator));
    let was = (before.world.clone(), before.key.clone(), before.windows.clone());
    if now != was {
        let told = |(world, key, windows): &(String, Vec<ManifestField>, Option<String>)| {
            let key: Vec<String> = key.iter().map(|f| format!("{} ({})", f.name, f.r#type)).collect();
            let windows = windows.as_ref().map_or(String::new(), |w| format!(", windows {w}"));
            format!("{world} by [{}]{windows}", key.join(", "))
        };
        return refuse(format!(
            "the state of `{}` was kept for {}, and the pipeline now says {}",
            before.id,
            told(&was),
            told(&now)
        ));
    }
    versions(operator, state_schema(operator), &before.state)?;
    in_flight(operator, before, Addresses { operator: before.number })?;
    Ok(())
}

/// What reads the rows that were in flight to an operator; none if its tasks had waited for all barriers.
fn in_flight(
    operator: &OperatorPlan,
    before: &tidemill_checkpoint::Operator,
    addresses: Addresses,
) -> Result<Option<InFlight>, String> {
    let Some(in_flight) = &before.in_flight else { return Ok(None) };
    let written = schema_of(&in_flight.fields)?;
    InFlight::reading(addresses, &operator.input, &written).map(Some).map_err(|why| {
        format!(
            "{} rows are in flight to `{}`, which this version of the pipeline doesn't read as the one before: {why}; \
             {RUN_IT_AGAIN}",
            in_flight.rows, operator.id
        )
    })
}

fn partition_ids(plan: &Plan, source: usize) -> Vec<String> {
    (0..plan.sources[source].input.partitions()).map(|index| plan.partition_id(source, index)).collect()
}

/// The clock by which a collection's entries expire, if they do.
pub(super) fn expires_by(operator: &OperatorPlan, collection: &str) -> Option<String> {
    let OperatorKind::Process { ttl, .. } = &operator.kind else { return None };
    let ttl = ttl.iter().find(|t| t.slot == collection)?;
    Some(if ttl.clock == Clock::Event { "event-time" } else { "processing-time" }.to_owned())
}

/// Entries are filed by their collection's number and read as its types.
fn check_collections(operator: &OperatorPlan, before: &tidemill_checkpoint::Operator) -> Result<(), String> {
    let now = &operator.plugin.description().collections;
    for old in &before.collections {
        let told = |name: &str, entry: &str, value: &str, by: &Option<String>| {
            let by = by.as_ref().map_or(String::new(), |by| format!(", expiring by {by}"));
            format!("`{name}` of {entry} to {value}{by}")
        };
        let was = told(&old.name, &old.entry, &old.value, &old.expires_by);
        let is = now
            .get(usize::from(old.number))
            .map(|c| told(&c.name, c.entry.name(), c.value.name(), &expires_by(operator, &c.name)));
        if is.as_ref() != Some(&was) {
            return Err(format!(
                "collection {} of `{}` was {was}, and is now {}; collections stay in their order with their types, \
                 new ones come after the old",
                old.number,
                operator.id,
                is.as_deref().unwrap_or("gone")
            ));
        }
    }
    Ok(())
}

/// An operator's windows as people write them.
pub(super) fn windows(operator: &OperatorPlan) -> Option<String> {
    match &operator.kind {
        OperatorKind::Aggregate { windows, .. } => Some(windows.to_string()),
        OperatorKind::Join(join) => {
            let right = join.right_key.iter().map(|&k| join.right.schema.fields()[k].name.as_str());
            Some(format!("{}, by [{}] on the right", join.spec, right.collect::<Vec<_>>().join(", ")))
        }
        OperatorKind::Windowed { definition, .. } => Some(definition.to_string()),
        OperatorKind::Transform | OperatorKind::Process { .. } => None,
    }
}

/// The versions of the state of another version of an operator that goes on from this one's.
///
/// # Errors
/// When it can't.
pub(super) fn versions_after(operator: &OperatorPlan, before: &Versions) -> Result<Versions, String> {
    let known = before.older.iter().chain([&before.current]).cloned().collect();
    versions_of(operator, state_schema(operator), known)
}

/// The versions of an operator's state, when rows of these may be found: those that its component migrates, and those
/// that it reads field by field.
fn versions(operator: &OperatorPlan, current: Schema, before: &[StateSchema]) -> Result<Versions, String> {
    let mut known = Vec::new();
    for schema in before {
        known.push((
            schema.version,
            schema_of(&schema.fields).map_err(|e| format!("state of `{}`: {e}", operator.id))?,
        ));
    }
    versions_of(operator, current, known)
}

fn versions_of(
    operator: &OperatorPlan,
    current: Schema,
    mut known: Vec<(u8, Schema)>,
) -> Result<Versions, String> {
    let version = known.iter().map(|(v, _)| *v).max().map_or(Some(0), |v| v.checked_add(1));
    let written = known.iter().position(|(_, schema)| *schema == current).map(|at| known.remove(at));
    // What the operator says that it migrates it knows better than field by field.
    let (migrated, older): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|(_, schema)| migration::which(operator, schema).is_some());
    // A version that comes back reads rows that the one after it has written.
    for (_, schema) in &older {
        compatible(schema, &current, operator.plugin.world() == World::Aggregate).map_err(|e| {
            format!(
                "the new component of `{}` can't go on from the state of the old one: {e}{}",
                operator.id,
                migrates(operator)
            )
        })?;
    }
    if let Some(current) = written {
        return Ok(Versions { current, older, migrated });
    }
    let version =
        version.ok_or_else(|| format!("the state of `{}` has had 256 schemas already", operator.id))?;
    Ok(Versions { current: (version, current), older, migrated })
}

/// What an operator migrates instead, for people.
fn migrates(operator: &OperatorPlan) -> String {
    let from: Vec<String> = operator.plugin.migrations().iter().map(ToString::to_string).collect();
    if from.is_empty() { String::new() } else { format!("\nit has migrations from {}", from.join(", ")) }
}

/// The schema of fields that a manifest has.
pub(super) fn schema_of(in_manifest: &[ManifestField]) -> Result<Schema, String> {
    let mut fields = Vec::new();
    for field in in_manifest {
        let field_type = FieldType::from_name(&field.r#type);
        let field_type = field_type.ok_or_else(|| format!("there is no type `{}`", field.r#type))?;
        fields.push(Field { name: field.name.clone(), field_type, nullable: field.nullable });
    }
    Schema::new(fields).map_err(|e| e.to_string())
}
