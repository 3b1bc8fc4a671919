//! Nexmark query 20: a bid with what its auction says, for auctions of category 10. The bid's fields pass through.

use tidemill_sdk::prelude::*;

#[derive(Record)]
#[record(rename_all = "camelCase")]
struct Auction<'a> {
    item_name: Option<&'a str>,
    initial_bid: Option<i64>,
    reserve: Option<i64>,
    expires: Option<Timestamp>,
    seller: Option<i64>,
    category: Option<i64>,
}

#[derive(Record, Debug, PartialEq)]
#[record(rename_all = "camelCase")]
struct Expanded<'a> {
    item_name: &'a str,
    initial_bid: i64,
    reserve: i64,
    expires: Timestamp,
    seller: i64,
    category: i64,
}

const CATEGORY: i64 = 10;

#[derive(Default)]
struct ExpandBid;

#[operator(extend)]
impl Join for ExpandBid {
    type Left<'a> = ();
    type Right<'a> = Auction<'a>;
    type Output<'a> = Option<Expanded<'a>>;

    fn join<'a>(&self, _bid: (), auction: Auction<'a>) -> Option<Expanded<'a>> {
        Some(Expanded {
            item_name: auction.item_name?,
            initial_bid: auction.initial_bid?,
            reserve: auction.reserve?,
            expires: auction.expires?,
            seller: auction.seller?,
            category: auction.category.filter(|category| *category == CATEGORY)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bids_for_other_categories_are_left_out() {
        let expanded = |category| {
            let auction = Auction {
                item_name: Some("loom"),
                initial_bid: Some(1),
                reserve: Some(2),
                expires: Some(Timestamp(3)),
                seller: Some(4),
                category: Some(category),
            };
            ExpandBid.join((), auction).map(|e| (e.item_name, e.category))
        };
        assert_eq!([expanded(10), expanded(11)], [Some(("loom", 10)), None]);
    }
}
