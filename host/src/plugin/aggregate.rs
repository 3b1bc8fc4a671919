//! Running aggregates: rows cross with the accumulators of their groups, finished groups without.

use arrow_array::ArrayRef;
use tidemill_flow::schema::Schema;
use wasmtime::Store;

use super::bindings::aggregate::AggregateOperator;
use super::bindings::transform::tidemill::operator::types::{self, ColumnParam};
use super::columns::{Lent, take_over, write_u32s};
use super::failure::Failure;
use super::guest::{Guest, Limits};
use super::instance::{Emission, Rejection, begin_call, count, emitted, failure, refused, rejections, start};
use super::load::{Code, Plugin};
use super::verify::{self, Beside, Difference, Twin};

/// What an aggregate made of a batch, checked.
#[derive(Clone, Debug)]
pub struct Folded {
    /// The accumulators, a row for each group.
    pub accumulators: Vec<ArrayRef>,
    /// Input rows that the operator couldn't use; ascending, each once.
    pub rejected: Vec<Rejection>,
}

/// A running aggregate.
pub struct Aggregate {
    calls: Calls,
    beside: Beside,
}

/// The calls of one instance.
struct Calls {
    store: Store<Guest>,
    guest: AggregateOperator,
    returned: Schema,
    state: Schema,
}

impl Plugin {
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
        let about = self.description();
        let calls = Calls { store, guest, returned: about.output.returned(), state: about.state.clone() };
        Ok(Aggregate { calls, beside: Beside::default() })
    }
}

impl Twin {
    async fn aggregate(&self) -> Result<Calls, Failure> {
        Ok(self.plugin.aggregate(&self.operator, &self.settings, self.limits).await?.calls)
    }
}

impl Aggregate {
    /// With this twin each call is made again.
    pub fn compared(self, twin: Option<Twin>) -> Self {
        Self { beside: Beside::new(twin), ..self }
    }

    /// How a fresh instance answered the last call otherwise, if it did.
    pub fn difference(&mut self) -> Option<Difference> {
        self.beside.difference()
    }

    /// The accumulator of an empty group, as one row.
    ///
    /// # Errors
    /// When the guest fails.
    pub async fn initial(&mut self) -> Result<Vec<ArrayRef>, Failure> {
        let initial = self.calls.initial().await?;
        if let Some(twin) = self.beside.comparing() {
            let again = match twin.aggregate().await {
                Ok(mut fresh) => fresh.initial().await,
                Err(failure) => Err(failure),
            };
            let state = self.calls.state.fields();
            twin.heard("initial", again, |again| verify::accumulators(state, &initial, again));
        }
        Ok(initial)
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
        let folded = self.calls.accumulate(groups, accumulators, group_of, columns).await?;
        if let Some(twin) = self.beside.comparing() {
            let again = match twin.aggregate().await {
                Ok(mut fresh) => fresh.accumulate(groups, accumulators, group_of, columns).await,
                Err(failure) => Err(failure),
            };
            let state = self.calls.state.fields();
            twin.heard("accumulate", again, |again| verify::folded(state, &folded, again));
        }
        Ok(folded)
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
        let merged = self.calls.merge(groups, left, right).await?;
        if let Some(twin) = self.beside.comparing() {
            let again = match twin.aggregate().await {
                Ok(mut fresh) => fresh.merge(groups, left, right).await,
                Err(failure) => Err(failure),
            };
            let state = self.calls.state.fields();
            twin.heard("merge", again, |again| verify::accumulators(state, &merged, again));
        }
        Ok(merged)
    }

    /// The output rows of finished groups; origins and rejections name groups.
    ///
    /// # Errors
    /// When the guest fails.
    pub async fn finish(&mut self, groups: usize, accumulators: &[ArrayRef]) -> Result<Emission, Failure> {
        let emission = self.calls.finish(groups, accumulators).await?;
        if let Some(twin) = self.beside.comparing() {
            let again = match twin.aggregate().await {
                Ok(mut fresh) => fresh.finish(groups, accumulators).await,
                Err(failure) => Err(failure),
            };
            let returned = self.calls.returned.fields();
            twin.heard("finish", again, |again| {
                verify::emission(returned, "group", groups, "group", &emission, again)
            });
        }
        Ok(emission)
    }
}

impl Calls {
    async fn initial(&mut self) -> Result<Vec<ArrayRef>, Failure> {
        begin_call(&mut self.store);
        let answer = self.guest.tidemill_operator_aggregate().call_initial(&mut self.store).await;
        let columns = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        take_over(self.state.fields(), 1, columns)
    }

    async fn accumulate(
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

    async fn merge(
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

    async fn finish(&mut self, groups: usize, accumulators: &[ArrayRef]) -> Result<Emission, Failure> {
        let lent: Vec<Lent<'_>> = accumulators.iter().map(Lent::of).collect();
        let params: Vec<ColumnParam<'_>> = lent.iter().map(Lent::param).collect();
        begin_call(&mut self.store);
        let aggregate = self.guest.tidemill_operator_aggregate();
        let answer = aggregate.call_finish(&mut self.store, count(groups), &params).await;
        let emission = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        emitted(self.returned.fields(), groups, emission)
    }
}
