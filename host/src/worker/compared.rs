//! Of a run that is verified: what a fresh instance answered otherwise is filed with the place in the source, or the key,
//! that it is about. In other runs no guest has a twin, and nothing comes here.

use arrow_array::ArrayRef;
use tidemill_flow::batch::Batch;
use tidemill_flow::schema::{Field, Schema};

use super::transform::Operator;
use super::view::object;
use crate::pipeline::plan::{OperatorPlan, Plan};
use crate::plugin::{Difference, Twin};

/// What makes each call of an operator again, if the run is verified.
pub(super) fn twin(plan: &Plan, operator: &OperatorPlan) -> Option<Twin> {
    let OperatorPlan { id, settings, limits, plugin, .. } = operator;
    plan.verify.as_ref().map(|findings| plugin.twin(id, settings, *limits, findings))
}

impl Operator {
    /// Files a difference in a call about rows of a batch, or about groups or keys of them: `of` has for each row its
    /// group's or key's number.
    pub(super) fn file(&self, difference: Option<Difference>, batch: &Batch, of: &[u32]) {
        let Some(difference) = difference else { return };
        let place = match difference.about() {
            None => None,
            Some(("row", row)) => self.position(batch, row).map(|at| format!("at {at}")),
            Some((_, number)) => {
                let first = of.iter().position(|&of| of as usize == number);
                first.and_then(|row| self.position(batch, row)).map(|at| format!("of the row at {at}"))
            }
        };
        difference.file(place.as_deref());
    }

    /// Files a difference in a call about things that each have a key: `keys` are its columns, which in the input are
    /// `columns`.
    pub(super) fn file_keyed(&self, difference: Option<Difference>, keys: &[ArrayRef], columns: &[usize]) {
        let Some(difference) = difference else { return };
        // Rows of a window have a key too, but nobody knows here which.
        let number = difference.about().filter(|(thing, _)| *thing != "row").map(|(_, number)| number);
        let place = number.and_then(|number| {
            let nullable = |f: Field| Field { nullable: true, ..f };
            let schema = Schema::new(self.fields(columns).into_iter().map(nullable).collect()).ok()?;
            let key = keys.iter().map(|column| column.slice(number, 1)).collect();
            Some(format!("with the key {}", object(&schema, key).ok()?))
        });
        difference.file(place.as_deref());
    }
}

/// Files a difference in a call of which nothing is known.
pub(super) fn file(difference: Option<Difference>) {
    if let Some(difference) = difference {
        difference.file(None);
    }
}
