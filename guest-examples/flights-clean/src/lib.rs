//! Keeps the flights that left, with their delay in minutes; refuses the others and says why.

use tidemill_sdk::prelude::*;

/// No flight has been known to leave two days early or late: such a number is a typing mistake.
const DELAY_MINUTES_MAX: i64 = 48 * 60;

#[derive(Record)]
struct Flight<'a> {
    origin: &'a str,
    carrier: &'a str,
    dep_delay: Option<i64>,
}

/// Added to the flight: its other fields go on with it, among them origin and carrier.
#[derive(Record, Debug, PartialEq)]
struct Departure {
    delay_minutes: i64,
}

#[operator(extend)]
fn clean(flight: Flight<'_>) -> Result<Departure, Reject> {
    let delay_minutes = flight.dep_delay.ok_or("cancelled: no departure time")?;
    if delay_minutes.abs() > DELAY_MINUTES_MAX {
        let Flight { carrier, origin, .. } = flight;
        return Err(Reject::new(format!("impossible: {carrier} left {origin} {delay_minutes} minutes late")));
    }
    Ok(Departure { delay_minutes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(dep_delay: Option<i64>) -> Flight<'static> {
        Flight { origin: "EWR", carrier: "UA", dep_delay }
    }

    #[test]
    fn only_a_flight_that_left_has_a_delay() {
        assert_eq!(clean(flight(Some(-3))), Ok(Departure { delay_minutes: -3 }));
        assert_eq!(clean(flight(None)), Err("cancelled: no departure time".into()));
        assert_eq!(clean(flight(Some(3000))), Err("impossible: UA left EWR 3000 minutes late".into()));
    }
}
