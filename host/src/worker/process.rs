//! A process operator at its place in a task: rows and due timers are handed to it with the state of their keys, and
//! what it makes of them is kept.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, BooleanArray, UInt32Array};
use arrow_schema::SchemaRef;
use tidemill_flow::aggregation::Rows;
use tidemill_flow::batch::{BATCH_ROWS_MAX, Batch, EVENT_TIME_LIMIT_MS, record_batch, take};
use tidemill_flow::collections::Limit;
use tidemill_flow::key::{Keys, read_keys};
use tidemill_flow::keyed::{Firing, KeyedState, Layout, Numbered, ValueSlot};
use tidemill_flow::row_id::Ids;
use tidemill_flow::schema::{FieldType, Schema};
use tidemill_flow::storage::{Storage, StorageError};
use tidemill_flow::timers::Clock;
use tidemill_flow::ttl::Ttl;
use tidemill_flow::watermark::WATERMARK_MAX;

use super::behind::Behind;
use super::clock::ProcessingTime;
use super::restored::Versions;
use super::snapshot::OperatorPart;
use super::state::Place;
use super::stretches::stretches;
use super::task::Outputs;
use super::transform::Operator;
use super::{JobError, Signal};
use crate::pipeline::plan::{self, OperatorKind, OperatorPlan, Origin};
use crate::plugin::{self, Emission, Entry, Keyed, Processed, due_columns};

/// Timers that are fired in one call: between two calls rows and barriers have their turn.
const TIMERS_PER_CALL: usize = BATCH_ROWS_MAX;
/// Rows and entries that are looked at for whether their time is over, with each batch.
const EXPIRED_PER_BATCH: usize = 64;
/// What a guest may be given of a range at once, in bytes.
const RANGE_BYTES_MAX: usize = 64 << 20;

/// A process operator in a task.
pub(super) struct ProcessNode {
    operator: Operator,
    guest: plugin::Process,
    /// Lent to the guest during a call.
    keyed: Option<KeyedState>,
    layout: Arc<Layout>,
    place: Place,
    clock: ProcessingTime,
    key: Vec<usize>,
    key_types: Vec<FieldType>,
    emits: Vec<Origin>,
    output: SchemaRef,
    has_ttl: bool,
    has_times: bool,
    /// A watermark that goes on when the timers up to it have fired.
    held: Option<i64>,
    behind: Behind,
}

/// What an operator keeps for each key.
///
/// # Errors
/// When the component's state, or older schemas of it, can't be kept so.
pub(super) fn layout(plan: &OperatorPlan, version: u8, older: &[(u8, Schema)]) -> Result<Layout, String> {
    let OperatorKind::Process { ttl, .. } = &plan.kind else { panic!("{} is no process operator", plan.id) };
    let ttl_of = |name: &str| {
        let ttl = ttl.iter().find(|t| t.slot == name)?;
        let clock = match ttl.clock {
            plan::Clock::Event => Clock::Event,
            plan::Clock::Processing => Clock::Processing,
        };
        Some(Ttl { after_ms: ttl.after_ms, clock })
    };
    let description = plan.plugin.description();
    let slots = description.state.fields().iter();
    let slots: Vec<ValueSlot> = slots.map(|f| ValueSlot { field: f.clone(), ttl: ttl_of(&f.name) }).collect();
    let collections = description.collections.iter().map(|c| ttl_of(&c.name)).collect();
    Layout::new(version, &slots, older, collections)
}

