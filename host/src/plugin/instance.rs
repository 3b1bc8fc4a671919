//! Running instances, and the calls across the border: one call for a batch.

use arrow_array::ArrayRef;
use tidemill_flow::schema::{Field, Schema};
use wasmtime::Store;

use super::bindings::aggregate::AggregateOperator;
use super::bindings::transform::TransformOperator;
use super::bindings::transform::tidemill::operator::types::{self, ColumnParam};
use super::columns::{Lent, read_u32s, take_over, write_u32s};
use super::failure::Failure;
use super::guest::{Guest, Limits, readable};
use super::load::{Code, Plugin};

/// What an operator made of a batch, checked.
#[derive(Clone, Debug)]
pub struct Emission {
    /// For each output row the input row that it came from; `None`: row i came from row i.
    pub origins: Option<Vec<u32>>,
    /// The columns of the described output fields.
    pub columns: Vec<ArrayRef>,
    /// The number of output rows.
    pub rows: usize,
    /// Input rows that the operator couldn't use.
    pub rejected: Vec<Rejection>,
}

/// An input row that an operator couldn't use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The row of the input.
    pub row: u32,
    /// The operator's reason.
    pub reason: String,
}

/// What an aggregate made of a batch, checked.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The accumulators, a row for each group.
    pub accumulators: Vec<ArrayRef>,
    /// Input rows that the operator couldn't use; ascending, each once.
    pub rejected: Vec<Rejection>,
}

/// A running transform.
pub struct Transform {
    store: Store<Guest>,
    guest: TransformOperator,
    returned: Schema,
}

/// A running aggregate.
pub struct Aggregate {
    store: Store<Guest>,
    guest: AggregateOperator,
    returned: Schema,
    state: Schema,
}

/// Instantiates and opens a guest; the generated types of the worlds differ in their module only.
macro_rules! start {
    ($plugin:expr, $pre:expr, $operator:expr, $settings:expr, $limits:expr) => {{
        use super::instance::{begin_call, borrowed, failure, refused};
        let mut store = $plugin.runtime.store($operator, $limits);
        begin_call(&mut store);
        let guest = $pre.instantiate_async(&mut store).await;
        let guest = guest.map_err(|e| failure(&mut store, &e))?;
        let answer = guest.tidemill_operator_lifecycle().call_open(&mut store, &borrowed($settings)).await;
        answer.map_err(|e| failure(&mut store, &e))?.map_err(refused)?;
        (store, guest)
    }};
}
pub(super) use start;

impl Plugin {
    /// Starts an instance of a transform, for the operator of this id, with its settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    ///
    /// # Panics
    /// When the plugin's world is another.
    pub async fn transform(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
    ) -> Result<Transform, Failure> {
        let Code::Transform(pre) = &self.code else { panic!("{operator} is a {}", self.world().name()) };
        let (store, guest) = start!(self, pre, operator, settings, limits);
        Ok(Transform { store, guest, returned: self.description().output.returned() })
    }

    /// Starts an instance of an aggregate, for the operator of this id, with its settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    ///
    /// # Panics
    /// When the plugin's world is another.
    pub async fn aggregate(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
    ) -> Result<Aggregate, Failure> {
        let Code::Aggregate(pre) = &self.code else { panic!("{operator} is a {}", self.world().name()) };
        let (store, guest) = start!(self, pre, operator, settings, limits);
        let description = self.description();
        Ok(Aggregate {
            store,
            guest,
            returned: description.output.returned(),
            state: description.state.clone(),
        })
    }
}

impl Transform {
    /// Hands a batch across: the columns that the operator described, in its order.
    ///
    /// # Errors
    /// When the guest fails. The instance is then finished, except after [`Failure::Refused`].
    pub async fn process(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Emission, Failure> {
        let lent: Vec<Lent<'_>> = columns.iter().map(Lent::of).collect();
        let params: Vec<ColumnParam<'_>> = lent.iter().map(Lent::param).collect();
        let batch = types::Batch { rows: count(rows), columns: &params };
        begin_call(&mut self.store);
        let answer = self.guest.tidemill_operator_transform().call_process(&mut self.store, batch).await;
        let emission = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        emitted(self.returned.fields(), rows, emission)
    }
}

impl Aggregate {
    /// The accumulator of an empty group, as one row.
    ///
    /// # Errors
    /// When the guest fails.
    pub async fn initial(&mut self) -> Result<Vec<ArrayRef>, Failure> {
        begin_call(&mut self.store);
        let answer = self.guest.tidemill_operator_aggregate().call_initial(&mut self.store).await;
        let columns = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        take_over(self.state.fields(), 1, columns)
    }

    /// Folds rows into the accumulators of `groups` groups; `group_of` says which group a row belongs to.
    ///
    /// # Errors
    /// When the guest fails.
    pub async fn accumulate(
        &mut self,
        groups: usize,
        accumulators: &[ArrayRef],
        group_of: &[u32],
        columns: &[ArrayRef],
    ) -> Result<Folded, Failure> {
        let lent_state: Vec<Lent<'_>> = accumulators.iter().map(Lent::of).collect();
        let state: Vec<ColumnParam<'_>> = lent_state.iter().map(Lent::param).collect();
        let lent: Vec<Lent<'_>> = columns.iter().map(Lent::of).collect();
        let params: Vec<ColumnParam<'_>> = lent.iter().map(Lent::param).collect();
        let batch = types::Batch { rows: count(group_of.len()), columns: &params };
        begin_call(&mut self.store);
        let aggregate = self.guest.tidemill_operator_aggregate();
        let answer = aggregate
            .call_accumulate(&mut self.store, count(groups), &state, &write_u32s(group_of), batch)
            .await;
        let folded = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        let rejected = rejections(folded.rejected, group_of.len())?;
        Ok(Folded { accumulators: take_over(self.state.fields(), groups, folded.accumulators)?, rejected })
    }

