//! The queries: what each reads, what it keeps, what it writes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::io;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::Out;

/// One partition's share of a query.
pub(crate) trait Query: Default + Send {
    type Input<'a>: Input<'a>;
    /// Whether rows are written as they are read; else all are written by [`finish`](Query::finish).
    const WRITES_WHILE_READING: bool = false;
    fn row(&mut self, input: Self::Input<'_>, out: &mut Out) -> io::Result<()>;
    fn finish(_parts: Vec<Self>, _out: &mut Out) -> io::Result<()> {
        Ok(())
    }
}

/// What a query reads of a line.
pub(crate) trait Input<'a>: Sized {
    fn parse(line: &'a [u8], full: bool) -> serde_json::Result<Self>;
}

impl<'a> Input<'a> for &'a [u8] {
    fn parse(line: &'a [u8], _full: bool) -> serde_json::Result<Self> {
        Ok(line)
    }
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum EventType {
    Person,
    Auction,
    Bid,
}

/// Every field of an event, for `--full`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(rename = "event_type")]
    event_type: EventType,
    #[serde(default)]
    auction: i64,
    #[serde(default)]
    bidder: i64,
    #[serde(default)]
    price: i64,
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, default)]
    url: Cow<'a, str>,
    #[serde(default)]
    date_time: i64,
    #[serde(borrow, default)]
    extra: Cow<'a, str>,
    #[serde(default)]
    id: i64,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    email_address: Cow<'a, str>,
    #[serde(borrow, default)]
    credit_card: Cow<'a, str>,
    #[serde(borrow, default)]
    city: Cow<'a, str>,
    #[serde(borrow, default)]
    state: Cow<'a, str>,
    #[serde(borrow, default)]
    item_name: Cow<'a, str>,
    #[serde(borrow, default)]
    description: Cow<'a, str>,
    #[serde(default)]
    initial_bid: i64,
    #[serde(default)]
    reserve: i64,
    #[serde(default)]
    expires: i64,
    #[serde(default)]
    seller: i64,
    #[serde(default)]
    category: i64,
}

impl<'a> Event<'a> {
    fn parse(line: &'a [u8]) -> serde_json::Result<Self> {
        let event: Self = serde_json::from_slice(line)?;
        black_box((&event.channel, &event.url, event.id, &event.name, &event.email_address));
        black_box((&event.credit_card, &event.city, &event.state, &event.item_name, &event.description));
        black_box((event.initial_bid, event.reserve, event.expires, event.seller, event.category));
        Ok(event)
    }
}

