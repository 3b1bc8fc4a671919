//! Operators as loaded components: all of wasmtime stands in this room.
//!
//! [`Runtime`] holds the compiler and its cache. [`Plugin`] is a component that was checked, compiled and
//! asked to describe itself; [`Transform`], [`Aggregate`], [`Window`], [`Join`] and [`Process`] are running
//! instances of one. A plugin knows nothing of pipelines: columns go in, columns come out, and whatever a guest does
//! wrong comes back as a [`Failure`]. With a [`Twin`] beside it each of its calls is made twice, and what differs is a
//! [`Difference`].

mod aggregate;
#[allow(dead_code, unused_variables)]
mod bindings;
mod cache;
mod collections;
mod columns;
mod compile;
mod description;
mod engine;
mod failure;
mod guest;
mod instance;
mod join;
mod load;
mod migration;
mod process;
#[cfg(test)]
pub(crate) mod small;
mod verify;
mod window;

pub use aggregate::{Aggregate, Folded};
pub use collections::{Collections, Entry};
pub use compile::compile;
pub use description::{Collection, Description, Output, Sides, TIME_FIELD};
pub use engine::{INSTANCES_MAX, Runtime};
pub use failure::{Failure, LoadError};
pub use guest::Limits;
pub use instance::{Emission, Rejection, Transform};
pub use join::Join;
pub use load::{COMPONENT_BYTES_MAX, Plugin, World, digest};
pub use migration::Migration;
pub use process::{Keyed, Process, Processed, TimerChange, TimerChanges, due_columns};
pub use verify::{Difference, Findings, Twin};
pub use window::{Window, WindowRows};
