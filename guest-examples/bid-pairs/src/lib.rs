//! Bids of Nexmark with another that stands beside them, if one does.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Bid {
    auction: i64,
    bidder: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Other {
    other_auction: Option<i64>,
    other_bidder: Option<i64>,
}

#[derive(Default)]
struct BidPairs;

#[operator(extend)]
impl Join for BidPairs {
    /// Its fields go on as they are, whichever they are.
    type Left<'a> = Option<()>;
    type Right<'a> = Option<Bid>;
    type Output<'a> = Other;

    fn join<'a>(&self, _: Option<()>, other: Option<Bid>) -> Other {
        let other = other.as_ref();
        Other { other_auction: other.map(|bid| bid.auction), other_bidder: other.map(|bid| bid.bidder) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_may_be_missing() {
        let other = BidPairs.join(Some(()), Some(Bid { auction: 1, bidder: 2 }));
        assert_eq!(other, Other { other_auction: Some(1), other_bidder: Some(2) });
        let alone = BidPairs.join(Some(()), None);
        assert_eq!(alone, Other { other_auction: None, other_bidder: None });
    }
}
