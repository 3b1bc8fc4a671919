//! An aggregate at its place in a task: rows are folded as they come, windows finished as time passes.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, TimestampMillisecondArray, UInt32Array};
use arrow_schema::SchemaRef;
use tidemill_flow::aggregation::{Aggregation, Firing, Fold, Rows};
use tidemill_flow::batch::{Batch, record_batch, take};
use tidemill_flow::key::{Keys, read_keys};
use tidemill_flow::row_id::Ids;
use tidemill_flow::rows::Codec;
use tidemill_flow::schema::FieldType;
use tidemill_flow::window::{Slicing, Windows};

use super::JobError;
use super::compared;
use super::restored::Versions;
use super::snapshot::OperatorPart;
use super::state::Place;
use super::stretches::stretches;
use super::task::Outputs;
use super::transform::Operator;
use crate::pipeline::plan::{OperatorKind, OperatorPlan, Origin};
use crate::pipeline::stages::{LATE_BY_FIELD, late_schema};
use crate::plugin::{self, Emission};

/// Groups that are finished in one call: enough to make the call cheap, few enough that a window of millions
/// of keys goes out piece by piece.
const GROUPS_PER_CALL: usize = 4096;

/// An aggregate in a task.
pub(super) struct AggregateNode {
    operator: Operator,
    guest: plugin::Aggregate,
    aggregation: Aggregation,
    windows: Windows,
    codec: Arc<Codec>,
    place: Place,
    key: Vec<usize>,
    key_types: Vec<FieldType>,
    emits: Vec<Origin>,
    output: SchemaRef,
    late: SchemaRef,
    window: Slicing,
}

impl AggregateNode {
    pub(super) async fn new(
        operator: Operator,
        mut guest: plugin::Aggregate,
        plan: &OperatorPlan,
        place: Place,
        versions: Versions,
    ) -> Result<Self, JobError> {
        let OperatorKind::Aggregate { key, windows } = &plan.kind else {
            panic!("{} is no aggregate", plan.id)
        };
        let initial = guest.initial().await.map_err(|f| operator.failed(f, None))?;
        compared::file(guest.difference());
        let (version, schema) = &versions.current;
        let codec = Codec::new(*version, schema, &versions.older, Some(initial));
        let codec = codec.map_err(|e| JobError::Recovery(format!("the state of `{}`: {e}", plan.id)))?;
        let codec = Arc::new(codec);
        let mut aggregation =
            Aggregation::new(*windows, place.addresses, place.groups.clone(), codec.clone());
        if let Some(watermark) = place.watermark {
            aggregation.restore(&*place.storage, watermark)?;
        }
        Ok(Self {
            operator,
            guest,
            aggregation,
            windows: *windows,
            codec,
            place,
            key: key.clone(),
            key_types: key.iter().map(|&k| plan.input.fields()[k].field_type).collect(),
            emits: plan.emits.iter().map(|(_, origin)| *origin).collect(),
            output: plan.output().arrow(),
            late: late_schema(&plan.input).arrow(),
            window: Slicing::new(*windows),
        })
    }

    /// Its place in its task, and where its state is kept.
    pub(super) fn into_parts(self) -> (Operator, Place) {
        (self.operator, self.place)
    }

    /// The accumulator of a new group.
    pub(super) fn initial(&self) -> &[ArrayRef] {
        self.codec.initial()
    }

    pub(super) fn number(&self) -> usize {
        self.operator.number()
    }

    /// Goes on with a guest of another version that keeps state in the same way.
    pub(super) fn exchange(&mut self, guest: plugin::Aggregate, plan: &OperatorPlan) {
        self.guest = guest;
        self.operator.become_version(plan, &plan.first_input());
        self.emits = plan.emits.iter().map(|(_, origin)| *origin).collect();
    }

    /// Holds other key groups from now on, as they stand in the storage, where all of the present ones must stand by now.
    pub(super) fn reopen(&mut self, groups: Range<u32>, watermark: i64) -> Result<(), JobError> {
        self.place.groups = groups.clone();
        self.aggregation = Aggregation::new(self.windows, self.place.addresses, groups, self.codec.clone());
        Ok(self.aggregation.restore(&*self.place.storage, watermark)?)
    }

