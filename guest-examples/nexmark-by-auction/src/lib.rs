//! Auctions and bids with a field that both have, `of_auction`: so that a bid meets its auction. Persons are left out.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Event<'a> {
    event_type: &'a str,
    id: Option<i64>,
    auction: Option<i64>,
}

#[derive(Record, Debug, PartialEq)]
struct Keyed {
    of_auction: i64,
}

#[operator(extend)]
fn by_auction(event: Event<'_>) -> Option<Keyed> {
    let of_auction = match event.event_type {
        "auction" => event.id,
        "bid" => event.auction,
        _ => None,
    };
    of_auction.map(|of_auction| Keyed { of_auction })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bid_has_the_number_of_its_auction() {
        let of = |event_type, id, auction| by_auction(Event { event_type, id, auction });
        assert_eq!(of("auction", Some(7), None), Some(Keyed { of_auction: 7 }));
        assert_eq!(of("bid", None, Some(7)), Some(Keyed { of_auction: 7 }));
        assert_eq!(of("person", Some(7), None), None);
    }
}
