//! Pipelines: what the user typed ([`declaration`]), then what it means ([`plan::Plan`]). It is checked once
//! ([`check`]) and then trusted.

mod bounds;
pub mod check;
pub mod declaration;
mod fields;
mod ids;
pub mod numbered;
pub mod plan;
#[cfg(test)]
pub(crate) mod small;
pub mod stages;
