//! Sources: rows that are read by position, partition by partition.

#[cfg(test)]
mod bounded_tests;
mod files;
mod messages;
pub mod nexmark;
mod partition;
mod records;
mod times;
mod told;

pub use files::FilePosition;
pub(crate) use partition::partition_name;
pub use partition::{Begin, Mark, Partition, PartitionState, ReadError, ReadPosition, Rows};
pub use records::{LogPosition, POLL_INTERVAL};
pub use told::{Feeds, Told};
