//! What the pipeline file promises.

mod chaos;
mod page;
mod refusals;
mod streams;
mod whole;
