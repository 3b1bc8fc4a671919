//! The exact median of the readings of a window: of an even number of them, what lies halfway between the middle two.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Reading {
    value: f64,
}

#[derive(Record, Debug, PartialEq)]
struct Middle {
    readings: i64,
    median: f64,
}

#[derive(Default)]
struct Median;

#[operator]
impl Window for Median {
    type Input<'a> = Reading;
    type Output<'a> = Middle;

    fn accept(&self, reading: &Reading) -> Result<(), Reject> {
        if reading.value.is_nan() { Err("not a number has no place in an order".into()) } else { Ok(()) }
    }

    fn evaluate(&self, _window: Bounds, readings: Vec<Reading>) -> Middle {
        let mut values: Vec<f64> = readings.into_iter().map(|reading| reading.value).collect();
        let middle = values.len() / 2;
        let (lower, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
        let below = lower.iter().copied().max_by(f64::total_cmp);
        let median = match below.filter(|_| values.len().is_multiple_of(2)) {
            Some(below) => below.midpoint(upper),
            None => upper,
        };
        Middle { readings: values.len() as i64, median }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing;

    use super::*;

    const HOUR: Bounds = Bounds { start: Timestamp(0), end: Timestamp(3_600_000) };

    fn readings(values: &[f64]) -> Vec<Reading> {
        values.iter().map(|&value| Reading { value }).collect()
    }

    #[test]
    fn half_of_the_readings_are_below_the_median() {
        let median = |values: &[f64]| Median.evaluate(HOUR, readings(values)).median;
        assert_eq!(median(&[7.5]), 7.5);
        assert_eq!(median(&[9.0, -1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 100.0]), 3.5);
        assert_eq!(median(&[f64::MAX, f64::MAX]), f64::MAX);
    }

    #[test]
    fn what_is_no_number_is_refused_alone() {
        let windows = [(HOUR, readings(&[1.0, f64::NAN, 3.0])), (HOUR, readings(&[f64::NAN]))];
        let came = testing::evaluate(&*open(&[]).unwrap(), windows).unwrap();
        assert_eq!(came.rows, [(0, Middle { readings: 2, median: 2.0 })]);
        assert_eq!(came.rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
    }
}
