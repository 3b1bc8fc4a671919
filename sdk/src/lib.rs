//! Write Tidemill operators in Rust: plain functions and structs, compiled to WebAssembly components.
//!
//! An operator is a function from a row to what becomes of it:
//!
//! ```
//! use tidemill_sdk::prelude::*;
//!
//! #[derive(Record)]
//! struct Flight<'a> {
//!     origin: &'a str,
//!     dep_delay: Option<i64>,
//! }
//!
//! #[derive(Record)]
//! struct Departure {
//!     delay_minutes: i64,
//! }
//!
//! #[operator(extend)]
//! fn clean(flight: Flight<'_>) -> Result<Departure, Reject> {
//!     let delay_minutes = flight.dep_delay.ok_or("cancelled: no departure time")?;
//!     Ok(Departure { delay_minutes })
//! }
//!
//! let cancelled = clean(Flight { origin: "EWR", dep_delay: None });
//! assert_eq!(cancelled.err(), Some("cancelled: no departure time".into()));
//! ```
//!
//! What a function may return is on [`Outcome`]; operators with settings are a [`Transform`]; those that fold
//! rows into results, an [`Aggregate`]; those that see all the rows of a window, a [`Window`]; those that make rows of
//! pairs, a [`Join`]; those that keep state and timers for each key, a [`Process`].
//! `#[operator]` adds two functions to the module: `describe()` and
//! `open(settings)`, which run whole batches natively, and, in a build for `wasm32-unknown-unknown`, the
//! exports of the component. With `#[operator(migrate(..))]` an aggregate or a process operator takes over the state of earlier
//! versions: see [`Migrated`]. A crate holds one operator, and is a `["cdylib", "rlib"]`.
//!
//! Not here: keys, clocks, and when a window is over or two rows meet. The host knows; an operator sees rows.

// The macros name this crate as their users do; so can its own records, tests and examples.
extern crate self as tidemill_sdk;

mod batch;
mod encoding;
mod entries;
mod join;
pub mod log;
mod migration;
mod operator;
mod outcome;
mod process;
mod record;
mod settings;
mod state;
pub mod testing;
mod timers;
mod value;
mod window;

pub use batch::{Batch, Column, ColumnBuffer, DataType, Emission, Field, Rejection};
pub use encoding::{Entry, EntryValue, OwnedEntry};
pub use entries::{Collections, Entries, FoundEntries};
pub use join::{Join, JoinOperator, Pairs, Side, Sides};
pub use migration::Migrated;
pub use operator::{Aggregate, AggregateOperator, Description, Folded, Output, Transform, TransformOperator};
pub use outcome::{Outcome, Reject, Rows, Sink};
pub use process::{Keyed, Process, ProcessOperator, Processed};
pub use record::{Checked, FromRow, Record};
pub use settings::{Setting, Settings};
pub use state::{Collection, State};
pub use tidemill_sdk_macros::{Record, State, operator};
pub use timers::{Clock, Timer, TimerChanges, Timers};
pub use value::{FieldType, FromColumn, Timestamp};
pub use window::{Bounds, Window, WindowOperator, WindowRows};

/// What an operator's file begins with: `use tidemill_sdk::prelude::*;`
pub mod prelude {
    pub use crate::{
        Aggregate, Bounds, Clock, Entries, Join, Process, Record, Reject, Rows, Settings, State, Timer,
        Timers, Timestamp, Transform, Window, log, operator,
    };
}

/// What the macros' code calls. Not for people: it may change with any version.
#[doc(hidden)]
pub mod __private {
    pub use crate::entries::{EntryChanges, Place};
    pub use crate::join::{describe_join, open_join};
    pub use crate::log::{Channel, connect};
    pub use crate::migration::{earlier, migrate_aggregate, migrate_process, no_migration};
    pub use crate::operator::{
        describe_aggregate, describe_function, describe_transform, open_aggregate, open_function,
        open_transform, process,
    };
    pub use crate::outcome::collect_dense;
    pub use crate::process::{describe_process, open_process};
    pub use crate::record::reader;
    pub use crate::window::{describe_window, open_window};
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen;
}
