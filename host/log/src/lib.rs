//! The embedded log: durable, partitioned, replayable.
//!
//! A [`Writer`] appends records to the partitions of a log; a [`Log`] is read by [`Reader`]s, each from an
//! offset on, at the same time and in any process. There is no server: a log is a folder.
//!
//! # What holds
//!
//! * **An append is whole or isn't there.** Its records are one frame behind one checksum, synced before the
//!   append returns (see [`Durability`]). A torn end, which a crash leaves, is cut off by the next writer.
//! * **A transaction is seen whole or not at all**, in all its partitions, and once for each producer and
//!   epoch, however often it is tried. A run that was [fenced off](Writer::fence) commits nothing.
//! * **Damage is told, never skipped**: with the file, the byte and what can be done. One thing can't be told
//!   apart: after a crash, the last append of a partition (or the last transaction) cut short, and the same
//!   damaged later. What was cut is listed by [`Writer::cuts`]; after a writer ended in order, nothing ever
//!   is.
//! * **Offsets are for ever**: consecutive in each partition, never given twice for committed records. A log
//!   that was trimmed, recreated, or brought back to an older state is noticed by who goes on at a
//!   [`Position`].
//! * **Ids drop copies** among the last so many records of a partition ([`Options::ids_records`]), not
//!   longer. Who needs more uses transactions.
//!
//! # What it isn't for
//!
//! Many machines, many writers, millions of partitions, or single records at high rates with a sync each:
//! give [`Writer::append`] thousands at a time.
//!
//! # A pipeline's source
//!
//! Opens a [`Log`], checks [`Log::expect_identity`], opens each partition at an offset ([`Log::reader`]) or
//! where it was ([`Log::resume`]), and [reads](Reader::read) batches; [`Log::next_offset`] is where a bounded
//! one stops. Before its [`Reader::position`] is kept in a checkpoint, [`Reader::sync`].
//!
//! # A pipeline's sink, exactly once
//!
//! Each task [`stage`]s records of an epoch in a file and finishes it at the barrier. When the checkpoint is
//! complete, the files of all tasks are [published](Writer::publish) as one transaction and removed. When a
//! run begins, it [fences](Writer::fence) older ones off, publishes what [`staged`] finds of checkpoints up
//! to the restored one (again, perhaps), and removes the rest.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let (log, staging) = (folder.path().join("log"), folder.path().join("staging"));
//! use tidemill_log::{Options, Outcome, Record, Stage, Writer, stage};
//!
//! let writer = Writer::create(&log, &Options { partitions: 2, ..Options::default() })?;
//! writer.fence("orders/totals", 1)?;
//! let of = Stage { producer: "orders/totals".into(), run: 1, epoch: 7, part: 0 };
//! let mut staging = stage(&staging, of)?;
//! staging.append(1, &[Record { value: b"a total", ..Record::default() }])?;
//! let staged = [staging.finish()?];
//!
//! assert_eq!(writer.publish(1, &staged)?, Outcome::Committed);
//! assert_eq!(writer.publish(1, &staged)?, Outcome::AlreadyCommitted { last_epoch: 7 });
//! assert_eq!(writer.log().next_offset(1)?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The folder
//!
//! | file | |
//! |---|---|
//! | `log` | identity and options, as text; written last, so that with it the folder is a log |
//! | `partition-N/OFFSET.segment` | frames (`frame.rs`), named by the first offset |
//! | `transactions` | the journal of commits and fences (`journal.rs`) |
//! | `closed` | how far each file goes, while no writer is at it |
//! | `lock` | locked by the writer, and its process |

mod batch;
mod error;
mod files;
mod frame;
mod header;
mod ids;
mod index;
mod journal;
mod log;
mod partition;
mod reader;
mod record;
mod recovery;
mod scan;
mod segments;
mod staged_reader;
mod staging;
mod transaction;
mod writer;

pub use batch::Batch;
pub use error::{LogError, Result};
pub use frame::BATCH_BYTES_MAX;
pub use header::{Options, PARTITIONS_MAX, Retention};
pub use journal::{Commits, PRODUCER_BYTES_MAX, Producer};
pub use log::{Info, Log, PartitionInfo, partition_of};
pub use reader::{Position, Reader};
pub use record::{OwnedRecord, RECORD_BYTES_MAX, Record};
pub use recovery::Cut;
pub use staged_reader::StagedReader;
pub use staging::{Stage, Staged, Staging, stage, staged};
pub use transaction::{Outcome, Transaction};
pub use writer::{Appended, Begun, Durability, Writer};
