//! Cuts what an operator returned into batches. An operator may return many rows for one, and each inherits that
//! row's fields: a few returned bytes could become gigabytes if they were all put together at once.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use tidemill_flow::batch::BATCH_ROWS_MAX;

/// The bytes of inherited values in a batch: below the 2 GiB that a column's offsets reach, and little beside the
/// memory of a machine, however many tasks there are. A row that has more by itself is a batch by itself.
const INHERITED_BYTES_MAX: usize = 32 << 20;

/// The stretches of output rows that become a batch each. Row i inherits the values of row `origins[i]` of the
/// inherited columns; `None`: of row i.
pub(super) fn stretches(rows: usize, origins: Option<&[u32]>, inherited: &[&ArrayRef]) -> Vec<Range<usize>> {
    // A row of the input at most once: no more comes out than went in.
    let multiplied = origins.filter(|o| !o.is_sorted_by(|one, next| one < next));
    let bytes_of =
        |row: usize| multiplied.map_or(0, |o| inherited.iter().map(|c| bytes(c, o[row] as usize)).sum());
    let (mut stretches, mut start, mut total) = (Vec::new(), 0, 0usize);
    for row in 0..rows {
        let more: usize = bytes_of(row);
        if row > start && (row - start == BATCH_ROWS_MAX || total.saturating_add(more) > INHERITED_BYTES_MAX)
        {
            stretches.push(start..row);
            (start, total) = (row, 0);
        }
        total = total.saturating_add(more);
    }
    if rows > start {
        stretches.push(start..rows);
    }
    stretches
}

fn bytes(column: &ArrayRef, row: usize) -> usize {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value_length(row).unsigned_abs() as usize,
        DataType::Binary => column.as_binary::<i32>().value_length(row).unsigned_abs() as usize,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::StringArray;
    use std::sync::Arc;

    #[test]
    fn rows_are_cut_by_number_and_by_what_they_inherit() {
        let long = "x".repeat(INHERITED_BYTES_MAX / 2);
        let text: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(), "y"]));
        let cut = |origins: &[u32]| -> Vec<usize> {
            stretches(origins.len(), Some(origins), &[&text]).into_iter().map(|s| s.len()).collect()
        };
        assert!(cut(&[]).is_empty());
        assert_eq!(cut(&[0, 1]), [2]);
        assert_eq!(cut(&[0, 0, 0, 1, 1]), [2, 3]);
        let many: Vec<u32> = vec![1; BATCH_ROWS_MAX + 1];
        assert_eq!(cut(&many), [BATCH_ROWS_MAX, 1]);
        assert_eq!(stretches(BATCH_ROWS_MAX + 1, None, &[]).len(), 2);
    }
}
