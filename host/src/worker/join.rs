//! A join at its place in a task: rows of both sides are kept, pairs are handed to the guest as they are found, and
//! rows that have met none when the time for it is over.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int64Array, StringArray, TimestampMillisecondArray, UInt32Array, new_null_array,
};
use arrow_schema::SchemaRef;
use tidemill_flow::aggregation::Rows;
use tidemill_flow::batch::{Batch, record_batch, take};
use tidemill_flow::join::{Due, Join, Late, Layout, Pairs, Side};
use tidemill_flow::key::{Keys, read_keys};
use tidemill_flow::schema::{Field, FieldType, Schema};
use tidemill_flow::window::Bounds;

use super::behind::Behind;
use super::restored::Versions;
use super::snapshot::OperatorPart;
use super::state::Place;
use super::stretches::stretches;
use super::task::Outputs;
use super::transform::Operator;
use super::{JobError, Signal};
use crate::pipeline::plan::{InputPlan, JoinPlan, OperatorPlan, Origin};
use crate::pipeline::stages::{LATE_BY_FIELD, LATE_SIDE_FIELD, either, late_fields};
use crate::plugin::{self, Emission};

/// A join in a task.
pub(super) struct JoinNode {
    /// The operator as it takes the rows of each side.
    sides: [Operator; 2],
    guest: plugin::Join,
    join: Join,
    place: Place,
    /// The key's columns on each side.
    keys: [Vec<usize>; 2],
    key_types: Vec<FieldType>,
    emits: Vec<Origin>,
    output: SchemaRef,
    /// The fields of pairs as the dead letters have them.
    pair: Schema,
    late: SchemaRef,
    /// For each column of late rows that of a side that it is.
    late_columns: [Vec<Option<usize>>; 2],
    /// How far those behind know that time has come.
    announced: Option<i64>,
    /// Whether they will be told more when what is due is done.
    holds: bool,
    behind: Behind,
}

/// How a join's rows are kept.
///
/// # Errors
/// When rows that are kept in older schemas can't be read under the present one.
pub(super) fn layout(
    plan: &OperatorPlan,
    join: &JoinPlan,
    version: u8,
    older: &[(u8, Schema)],
) -> Result<Layout, String> {
    let [left, right] = [&plan.first_input(), &join.right].map(kept);
    Layout::new(version, [&left, &right], older)
}

/// The fields of a side's rows as they are kept: those without which a row is rejected are there.
fn kept(input: &InputPlan) -> Schema {
    let field = |(at, field): (usize, &Field)| Field {
        nullable: field.nullable && !input.reject_nulls.contains(&at),
        ..field.clone()
    };
    Schema::new(input.schema.fields().iter().enumerate().map(field).collect()).expect("names are unique")
}

impl JoinNode {
    pub(super) fn new(
        sides: [Operator; 2],
        guest: plugin::Join,
        (plan, join): (&OperatorPlan, &JoinPlan),
        place: Place,
        versions: &Versions,
    ) -> Result<Self, JobError> {
        let layout = layout(plan, join, versions.current.0, &versions.older);
        let layout = layout.map_err(|e| JobError::Recovery(format!("the state of `{}`: {e}", plan.id)))?;
        let (layout, groups) = (Arc::new(layout), place.groups.clone());
        let late = late_fields(plan);
        let (_, right_names) = either(&plan.input, &join.right.schema);
        let column = |names: &[&str], field: &Field| names.iter().position(|name| *name == field.name);
        let left_names: Vec<&str> = plan.input.fields().iter().map(|f| f.name.as_str()).collect();
        let right_names: Vec<&str> = right_names.iter().map(String::as_str).collect();
        let late_columns =
            [left_names, right_names].map(|names| late.fields().iter().map(|f| column(&names, f)).collect());
        let of_pair = Side::BOTH.into_iter().flat_map(|side| {
            let fields = plan.input_schema(side as usize).fields().iter();
            fields.map(move |f| Field::nullable(format!("{side}.{}", f.name), f.field_type))
        });
        let state = match place.watermark {
            None => Join::new(join.spec, layout, place.addresses, groups),
            Some(watermark) => {
                Join::restore(join.spec, layout, place.addresses, groups, &*place.storage, watermark)?
            }
        };
        Ok(Self {
            sides,
            guest,
            join: state,
            place,
            key_types: join.left_key.iter().map(|&k| plan.input.fields()[k].field_type).collect(),
            keys: [join.left_key.clone(), join.right_key.clone()],
            emits: plan.emits.iter().map(|(_, origin)| *origin).collect(),
            output: plan.output().arrow(),
            pair: Schema::new(of_pair.collect()).expect("names of a side are unique"),
            late: late.arrow(),
            late_columns,
            announced: None,
            holds: false,
            behind: Behind::default(),
        })
    }

