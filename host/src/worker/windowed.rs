//! An operator over windows at its place in a task: an aggregate whose windows take late rows, fire more than once, or
//! aren't of the plain kind; and a window operator, which has all the rows of a window at once.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow_schema::SchemaRef;
use tidemill_flow::aggregation::Rows;
use tidemill_flow::batch::{Batch, record_batch, take};
use tidemill_flow::key::{Keys, read_keys};
use tidemill_flow::schema::{Field, FieldType, Schema};
use tidemill_flow::watermark::WATERMARK_MIN;
use tidemill_flow::window::Bounds;
use tidemill_flow::windowing::{Firing, LateRow, Layout, Stretch, Windowing};

use super::behind::Behind;
use super::clock::ProcessingTime;
use super::compared;
use super::restored::Versions;
use super::snapshot::OperatorPart;
use super::state::Place;
use super::stretches::stretches;
use super::task::Outputs;
use super::transform::Operator;
use super::{JobError, Signal};
use crate::pipeline::plan::{OperatorKind, OperatorPlan, Origin};
use crate::pipeline::stages::{LATE_BY_FIELD, late_fields};
use crate::plugin::{self, Emission, Rejection, TIME_FIELD, WindowRows};

/// Groups that are merged or finished in one call: between two calls rows and barriers have their turn.
const GROUPS_PER_CALL: usize = 4096;

/// Windows whose rows are handed over in one call, where these are kept: they may be many each.
const WINDOWS_PER_CALL: usize = 256;

/// An operator over windows.
pub(super) struct WindowedNode {
    operator: Operator,
    guest: Guest,
    /// The accumulator of a new window; none where rows are kept.
    initial: Vec<ArrayRef>,
    windows: Windowing,
    place: Place,
    clock: ProcessingTime,
    key: Vec<usize>,
    key_types: Vec<FieldType>,
    emits: Vec<Origin>,
    output: SchemaRef,
    late: SchemaRef,
    /// Whether results have an event time.
    has_times: bool,
    /// A watermark that goes on when the windows up to it have fired.
    held: Option<i64>,
    behind: Behind,
}

/// What makes results.
pub(super) enum Guest {
    /// Of accumulators.
    Aggregate(plugin::Aggregate),
    /// Of rows with these fields, those that it reads.
    Window(plugin::Window, Schema),
}

impl WindowedNode {
    pub(super) async fn new(
        operator: Operator,
        mut guest: Guest,
        plan: &OperatorPlan,
        place: Place,
        clock: ProcessingTime,
        versions: &Versions,
    ) -> Result<Self, JobError> {
        let OperatorKind::Windowed { key, definition, has_times } = &plan.kind else {
            panic!("{} has plain windows or none", plan.id)
        };
        let mut initial = Vec::new();
        let layout = match &mut guest {
            Guest::Aggregate(guest) => {
                initial = guest.initial().await.map_err(|f| operator.failed(f, None))?;
                compared::file(guest.difference());
                let state = &plan.plugin.description().state;
                Layout::of_accumulators(versions.current.0, state, &versions.older, &initial)
            }
            Guest::Window(_, fields) => Layout::of_rows(versions.current.0, fields, &versions.older),
        };
        let layout = layout.map_err(|e| JobError::Recovery(format!("the state of `{}`: {e}", plan.id)))?;
        let (definition, groups) = (definition.clone(), place.groups.clone());
        let has_times = definition.has_event_bounds(*has_times);
        let windows = match place.watermark {
            None => Windowing::new(definition, place.addresses, groups, layout),
            Some(at) => Windowing::restore(definition, place.addresses, groups, layout, &*place.storage, at)?,
        };
        Ok(Self {
            operator,
            guest,
            initial,
            windows,
            place,
            clock,
            key: key.clone(),
            key_types: key.iter().map(|&k| plan.input.fields()[k].field_type).collect(),
            emits: plan.emits.iter().map(|(_, origin)| *origin).collect(),
            output: plan.output().arrow(),
            late: late_fields(plan).arrow(),
            has_times,
            held: None,
            behind: Behind::default(),
        })
    }

    /// Its place in its task, and where its state is kept.
    pub(super) fn into_parts(self) -> (Operator, Place) {
        (self.operator, self.place)
    }

    /// The accumulator of a new window; none where rows are kept.
    pub(super) fn initial(&self) -> &[ArrayRef] {
        &self.initial
    }

    pub(super) fn number(&self) -> usize {
        self.operator.number()
    }

