//! Nexmark query 0: the bids among the events, as they are.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Event<'a> {
    event_type: &'a str,
}

#[operator]
fn is_bid(event: Event<'_>) -> bool {
    event.event_type == "bid"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bids_pass() {
        let passes = |event_type| is_bid(Event { event_type });
        assert_eq!(["person", "auction", "bid"].map(passes), [false, false, true]);
    }
}
