//! Sources: rows that are read by position, partition by partition.

mod files;
pub mod nexmark;
mod partition;
mod records;

pub use files::FilePosition;
pub(crate) use partition::partition_name;
pub use partition::{Partition, PartitionState, ReadError, ReadPosition, Rows};
pub use records::{LogPosition, POLL_INTERVAL};