    /// Goes on with a guest of another version that keeps state in the same way.
    pub(super) fn exchange(&mut self, guest: Guest, plan: &OperatorPlan) {
        self.guest = guest;
        self.operator.become_version(plan, &plan.first_input());
        self.emits = plan.emits.iter().map(|(_, origin)| *origin).collect();
    }

    fn windows_per_call(&self) -> usize {
        match self.guest {
            Guest::Aggregate(_) => GROUPS_PER_CALL,
            Guest::Window(..) => WINDOWS_PER_CALL,
        }
    }

    /// Tells the windows what time it is: event time, as far as a watermark says so, and the clock.
    fn tick(&mut self, watermark: i64) {
        self.windows.advance(watermark, self.clock.now_ms());
    }

    /// Folds a batch; fires windows between its rows where that comes first.
    pub(super) async fn process(&mut self, batch: Batch, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.operator.counters().rows_in.add(batch.rows() as u64);
        let batch = self.operator.without_nulls(batch).await?;
        let key_columns: Vec<&ArrayRef> = self.key.iter().map(|&k| batch.columns.column(k)).collect();
        let keys = Keys::of(&key_columns, batch.rows());
        let rows =
            Rows { keys: &keys, times: batch.times.as_deref(), watermarks: batch.watermarks.as_deref() };
        let storage = self.place.storage.clone();
        let at_once = self.windows_per_call();
        self.tick(WATERMARK_MIN);
        let mut from = 0;
        while from < batch.rows() {
            while let Some(firing) = self.windows.due_of(&rows, from, at_once, &*storage)? {
                self.finish(&firing, out).await?;
            }
            let mut assigned = self.windows.assign(&rows, from, &*storage)?;
            self.operator.counters().partly_late.add(assigned.partly_late);
            if !assigned.late.is_empty() {
                out.send_late(self.late(&batch, &assigned.late)).await?;
            }
            self.fold(&batch, &mut assigned.stretch).await?;
            while let Some(firing) = self.windows.filled(at_once, &*storage)? {
                self.finish(&firing, out).await?;
            }
            from = assigned.until;
            if from < batch.rows() {
                self.tick(assigned.fire_first);
            }
        }
        while let Some(firing) = self.windows.late(at_once, &*storage)? {
            self.finish(&firing, out).await?;
        }
        Ok(())
    }

    async fn fold(&mut self, batch: &Batch, stretch: &mut Stretch) -> Result<(), JobError> {
        if stretch.groups() == 0 {
            return Ok(());
        }
        let guest = match &mut self.guest {
            Guest::Aggregate(guest) => guest,
            Guest::Window(..) => {
                self.windows.keep(stretch, &self.operator.columns(batch));
                return Ok(());
            }
        };
        while let Some(merge) = self.windows.next_merge(stretch, GROUPS_PER_CALL) {
            let merged = self.operator.timed(guest.merge(merge.groups(), &merge.left, &merge.right)).await;
            self.windows.merged(stretch, &merge, &merged.map_err(|f| self.operator.failed(f, None))?);
            compared::file(guest.difference());
        }
        let is_whole =
            stretch.rows.len() == batch.rows() && (0..).zip(&stretch.rows).all(|(at, &row)| at == row);
        let part = if is_whole { batch.clone() } else { batch.take(&stretch.rows) };
        let accumulators = self.windows.accumulators(stretch);
        let columns = self.operator.columns(&part);
        let call = guest.accumulate(stretch.groups(), &accumulators, &stretch.group_of, &columns);
        let folded = self.operator.timed(call).await;
        let mut folded = folded.map_err(|f| self.operator.failed(f, Some(&part)))?;
        self.operator.file(guest.difference(), &part, &stretch.group_of);
        let rejected: Vec<u32> = folded.rejected.iter().map(|r| r.row).collect();
        self.windows.store(stretch, &folded.accumulators, &rejected);
        // A row that is in several windows is rejected once.
        folded.rejected.dedup_by_key(|r| stretch.rows[r.row as usize]);
        self.operator.reject(&part, &folded.rejected).await
    }

    /// Event time has come to a watermark.
    pub(super) async fn advance(&mut self, watermark: i64, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.tick(watermark);
        self.held = Some(watermark);
        self.go_on(out).await
    }