    /// Merges accumulators row by row.
    ///
    /// # Errors
    /// When the guest fails.
    pub async fn merge(
        &mut self,
        groups: usize,
        left: &[ArrayRef],
        right: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, Failure> {
        let (left, right): (Vec<Lent<'_>>, Vec<Lent<'_>>) =
            (left.iter().map(Lent::of).collect(), right.iter().map(Lent::of).collect());
        let left: Vec<ColumnParam<'_>> = left.iter().map(Lent::param).collect();
        let right: Vec<ColumnParam<'_>> = right.iter().map(Lent::param).collect();
        begin_call(&mut self.store);
        let aggregate = self.guest.tidemill_operator_aggregate();
        let answer = aggregate.call_merge(&mut self.store, count(groups), &left, &right).await;
        let columns = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        take_over(self.state.fields(), groups, columns)
    }

    /// The output rows of finished groups; origins and rejections name groups.
    ///
    /// # Errors
    /// When the guest fails.
    pub async fn finish(&mut self, groups: usize, accumulators: &[ArrayRef]) -> Result<Emission, Failure> {
        let lent: Vec<Lent<'_>> = accumulators.iter().map(Lent::of).collect();
        let params: Vec<ColumnParam<'_>> = lent.iter().map(Lent::param).collect();
        begin_call(&mut self.store);
        let aggregate = self.guest.tidemill_operator_aggregate();
        let answer = aggregate.call_finish(&mut self.store, count(groups), &params).await;
        let emission = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        emitted(self.returned.fields(), groups, emission)
    }
}

pub(super) fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

pub(super) fn count(rows: usize) -> u32 {
    u32::try_from(rows).expect("a batch has fewer than 2^32 rows")
}

/// Before every entry: a guest without a deadline traps at once.
pub(super) fn begin_call(store: &mut Store<Guest>) {
    store.data_mut().begin_call();
    store.set_epoch_deadline(1);
}

pub(super) fn refused(reason: String) -> Failure {
    Failure::Refused(readable(&reason))
}

/// What a failed call means.
pub(super) fn failure(store: &mut Store<Guest>, error: &wasmtime::Error) -> Failure {
    let guest = store.data_mut();
    let trap = error.downcast_ref::<wasmtime::Trap>();
    if matches!(trap, Some(wasmtime::Trap::Interrupt)) && guest.timed_out() {
        return Failure::TimedOut { limit_ms: guest.limits().call_ms };
    }
    let cause = guest.last_error.take().unwrap_or_else(|| error.root_cause().to_string());
    if guest.memory_refused {
        return Failure::OutOfMemory { limit_bytes: guest.limits().memory_bytes, then: cause };
    }
    let calls = error.downcast_ref::<wasmtime::WasmBacktrace>().map(ToString::to_string).unwrap_or_default();
    Failure::Trapped(if calls.is_empty() { cause } else { format!("{cause}\n{}", calls.trim_end()) })
}

/// An emission whose origins and rejections both name rows of the input.
pub(super) fn emitted(
    fields: &[Field],
    input_rows: usize,
    emission: types::Emission,
) -> Result<Emission, Failure> {
    let emission = emitted_of(fields, input_rows, "row", input_rows, emission)?;
    let Emission { origins, rejected, .. } = &emission;
    if !rejected.is_empty() {
        let mut went_on = vec![origins.is_none(); input_rows];
        origins.iter().flatten().for_each(|&row| went_on[row as usize] = true);
        if let Some(both) = rejected.iter().find(|r| went_on[r.row as usize]) {
            return Err(Failure::Malformed(format!("row {} both emitted and rejected", both.row)));
        }
    }
    Ok(emission)
}

/// An emission whose origins name `things`, each a `thing`, and its rejections rows of the input.
pub(super) fn emitted_of(
    fields: &[Field],
    things: usize,
    thing: &str,
    input_rows: usize,
    emission: types::Emission,
) -> Result<Emission, Failure> {
    let rows = emission.rows as usize;
    let origins = emission.origins.map(|o| read_u32s(&o, count(things), "origins", thing)).transpose()?;
    let expected = origins.as_ref().map_or(things, Vec::len);
    if rows != expected {
        return Err(Failure::Malformed(match origins {
            Some(_) => format!("{rows} rows with {expected} origins"),
            None => format!("{rows} rows without origins for {things} {thing}s of input"),
        }));
    }
    let columns = take_over(fields, rows, emission.columns)?;
    Ok(Emission { origins, columns, rows, rejected: rejections(emission.rejected, input_rows)? })
}

/// Rejected rows, ascending, each once.
fn rejections(rejected: Vec<types::Rejection>, rows: usize) -> Result<Vec<Rejection>, Failure> {
    if let Some(bad) = rejected.iter().find(|r| r.row as usize >= rows) {
        return Err(Failure::Malformed(format!("row {} rejected, but there are {rows} rows", bad.row)));
    }
    let mut rejected: Vec<Rejection> =
        rejected.into_iter().map(|r| Rejection { row: r.row, reason: readable(&r.reason) }).collect();
    rejected.sort_by_key(|r| r.row);
    rejected.dedup_by_key(|r| r.row);
    Ok(rejected)
}
