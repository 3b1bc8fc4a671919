//! What an operator keeps for a key, as a struct: what `#[derive(State)]` writes.

use crate::batch::DataType;
use crate::entries::{EntryChanges, Place};
use crate::record::{FromRow, Record};

/// A collection that the host keeps for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its name.
    pub name: &'static str,
    /// What its entries are.
    pub entry: DataType,
    /// What stands at an entry.
    pub value: DataType,
}

/// What is kept of a key; written by `#[derive(State)]`.
///
/// A field is an `Option` of a type that a [`Record`] may have, a *value*: none until it is set. Or it is an
/// [`Entries`](crate::Entries), a *collection*. Values of all keys of a batch cross the border with the batch; the
/// entries of a collection stay with the host until they are asked for. `#[state(name = "..")]` on a field gives
/// its name in checkpoints, where it is found again by a later version of the operator.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(State, Default)]
/// struct Visits {
///     count: Option<i64>,
///     last: Option<Timestamp>,
///     pages: Entries<String, i64>,
/// }
/// assert_eq!(<Visits as State>::COLLECTIONS[0].name, "pages");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the state of a key",
    label = "not a state",
    note = "a state is a struct with `#[derive(State)]`, or `()` if nothing is kept"
)]
pub trait State: Sized {
    /// The collections, in the order of the struct.
    const COLLECTIONS: &'static [Collection];
    /// The values as one row.
    #[doc(hidden)]
    type Values: Record + for<'a> FromRow<'a>;
    #[doc(hidden)]
    fn load(values: Self::Values, place: &Place) -> Self;
    #[doc(hidden)]
    fn values(&self) -> Self::Values;
    /// Whether something was read or changed in a collection.
    #[doc(hidden)]
    fn has_entries(&self) -> bool;
    #[doc(hidden)]
    fn restore(&mut self, values: Self::Values);
    #[doc(hidden)]
    fn settle(&mut self, accepted: bool);
    #[doc(hidden)]
    fn unload(self, changes: &mut [EntryChanges]) -> Self::Values;
}

impl State for () {
    const COLLECTIONS: &'static [Collection] = &[];
    type Values = ();
    fn load(_values: (), _place: &Place) {}
    fn values(&self) {}
    fn has_entries(&self) -> bool {
        false
    }
    fn restore(&mut self, _values: ()) {}
    fn settle(&mut self, _accepted: bool) {}
    fn unload(self, _changes: &mut [EntryChanges]) {}
}