    /// Fires windows that are due, some of them; if these were the last, the watermark goes on, and what came behind it.
    pub(super) async fn go_on(&mut self, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.tick(WATERMARK_MIN);
        if self.windows.is_due() {
            let storage = self.place.storage.clone();
            let firing = self.windows.due(self.windows_per_call(), &*storage)?;
            self.finish(&firing, out).await?;
        }
        if self.windows.is_window_due() {
            return Ok(());
        }
        if let Some(watermark) = self.held.take() {
            out.announce(&Signal::Watermark(watermark)).await?;
        }
        match self.behind.follow() {
            Some(signal) => out.announce(&signal).await,
            None => Ok(()),
        }
    }

    /// The input has gone idle, or is active again. Says what goes on now.
    pub(super) fn behind_watermark(&mut self, signal: Signal) -> Option<Signal> {
        self.behind.come(signal, self.held.is_some())
    }

    /// Whether something is due, by either clock.
    pub(super) fn has_due(&mut self) -> bool {
        self.tick(WATERMARK_MIN);
        self.held.is_some() || self.windows.is_due()
    }

    /// Whether windows are due that have to fire before the watermark goes on.
    pub(super) fn has_event_due(&self) -> bool {
        self.held.is_some() || self.windows.is_window_due()
    }

    /// When something of processing time is due, in milliseconds since the Unix epoch.
    pub(super) fn next_processing_ms(&self) -> Option<i64> {
        self.windows.next_processing()
    }

    /// Begins a new epoch.
    pub(super) fn freeze(&mut self) -> OperatorPart {
        self.windows.freeze();
        let watermark = self.windows.watermark();
        OperatorPart {
            operator: self.operator.number(),
            groups: self.place.groups.clone(),
            watermark,
            in_flight: None,
        }
    }

    /// Writes out some of what was frozen; says whether that was the end of it.
    pub(super) fn write_slice(&mut self, rows_max: usize) -> Result<bool, JobError> {
        let Some(writes) = self.windows.drain(rows_max) else { return Ok(true) };
        self.place.storage.write(writes)?;
        Ok(false)
    }

    /// Drops rows that the storage has too, while more memory is used than the operator's share; says whether it is
    /// within its share then.
    pub(super) fn evict(&mut self) -> bool {
        let bytes_max = self.place.memory_bytes;
        while self.windows.bytes() > bytes_max {
            if !self.windows.evict(bytes_max / 4 * 3) {
                return false;
            }
        }
        true
    }

    /// Drops rows into the storage; only while no checkpoint is open.
    pub(super) fn spill(&mut self) -> Result<(), JobError> {
        let bytes_max = self.place.memory_bytes / 4 * 3;
        while self.windows.bytes() > bytes_max {
            let Some(writes) = self.windows.spill(bytes_max) else { break };
            self.place.storage.write(writes)?;
        }
        Ok(())
    }

    async fn finish(&mut self, firing: &Firing, out: &mut Outputs<'_>) -> Result<(), JobError> {
        let groups = firing.groups();
        self.operator.counters().groups_left.add(firing.unfired);
        if groups == 0 {
            return Ok(());
        }
        let keys = read_keys((0..groups).map(|group| firing.keys.key(group)), &self.key_types);
        let emission = match &mut self.guest {
            Guest::Aggregate(guest) => {
                let emission = self.operator.timed(guest.finish(groups, &firing.accumulators)).await;
                let emission = emission.map_err(|f| self.operator.failed(f, None))?;
                self.operator.file_keyed(guest.difference(), &keys, &self.key);
                self.operator.reject_groups(&keys, &self.key, groups, &emission.rejected).await?;
                emission
            }
            Guest::Window(guest, fields) => {
                let (columns, rows) = (&firing.rows.columns, firing.rows.group_of.len());
                let emission = self.operator.timed(guest.evaluate(&rows_of(firing), columns, rows)).await;
                let emission = emission.map_err(|f| self.operator.failed(f, None))?;
                self.operator.file_keyed(guest.difference(), &keys, &self.key);
                let of_group = UInt32Array::from(firing.rows.group_of.clone());
                let keys = keys.iter().map(|key| take(key, &of_group));
                let key_fields = self.operator.fields(&self.key);
                let named = fields.fields().iter().cloned().zip(columns.iter().cloned());
                let named = named.chain(key_fields.into_iter().zip(keys));
                reject(&self.operator, named, rows, &emission.rejected).await?;
                emission
            }
        };
        self.operator.counters().windows.add(groups as u64);
        self.operator.counters().rows_out.add(emission.rows as u64);
        let inherited: Vec<&ArrayRef> = keys.iter().collect();
        for stretch in stretches(emission.rows, emission.origins.as_deref(), &inherited) {
            out.send(&self.results(firing, &keys, &emission, stretch)).await?;
        }
        Ok(())
    }