impl ProcessNode {
    pub(super) fn new(
        operator: Operator,
        guest: plugin::Process,
        plan: &OperatorPlan,
        place: Place,
        clock: ProcessingTime,
        versions: &Versions,
    ) -> Result<Self, JobError> {
        let OperatorKind::Process { key, ttl } = &plan.kind else {
            panic!("{} is no process operator", plan.id)
        };
        let layout = layout(plan, versions.current.0, &versions.older);
        let layout =
            Arc::new(layout.map_err(|e| JobError::Recovery(format!("the state of `{}`: {e}", plan.id)))?);
        let groups = place.groups.clone();
        let keyed = match place.watermark {
            None => KeyedState::new(layout.clone(), place.addresses, groups),
            Some(watermark) => restored(&layout, &place, groups, watermark, &clock)?,
        };
        Ok(Self {
            operator,
            guest,
            keyed: Some(keyed),
            layout,
            place,
            clock,
            key: key.clone(),
            key_types: key.iter().map(|&k| plan.input.fields()[k].field_type).collect(),
            emits: plan.emits.iter().map(|(_, origin)| *origin).collect(),
            output: plan.output().arrow(),
            has_ttl: !ttl.is_empty(),
            has_times: false,
            held: None,
            behind: Behind::default(),
        })
    }

    /// Its place in its task, and where its state is kept.
    pub(super) fn into_parts(self) -> (Operator, Place) {
        (self.operator, self.place)
    }

    pub(super) fn number(&self) -> usize {
        self.operator.number()
    }

    /// Goes on with a guest of another version that keeps state in the same way.
    pub(super) fn exchange(&mut self, guest: plugin::Process, plan: &OperatorPlan) {
        self.guest = guest;
        self.operator.become_version(plan, &plan.first_input());
        self.emits = plan.emits.iter().map(|(_, origin)| *origin).collect();
    }

    /// Holds other key groups from now on, as they stand in the storage, where all of the present ones must stand by now.
    pub(super) fn reopen(&mut self, groups: Range<u32>, watermark: i64) -> Result<(), JobError> {
        self.keyed = Some(restored(&self.layout, &self.place, groups.clone(), watermark, &self.clock)?);
        self.place.groups = groups;
        self.held = None;
        Ok(())
    }

    /// Hands a batch to the guest; before it the timers of its keys that are due.
    pub(super) async fn process(&mut self, batch: Batch, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.operator.counters().rows_in.add(batch.rows() as u64);
        let batch = self.operator.without_nulls(batch).await?;
        self.has_times |= batch.times.is_some();
        let key_columns: Vec<&ArrayRef> = self.key.iter().map(|&k| batch.columns.column(k)).collect();
        let keys = Keys::of(&key_columns, batch.rows());
        let rows =
            Rows { keys: &keys, times: batch.times.as_deref(), watermarks: batch.watermarks.as_deref() };
        let watermark = self.keyed().watermark();
        self.advance_to(watermark);
        let mut from = 0;
        while from < batch.rows() {
            for clock in [Clock::Event, Clock::Processing] {
                while self.is_due(clock) {
                    let firing = self.keyed().due_of(clock, &keys, from, TIMERS_PER_CALL);
                    if firing.due.is_empty() {
                        break;
                    }
                    self.fire(&firing, out).await?;
                }
            }
            let storage = self.place.storage.clone();
            let numbered = self.keyed().begin(&rows, from, &*storage)?;
            let until = numbered.until;
            let part = batch.slice(from, until - from);
            self.call(Input::Rows(&part), numbered, out).await?;
            from = until;
        }
        if self.has_ttl {
            let storage = self.place.storage.clone();
            self.keyed().expire(&*storage, EXPIRED_PER_BATCH)?;
        }
        Ok(())
    }

    /// Event time has come to a watermark. It goes on now or, if more timers are due than are fired at once, with
    /// [`Self::go_on`].
    pub(super) async fn advance(&mut self, watermark: i64, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.advance_to(watermark);
        self.held = Some(watermark);
        self.go_on(out).await
    }

    /// Fires timers that are due, some of them; if these were the last, the watermark goes on, and what came behind it.
    pub(super) async fn go_on(&mut self, out: &mut Outputs<'_>) -> Result<(), JobError> {
        let watermark = self.keyed().watermark();
        self.advance_to(watermark);
        for clock in [Clock::Event, Clock::Processing] {
            if self.is_due(clock) {
                let firing = self.keyed().due(clock, TIMERS_PER_CALL);
                self.fire(&firing, out).await?;
            }
        }
        if self.is_due(Clock::Event) {
            return Ok(());
        }
        if let Some(watermark) = self.held.take() {
            out.announce(&Signal::Watermark(watermark)).await?;
        }
        if let Some(signal) = self.behind.follow() {
            out.announce(&signal).await?;
        }
        Ok(())
    }

