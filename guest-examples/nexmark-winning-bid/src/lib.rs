//! Nexmark queries 4 and 9: when an auction expires, the bid that wins it. That is the highest one between the
//! auction's own time and its end; of equal ones the earliest, then that of the smallest bidder. Put
//! `nexmark-by-auction` before it, and key it by `of_auction`.

use tidemill_sdk::prelude::*;

#[derive(Record)]
#[record(rename_all = "camelCase")]
struct Event<'a> {
    #[record(name = "event_type")]
    event_type: &'a str,
    date_time: Timestamp,
    bidder: Option<i64>,
    price: Option<i64>,
    item_name: Option<&'a str>,
    initial_bid: Option<i64>,
    reserve: Option<i64>,
    expires: Option<Timestamp>,
    seller: Option<i64>,
    category: Option<i64>,
}

/// An auction, from when it is known.
#[derive(State, Default)]
struct Auction {
    item_name: Option<String>,
    initial_bid: Option<i64>,
    reserve: Option<i64>,
    opened: Option<Timestamp>,
    expires: Option<Timestamp>,
    seller: Option<i64>,
    category: Option<i64>,
    /// The bid that would win now.
    price: Option<i64>,
    bidder: Option<i64>,
    bid_time: Option<Timestamp>,
    /// It has expired: what comes now comes too late.
    over: Option<bool>,
    /// Bids that came before their auction, by their time: of those of one millisecond the best, as price and bidder.
    early: Entries<Timestamp, Vec<i64>>,
}

#[derive(Record, Debug, PartialEq)]
#[record(rename_all = "camelCase")]
struct Winning {
    item_name: String,
    initial_bid: i64,
    reserve: i64,
    date_time: Timestamp,
    expires: Timestamp,
    seller: i64,
    category: i64,
    price: i64,
    bidder: i64,
    bid_time: Timestamp,
}

/// How many early bids are looked at in one go.
const EARLY_BIDS: usize = 4_096;

#[derive(Default)]
struct WinningBid;

#[operator]
impl Process for WinningBid {
    type Input<'a> = Event<'a>;
    type State = Auction;
    type Output = Result<Option<Winning>, Reject>;

    fn process(
        &self,
        auction: &mut Auction,
        event: Event<'_>,
        timers: &mut Timers,
    ) -> Result<Option<Winning>, Reject> {
        if auction.over == Some(true) {
            return Ok(None);
        }
        if event.event_type == "auction" {
            auction.open(&event, timers)?;
            return Ok(None);
        }
        let price = event.price.ok_or("a bid without a price")?;
        let bidder = event.bidder.ok_or("a bid without a bidder")?;
        auction.bid(price, bidder, event.date_time);
        Ok(None)
    }

    fn on_timer(
        &self,
        auction: &mut Auction,
        _expired: Timer<'_>,
        _timers: &mut Timers,
    ) -> Result<Option<Winning>, Reject> {
        let auction = std::mem::replace(auction, Auction { over: Some(true), ..Auction::default() });
        Ok(auction.won())
    }
}

impl Auction {
    fn open(&mut self, event: &Event<'_>, timers: &mut Timers) -> Result<(), Reject> {
        let expires = event.expires.ok_or("an auction that never expires")?;
        self.item_name = event.item_name.map(str::to_owned);
        (self.initial_bid, self.reserve) = (event.initial_bid, event.reserve);
        (self.opened, self.expires) = (Some(event.date_time), Some(expires));
        (self.seller, self.category) = (event.seller, event.category);
        loop {
            let early: Vec<_> = self.early.range(.., EARLY_BIDS);
            for (time, bid) in &early {
                if let [price, bidder] = bid[..] {
                    self.bid(price, bidder, *time);
                }
                self.early.remove(time);
            }
            if early.len() < EARLY_BIDS {
                break;
            }
        }
        timers.set("expires", expires);
        Ok(())
    }

    fn bid(&mut self, price: i64, bidder: i64, time: Timestamp) {
        let (Some(opened), Some(expires)) = (self.opened, self.expires) else {
            let best = self.early.get(&time).filter(|bid| (bid[0], -bid[1]) >= (price, -bidder));
            if best.is_none() {
                self.early.insert(time, vec![price, bidder]);
            }
            return;
        };
        let rank = |price: i64, time: Timestamp, bidder: i64| (price, -time.0, -bidder);
        let best = self.price.zip(self.bid_time).zip(self.bidder);
        let wins = best.is_none_or(|((p, t), b)| rank(price, time, bidder) > rank(p, t, b));
        if opened <= time && time <= expires && wins {
            (self.price, self.bidder, self.bid_time) = (Some(price), Some(bidder), Some(time));
        }
    }

    /// The auction with the bid that has won it; none, if nobody has bid.
    fn won(self) -> Option<Winning> {
        Some(Winning {
            item_name: self.item_name?,
            initial_bid: self.initial_bid?,
            reserve: self.reserve?,
            date_time: self.opened?,
            expires: self.expires?,
            seller: self.seller?,
            category: self.category?,
            price: self.price?,
            bidder: self.bidder?,
            bid_time: self.bid_time?,
        })
    }
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::Keyed;

    use super::*;

    fn event(event_type: &str, at: i64) -> Event<'_> {
        Event {
            event_type,
            date_time: Timestamp(at),
            bidder: None,
            price: None,
            item_name: None,
            initial_bid: None,
            reserve: None,
            expires: None,
            seller: None,
            category: None,
        }
    }

    fn bid(at: i64, price: i64, bidder: i64) -> (i64, Event<'static>) {
        (7, Event { price: Some(price), bidder: Some(bidder), ..event("bid", at) })
    }

    fn auction(at: i64, expires: i64) -> (i64, Event<'static>) {
        let auction = Event {
            item_name: Some("loom"),
            initial_bid: Some(1),
            reserve: Some(2),
            expires: Some(Timestamp(expires)),
            seller: Some(3),
            category: Some(10),
            ..event("auction", at)
        };
        (7, auction)
    }

    #[test]
    fn the_highest_bid_in_time_wins_when_the_auction_expires() {
        let mut keyed = Keyed::new(&describe(), open(&[]).unwrap());
        // Before its time, in time but before the auction is known, and afterwards; one of them too late.
        let rows = [bid(9, 99, 1), bid(12, 50, 2), auction(10, 20), bid(20, 50, 3), bid(15, 40, 4)];
        assert_eq!(keyed.process::<_, Winning>(rows).unwrap().rows, []);
        assert_eq!(keyed.process::<_, Winning>([bid(21, 98, 5)]).unwrap().rows, []);
        assert_eq!(keyed.advance_watermark::<Winning>(Timestamp(19)).unwrap().rows, []);
        let won = keyed.advance_watermark::<Winning>(Timestamp(20)).unwrap().rows;
        let won: Vec<_> = won.iter().map(|(key, w)| (*key, w.price, w.bidder, w.bid_time)).collect();
        assert_eq!(won, [(7, 50, 2, Timestamp(12))]);
        assert_eq!(keyed.process::<_, Winning>([bid(22, 97, 6)]).unwrap().rows, []);
    }
}