/// A struct of some of an event's fields: with `--full` they are taken from the whole event, else they
/// are all that is parsed.
macro_rules! projection {
    ($a:lifetime, $name:ident $(<$life:lifetime>)? { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name $(<$life>)? {
            #[serde(rename = "event_type")]
            event_type: EventType,
            $($(#[$attribute])* #[serde(default)] $field: $type,)*
        }

        impl<$a> Input<$a> for $name $(<$life>)? {
            fn parse(line: &$a [u8], full: bool) -> serde_json::Result<Self> {
                if full {
                    let Event { event_type, $($field,)* .. } = Event::parse(line)?;
                    return Ok(Self { event_type, $($field),* });
                }
                serde_json::from_slice(line)
            }
        }
    };
}

projection!('a, AuctionPrice { auction: i64, price: i64, });
projection!('a, AuctionTime { auction: i64, date_time: i64, });
projection!('a, BidNumbers { auction: i64, bidder: i64, price: i64, date_time: i64, });
projection!('a, BidExtra<'a> {
    auction: i64, bidder: i64, price: i64, date_time: i64, #[serde(borrow)] extra: Cow<'a, str>,
});

/// A bid as q0 and q1 write it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BidRow<'a> {
    auction: i64,
    bidder: i64,
    price: i64,
    date_time: i64,
    extra: &'a str,
}

impl<'a> BidRow<'a> {
    fn new(bid: &'a BidExtra<'_>, price: i64) -> Self {
        let BidExtra { auction, bidder, date_time, ref extra, .. } = *bid;
        Self { auction, bidder, price, date_time, extra }
    }
}

/// All bids.
#[derive(Default)]
pub(crate) struct Q0;

impl Query for Q0 {
    type Input<'a> = BidExtra<'a>;
    const WRITES_WHILE_READING: bool = true;

    fn row(&mut self, bid: BidExtra<'_>, out: &mut Out) -> io::Result<()> {
        if bid.event_type == EventType::Bid { out.write(&BidRow::new(&bid, bid.price)) } else { Ok(()) }
    }
}

/// All bids, the price in euros.
#[derive(Default)]
pub(crate) struct Q1;

impl Query for Q1 {
    type Input<'a> = BidExtra<'a>;
    const WRITES_WHILE_READING: bool = true;

    fn row(&mut self, bid: BidExtra<'_>, out: &mut Out) -> io::Result<()> {
        let euros = bid.price * 908 / 1000;
        if bid.event_type == EventType::Bid { out.write(&BidRow::new(&bid, euros)) } else { Ok(()) }
    }
}

/// Bids for each 123rd auction.
#[derive(Default)]
pub(crate) struct Q2;

#[derive(Serialize)]
struct Q2Row {
    auction: i64,
    price: i64,
}

impl Query for Q2 {
    type Input<'a> = AuctionPrice;
    const WRITES_WHILE_READING: bool = true;

    fn row(
        &mut self,
        AuctionPrice { event_type, auction, price }: AuctionPrice,
        out: &mut Out,
    ) -> io::Result<()> {
        if event_type == EventType::Bid && auction % 123 == 0 {
            out.write(&Q2Row { auction, price })?;
        }
        Ok(())
    }
}

/// The auctions with the most bids in 10 s, every 2 s; all that share the maximum.
///
/// Bids are counted by slices of 2 s, once each; a window adds up its five.
#[derive(Default)]
pub(crate) struct Q5 {
    slices: FxHashMap<i64, FxHashMap<i64, i64>>,
}

const Q5_SLICE_MS: i64 = 2_000;
const Q5_SLICES: i64 = 5;

#[derive(Serialize)]
struct Q5Row {
    window_start: i64,
    auction: i64,
    count: i64,
}

impl Query for Q5 {
    type Input<'a> = AuctionTime;

    fn row(
        &mut self,
        AuctionTime { event_type, auction, date_time }: AuctionTime,
        _: &mut Out,
    ) -> io::Result<()> {
        if event_type == EventType::Bid {
            let slice = self.slices.entry(window_start(date_time, Q5_SLICE_MS)).or_default();
            *slice.entry(auction).or_default() += 1;
        }
        Ok(())
    }

    fn finish(parts: Vec<Self>, out: &mut Out) -> io::Result<()> {
        let of_window = |start: i64| (0..Q5_SLICES).map(move |at| start + at * Q5_SLICE_MS);
        let windows_of = |slice: &i64| of_window(*slice - (Q5_SLICES - 1) * Q5_SLICE_MS);
        let starts: BTreeSet<i64> = parts.iter().flat_map(|p| p.slices.keys()).flat_map(windows_of).collect();
        for window_start in starts {
            let slices =
                of_window(window_start).flat_map(|s| parts.iter().filter_map(move |p| p.slices.get(&s)));
            let counts = sum(slices.flatten().map(|(auction, count)| (*auction, *count)));
            let most = counts.values().copied().max().unwrap_or(0);
            for (auction, count) in counts.into_iter().filter(|(_, count)| *count == most) {
                out.write(&Q5Row { window_start, auction, count })?;
            }
        }
        Ok(())
    }
}

/// The highest bid of each 10 s; of equal ones that with the largest auction, bidder and time.
#[derive(Default)]
pub(crate) struct Q7 {
    highest: FxHashMap<i64, Bid>,
}

/// Price, auction, bidder, time: what is larger wins.
type Bid = (i64, i64, i64, i64);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Q7Row {
    #[serde(rename = "window_start")]
    window_start: i64,
    price: i64,
    auction: i64,
    bidder: i64,
    date_time: i64,
}

impl Q7 {
    fn add(&mut self, window_start: i64, bid: Bid) {
        let highest = self.highest.entry(window_start).or_insert(bid);
        *highest = bid.max(*highest);
    }
}

impl Query for Q7 {
    type Input<'a> = BidNumbers;

    fn row(&mut self, bid: BidNumbers, _: &mut Out) -> io::Result<()> {
        if bid.event_type == EventType::Bid {
            let start = window_start(bid.date_time, 10_000);
            self.add(start, (bid.price, bid.auction, bid.bidder, bid.date_time));
        }
        Ok(())
    }

    fn finish(parts: Vec<Self>, out: &mut Out) -> io::Result<()> {
        let mut all = Self::default();
        parts.into_iter().flat_map(|part| part.highest).for_each(|(start, bid)| all.add(start, bid));
        for (window_start, (price, auction, bidder, date_time)) in all.highest {
            out.write(&Q7Row { window_start, price, auction, bidder, date_time })?;
        }
        Ok(())
    }
}

/// How often each word occurs.
#[derive(Default)]
pub(crate) struct WordCount {
    counts: FxHashMap<Box<[u8]>, i64>,
}

#[derive(Serialize)]
struct WordRow<'a> {
    word: &'a str,
    count: i64,
}

impl Query for WordCount {
    type Input<'a> = &'a [u8];

    fn row(&mut self, line: &[u8], _: &mut Out) -> io::Result<()> {
        for word in line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
            match self.counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(self.counts.insert(word.into(), 1)),
            }
        }
        Ok(())
    }

    fn finish(parts: Vec<Self>, out: &mut Out) -> io::Result<()> {
        for (word, count) in sum(parts.into_iter().flat_map(|part| part.counts)) {
            out.write(&WordRow { word: &String::from_utf8_lossy(&word), count })?;
        }
        Ok(())
    }
}

fn window_start(time_ms: i64, size_ms: i64) -> i64 {
    time_ms - time_ms.rem_euclid(size_ms)
}

fn sum<K: std::hash::Hash + Eq>(counts: impl Iterator<Item = (K, i64)>) -> FxHashMap<K, i64> {
    let mut sums = FxHashMap::default();
    counts.for_each(|(key, count)| *sums.entry(key).or_default() += count);
    sums
}