    /// As [`advance`](Self::advance), all the way; but those behind aren't told.
    pub(super) async fn catch_up(&mut self, watermark: i64, out: &mut Outputs<'_>) -> Result<(), JobError> {
        let now_ms = self.clock.now_ms();
        self.keyed().advance(watermark, now_ms);
        while self.is_due(Clock::Event) {
            let firing = self.keyed().due(Clock::Event, TIMERS_PER_CALL);
            self.fire(&firing, out).await?;
        }
        Ok(())
    }

    /// The input has gone idle, or is active again. Says what goes on now.
    pub(super) fn behind_watermark(&mut self, signal: Signal) -> Option<Signal> {
        self.behind.come(signal, self.held.is_some())
    }

    /// Whether timers are due that haven't fired.
    pub(super) fn has_due(&mut self) -> bool {
        self.has_event_due() || self.is_due(Clock::Processing)
    }

    /// Whether timers of event time are due that haven't fired.
    pub(super) fn has_event_due(&mut self) -> bool {
        self.held.is_some() || self.is_due(Clock::Event)
    }

    /// When the next timer of processing time is due, in milliseconds since the Unix epoch.
    pub(super) fn next_processing_ms(&mut self) -> Option<i64> {
        self.keyed().next_timer(Clock::Processing)
    }

    fn is_due(&mut self, clock: Clock) -> bool {
        let now = match clock {
            Clock::Event => self.keyed().watermark(),
            Clock::Processing => self.clock.now_ms(),
        };
        self.keyed().next_timer(clock).is_some_and(|at| at <= now)
    }

    async fn fire(&mut self, firing: &Firing, out: &mut Outputs<'_>) -> Result<(), JobError> {
        let storage = self.place.storage.clone();
        let numbered = self.keyed().begin_firing(firing, &*storage)?;
        self.call(Input::Timers(firing), numbered, out).await
    }

    async fn call(
        &mut self,
        input: Input<'_>,
        numbered: Numbered,
        out: &mut Outputs<'_>,
    ) -> Result<(), JobError> {
        let columns = match input {
            Input::Rows(batch) => self.operator.columns(batch),
            Input::Timers(firing) => {
                let count = firing.due.len();
                let processing = BooleanArray::from(vec![firing.clock == Clock::Processing; count]);
                due_columns(firing.due.at.clone(), firing.due.names.clone(), processing).to_vec()
            }
        };
        let (key_of, values) = (numbered.key_of.clone(), numbered.values.clone());
        let keyed = Keyed {
            key_of: &key_of,
            keys: numbered.keys.hashes().len(),
            values: &values,
            columns: &columns,
            watermark_ms: self.keyed().watermark(),
            processing_time_ms: self.clock.now_ms(),
        };
        let state = self.keyed.take().expect("lent during calls only");
        let reach = Reach { state, numbered, storage: self.place.storage.clone() };
        let (reach, processed) = match input {
            Input::Rows(_) => self.operator.timed(self.guest.process(&keyed, reach)).await,
            Input::Timers(_) => self.operator.timed(self.guest.on_timer(&keyed, reach)).await,
        };
        let Reach { mut state, numbered, .. } = reach;
        let batch = match input {
            Input::Rows(batch) => Some(batch),
            Input::Timers(_) => None,
        };
        let Processed { emission, values, timers } = processed.map_err(|f| self.operator.failed(f, batch))?;
        self.file(batch, &numbered);
        state.store(&numbered, values);
        // At the end of the input every time has come: one that sets the next each time would never end.
        let at_end = matches!(input, Input::Timers(_)) && state.watermark() == WATERMARK_MAX;
        for change in timers.iter().filter(|c| c.processing_time || c.at_ms.is_none() || !at_end) {
            let clock = if change.processing_time { Clock::Processing } else { Clock::Event };
            state.set_timer(&numbered, change.key, clock, change.name, change.at_ms);
        }
        self.keyed = Some(state);
        self.emit(&input, &numbered, emission, out).await
    }

