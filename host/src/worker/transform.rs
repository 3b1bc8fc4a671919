//! A transform at its place in a task: one call for a batch, and the rows that come of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{Array, ArrayRef, TimestampMillisecondArray, UInt32Array};
use arrow_buffer::ScalarBuffer;
use arrow_schema::SchemaRef;
use tidemill_flow::batch::{Batch, Position, record_batch, take};
use tidemill_flow::row_id::{Ids, OperatorIds};
use tidemill_flow::schema::{Field, FieldType, Schema};

use super::JobError;
use super::stretches::stretches;
use super::task::Outputs;
use crate::pipeline::plan::{InputPlan, OperatorPlan, Origin, Read};
use crate::plugin::{self, Emission, Failure, Rejection};
use crate::sink::{DeadLetters, Place};
use crate::telemetry::{Counters, OperatorCounters};

/// What every operator in a task has, whatever its world.
pub(super) struct Operator {
    pub(super) id: String,
    pub(super) digest: String,
    input: Schema,
    reads: Vec<Read>,
    reject_nulls: Vec<(usize, String)>,
    number: usize,
    /// None: nobody asks for the ids of its rows.
    ids: Option<OperatorIds>,
    counters: Arc<Counters>,
    dead_letters: DeadLetters,
    partitions: Arc<[String]>,
}

impl Operator {
    /// The operator as it takes the rows of an input.
    pub(super) fn new(
        plan: &OperatorPlan,
        input: InputPlan,
        number: usize,
        ids: Option<OperatorIds>,
        counters: Arc<Counters>,
        dead_letters: DeadLetters,
        partitions: Arc<[String]>,
    ) -> Self {
        Self {
            id: plan.id.clone(),
            digest: plan.plugin.digest().to_owned(),
            reject_nulls: named(&input.reject_nulls, &input),
            input: input.schema,
            reads: input.reads,
            number,
            ids,
            counters,
            dead_letters,
            partitions,
        }
    }

    /// From now on it is another version of the operator, of which only its own affairs differ.
    pub(super) fn become_version(&mut self, plan: &OperatorPlan, input: &InputPlan) {
        self.digest = plan.plugin.digest().to_owned();
        self.reject_nulls = named(&input.reject_nulls, input);
        self.reads = input.reads.clone();
    }

    /// Waits for a call of the guest, and counts how long that takes.
    pub(super) async fn timed<T>(&self, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = call.await;
        self.counters().busy_ns.add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        answer
    }

    /// What makes the ids of the rows that come out, if anybody asks for them.
    pub(super) fn ids(&self) -> Option<OperatorIds> {
        self.ids
    }

    /// The ids of rows that came of a batch: each of the row that `origins` says; `None`: row i of row i.
    pub(super) fn ids_of_rows(&self, batch: &Batch, origins: Option<&[u32]>, rows: usize) -> Option<Ids> {
        let inputs =
            || batch.ids.as_deref().expect("the plan has rows carry ids to where ids are made of them");
        self.ids.map(|ids| ids.rows(inputs(), origins, rows))
    }

    /// Its number in the plan.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn counters(&self) -> &OperatorCounters {
        &self.counters.operators[self.number]
    }

    /// The columns that the guest is given.
    pub(super) fn columns(&self, batch: &Batch) -> Vec<ArrayRef> {
        self.columns_of(batch.columns.columns(), batch.times.as_ref())
    }

    /// The columns that the guest is given of rows with these columns and times.
    pub(super) fn columns_of(
        &self,
        columns: &[ArrayRef],
        times: Option<&ScalarBuffer<i64>>,
    ) -> Vec<ArrayRef> {
        let column = |read: &Read| match read {
            Read::Column(at) => columns[*at].clone(),
            Read::Time => {
                let times = times.cloned().expect("the plan gives time only where there is some");
                let times = TimestampMillisecondArray::new(times, None);
                Arc::new(times.with_data_type(FieldType::Timestamp.arrow())) as ArrayRef
            }
        };
        self.reads.iter().map(column).collect()
    }

    /// Rejects the rows that lack a value which the operator reads as always there.
    pub(super) async fn without_nulls(&self, batch: Batch) -> Result<Batch, JobError> {
        let lacking = |(at, name): &(usize, String)| {
            let nulls = batch.columns.column(*at).nulls().filter(|n| n.null_count() > 0)?;
            let rows = (0u32..).zip(nulls.iter()).filter(|(_, valid)| !valid).map(|(row, _)| row);
            let reason =
                format!("field `{name}` is missing or null, but the operator reads it as always there");
            Some((reason, rows.collect::<Vec<u32>>()))
        };
        let mut rejected: Vec<Rejection> = Vec::new();
        for (reason, rows) in self.reject_nulls.iter().filter_map(lacking) {
            rejected.extend(rows.into_iter().map(|row| Rejection { row, reason: reason.clone() }));
        }
        if rejected.is_empty() {
            return Ok(batch);
        }
        rejected.sort_by_key(|r| r.row);
        rejected.dedup_by_key(|r| r.row);
        self.reject(&batch, &rejected).await?;
        let is_good = |row: &u32| rejected.binary_search_by_key(row, |r| r.row).is_err();
        let good: Vec<u32> = (0u32..).take(batch.rows()).filter(is_good).collect();
        Ok(batch.take(&good))
    }

    /// Sends rejected rows to the dead letters.
    pub(super) async fn reject(&self, batch: &Batch, rejected: &[Rejection]) -> Result<(), JobError> {
        if rejected.is_empty() { Ok(()) } else { self.reject_rows(batch, rejected, &self.input).await }
    }

    /// The fields of these columns of the input.
    pub(super) fn fields(&self, columns: &[usize]) -> Vec<Field> {
        columns.iter().map(|&c| self.input.fields()[c].clone()).collect()
    }

    /// Sends rejected rows to the dead letters that have other fields than the input.
    pub(super) async fn reject_rows(
        &self,
        batch: &Batch,
        rejected: &[Rejection],
        schema: &Schema,
    ) -> Result<(), JobError> {
        if rejected.is_empty() {
            return Ok(());
        }
        self.counters().rejected.add(rejected.len() as u64);
        let rows: Vec<u32> = rejected.iter().map(|r| r.row).collect();
        let rows = batch.take(&rows);
        let by = Place::Operator { id: &self.id, digest: &self.digest };
        let reasons: Vec<&str> = rejected.iter().map(|r| r.reason.as_str()).collect();
        Ok(self.dead_letters.write_rows(by, &reasons, &rows, schema).await?)
    }

    /// Sends rejected groups to the dead letters: their keys, whose columns in the input are `columns`.
    pub(super) async fn reject_groups(
        &self,
        keys: &[ArrayRef],
        columns: &[usize],
        groups: usize,
        rejected: &[Rejection],
    ) -> Result<(), JobError> {
        if rejected.is_empty() {
            return Ok(());
        }
        let schema = Schema::new(self.fields(columns)).expect("a key's fields are distinct");
        let columns = record_batch(schema.arrow(), keys.to_vec(), groups);
        let batch = Batch { columns, times: None, watermarks: None, positions: None, ids: None };
        self.reject_rows(&batch, rejected, &schema).await
    }

    /// Where a row of a batch came from, if it came from one place.
    pub(super) fn position(&self, batch: &Batch, row: usize) -> Option<String> {
        let position = Position::unpack(*batch.positions.as_ref()?.get(row)?);
        Some(format!("{}:{}", self.partitions[position.partition as usize], position.record))
    }

    /// The error of a call for this batch.
    pub(super) fn failed(&self, failure: Failure, batch: Option<&Batch>) -> JobError {
        let at = batch.and_then(|batch| self.position(batch, 0));
        JobError::Operator { id: self.id.clone(), digest: self.digest.clone(), failure, at }
    }
}

