//! Running joins: pairs of rows cross in one call, a batch for each side.

use arrow_array::ArrayRef;
use arrow_buffer::BooleanBuffer;
use tidemill_flow::schema::{Field, Schema};
use wasmtime::Store;

use super::bindings::join::JoinOperator;
use super::bindings::transform::tidemill::operator::types::{self, ColumnParam};
use super::columns::{Lent, bits};
use super::description::Sides;
use super::failure::Failure;
use super::guest::{Guest, Limits};
use super::instance::{Emission, begin_call, count, emitted, failure, refused, start};
use super::load::{Code, Plugin};
use super::verify::{self, Beside, Difference, Twin};

/// A running join.
pub struct Join {
    store: Store<Guest>,
    guest: JoinOperator,
    inputs: [Schema; 2],
    absent: Sides,
    returned: Schema,
    beside: Beside,
}

impl Plugin {
    /// Starts an instance of a join, for the operator of this id, with its settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    ///
    /// # Panics
    /// When the plugin's world is another.
    pub async fn join(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
    ) -> Result<Join, Failure> {
        let Code::Join(pre) = &self.code else { panic!("{operator} is a {}", self.world().name()) };
        let (store, guest) = start!(self, pre, operator, settings, limits);
        let description = self.description();
        let [left, right] = description.inputs.as_slice() else { unreachable!("checked when it was loaded") };
        Ok(Join {
            store,
            guest,
            inputs: [left.clone(), right.clone()],
            absent: description.absent,
            returned: description.output.returned(),
            beside: Beside::default(),
        })
    }
}

impl Join {
    /// With this twin each call is made again.
    pub fn compared(self, twin: Option<Twin>) -> Self {
        Self { beside: Beside::new(twin), ..self }
    }

    /// How a fresh instance answered the last call otherwise, if it did.
    pub fn difference(&mut self) -> Option<Difference> {
        self.beside.difference()
    }

    /// Hands pairs across: row i of `left` with row i of `right`, the columns that the operator described, in its order.
    /// A bit of `left_absent` or `right_absent` says that a pair lacks that side's row; what stands in its columns there
    /// doesn't count, and may be null whatever the field. Origins and rejections of the answer name pairs.
    ///
    /// # Errors
    /// When the guest fails. The instance is then finished, except after [`Failure::Refused`].
    ///
    /// # Panics
    /// When a side is absent that the operator can't do without, or both are from the same pair.
    pub async fn process(
        &mut self,
        left: &[ArrayRef],
        right: &[ArrayRef],
        pairs: usize,
        left_absent: Option<&BooleanBuffer>,
        right_absent: Option<&BooleanBuffer>,
    ) -> Result<Emission, Failure> {
        self.check(pairs, left_absent, right_absent);
        let emission = self.call(left, right, pairs, left_absent, right_absent).await?;
        if let Some(twin) = self.beside.comparing() {
            let again = match twin.plugin.join(&twin.operator, &twin.settings, twin.limits).await {
                Ok(mut fresh) => fresh.call(left, right, pairs, left_absent, right_absent).await,
                Err(failure) => Err(failure),
            };
            let returned = self.returned.fields();
            twin.heard("process", again, |again| {
                verify::emission(returned, "pair", pairs, "pair", &emission, again)
            });
        }
        Ok(emission)
    }

    async fn call(
        &mut self,
        left: &[ArrayRef],
        right: &[ArrayRef],
        pairs: usize,
        left_absent: Option<&BooleanBuffer>,
        right_absent: Option<&BooleanBuffer>,
    ) -> Result<Emission, Failure> {
        let [left, right] = [
            lent(left, self.inputs[0].fields(), left_absent),
            lent(right, self.inputs[1].fields(), right_absent),
        ];
        let left: Vec<ColumnParam<'_>> = left.iter().map(Lent::param).collect();
        let right: Vec<ColumnParam<'_>> = right.iter().map(Lent::param).collect();
        let [left, right] =
            [left.as_slice(), right.as_slice()].map(|columns| types::Batch { rows: count(pairs), columns });
        let (left_absent, right_absent) = (left_absent.map(bits), right_absent.map(bits));
        begin_call(&mut self.store);
        let operator = self.guest.tidemill_operator_join();
        let (left_absent, right_absent) = (left_absent.as_deref(), right_absent.as_deref());
        let answer = operator.call_process(&mut self.store, left, right, left_absent, right_absent).await;
        let emission = answer.map_err(|e| failure(&mut self.store, &e))?.map_err(refused)?;
        emitted(self.returned.fields(), pairs, emission)
    }

    fn check(&self, pairs: usize, left: Option<&BooleanBuffer>, right: Option<&BooleanBuffer>) {
        assert!(left.is_none() || self.absent.left, "the operator can't do without the left side");
        assert!(right.is_none() || self.absent.right, "the operator can't do without the right side");
        for side in [left, right].into_iter().flatten() {
            assert_eq!(side.len(), pairs, "bits for {pairs} pairs");
        }
        if let (Some(left), Some(right)) = (left, right) {
            assert_eq!((left & right).count_set_bits(), 0, "pairs without either side");
        }
    }
}

/// Whoever takes rows by number puts a null where there is none. A guest sees nulls in nullable fields only.
fn lent<'a>(columns: &'a [ArrayRef], fields: &[Field], absent: Option<&BooleanBuffer>) -> Vec<Lent<'a>> {
    let lent = |(column, field): (&'a ArrayRef, &Field)| {
        let lent = Lent::of(column);
        if absent.is_some() && !field.nullable { lent.without_validity() } else { lent }
    };
    columns.iter().zip(fields).map(lent).collect()
}