    /// Files what a fresh instance answered otherwise to the call for these rows, or for timers, if it did.
    fn file(&mut self, batch: Option<&Batch>, numbered: &Numbered) {
        let Some(difference) = self.guest.difference() else { return };
        match batch {
            Some(batch) => self.operator.file(Some(difference), batch, &numbered.key_of),
            None => {
                let count = numbered.keys.hashes().len();
                let keys = read_keys((0..count).map(|key| numbered.keys.key(key)), &self.key_types);
                self.operator.file_keyed(Some(difference), &keys, &self.key);
            }
        }
    }

    async fn emit(
        &self,
        input: &Input<'_>,
        numbered: &Numbered,
        emission: Emission,
        out: &mut Outputs<'_>,
    ) -> Result<(), JobError> {
        let count = numbered.keys.hashes().len();
        if emission.rows == 0 && emission.rejected.is_empty() {
            return Ok(());
        }
        let keys = read_keys((0..count).map(|key| numbered.keys.key(key)), &self.key_types);
        match input {
            Input::Rows(batch) => self.operator.reject(batch, &emission.rejected).await?,
            // Each timer has a key of its own, of the same number.
            Input::Timers(_) => {
                self.operator.reject_groups(&keys, &self.key, count, &emission.rejected).await?;
            }
        }
        self.operator.counters().rows_out.add(emission.rows as u64);
        let origin = |row: usize| emission.origins.as_deref().map_or(row, |o| o[row] as usize);
        let key_of: Vec<u32> = (0..emission.rows).map(|row| numbered.key_of[origin(row)]).collect();
        let ids = self.ids(input, numbered, &emission);
        let inherited: Vec<&ArrayRef> = keys.iter().collect();
        for stretch in stretches(emission.rows, Some(&key_of), &inherited) {
            let (start, length) = (stretch.start, stretch.len());
            let of_rows = UInt32Array::from(key_of[stretch.clone()].to_vec());
            let column = |emitted: &Origin| match emitted {
                Origin::Returned(at) => emission.columns[*at].slice(start, length),
                Origin::Key(at) => take(&keys[*at], &of_rows),
                Origin::Input(_)
                | Origin::WindowStart
                | Origin::WindowEnd
                | Origin::WindowFiring
                | Origin::WindowTiming => {
                    unreachable!("a process operator's rows have its own fields and the key's")
                }
            };
            let columns = self.emits.iter().map(column).collect();
            let ids = ids.as_ref().map(|ids| ids.slice(start, length));
            let origins: Vec<u32> =
                stretch.map(|row| u32::try_from(origin(row)).expect("rows of a batch")).collect();
            out.send(&Batch { ids, ..self.batch(input, columns, &origins) }).await?;
        }
        Ok(())
    }

    /// The ids of rows that came of the input, if anybody asks for them.
    fn ids(&self, input: &Input<'_>, numbered: &Numbered, emission: &Emission) -> Option<Ids> {
        let origins = emission.origins.as_deref();
        match input {
            Input::Rows(batch) => self.operator.ids_of_rows(batch, origins, emission.rows),
            Input::Timers(firing) => {
                let timer =
                    |at: usize| (numbered.keys.key(at), firing.due.names.value(at), firing.due.at[at]);
                Some(self.operator.ids()?.of_timers(firing.clock, timer, origins, emission.rows))
            }
        }
    }

    /// Rows that came of these rows of the input.
    fn batch(&self, input: &Input<'_>, columns: Vec<ArrayRef>, origins: &[u32]) -> Batch {
        match input {
            Input::Rows(batch) => batch.with_rows_of(columns, self.output.clone(), origins),
            Input::Timers(firing) => {
                let watermark = self.keyed.as_ref().map_or(i64::MIN, KeyedState::watermark);
                let time = |&row: &u32| match firing.clock {
                    Clock::Event => firing.due.at[row as usize],
                    // The clock on the wall is no event time; what goes on is as old as what came last may be.
                    Clock::Processing => watermark.clamp(-EVENT_TIME_LIMIT_MS, EVENT_TIME_LIMIT_MS),
                };
                let has_times = self.has_times || firing.clock == Clock::Event;
                let times = has_times.then(|| origins.iter().map(time).collect::<Vec<i64>>().into());
                let columns = record_batch(self.output.clone(), columns, origins.len());
                Batch { columns, times, watermarks: None, positions: None, ids: None }
            }
        }
    }

