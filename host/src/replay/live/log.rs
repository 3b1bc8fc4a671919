//! Output in an embedded log, as transactions. The epoch of one is the number behind the barrier that was the last before
//! its rows, so that those between two checkpoints are the epochs behind the first one's number up to the second's.

use std::ops::RangeInclusive;
use std::path::Path;

use tidemill_log::{Log, LogError};

use super::super::facts::Written;
use super::super::row::parse;
use super::super::{ReplayError, failed};
use super::Each;

/// Records that are read at once.
const RECORDS_MAX: usize = 4_096;
const BYTES_MAX: usize = 4 << 20;

/// Hands out the rows of a producer's transactions of these epochs.
pub(super) fn rows(
    folder: &Path,
    producer: &str,
    written: &Written,
    epochs: &RangeInclusive<u64>,
    each: Each<'_>,
) -> Result<(), ReplayError> {
    let log = match Log::open(folder) {
        // Nothing has been written yet.
        Err(LogError::NoLog { .. }) if !folder.exists() => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let commits = log.commits(producer).map_err(failed)?;
    let is_known_from = commits.epochs.values().any(|epoch| epoch < epochs.start());
    if commits.forgotten > 0 && !is_known_from {
        return Err(failed(format!(
            "the log {} has forgotten which of its first {} transactions belong to which checkpoint; replay a later stretch",
            folder.display(),
            commits.forgotten
        )));
    }
    for partition in 0..log.partitions() {
        let first = log.first_offset(partition).map_err(failed)?;
        let mut reader = log.reader(partition, first).map_err(failed)?;
        loop {
            let (transaction, batch) = reader.read_append(RECORDS_MAX, BYTES_MAX).map_err(failed)?;
            if batch.is_empty() {
                break;
            }
            let epoch = transaction.and_then(|number| commits.epochs.get(&number).copied());
            let Some(epoch) = epoch.filter(|epoch| epochs.contains(epoch)) else { continue };
            for (offset, record) in batch.records() {
                let row = parse(record.value, written).map_err(|why| {
                    failed(format!("{}, partition {partition}, offset {offset}: {why}", folder.display()))
                })?;
                each(epoch, &row)?;
            }
        }
    }
    Ok(())
}
