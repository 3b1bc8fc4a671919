//! A batch: rows of one edge, as Arrow columns, with what the engine knows of each row beside its fields.

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::ScalarBuffer;

use crate::row_id::Ids;

/// Event times further than this from 1970, in milliseconds either way (285,000 years), are refused at the
/// source: so no sum of a time and a window's length can overflow.
pub const EVENT_TIME_LIMIT_MS: i64 = 1 << 53;

/// Rows of a batch at most: beyond that a batch costs cache misses, and saves no calls worth it.
pub const BATCH_ROWS_MAX: usize = 4096;

/// Rows of one edge, in the order in which they arrived.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The fields.
    pub columns: RecordBatch,
    /// The event time of each row, in milliseconds since the Unix epoch; `None` on an edge without event time.
    pub times: Option<ScalarBuffer<i64>>,
    /// The watermark of the batch's channel just before each row. `None` says that no row is behind the
    /// watermark before it or right at it, which is the usual case. With it the decision that a row is late falls row by
    /// row, and doesn't depend on where one batch ended and the next began.
    pub watermarks: Option<ScalarBuffer<i64>>,
    /// Where each row came from, as packed [`Position`]s; `None` for rows that were made from several.
    pub positions: Option<ScalarBuffer<u64>>,
    /// The id of each row, by which a copy of it is known; `None` where nobody downstream asks for ids. See
    /// [`row_id`](crate::row_id).
    pub ids: Option<Ids>,
}

impl Batch {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.columns.num_rows()
    }

    /// The rows at these indices, in this order; an index may occur more than once.
    ///
    /// # Panics
    /// When an index is not a row of the batch.
    pub fn take(&self, indices: &[u32]) -> Batch {
        let which = UInt32Array::from(indices.to_vec());
        let columns = self.columns.columns().iter().map(|c| take(c, &which)).collect();
        self.with_rows_of(columns, self.columns.schema(), indices)
    }

    /// A batch of other columns, whose row i inherits time, watermark, position and id of row `origins[i]`. Who makes
    /// several rows of one gives them ids of their own.
    ///
    /// # Panics
    /// When an origin is not a row of the batch, or the columns don't fit the schema or the origins.
    pub fn with_rows_of(
        &self,
        columns: Vec<ArrayRef>,
        schema: arrow_schema::SchemaRef,
        origins: &[u32],
    ) -> Batch {
        Batch {
            columns: record_batch(schema, columns, origins.len()),
            times: self.times.as_ref().map(|v| gather(v, origins)),
            watermarks: self.watermarks.as_ref().map(|v| gather(v, origins)),
            positions: self.positions.as_ref().map(|v| gather(v, origins)),
            ids: self.ids.as_ref().map(|v| gather(v, origins)),
        }
    }

    /// A batch of other columns over the same rows.
    ///
    /// # Panics
    /// When the columns don't fit the schema or the number of rows.
    pub fn with_columns(&self, columns: Vec<ArrayRef>, schema: arrow_schema::SchemaRef) -> Batch {
        Batch {
            columns: record_batch(schema, columns, self.rows()),
            times: self.times.clone(),
            watermarks: self.watermarks.clone(),
            positions: self.positions.clone(),
            ids: self.ids.clone(),
        }
    }

    /// The batch on a channel among others that have come no further than `watermark`: what counts for its
    /// rows is the minimum.
    #[must_use]
    pub fn held_back_to(mut self, watermark: i64) -> Batch {
        self.watermarks =
            self.watermarks.map(|own| own.iter().map(|w| watermark.min(*w)).collect::<Vec<_>>().into());
        self
    }

    /// The columns at these indices, in this order, over the same rows.
    ///
    /// # Panics
    /// When there is no such column, or the schema isn't theirs.
    pub fn project(&self, columns: &[usize], schema: &arrow_schema::SchemaRef) -> Batch {
        let columns = columns.iter().map(|&c| self.columns.column(c).clone()).collect();
        self.with_columns(columns, schema.clone())
    }

    /// `length` rows from `offset` on, without a copy.
    ///
    /// # Panics
    /// When the batch has fewer rows.
    pub fn slice(&self, offset: usize, length: usize) -> Batch {
        Batch {
            columns: self.columns.slice(offset, length),
            times: self.times.as_ref().map(|v| v.slice(offset, length)),
            watermarks: self.watermarks.as_ref().map(|v| v.slice(offset, length)),
            positions: self.positions.as_ref().map(|v| v.slice(offset, length)),
            ids: self.ids.as_ref().map(|v| v.slice(offset, length)),
        }
    }
}

/// A record batch whose number of rows holds even when there is no column.
///
/// # Panics
/// When the columns don't fit the schema or the number of rows.
pub fn record_batch(schema: arrow_schema::SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .unwrap_or_else(|error| panic!("columns that don't fit their schema: {error}"))
}

/// The values of a column at these rows.
///
/// # Panics
/// When an index is not a row of the column.
pub fn take(column: &ArrayRef, rows: &UInt32Array) -> ArrayRef {
    arrow_select::take::take(column.as_ref(), rows, None)
        .unwrap_or_else(|error| panic!("cannot take {} rows of {}: {error}", rows.len(), column.len()))
}

fn gather<T: arrow_buffer::ArrowNativeType>(values: &ScalarBuffer<T>, rows: &[u32]) -> ScalarBuffer<T> {
    rows.iter().map(|&row| values[row as usize]).collect::<Vec<T>>().into()
}

/// Where a row stands in its source: which partition, and which record of it (a line of a file, a sequence
/// of a stream). Packed into 64 bits, 20 for the partition and 44 for the record, because every row carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The number of the partition among the pipeline's partitions.
    pub partition: u32,
    /// The record's number in its partition.
    pub record: u64,
}

impl Position {
    const RECORD_BITS: u32 = 44;
    /// The number of partitions that a pipeline's sources may have together.
    pub const PARTITIONS_MAX: u32 = 1 << (64 - Self::RECORD_BITS);

    /// The position as it stands in [`Batch::positions`]. Records past 2^44 wrap around.
    pub fn pack(self) -> u64 {
        debug_assert!(self.partition < Self::PARTITIONS_MAX, "partition {}", self.partition);
        (u64::from(self.partition) << Self::RECORD_BITS) | (self.record & ((1 << Self::RECORD_BITS) - 1))
    }

    /// The position that [`pack`](Self::pack) made this of.
    pub fn unpack(packed: u64) -> Self {
        Self {
            partition: u32::try_from(packed >> Self::RECORD_BITS).expect("20 bits fit"),
            record: packed & ((1 << Self::RECORD_BITS) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_packing() {
        for position in [
            Position { partition: 0, record: 0 },
            Position { partition: Position::PARTITIONS_MAX - 1, record: (1 << 44) - 1 },
            Position { partition: 3, record: 27_004 },
        ] {
            assert_eq!(Position::unpack(position.pack()), position);
        }
    }
}