    /// Its place in its task, and where its state is kept.
    pub(super) fn into_parts(self) -> ([Operator; 2], Place) {
        (self.sides, self.place)
    }

    pub(super) fn number(&self) -> usize {
        self.sides[0].number()
    }

    /// Goes on with a guest of another version that keeps state in the same way.
    pub(super) fn exchange(&mut self, guest: plugin::Join, (plan, join): (&OperatorPlan, &JoinPlan)) {
        self.guest = guest;
        let [left, right] = &mut self.sides;
        left.become_version(plan, &plan.first_input());
        right.become_version(plan, &join.right);
        self.emits = plan.emits.iter().map(|(_, origin)| *origin).collect();
    }

    /// Takes in a batch of a side, and hands on the pairs that come of it.
    pub(super) async fn process(
        &mut self,
        side: Side,
        batch: Batch,
        out: &mut Outputs<'_>,
    ) -> Result<(), JobError> {
        let operator = &self.sides[side as usize];
        operator.counters().rows_in.add(batch.rows() as u64);
        let batch = operator.without_nulls(batch).await?;
        let key_columns: Vec<&ArrayRef> =
            self.keys[side as usize].iter().map(|&k| batch.columns.column(k)).collect();
        let keys = Keys::of(&key_columns, batch.rows());
        let rows =
            Rows { keys: &keys, times: batch.times.as_deref(), watermarks: batch.watermarks.as_deref() };
        let mut from = 0;
        while from < batch.rows() {
            let mut arrival = self.join.arrive(side, &rows, batch.columns.columns(), from);
            self.sides[0].counters().partly_late.add(arrival.partly_late);
            if !arrival.late.is_empty() {
                out.send_late(self.late(side, &batch, &arrival.late)).await?;
            }
            let storage = self.place.storage.clone();
            while let Some(pairs) = self.join.next_pairs(&mut arrival, &*storage)? {
                self.call(&pairs, out).await?;
            }
            from = arrival.until;
            if from < batch.rows() {
                self.join.advance(arrival.advance_to);
                while self.step(out).await? {}
            }
        }
        Ok(())
    }

    /// Event time has come to a watermark.
    pub(super) async fn advance(&mut self, watermark: i64, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.join.advance(watermark);
        self.holds = true;
        self.go_on(out).await
    }

    /// Does some of what is due; if that was all of it, those behind are told how far time has come.
    pub(super) async fn go_on(&mut self, out: &mut Outputs<'_>) -> Result<(), JobError> {
        if self.step(out).await? {
            return Ok(());
        }
        self.holds = false;
        let reached = self.join.reached();
        if self.announced.is_none_or(|announced| announced < reached) {
            self.announced = Some(reached);
            out.announce(&Signal::Watermark(reached)).await?;
        }
        if let Some(signal) = self.behind.follow() {
            out.announce(&signal).await?;
        }
        Ok(())
    }

    /// Both inputs have gone idle, or are active again. Says what goes on now.
    pub(super) fn behind_watermark(&mut self, signal: Signal) -> Option<Signal> {
        self.behind.come(signal, self.holds)
    }

    /// Whether something is due that isn't done.
    pub(super) fn has_due(&self) -> bool {
        self.holds || self.join.has_due()
    }

    /// Does some of what is due; says whether there may be more.
    async fn step(&mut self, out: &mut Outputs<'_>) -> Result<bool, JobError> {
        let storage = self.place.storage.clone();
        match self.join.next_due(&*storage)? {
            Due::Pairs(pairs) => self.call(&pairs, out).await?,
            Due::Worked => {}
            Due::Nothing => return Ok(false),
        }
        Ok(true)
    }

    /// Hands pairs to the guest, and what it makes of them to whoever reads it.
    async fn call(&mut self, pairs: &Pairs, out: &mut Outputs<'_>) -> Result<(), JobError> {
        let columns = |side: Side| {
            let at = side as usize;
            self.sides[at].columns_of(&pairs.sides[at], Some(&pairs.row_times[at]))
        };
        let (left, right) = (columns(Side::Left), columns(Side::Right));
        let [left_absent, right_absent] = pairs.absent.each_ref().map(Option::as_ref);
        let call = self.guest.process(&left, &right, pairs.rows(), left_absent, right_absent);
        let emission = self.sides[0].timed(call).await;
        let operator = &self.sides[0];
        let emission = emission.map_err(|f| operator.failed(f, None))?;
        if !emission.rejected.is_empty() {
            let columns = pairs.sides.iter().flatten().cloned().collect();
            let columns = record_batch(self.pair.arrow(), columns, pairs.rows());
            let batch = Batch {
                columns,
                times: Some(pairs.times.clone()),
                watermarks: None,
                positions: None,
                ids: None,
            };
            operator.reject_rows(&batch, &emission.rejected, &self.pair).await?;
        }
        operator.counters().rows_out.add(emission.rows as u64);
        let keys = read_keys((0..pairs.rows()).map(|pair| pairs.keys.key(pair)), &self.key_types);
        operator.file_keyed(self.guest.difference(), &keys, &self.keys[0]);
        let passing = self.emits.iter().filter_map(|origin| match origin {
            Origin::Input(at) => Some(&pairs.sides[0][*at]),
            _ => None,
        });
        let inherited: Vec<&ArrayRef> = keys.iter().chain(passing).collect();
        for stretch in stretches(emission.rows, emission.origins.as_deref(), &inherited) {
            out.send(&self.results(pairs, &keys, &emission, stretch)).await?;
        }
        Ok(())
    }

