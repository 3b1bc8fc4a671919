//! Nexmark query 1: bids with their price in euros.

use tidemill_sdk::prelude::*;

/// Persons, auctions and bids come in one stream: only a bid has a price.
#[derive(Record)]
struct Event<'a> {
    event_type: &'a str,
    price: Option<i64>,
}

/// Replaces the bid's price in dollars; its other fields go on with it.
#[derive(Record, Debug, PartialEq)]
struct Euros {
    price: i64,
}

#[operator(extend)]
fn convert(event: Event<'_>) -> Result<Option<Euros>, Reject> {
    if event.event_type != "bid" {
        return Ok(None);
    }
    let dollars = event.price.ok_or("a bid without a price")?;
    let price = dollars.checked_mul(908).ok_or("a price out of range")? / 1000;
    Ok(Some(Euros { price }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bid_is_worth_908_thousandths() {
        let euros = |event_type, price| convert(Event { event_type, price });
        assert_eq!(euros("bid", Some(1001)), Ok(Some(Euros { price: 908 })));
        assert_eq!(euros("auction", None), Ok(None));
        assert_eq!(euros("bid", None), Err("a bid without a price".into()));
    }
}
