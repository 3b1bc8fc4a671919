//! Nexmark query 4, second stage: the mean of the prices that auctions ended with, as a whole number.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Won {
    price: i64,
}

#[derive(Record, Default)]
struct Total {
    auctions: i64,
    prices: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Mean {
    auctions: i64,
    mean_price: i64,
}

#[derive(Default)]
struct MeanPrice;

#[operator]
impl Aggregate for MeanPrice {
    type Input<'a> = Won;
    type Accumulator = Total;
    type Output = Option<Mean>;

    fn add(&self, total: &mut Total, won: Won) -> Result<(), Reject> {
        total.prices = total.prices.checked_add(won.price).ok_or("the sum overflows")?;
        total.auctions += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Total, right: Total) {
        left.auctions += right.auctions;
        left.prices = left.prices.saturating_add(right.prices);
    }

    fn finish(&self, Total { auctions, prices }: Total) -> Option<Mean> {
        (auctions > 0).then(|| Mean { auctions, mean_price: prices / auctions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_cut_to_a_whole_number() {
        let mut total = Total::default();
        for price in [1, 2, 2] {
            MeanPrice.add(&mut total, Won { price }).unwrap();
        }
        assert_eq!(MeanPrice.finish(total), Some(Mean { auctions: 3, mean_price: 1 }));
        assert_eq!(MeanPrice.finish(Total::default()), None);
    }
}
