//! How long visits last on average: the first version, which adds up seconds.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Visit {
    seconds: f64,
}

/// What is remembered: in seconds.
#[derive(Record, Default)]
struct Spent {
    visits: i64,
    time: f64,
}

#[derive(Record, Debug, PartialEq)]
struct Mean {
    visits: i64,
    seconds: f64,
}

#[derive(Default)]
struct Visits;

#[operator]
impl Aggregate for Visits {
    type Input<'a> = Visit;
    type Accumulator = Spent;
    type Output = Mean;

    fn add(&self, spent: &mut Spent, visit: Visit) -> Result<(), Reject> {
        spent.visits += 1;
        spent.time += visit.seconds;
        Ok(())
    }

    fn merge(&self, left: &mut Spent, right: Spent) {
        left.visits += right.visits;
        left.time += right.time;
    }

    fn finish(&self, Spent { visits, time }: Spent) -> Mean {
        Mean { visits, seconds: time / visits as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visits_are_averaged() {
        let (mut left, mut right) = (Spent::default(), Spent::default());
        Visits.add(&mut left, Visit { seconds: 1.5 }).unwrap();
        Visits.add(&mut right, Visit { seconds: 0.5 }).unwrap();
        Visits.merge(&mut left, right);
        assert_eq!(Visits.finish(left), Mean { visits: 2, seconds: 1.0 });
    }
}