    /// Folds a batch; fires the windows that end between its rows.
    pub(super) async fn process(&mut self, batch: Batch, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.operator.counters().rows_in.add(batch.rows() as u64);
        let batch = self.operator.without_nulls(batch).await?;
        let key_columns: Vec<&ArrayRef> = self.key.iter().map(|&k| batch.columns.column(k)).collect();
        let keys = Keys::of(&key_columns, batch.rows());
        let rows =
            Rows { keys: &keys, times: batch.times.as_deref(), watermarks: batch.watermarks.as_deref() };
        let mut from = 0;
        while from < batch.rows() {
            let watermark = self.aggregation.watermark();
            let assigned = self.aggregation.assign(&rows, from);
            self.operator.counters().partly_late.add(assigned.partly_late);
            if !assigned.late.is_empty() {
                out.send_late(self.late(&batch, &assigned.late, watermark)).await?;
            }
            if !assigned.fold.rows.is_empty() {
                let part = if assigned.fold.rows.len() == batch.rows() {
                    batch.clone()
                } else {
                    batch.take(&assigned.fold.rows)
                };
                self.fold(&part, &assigned.fold).await?;
            }
            from = assigned.until;
            if from < batch.rows() {
                self.advance(assigned.fire_first, out).await?;
            }
        }
        Ok(())
    }

    async fn fold(&mut self, part: &Batch, fold: &Fold) -> Result<(), JobError> {
        self.aggregation.load(fold, &*self.place.storage)?;
        let accumulators = self.aggregation.accumulators(fold);
        let columns = self.operator.columns(part);
        let call = self.guest.accumulate(fold.groups(), &accumulators, &fold.group_of, &columns);
        let folded = self.operator.timed(call).await;
        let folded = folded.map_err(|f| self.operator.failed(f, Some(part)))?;
        self.operator.file(self.guest.difference(), part, &fold.group_of);
        self.operator.reject(part, &folded.rejected).await?;
        let rejected: Vec<u32> = folded.rejected.iter().map(|r| r.row).collect();
        self.aggregation.store(fold, &folded.accumulators, &rejected);
        Ok(())
    }

    /// Finishes the windows that end before the watermark.
    pub(super) async fn advance(&mut self, watermark: i64, out: &mut Outputs<'_>) -> Result<(), JobError> {
        while let Some(mut firing) = self.aggregation.next_firing(watermark) {
            while self.aggregation.next_shard(&mut firing, &*self.place.storage)? {
                while let Some(merge) = self.aggregation.next_merge(&mut firing, GROUPS_PER_CALL) {
                    let call = self.guest.merge(merge.groups(), &merge.left, &merge.right);
                    let merged = self.operator.timed(call).await;
                    firing.merged(&merge, &merged.map_err(|f| self.operator.failed(f, None))?);
                    compared::file(self.guest.difference());
                }
                for slots in firing.groups.occupied().chunks(GROUPS_PER_CALL) {
                    self.finish(&firing, slots, out).await?;
                }
            }
            self.operator.counters().windows.add(1);
            self.aggregation.fired(firing.bounds);
        }
        Ok(())
    }

    /// Begins a new epoch.
    pub(super) fn freeze(&mut self) -> OperatorPart {
        self.aggregation.freeze();
        let watermark = self.aggregation.watermark();
        let (operator, groups) = (self.operator.number(), self.place.groups.clone());
        OperatorPart { operator, groups, watermark, in_flight: None }
    }

    /// Writes out some of what was frozen; says whether that was the end of it.
    pub(super) fn write_slice(&mut self, rows_max: usize) -> Result<bool, JobError> {
        let Some(writes) = self.aggregation.drain(rows_max) else { return Ok(true) };
        self.place.storage.write(writes)?;
        Ok(false)
    }

    /// Drops groups that the storage has too, while more memory is used than the operator's share; says whether it is
    /// within its share then.
    pub(super) fn evict(&mut self) -> bool {
        while self.aggregation.bytes() > self.place.memory_bytes {
            if !self.aggregation.evict(self.place.memory_bytes / 4 * 3) {
                return false;
            }
        }
        true
    }

    /// Drops groups into the storage; only while no checkpoint is open.
    pub(super) fn spill(&mut self) -> Result<(), JobError> {
        let bytes_max = self.place.memory_bytes / 4 * 3;
        while self.aggregation.bytes() > bytes_max {
            let Some(writes) = self.aggregation.spill(bytes_max) else { break };
            self.place.storage.write(writes)?;
        }
        Ok(())
    }

