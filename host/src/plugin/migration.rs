//! Running migrations: rows of an earlier version's state cross, and this version's come back.

use arrow_array::ArrayRef;
use tidemill_flow::schema::Schema;
use wasmtime::Store;

use super::bindings::migrating::{Migrating, MigratingPre};
use super::bindings::transform::tidemill::operator::types::{self, ColumnParam};
use super::columns::{Lent, take_over};
use super::description::{self, Description};
use super::failure::{Failure, LoadError};
use super::guest::{Guest, Limits};
use super::instance::{begin_call, count, refused, start};
use super::load::{Plugin, World};

/// States that an operator can take over: as many as rows of state have versions.
const EARLIER_MAX: usize = 256;

/// A running instance that makes an operator's state of that of earlier versions.
pub struct Migration {
    store: Store<Guest>,
    guest: Migrating,
    state: Schema,
}

impl Plugin {
    /// The states of earlier versions that it makes its own of; none for most operators.
    pub fn migrations(&self) -> &[Schema] {
        self.earlier()
    }

    /// Starts an instance for migrating the state of the operator of this id, with its settings.
    ///
    /// # Errors
    /// When the guest fails, or refuses the settings.
    ///
    /// # Panics
    /// When there is nothing that it migrates.
    pub async fn migration(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
    ) -> Result<Migration, Failure> {
        let pre = self.migrating.as_ref().unwrap_or_else(|| panic!("{operator} migrates nothing"));
        let (store, guest) = start!(self, pre, operator, settings, limits);
        Ok(Migration { store, guest, state: self.description().state.clone() })
    }
}

impl Migration {
    /// Makes rows of the operator's state of rows of the earlier one of number `which`, row for row.
    ///
    /// # Errors
    /// When the guest fails. The instance is then finished, except after [`Failure::Refused`].
    pub async fn migrate(
        &mut self,
        which: usize,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<ArrayRef>, Failure> {
        let lent: Vec<Lent<'_>> = columns.iter().map(Lent::of).collect();
        let params: Vec<ColumnParam<'_>> = lent.iter().map(Lent::param).collect();
        let batch = types::Batch { rows: count(rows), columns: &params };
        begin_call(&mut self.store);
        let operator = self.guest.tidemill_operator_migration();
        let answer = operator.call_migrate(&mut self.store, count(which), batch).await;
        let columns = answer.map_err(|e| super::instance::failure(&mut self.store, &e))?.map_err(refused)?;
        take_over(self.state.fields(), rows, columns)
    }
}

/// Asks a component which states of earlier versions it takes over.
pub(super) async fn earlier(
    pre: &MigratingPre<Guest>,
    store: &mut Store<Guest>,
) -> wasmtime::Result<Result<Vec<Schema>, LoadError>> {
    let guest = pre.instantiate_async(&mut *store).await?;
    let earlier = guest.tidemill_operator_migration().call_earlier(store).await?;
    Ok(earlier.into_iter().map(|fields| description::schema("a state that it migrates", fields)).collect())
}

/// Checks the states that an operator takes over against its description.
pub(super) fn check(world: World, about: &Description, earlier: &[Schema]) -> Result<(), LoadError> {
    if earlier.len() > EARLIER_MAX {
        let count = earlier.len();
        return Err(LoadError::new(format!(
            "it describes {count} states that it migrates; {EARLIER_MAX} are the most"
        )));
    }
    for (at, schema) in earlier.iter().enumerate() {
        if *schema == about.state {
            return Err(LoadError::new(format!(
                "it describes a migration from {schema}, which is the state that it has now; only another one can be \
                 migrated: leave it out"
            )));
        }
        if earlier[..at].contains(schema) {
            return Err(LoadError::new(format!("it describes two migrations from {schema}; leave one out")));
        }
        if world == World::Process
            && let Some(field) = schema.fields().iter().find(|f| !f.nullable)
        {
            return Err(LoadError::new(format!(
                "it describes the field `{}` of a state that it migrates as always there, but values of a process \
                 operator never are: describe it as nullable",
                field.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Output, Sides};
    use tidemill_flow::schema::{Field, FieldType};

    fn schema(name: &str, nullable: bool) -> Schema {
        let field_type = FieldType::Integer;
        Schema::new(vec![Field { name: name.to_owned(), field_type, nullable }]).unwrap()
    }

    #[test]
    fn only_other_states_are_migrated_and_each_once() {
        let about = |state| Description {
            name: "o".to_owned(),
            version: "1.0.0".to_owned(),
            inputs: Vec::new(),
            output: Output::Replaced(Schema::default()),
            state,
            collections: Vec::new(),
            absent: Sides::default(),
        };
        let refused = |world, state, earlier: &[Schema]| {
            check(world, &about(state), earlier).err().map(|e| e.to_string()).unwrap_or_default()
        };
        let (now, old) = (schema("now", false), schema("old", false));
        assert_eq!(refused(World::Aggregate, now.clone(), &[old.clone(), schema("older", false)]), "");
        assert!(
            refused(World::Aggregate, now.clone(), &[old.clone(), now.clone()])
                .contains("from {now: integer}, which is")
        );
        assert!(
            refused(World::Aggregate, now.clone(), &[old.clone(), old.clone()])
                .contains("two migrations from {old")
        );
        assert!(
            refused(World::Process, schema("now", true), std::slice::from_ref(&old)).contains("as nullable")
        );
        assert_eq!(refused(World::Process, schema("now", true), &[schema("old", true)]), "");
        let many: Vec<Schema> = (0..257).map(|n| schema(&n.to_string(), false)).collect();
        assert!(refused(World::Aggregate, now, &many).contains("257 states that it migrates; 256"));
    }
}
