//! Which version of this operator has seen which rows of a group: what the tests of swaps run.

use tidemill_sdk::prelude::*;

use super::VERSION;

/// A row with its number in its partition.
#[derive(Record)]
struct Row {
    number: i64,
}

/// What is remembered of a group, in the fields of either version.
#[derive(Record, Default)]
struct Marks {
    rows_one: i64,
    rows_two: i64,
    first_one: Option<i64>,
    last_one: Option<i64>,
    first_two: Option<i64>,
    last_two: Option<i64>,
}

#[derive(Record)]
struct Seen {
    rows_one: i64,
    rows_two: i64,
    first_one: Option<i64>,
    last_one: Option<i64>,
    first_two: Option<i64>,
    last_two: Option<i64>,
    /// The version that has finished the group.
    finished_by: i64,
}

#[derive(Default)]
struct Marking;

#[operator]
impl Aggregate for Marking {
    type Input<'a> = Row;
    type Accumulator = Marks;
    type Output = Seen;

    fn add(&self, marks: &mut Marks, row: Row) -> Result<(), Reject> {
        let (rows, first, last) = match VERSION {
            1 => (&mut marks.rows_one, &mut marks.first_one, &mut marks.last_one),
            _ => (&mut marks.rows_two, &mut marks.first_two, &mut marks.last_two),
        };
        *rows += 1;
        *first = Some(first.map_or(row.number, |first| first.min(row.number)));
        *last = Some(last.map_or(row.number, |last| last.max(row.number)));
        Ok(())
    }

    fn merge(&self, left: &mut Marks, right: Marks) {
        let min = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
        left.rows_one += right.rows_one;
        left.rows_two += right.rows_two;
        left.first_one = min(left.first_one, right.first_one);
        left.last_one = left.last_one.max(right.last_one);
        left.first_two = min(left.first_two, right.first_two);
        left.last_two = left.last_two.max(right.last_two);
    }

    fn finish(&self, marks: Marks) -> Seen {
        let Marks { rows_one, rows_two, first_one, last_one, first_two, last_two } = marks;
        Seen { rows_one, rows_two, first_one, last_one, first_two, last_two, finished_by: VERSION }
    }
}
