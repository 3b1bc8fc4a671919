//! Sources: rows that are read by position, partition by partition.

mod files;
pub mod nexmark;
mod partition;

pub(crate) use partition::partition_name;
pub use partition::{Partition, ReadError, Rows};
