//! What a group of orders comes to. It has a mistake: see `turnover-fixed`.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Order<'a> {
    #[allow(dead_code, reason = "that is the mistake: it makes no difference between sales and refunds")]
    kind: &'a str,
    cents: i64,
}

/// What is remembered of a group.
#[derive(Record, Default)]
struct Sum {
    orders: i64,
    cents: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Turnover {
    orders: i64,
    cents: i64,
}

#[derive(Default)]
struct Totals;

#[operator]
impl Aggregate for Totals {
    type Input<'a> = Order<'a>;
    type Accumulator = Sum;
    type Output = Turnover;

    fn add(&self, sum: &mut Sum, order: Order<'_>) -> Result<(), Reject> {
        sum.cents = sum.cents.checked_add(order.cents).ok_or("the sum overflows")?;
        sum.orders += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Sum, right: Sum) {
        left.orders += right.orders;
        left.cents += right.cents;
    }

    fn finish(&self, Sum { orders, cents }: Sum) -> Turnover {
        Turnover { orders, cents }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refunds_are_added_which_they_should_not_be() {
        let mut sum = Sum::default();
        for (kind, cents) in [("sale", 500), ("refund", 200)] {
            Totals.add(&mut sum, Order { kind, cents }).unwrap();
        }
        assert_eq!(Totals.finish(sum), Turnover { orders: 2, cents: 700 });
    }
}
