use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Count {
    count: i64,
}

#[derive(Default)]
struct Counts;

#[operator(extend)]
impl Window for Counts {
    type Input<'a> = ();
    type Output<'a> = Count;

    fn evaluate(&self, _: Bounds, rows: Vec<()>) -> Count {
        Count { count: rows.len() as i64 }
    }
}

fn main() {}
