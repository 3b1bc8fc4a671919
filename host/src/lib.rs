//! Tidemill: a stream processing host whose operators are WebAssembly components.
//!
//! The way of a row through the house is the order of its rooms: [`log`] reads, [`formats`] decodes, [`worker`]
//! drives the decisions of `tidemill-flow`, [`plugin`] calls the operators, [`sink`] writes. [`pipeline`] is what
//! the user typed and what it means; [`telemetry`] counts. [`service`] is the running host, which many pipelines share:
//! [`api`] is its front door for those outside of the process, and [`replay`] runs stretches of a pipeline again.

pub mod api;
pub mod formats;
pub mod log;
pub mod nats;
pub mod pipeline;
pub mod plugin;
pub mod replay;
pub mod service;
pub mod sink;
pub mod telemetry;
pub mod toolchain;
pub mod worker;