/// Columns of an input with their names.
fn named(columns: &[usize], input: &InputPlan) -> Vec<(usize, String)> {
    columns.iter().map(|&c| (c, input.schema.fields()[c].name.clone())).collect()
}

/// A transform in a task.
pub(super) struct TransformNode {
    operator: Operator,
    guest: plugin::Transform,
    emits: Vec<Origin>,
    output: SchemaRef,
}

impl TransformNode {
    pub(super) fn new(operator: Operator, guest: plugin::Transform, plan: &OperatorPlan) -> Self {
        let emits = plan.emits.iter().map(|(_, origin)| *origin).collect();
        Self { operator, guest, emits, output: plan.output().arrow() }
    }

    pub(super) fn number(&self) -> usize {
        self.operator.number()
    }

    /// Goes on with a guest of another version.
    pub(super) fn exchange(&mut self, guest: plugin::Transform, plan: &OperatorPlan) {
        self.guest = guest;
        self.operator.become_version(plan, &plan.first_input());
        self.emits = plan.emits.iter().map(|(_, origin)| *origin).collect();
    }

    /// Hands a batch to the guest, and what it makes of it to whoever reads it.
    pub(super) async fn process(&mut self, batch: Batch, out: &mut Outputs<'_>) -> Result<(), JobError> {
        self.operator.counters().rows_in.add(batch.rows() as u64);
        let batch = self.operator.without_nulls(batch).await?;
        if batch.rows() == 0 {
            return Ok(());
        }
        let columns = self.operator.columns(&batch);
        let emission = self.operator.timed(self.guest.process(&columns, batch.rows())).await;
        let emission = emission.map_err(|f| self.operator.failed(f, Some(&batch)))?;
        self.operator.file(self.guest.difference(), &batch, &[]);
        self.operator.reject(&batch, &emission.rejected).await?;
        self.operator.counters().rows_out.add(emission.rows as u64);
        let inherited = self.emits.iter().filter_map(|origin| match origin {
            Origin::Input(at) => Some(batch.columns.column(*at)),
            _ => None,
        });
        let inherited: Vec<&ArrayRef> = inherited.collect();
        let ids = self.operator.ids_of_rows(&batch, emission.origins.as_deref(), emission.rows);
        for stretch in stretches(emission.rows, emission.origins.as_deref(), &inherited) {
            let ids = ids.as_ref().map(|ids| ids.slice(stretch.start, stretch.len()));
            out.send(&Batch { ids, ..self.emitted(&batch, &emission, stretch) }).await?;
        }
        Ok(())
    }

    fn emitted(&self, batch: &Batch, emission: &Emission, stretch: Range<usize>) -> Batch {
        let (start, length) = (stretch.start, stretch.len());
        let origins = emission.origins.as_deref().map(|o| &o[stretch]);
        let rows = origins.map(|o| UInt32Array::from(o.to_vec()));
        let column = |origin: &Origin| match (origin, &rows) {
            (Origin::Returned(at), _) => emission.columns[*at].slice(start, length),
            (Origin::Input(at), None) => batch.columns.column(*at).slice(start, length),
            (Origin::Input(at), Some(rows)) => take(batch.columns.column(*at), rows),
            (
                Origin::Key(_)
                | Origin::WindowStart
                | Origin::WindowEnd
                | Origin::WindowFiring
                | Origin::WindowTiming,
                _,
            ) => {
                unreachable!("a transform's rows have neither key nor window")
            }
        };
        let columns = self.emits.iter().map(column).collect();
        match origins {
            None => batch.slice(start, length).with_columns(columns, self.output.clone()),
            Some(origins) => batch.with_rows_of(columns, self.output.clone(), origins),
        }
    }
}
