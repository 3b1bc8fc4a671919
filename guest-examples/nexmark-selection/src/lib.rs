//! Nexmark query 2: the bids for every 123rd auction.

use tidemill_sdk::prelude::*;

/// Persons, auctions and bids come in one stream: only a bid names its auction so.
#[derive(Record)]
struct Event<'a> {
    event_type: &'a str,
    auction: Option<i64>,
}

#[operator]
fn select(event: Event<'_>) -> bool {
    event.event_type == "bid" && event.auction.is_some_and(|auction| auction % 123 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_123rd_auction_is_selected() {
        let selects = |event_type, auction| select(Event { event_type, auction });
        assert!(selects("bid", Some(1230)));
        assert!(!selects("bid", Some(1231)));
        assert!(!selects("auction", Some(1230)));
        assert!(!selects("bid", None));
    }
}
