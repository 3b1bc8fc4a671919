//! A version of `marks-one` that isn't fit to follow it: from the row on that its setting `after` says it does what its
//! setting `do` says. What the tests of probation run. Not an example to follow.

use std::cell::Cell;

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Row {
    number: i64,
}

#[derive(Record, Default)]
struct Marks {
    rows_one: i64,
    rows_two: i64,
    first_one: Option<i64>,
    last_one: Option<i64>,
    first_two: Option<i64>,
    last_two: Option<i64>,
    /// New in this version.
    rows_bad: Option<i64>,
}

#[derive(Record)]
struct Seen {
    rows_one: i64,
    rows_two: i64,
    first_one: Option<i64>,
    last_one: Option<i64>,
    first_two: Option<i64>,
    last_two: Option<i64>,
    finished_by: i64,
}

#[derive(Clone, Copy)]
enum Fault {
    Trap,
    Reject,
    Dawdle,
    Nothing,
}

/// Turns of a loop for a row: some hundred times what the row takes otherwise.
const DAWDLES: u32 = 20_000;

struct Bad {
    fault: Fault,
    after: u64,
    /// Rows that this instance has seen.
    seen: Cell<u64>,
}

#[operator]
impl Aggregate for Bad {
    type Input<'a> = Row;
    type Accumulator = Marks;
    type Output = Seen;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        let fault = match settings.required::<String>("do")?.as_str() {
            "trap" => Fault::Trap,
            "reject" => Fault::Reject,
            "dawdle" => Fault::Dawdle,
            "nothing" => Fault::Nothing,
            other => return Err(format!("`{other}` is nothing that it does")),
        };
        Ok(Self { fault, after: settings.required("after")?, seen: Cell::new(0) })
    }

    fn add(&self, marks: &mut Marks, _: Row) -> Result<(), Reject> {
        self.seen.set(self.seen.get() + 1);
        marks.rows_bad = Some(marks.rows_bad.unwrap_or(0) + 1);
        if self.seen.get() < self.after {
            return Ok(());
        }
        match self.fault {
            Fault::Trap => panic!("row {} of its life", self.seen.get()),
            Fault::Reject => return Err("it likes no row".into()),
            Fault::Dawdle => (0..DAWDLES).for_each(|turn| _ = std::hint::black_box(turn)),
            Fault::Nothing => {}
        }
        Ok(())
    }

    fn merge(&self, left: &mut Marks, right: Marks) {
        left.rows_one += right.rows_one;
        left.rows_two += right.rows_two;
        left.rows_bad = left.rows_bad.into_iter().chain(right.rows_bad).reduce(|a, b| a + b);
    }

    fn finish(&self, marks: Marks) -> Seen {
        let Marks { rows_one, rows_two, first_one, last_one, first_two, last_two, rows_bad } = marks;
        Seen {
            rows_one,
            rows_two,
            first_one,
            last_one,
            first_two,
            last_two,
            finished_by: rows_bad.unwrap_or(0),
        }
    }
}
