//! Nexmark query 7: the highest bid of a period.

use tidemill_sdk::prelude::*;

/// Events of other kinds lack these fields, and are refused: put `nexmark-bids` before this operator.
#[derive(Record)]
#[record(rename_all = "camelCase")]
struct Event {
    price: Option<i64>,
    auction: Option<i64>,
    bidder: Option<i64>,
    date_time: Option<Timestamp>,
}

/// In this order: of equal prices the larger auction wins, then the larger bidder, then the later bid.
#[derive(Record, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[record(rename_all = "camelCase")]
struct Bid {
    price: i64,
    auction: i64,
    bidder: i64,
    date_time: Timestamp,
}

#[derive(Default)]
struct HighestBid;

#[operator]
impl Aggregate for HighestBid {
    type Input<'a> = Event;
    /// Prices are positive: a bid of nothing is lower than any.
    type Accumulator = Bid;
    type Output = Option<Bid>;

    fn add(&self, highest: &mut Bid, event: Event) -> Result<(), Reject> {
        let Event {
            price: Some(price),
            auction: Some(auction),
            bidder: Some(bidder),
            date_time: Some(date_time),
        } = event
        else {
            return Err("not a bid: price, auction, bidder or dateTime is missing".into());
        };
        *highest = Bid { price, auction, bidder, date_time }.max(*highest);
        Ok(())
    }

    fn merge(&self, left: &mut Bid, right: Bid) {
        *left = right.max(*left);
    }

    fn finish(&self, highest: Bid) -> Option<Bid> {
        (highest != Bid::default()).then_some(highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(price: i64, auction: i64) -> Event {
        Event { price: Some(price), auction: Some(auction), bidder: Some(1), date_time: Some(Timestamp(2)) }
    }

    #[test]
    fn of_equal_prices_the_larger_auction_wins() {
        let mut highest = Bid::default();
        for event in [event(5, 9), event(7, 1), event(7, 3), event(7, 2)] {
            HighestBid.add(&mut highest, event).unwrap();
        }
        assert!(HighestBid.add(&mut highest, Event { price: None, ..event(9, 9) }).is_err());
        let expected = Bid { price: 7, auction: 3, bidder: 1, date_time: Timestamp(2) };
        assert_eq!(HighestBid.finish(highest), Some(expected));
    }
}
