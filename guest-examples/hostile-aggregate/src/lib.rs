//! Takes over the state of `visits-v1`, but not all of it; and if its setting `do` says so, answers depend on what it was
//! asked before. What tests run. Not an example to follow.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Visit {
    seconds: f64,
}

/// In a type that nothing else can be read as.
#[derive(Record, Default)]
struct Spent {
    visits: i64,
    time: String,
}

#[derive(Record)]
struct SpentSeconds {
    visits: i64,
    time: f64,
}

#[derive(Record)]
struct Mean {
    visits: i64,
    seconds: f64,
}

#[derive(Clone, Copy)]
enum Hostile {
    Nothing,
    /// A result has the number of results so far.
    Remember,
    /// A result has a not-a-number whose bits tell the number of results so far.
    NotANumber,
}

/// Results so far.
static RESULTS: AtomicI64 = AtomicI64::new(0);

#[operator(migrate(of_seconds))]
impl Aggregate for Hostile {
    type Input<'a> = Visit;
    type Accumulator = Spent;
    type Output = Mean;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        Ok(match settings.optional::<String>("do")?.as_deref() {
            None => Self::Nothing,
            Some("remember") => Self::Remember,
            Some("not-a-number") => Self::NotANumber,
            Some(other) => return Err(format!("`{other}` is nothing that it does")),
        })
    }

    fn add(&self, spent: &mut Spent, visit: Visit) -> Result<(), Reject> {
        spent.visits += 1;
        spent.time = format!("{}", seconds(&spent.time) + visit.seconds);
        Ok(())
    }

    fn merge(&self, left: &mut Spent, right: Spent) {
        left.visits += right.visits;
        left.time = format!("{}", seconds(&left.time) + seconds(&right.time));
    }

    fn finish(&self, Spent { visits, time }: Spent) -> Mean {
        let seconds = seconds(&time);
        match self {
            Self::Nothing => Mean { visits, seconds },
            Self::Remember => Mean { visits: visits + RESULTS.fetch_add(1, Relaxed), seconds },
            Self::NotANumber => {
                let bits = f64::NAN.to_bits() | RESULTS.fetch_add(1, Relaxed).cast_unsigned();
                Mean { visits, seconds: f64::from_bits(bits) }
            }
        }
    }
}

fn seconds(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

fn of_seconds(SpentSeconds { visits, time }: SpentSeconds) -> Result<Spent, Reject> {
    match visits {
        13 => panic!("thirteen visits"),
        17 => Err("seventeen visits are too many".into()),
        _ => Ok(Spent { visits, time: format!("{time}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_over_what_it_likes() {
        assert_eq!(
            of_seconds(SpentSeconds { visits: 2, time: 0.5 }).map(|spent| spent.time),
            Ok("0.5".into())
        );
        assert!(of_seconds(SpentSeconds { visits: 17, time: 0.5 }).is_err());
    }
}