    /// Begins a new epoch.
    pub(super) fn freeze(&mut self) -> OperatorPart {
        self.keyed().freeze();
        let watermark = self.keyed().watermark();
        let (operator, groups) = (self.operator.number(), self.place.groups.clone());
        OperatorPart { operator, groups, watermark, in_flight: None }
    }

    /// Writes out some of what was frozen; says whether that was the end of it.
    pub(super) fn write_slice(&mut self, rows_max: usize) -> Result<bool, JobError> {
        let Some(writes) = self.keyed().drain(rows_max) else { return Ok(true) };
        self.place.storage.write(writes)?;
        Ok(false)
    }

    /// Drops values that the storage has too, while more memory is used than the operator's share; says whether it is
    /// within its share then.
    pub(super) fn evict(&mut self) -> bool {
        let bytes_max = self.place.memory_bytes;
        while self.keyed().bytes() > bytes_max {
            if !self.keyed().evict(bytes_max / 4 * 3) {
                return false;
            }
        }
        true
    }

    /// Drops values into the storage; only while no checkpoint is open.
    pub(super) fn spill(&mut self) -> Result<(), JobError> {
        let bytes_max = self.place.memory_bytes / 4 * 3;
        while self.keyed().bytes() > bytes_max {
            let Some(writes) = self.keyed().spill(bytes_max) else { break };
            self.place.storage.write(writes)?;
        }
        Ok(())
    }

    fn advance_to(&mut self, watermark: i64) {
        let now_ms = self.clock.now_ms();
        self.keyed().advance(watermark, now_ms);
    }

    fn keyed(&mut self) -> &mut KeyedState {
        self.keyed.as_mut().expect("lent during calls only")
    }
}

/// What stands in the storage of these key groups, as of a watermark.
fn restored(
    layout: &Arc<Layout>,
    place: &Place,
    groups: Range<u32>,
    watermark: i64,
    clock: &ProcessingTime,
) -> Result<KeyedState, StorageError> {
    let mut keyed = KeyedState::restore(layout.clone(), place.addresses, groups, &*place.storage)?;
    keyed.advance(watermark, clock.now_ms());
    Ok(keyed)
}

/// What a call is about.
#[derive(Clone, Copy)]
enum Input<'a> {
    Rows(&'a Batch),
    Timers(&'a Firing),
}

/// What a guest can reach during a call: the collections of the call's keys.
struct Reach {
    state: KeyedState,
    numbered: Numbered,
    storage: Arc<dyn Storage>,
}

impl plugin::Collections for Reach {
    fn read(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
    ) -> Result<Vec<Option<Vec<u8>>>, String> {
        let wanted = keys.iter().enumerate().map(|(at, &key)| (collection, key, entries.value(at)));
        let wanted: Vec<(u8, u32, &[u8])> = wanted.collect();
        self.state.read_entries(&self.numbered, &wanted, &*self.storage).map_err(|e| e.to_string())
    }

    fn write(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(), String> {
        for (at, (&key, value)) in keys.iter().zip(values).enumerate() {
            self.state.write_entry(&self.numbered, collection, key, entries.value(at), value);
        }
        Ok(())
    }

    fn range(
        &mut self,
        collection: u8,
        key: u32,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, String> {
        let range = (first.unwrap_or_default(), end);
        let most = Limit { entries: limit, bytes: RANGE_BYTES_MAX };
        let found = self.state.range(&self.numbered, (collection, key), range, most, &*self.storage);
        let found = found.map_err(|e| e.to_string())?;
        if found.more && found.entries.len() < limit {
            return Err(format!(
                "{limit} entries have more than {RANGE_BYTES_MAX} bytes together; ask for fewer at once"
            ));
        }
        Ok(found.entries)
    }
}
