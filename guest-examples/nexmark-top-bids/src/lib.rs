//! Nexmark query 19: the ten highest of a group of bids, each with its rank.

use tidemill_sdk::prelude::*;

#[derive(Record)]
#[record(rename_all = "camelCase")]
struct Event {
    price: Option<i64>,
    bidder: Option<i64>,
    date_time: Timestamp,
}

/// Prices, bidders and times of the highest bids, highest first.
#[derive(Record, Default)]
struct Highest {
    prices: Vec<i64>,
    bidders: Vec<i64>,
    times: Vec<i64>,
}

#[derive(Record, Debug, PartialEq)]
#[record(rename_all = "camelCase")]
struct Ranked {
    rank: i64,
    price: i64,
    bidder: i64,
    date_time: Timestamp,
}

const RANKS: usize = 10;

#[derive(Default)]
struct TopBids;

#[operator]
impl Aggregate for TopBids {
    type Input<'a> = Event;
    type Accumulator = Highest;
    type Output = Vec<Ranked>;

    fn add(&self, highest: &mut Highest, bid: Event) -> Result<(), Reject> {
        let (price, bidder) = bid.price.zip(bid.bidder).ok_or("a bid without price or bidder")?;
        highest.insert(price, bidder, bid.date_time.0);
        Ok(())
    }

    fn merge(&self, left: &mut Highest, right: Highest) {
        for ((price, bidder), time) in right.prices.into_iter().zip(right.bidders).zip(right.times) {
            left.insert(price, bidder, time);
        }
    }

    fn finish(&self, highest: Highest) -> Vec<Ranked> {
        let bids = highest.prices.into_iter().zip(highest.bidders).zip(highest.times);
        let ranked =
            |(rank, ((price, bidder), time))| Ranked { rank, price, bidder, date_time: Timestamp(time) };
        (1..).zip(bids).map(ranked).collect()
    }
}

impl Highest {
    /// Of equal prices the earlier bid is higher, then that of the smaller bidder.
    fn insert(&mut self, price: i64, bidder: i64, time: i64) {
        let at = (0..self.prices.len())
            .find(|&i| (price, -time, -bidder) > (self.prices[i], -self.times[i], -self.bidders[i]))
            .unwrap_or(self.prices.len());
        if at < RANKS {
            self.prices.insert(at, price);
            self.bidders.insert(at, bidder);
            self.times.insert(at, time);
            for list in [&mut self.prices, &mut self.bidders, &mut self.times] {
                list.truncate(RANKS);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_highest_are_ranked() {
        let (mut left, mut right) = (Highest::default(), Highest::default());
        for price in 1..=12 {
            let half = if price % 2 == 0 { &mut left } else { &mut right };
            let bid = Event { price: Some(price), bidder: Some(-price), date_time: Timestamp(0) };
            TopBids.add(half, bid).unwrap();
        }
        TopBids.merge(&mut left, right);
        let ranked = TopBids.finish(left);
        assert_eq!(ranked.iter().map(|r| r.price).collect::<Vec<_>>(), (3..=12).rev().collect::<Vec<_>>());
        assert_eq!(ranked[9], Ranked { rank: 10, price: 3, bidder: -3, date_time: Timestamp(0) });
    }
}