    fn results(&self, pairs: &Pairs, keys: &[ArrayRef], emission: &Emission, stretch: Range<usize>) -> Batch {
        let (start, length) = (stretch.start, stretch.len());
        let rows: UInt32Array = match emission.origins.as_deref() {
            Some(origins) => UInt32Array::from(origins[stretch].to_vec()),
            None => (0u32..).skip(start).take(length).collect(),
        };
        let pair_of = || rows.values().iter().map(|&pair| pair as usize);
        let bound = |of: fn(&Bounds) -> i64| -> ArrayRef {
            let values = pair_of().map(|pair| of(&pairs.windows[pair]));
            let values = TimestampMillisecondArray::from_iter_values(values);
            Arc::new(values.with_data_type(FieldType::Timestamp.arrow()))
        };
        let column = |origin: &Origin| match origin {
            Origin::Returned(at) => emission.columns[*at].slice(start, length),
            Origin::Input(at) => take(&pairs.sides[0][*at], &rows),
            Origin::Key(at) => take(&keys[*at], &rows),
            Origin::WindowStart => bound(|window| window.start),
            Origin::WindowEnd => bound(|window| window.end),
            Origin::WindowFiring | Origin::WindowTiming => unreachable!("a join's windows fire once"),
        };
        let columns = self.emits.iter().map(column).collect();
        let times = pair_of().map(|pair| pairs.times[pair]).collect::<Vec<i64>>();
        let columns = record_batch(self.output.clone(), columns, length);
        Batch { columns, times: Some(times.into()), watermarks: None, positions: None, ids: None }
    }

    /// Late rows of a side, in the schema of those of both.
    fn late(&self, side: Side, batch: &Batch, late: &[Late]) -> Batch {
        self.sides[0].counters().late.add(late.len() as u64);
        let rows: Vec<u32> = late.iter().map(|late| late.row).collect();
        let rows = batch.take(&rows);
        let columns = self.late.fields().iter().zip(&self.late_columns[side as usize]);
        let mut columns: Vec<ArrayRef> = columns
            .map(|(field, column)| match column {
                Some(at) => rows.columns.column(*at).clone(),
                None => new_null_array(field.data_type(), late.len()),
            })
            .collect();
        let by = late.iter().map(|late| late.by_ms);
        let side: ArrayRef = Arc::new(StringArray::from(vec![side.to_string(); late.len()]));
        let by: ArrayRef = Arc::new(Int64Array::from_iter_values(by));
        for (name, values) in [(LATE_SIDE_FIELD, side), (LATE_BY_FIELD, by)] {
            if let Ok(at) = self.late.index_of(name) {
                columns[at] = values;
            }
        }
        rows.with_columns(columns, self.late.clone())
    }

    /// Begins a new epoch.
    pub(super) fn freeze(&mut self) -> OperatorPart {
        self.join.freeze();
        let watermark = self.join.watermark();
        OperatorPart {
            operator: self.sides[0].number(),
            groups: self.place.groups.clone(),
            watermark,
            in_flight: None,
        }
    }

    /// Writes out some of what was frozen; says whether that was the end of it.
    pub(super) fn write_slice(&mut self, rows_max: usize) -> Result<bool, JobError> {
        let Some(writes) = self.join.drain(rows_max) else { return Ok(true) };
        self.place.storage.write(writes)?;
        Ok(false)
    }

    /// Whether more memory is used than the operator's share. Whatever the storage has too isn't in memory.
    pub(super) fn is_crowded(&self) -> bool {
        self.join.bytes() > self.place.memory_bytes
    }

    /// Drops rows into the storage; only while no checkpoint is open.
    pub(super) fn spill(&mut self) -> Result<(), JobError> {
        let bytes_max = self.place.memory_bytes / 4 * 3;
        while self.join.bytes() > bytes_max {
            let Some(writes) = self.join.spill(bytes_max) else { break };
            self.place.storage.write(writes)?;
        }
        Ok(())
    }
}