    async fn finish(
        &mut self,
        firing: &Firing,
        slots: &[u32],
        out: &mut Outputs<'_>,
    ) -> Result<(), JobError> {
        let accumulators = firing.accumulators(slots);
        let emission = self.operator.timed(self.guest.finish(slots.len(), &accumulators)).await;
        let emission = emission.map_err(|f| self.operator.failed(f, None))?;
        let keys = read_keys(slots.iter().map(|&s| firing.groups.key(s)), &self.key_types);
        self.operator.file_keyed(self.guest.difference(), &keys, &self.key);
        self.operator.reject_groups(&keys, &self.key, slots.len(), &emission.rejected).await?;
        self.operator.counters().rows_out.add(emission.rows as u64);
        let inherited: Vec<&ArrayRef> = keys.iter().collect();
        let ids = self.ids(firing, slots, &emission);
        for stretch in stretches(emission.rows, emission.origins.as_deref(), &inherited) {
            let ids = ids.as_ref().map(|ids| ids.slice(stretch.start, stretch.len()));
            out.send(&Batch { ids, ..self.results(firing, &keys, &emission, stretch) }).await?;
        }
        Ok(())
    }

    /// The ids of results, if anybody asks for them. A window gives a result for a key once.
    fn ids(&self, firing: &Firing, slots: &[u32], emission: &Emission) -> Option<Ids> {
        let ids = self.operator.ids()?;
        let key_of = |group: usize| firing.groups.key(slots[group]);
        Some(ids.results(firing.bounds, 0, key_of, emission.origins.as_deref(), emission.rows))
    }

    fn results(
        &self,
        firing: &Firing,
        keys: &[ArrayRef],
        emission: &Emission,
        stretch: Range<usize>,
    ) -> Batch {
        let (start, length) = (stretch.start, stretch.len());
        let rows = emission.origins.as_deref().map(|o| UInt32Array::from(o[stretch].to_vec()));
        let bound = |ms: i64| -> ArrayRef {
            let values = TimestampMillisecondArray::from_value(ms, length);
            Arc::new(values.with_data_type(FieldType::Timestamp.arrow()))
        };
        let column = |origin: &Origin| match origin {
            Origin::Returned(at) => emission.columns[*at].slice(start, length),
            Origin::Key(at) => match &rows {
                Some(rows) => take(&keys[*at], rows),
                None => keys[*at].slice(start, length),
            },
            Origin::WindowStart => bound(firing.bounds.start),
            Origin::WindowEnd => bound(firing.bounds.end),
            Origin::Input(_) | Origin::WindowFiring | Origin::WindowTiming => {
                unreachable!("an aggregate's results have fields of their own, and a window fires once")
            }
        };
        let columns = self.emits.iter().map(column).collect();
        // The last instant of the window: so a second window of the same size gives the same totals.
        let times = self.aggregation.has_bounds().then(|| vec![firing.bounds.end - 1; length].into());
        let columns = record_batch(self.output.clone(), columns, length);
        Batch { columns, times, watermarks: None, positions: None, ids: None }
    }

    fn late(&self, batch: &Batch, rows: &[u32], watermark: i64) -> Batch {
        self.operator.counters().late.add(rows.len() as u64);
        let late = batch.take(rows);
        let times = late.times.clone().expect("only rows with times are late");
        let before = |at: usize| late.watermarks.as_ref().map_or(watermark, |w| w[at].max(watermark));
        let late_by = times.iter().enumerate().map(|(at, &time)| {
            let end = self.window.last_end(self.window.slice_of(time));
            // The window was finished when the watermark reached its last millisecond.
            before(at).saturating_sub(end - 1)
        });
        let mut columns: Vec<ArrayRef> = late.columns.columns().to_vec();
        let late_by: ArrayRef = Arc::new(Int64Array::from_iter_values(late_by));
        match self.late.index_of(LATE_BY_FIELD) {
            Ok(at) if at < columns.len() => columns[at] = late_by,
            _ => columns.push(late_by),
        }
        late.with_columns(columns, self.late.clone())
    }

    /// Counts what is left in unfinished windows.
    pub(super) fn stop(&self) {
        self.operator.counters().groups_left.add(self.aggregation.groups() as u64);
    }
}
