//! How long visits last on average: the second version. A sum of floats depends on their order, so it adds up
//! milliseconds, which are whole; and it makes such of the seconds that the first version has kept.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Visit {
    seconds: f64,
}

/// What is remembered: in milliseconds.
#[derive(Record, Default, Debug, PartialEq)]
struct Spent {
    visits: i64,
    time: i64,
}

/// What the first version remembered: in seconds.
#[derive(Record)]
struct SpentSeconds {
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

#[operator(migrate(of_seconds))]
impl Aggregate for Visits {
    type Input<'a> = Visit;
    type Accumulator = Spent;
    type Output = Mean;

    fn add(&self, spent: &mut Spent, visit: Visit) -> Result<(), Reject> {
        let time = milliseconds(visit.seconds)?;
        spent.time = spent.time.checked_add(time).ok_or("the sum doesn't fit into 64 bits")?;
        spent.visits += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Spent, right: Spent) {
        left.visits += right.visits;
        left.time = left.time.saturating_add(right.time);
    }

    fn finish(&self, Spent { visits, time }: Spent) -> Mean {
        Mean { visits, seconds: time as f64 / 1000.0 / visits as f64 }
    }
}

fn of_seconds(SpentSeconds { visits, time }: SpentSeconds) -> Result<Spent, Reject> {
    Ok(Spent { visits, time: milliseconds(time)? })
}

fn milliseconds(seconds: f64) -> Result<i64, Reject> {
    let time = (seconds * 1000.0).round();
    // Up to there every whole number is a float.
    if time.abs() <= (1_i64 << 53) as f64 { Ok(time as i64) } else { Err("no number of milliseconds".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_milliseconds() {
        let migrated = of_seconds(SpentSeconds { visits: 3, time: 0.1 + 0.2 });
        assert_eq!(migrated, Ok(Spent { visits: 3, time: 300 }));
        assert!(of_seconds(SpentSeconds { visits: 1, time: f64::NAN }).is_err());
        let mut spent = Spent { visits: 1, time: 500 };
        Visits.add(&mut spent, Visit { seconds: 1.5 }).unwrap();
        assert_eq!(Visits.finish(spent), Mean { visits: 2, seconds: 1.0 });
    }
}
