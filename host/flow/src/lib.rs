//! The decisions of a Tidemill dataflow, apart from the world: what a key is and who owns it, how far
//! time has come, which windows a row belongs to and when they are finished.
//!
//! Nothing here does I/O, reads a clock, draws a random number or starts a thread. Time and rows come
//! in, decisions go out; whoever drives the decisions, the host or a test, supplies the rest.

pub mod accumulators;
pub mod aggregation;
pub mod batch;
pub mod checkpoint;
pub mod collections;
pub mod in_flight;
pub mod join;
pub mod key;
pub mod keyed;
pub mod migration;
pub mod probation;
pub mod row_id;
pub mod rows;
pub mod schema;
pub mod shard;
pub mod storage;
pub mod table;
pub mod timers;
pub mod ttl;
pub mod watermark;
pub mod window;
pub mod windowing;