    fn results(
        &self,
        firing: &Firing,
        keys: &[ArrayRef],
        emission: &Emission,
        stretch: Range<usize>,
    ) -> Batch {
        let (start, length) = (stretch.start, stretch.len());
        let group = |row: usize| emission.origins.as_deref().map_or(row, |o| o[row] as usize);
        let groups: Vec<usize> = stretch.map(group).collect();
        let rows: UInt32Array = groups.iter().map(|&g| u32::try_from(g).expect("groups of a call")).collect();
        let bounds =
            |group: usize| firing.bounds[group].expect("the plan offers bounds where there are some");
        let times = |of: &dyn Fn(usize) -> i64| -> ArrayRef {
            let values: TimestampMillisecondArray =
                groups.iter().map(|&g| of(g)).collect::<Vec<i64>>().into();
            Arc::new(values.with_data_type(FieldType::Timestamp.arrow()))
        };
        let column = |origin: &Origin| -> ArrayRef {
            match origin {
                Origin::Returned(at) => emission.columns[*at].slice(start, length),
                Origin::Key(at) => take(&keys[*at], &rows),
                Origin::WindowStart => times(&|group| bounds(group).start),
                Origin::WindowEnd => times(&|group| bounds(group).end),
                Origin::WindowFiring => {
                    Arc::new(groups.iter().map(|&g| Some(firing.numbers[g])).collect::<Int64Array>())
                }
                Origin::WindowTiming => {
                    Arc::new(groups.iter().map(|&g| Some(firing.timings[g].name())).collect::<StringArray>())
                }
                Origin::Input(_) => unreachable!("an aggregate's results have fields of their own"),
            }
        };
        let columns = self.emits.iter().map(column).collect();
        // The last instant of the window: so a second window of the same size gives the same totals.
        let last = |&group: &usize| bounds(group).end - 1;
        let times = self.has_times.then(|| groups.iter().map(last).collect::<Vec<i64>>().into());
        let columns = record_batch(self.output.clone(), columns, length);
        Batch { columns, times, watermarks: None, positions: None, ids: None }
    }

    fn late(&self, batch: &Batch, rows: &[LateRow]) -> Batch {
        self.operator.counters().late.add(rows.len() as u64);
        let numbers: Vec<u32> = rows.iter().map(|late| late.row).collect();
        let late = batch.take(&numbers);
        let mut columns: Vec<ArrayRef> = late.columns.columns().to_vec();
        let late_by: ArrayRef =
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|late| late.late_by_ms)));
        match self.late.index_of(LATE_BY_FIELD) {
            Ok(at) if at < columns.len() => columns[at] = late_by,
            _ => columns.push(late_by),
        }
        late.with_columns(columns, self.late.clone())
    }

    /// Counts what is left in unfinished windows.
    pub(super) fn stop(&self) {
        self.operator.counters().groups_left.add(self.windows.open() as u64);
    }
}

/// The windows of a firing, and which rows are whose.
fn rows_of(firing: &Firing) -> Vec<WindowRows> {
    let group_of = &firing.rows.group_of;
    let of_group = |(group, bounds): (usize, &Option<Bounds>)| {
        let (start, end) = bounds.map_or((i64::MIN, i64::MAX), |b| (b.start, b.end));
        WindowRows { start, end, rows_end: group_of.partition_point(|&of| of as usize <= group) }
    };
    firing.bounds.iter().enumerate().map(of_group).collect()
}

/// Sends rows that were rejected when their window fired to the dead letters: the fields that the operator reads, and
/// the key.
async fn reject(
    operator: &Operator,
    named: impl Iterator<Item = (Field, ArrayRef)>,
    rows: usize,
    rejected: &[Rejection],
) -> Result<(), JobError> {
    if rejected.is_empty() {
        return Ok(());
    }
    let (mut fields, mut columns, mut times): (Vec<Field>, Vec<ArrayRef>, _) = (Vec::new(), Vec::new(), None);
    for (field, column) in named {
        if field.name == TIME_FIELD {
            times = Some(column.as_primitive::<TimestampMillisecondType>().values().clone());
        } else if fields.iter().all(|f| f.name != field.name) {
            // What is kept is written as if it might be absent.
            fields.push(Field { nullable: true, ..field });
            columns.push(column);
        }
    }
    let schema = Schema::new(fields).expect("each name once");
    let columns = record_batch(schema.arrow(), columns, rows);
    let batch = Batch { columns, times, watermarks: None, positions: None, ids: None };
    operator.reject_rows(&batch, rejected, &schema).await
}
