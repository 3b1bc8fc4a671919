use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Sum {
    sum: i64,
}

#[derive(Record, Default)]
struct Mean {
    count: i64,
    mean: f64,
}

#[derive(Default)]
struct Means;

#[operator(migrate(of_sums))]
impl Aggregate for Means {
    type Input<'a> = ();
    type Accumulator = Mean;
    type Output = Mean;

    fn add(&self, mean: &mut Mean, _: ()) -> Result<(), Reject> {
        mean.count += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Mean, right: Mean) {
        left.count += right.count;
    }

    fn finish(&self, mean: Mean) -> Mean {
        mean
    }
}

fn of_sums(sum: Sum) -> f64 {
    sum.sum as f64
}

fn main() {}
