//! The sum of the amounts of a group.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Booking {
    amount: i64,
}

/// What is remembered, and what comes out.
#[derive(Record, Default)]
struct Total {
    sum: i64,
}

#[derive(Default)]
struct SumByKey;

#[operator]
impl Aggregate for SumByKey {
    type Input<'a> = Booking;
    type Accumulator = Total;
    type Output = Total;

    fn add(&self, total: &mut Total, booking: Booking) -> Result<(), Reject> {
        total.sum = total.sum.checked_add(booking.amount).ok_or("the sum doesn't fit into 64 bits")?;
        Ok(())
    }

    fn merge(&self, left: &mut Total, right: Total) {
        left.sum = left.sum.saturating_add(right.sum);
    }

    fn finish(&self, total: Total) -> Total {
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_added_and_one_that_is_too_much_is_rejected() {
        let mut total = Total::default();
        for amount in [1, -3, i64::MAX] {
            SumByKey.add(&mut total, Booking { amount }).unwrap();
        }
        SumByKey.merge(&mut total, Total { sum: 2 });
        assert!(SumByKey.add(&mut total, Booking { amount: 1 }).is_err());
        assert_eq!(SumByKey.finish(total).sum, i64::MAX);
    }
}
