//! The mean departure delay of a group of flights.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Departure {
    delay_minutes: i64,
}

/// What is remembered of a group.
#[derive(Record, Default)]
struct Total {
    departures: i64,
    minutes: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Mean {
    departures: i64,
    mean_delay_minutes: f64,
}

#[derive(Default)]
struct MeanDelay;

#[operator]
impl Aggregate for MeanDelay {
    type Input<'a> = Departure;
    type Accumulator = Total;
    /// A group whose rows were all refused has no mean.
    type Output = Option<Mean>;

    fn add(&self, total: &mut Total, departure: Departure) -> Result<(), Reject> {
        total.minutes = total.minutes.checked_add(departure.delay_minutes).ok_or("the sum overflows")?;
        total.departures += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Total, right: Total) {
        left.departures += right.departures;
        left.minutes += right.minutes;
    }

    fn finish(&self, Total { departures, minutes }: Total) -> Option<Mean> {
        let mean_delay_minutes = minutes as f64 / departures as f64;
        (departures > 0).then_some(Mean { departures, mean_delay_minutes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_merged_groups_is_that_of_all_their_flights() {
        let (mut left, mut right) = (Total::default(), Total::default());
        for delay_minutes in [-5, 20] {
            MeanDelay.add(&mut left, Departure { delay_minutes }).unwrap();
        }
        MeanDelay.add(&mut right, Departure { delay_minutes: 0 }).unwrap();
        MeanDelay.merge(&mut left, right);
        assert_eq!(MeanDelay.finish(left), Some(Mean { departures: 3, mean_delay_minutes: 5.0 }));
        assert_eq!(MeanDelay.finish(Total::default()), None);
    }
}
