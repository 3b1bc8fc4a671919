//! Nexmark query 18: the latest of a group of bids. Keyed by auction and bidder it keeps one bid of each.

use tidemill_sdk::prelude::*;

#[derive(Record)]
#[record(rename_all = "camelCase")]
struct Bid<'a> {
    date_time: Timestamp,
    price: Option<i64>,
    channel: Option<&'a str>,
    extra: &'a str,
}

/// In this order: of equal times the higher price counts as later.
#[derive(Record, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[record(rename_all = "camelCase")]
struct Latest {
    date_time: Timestamp,
    price: i64,
    channel: String,
    extra: String,
}

#[derive(Default)]
struct LatestBid;

#[operator]
impl Aggregate for LatestBid {
    type Input<'a> = Bid<'a>;
    /// Prices are positive: a bid of nothing is none.
    type Accumulator = Latest;
    type Output = Option<Latest>;

    fn add(&self, latest: &mut Latest, bid: Bid<'_>) -> Result<(), Reject> {
        let price = bid.price.ok_or("a bid without a price")?;
        let channel = bid.channel.unwrap_or_default();
        let (known, new) = ((latest.date_time, latest.price), (bid.date_time, price));
        let known_rest = (latest.channel.as_str(), latest.extra.as_str());
        if latest.price == 0 || (new, (channel, bid.extra)) > (known, known_rest) {
            *latest =
                Latest { date_time: bid.date_time, price, channel: channel.into(), extra: bid.extra.into() };
        }
        Ok(())
    }

    fn merge(&self, left: &mut Latest, right: Latest) {
        if left.price == 0 || (right.price != 0 && right > *left) {
            *left = right;
        }
    }

    fn finish(&self, latest: Latest) -> Option<Latest> {
        (latest.price != 0).then_some(latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_bid_is_kept() {
        let mut latest = Latest::default();
        for (at, price) in [(5, 9), (7, 1), (7, 3), (6, 8)] {
            let bid = Bid { date_time: Timestamp(at), price: Some(price), channel: None, extra: "x" };
            LatestBid.add(&mut latest, bid).unwrap();
        }
        let found = LatestBid.finish(latest).map(|l| (l.date_time, l.price));
        assert_eq!(found, Some((Timestamp(7), 3)));
        assert_eq!(LatestBid.finish(Latest::default()), None);
    }
}
