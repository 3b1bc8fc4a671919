//! The Nexmark events as a source: an auction site's persons, auctions and bids, from a seed.
//!
//! An event is a pure function of the seed and its number, its partition a hash of the number. So a
//! generator needs no input and keeps nothing: the same [`Options`] give the same rows, and a partition
//! continues behind any event. Columns are built straight from event numbers, for demanded fields only.
//! The event numbers are the positions of the source.
//!
//! The rows are those that the peers' generator writes as JSON lines, from which `nexmark/fixtures` is taken.

mod event;
mod order;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use tidemill_flow::schema::{Field, FieldType, Schema};

use event::{Clock, Event, Kind, Urls, mix};
use order::Order;

/// What is generated, and for how many partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Another seed gives other events.
    pub seed: u64,
    /// How many events there are in all partitions together; `None` is without end.
    pub events: Option<u64>,
    /// How many events happen in a second of event time; at least 1.
    pub events_per_second: u64,
    /// How much later than it happened an event may come out.
    pub out_of_orderness_ms: u64,
    /// How many partitions share the events; at least 1.
    pub partitions: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 42, events: None, events_per_second: 10_000, out_of_orderness_ms: 0, partitions: 1 }
    }
}

/// A column, in the order of [`schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    EventType,
    Auction,
    Bidder,
    Price,
    Channel,
    Url,
    DateTime,
    Extra,
    Id,
    Name,
    EmailAddress,
    CreditCard,
    City,
    State,
    ItemName,
    Description,
    InitialBid,
    Reserve,
    Expires,
    Seller,
    Category,
}

/// Every column with its field's name and type.
const COLUMNS: [(Column, &str, FieldType); 21] = [
    (Column::EventType, "event_type", FieldType::Text),
    (Column::Auction, "auction", FieldType::Integer),
    (Column::Bidder, "bidder", FieldType::Integer),
    (Column::Price, "price", FieldType::Integer),
    (Column::Channel, "channel", FieldType::Text),
    (Column::Url, "url", FieldType::Text),
    (Column::DateTime, "dateTime", FieldType::Timestamp),
    (Column::Extra, "extra", FieldType::Text),
    (Column::Id, "id", FieldType::Integer),
    (Column::Name, "name", FieldType::Text),
    (Column::EmailAddress, "emailAddress", FieldType::Text),
    (Column::CreditCard, "creditCard", FieldType::Text),
    (Column::City, "city", FieldType::Text),
    (Column::State, "state", FieldType::Text),
    (Column::ItemName, "itemName", FieldType::Text),
    (Column::Description, "description", FieldType::Text),
    (Column::InitialBid, "initialBid", FieldType::Integer),
    (Column::Reserve, "reserve", FieldType::Integer),
    (Column::Expires, "expires", FieldType::Timestamp),
    (Column::Seller, "seller", FieldType::Integer),
    (Column::Category, "category", FieldType::Integer),
];

/// All fields. Those of one type of event are null in the others; `event_type`, `dateTime` and `extra`
/// are in each.
pub fn schema() -> Schema {
    let field = |(column, name, field_type)| match column {
        Column::EventType | Column::DateTime | Column::Extra => Field::new(name, field_type),
        _ => Field::nullable(name, field_type),
    };
    Schema::new(COLUMNS.map(field).to_vec()).expect("unique names")
}

/// Rows that came out together.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The demanded fields, in the order of the demand.
    pub columns: Vec<ArrayRef>,
    /// Each row's event time, in ms since the Unix epoch: its `dateTime`.
    pub times: Vec<i64>,
    /// Each row's event number. To continue behind a row, [`Partition::seek`] to it.
    pub positions: Vec<u64>,
    /// How many rows there are, also when no field was demanded.
    pub rows: usize,
}

impl Generated {
    /// Without the rows behind this event; all of them, if it isn't among them.
    #[must_use]
    pub fn up_to(mut self, event: u64) -> Self {
        let Some(at) = self.positions.iter().position(|&number| number == event) else { return self };
        self.rows = at + 1;
        self.times.truncate(self.rows);
        self.positions.truncate(self.rows);
        self.columns.iter_mut().for_each(|column| *column = column.slice(0, self.rows));
        self
    }
}

/// One partition's events, from the first one on.
#[derive(Debug)]
pub struct Partition {
    seed_mixed: u64,
    clock: Clock,
    order: Order,
    demanded: Vec<Column>,
    /// Built only if a demanded field needs it.
    urls: Option<Urls>,
}

impl Partition {
    /// The events of this partition with the fields of these names.
    ///
    /// # Panics
    /// If a number in the options is below its least, if the partition is not one of them, or if a name
    /// is not in [`schema`]: a pipeline that has been checked asks for none of these.
    pub fn new(options: &Options, partition: u32, demanded: &[&str]) -> Self {
        assert!(options.events_per_second > 0, "events_per_second is 0");
        assert!(partition < options.partitions, "partition {partition} of {}", options.partitions);
        let column = |name: &&str| {
            let found = COLUMNS.iter().find(|(_, n, _)| n == name);
            found.unwrap_or_else(|| panic!("nexmark events have no field {name:?}")).0
        };
        let demanded: Vec<_> = demanded.iter().map(column).collect();
        let clock = Clock::new(options.seed, options.events_per_second, options.out_of_orderness_ms);
        Self {
            seed_mixed: mix(options.seed),
            clock,
            order: Order::new(options, clock, partition),
            urls: demanded.contains(&Column::Url).then(Urls::new),
            demanded,
        }
    }

    /// Continues behind the event with this number: what comes next is what came next when that event
    /// was the last to come out. Costs no more than the out-of-orderness times the rate.
    pub fn seek(&mut self, after: u64) {
        self.order.seek(after);
    }

    /// Up to `rows_max` more rows; `None` at the end.
    pub fn next(&mut self, rows_max: usize) -> Option<Generated> {
        let positions = self.order.take(rows_max);
        if positions.is_empty() {
            return None;
        }
        let events: Vec<_> = positions.iter().map(|n| Event::new(self.seed_mixed, *n)).collect();
        let times: Vec<_> = positions.iter().map(|n| self.clock.time(*n) as i64).collect();
        let columns = self.demanded.iter().map(|column| self.build(*column, &events, &times)).collect();
        Some(Generated { columns, times, rows: positions.len(), positions })
    }

    fn build(&self, column: Column, events: &[Event], times: &[i64]) -> ArrayRef {
        use Kind::{Auction, Bid, Person};
        match column {
            Column::EventType => texts(events, |_| true, |e, out| push(out, e.kind.name())),
            Column::DateTime => timestamps(times.to_vec(), None),
            Column::Extra => texts(events, |_| true, |e, out| e.extra(out)),

            Column::Auction => integers(events, |k| k == Bid, |e| e.auction()),
            Column::Bidder => integers(events, |k| k == Bid, |e| e.bidder()),
            Column::Price => integers(events, |k| k == Bid, |e| e.price()),
            Column::Channel => texts(events, |k| k == Bid, |e, out| e.channel(out)),
            Column::Url => {
                let urls = self.urls.as_ref().expect("built with the demand");
                texts(events, |k| k == Bid, |e, out| push(out, e.url(urls)))
            }

            Column::Id => integers(events, |k| k != Bid, |e| e.id()),
            Column::Name => texts(events, |k| k == Person, |e, out| e.name(out)),
            Column::EmailAddress => texts(events, |k| k == Person, |e, out| e.email_address(out)),
            Column::CreditCard => texts(events, |k| k == Person, |e, out| e.credit_card(out)),
            Column::City => texts(events, |k| k == Person, |e, out| push(out, e.city())),
            Column::State => texts(events, |k| k == Person, |e, out| push(out, e.state())),

            Column::ItemName => texts(events, |k| k == Auction, |e, out| e.item_name(out)),
            Column::Description => texts(events, |k| k == Auction, |e, out| e.description(out)),
            Column::InitialBid => integers(events, |k| k == Auction, |e| e.initial_bid()),
            Column::Reserve => integers(events, |k| k == Auction, |e| e.reserve()),
            Column::Expires => {
                let has = |k| k == Auction;
                timestamps(values(events, has, |e| e.expires(&self.clock)), validity(events, has))
            }
            Column::Seller => integers(events, |k| k == Auction, |e| e.seller()),
            Column::Category => integers(events, |k| k == Auction, |e| e.category()),
        }
    }
}

/// Which events have the field; `None` if all do.
fn validity(events: &[Event], has: impl Fn(Kind) -> bool) -> Option<NullBuffer> {
    let valid = NullBuffer::new(BooleanBuffer::collect_bool(events.len(), |row| has(events[row].kind)));
    (valid.null_count() > 0).then_some(valid)
}

/// The field's values, 0 where there is none.
fn values(events: &[Event], has: impl Fn(Kind) -> bool, value: impl Fn(&Event) -> u64) -> Vec<i64> {
    events.iter().map(|event| if has(event.kind) { value(event) as i64 } else { 0 }).collect()
}

fn integers(events: &[Event], has: impl Fn(Kind) -> bool + Copy, value: impl Fn(&Event) -> u64) -> ArrayRef {
    Arc::new(Int64Array::new(values(events, has, value).into(), validity(events, has)))
}

fn timestamps(values: Vec<i64>, valid: Option<NullBuffer>) -> ArrayRef {
    Arc::new(
        TimestampMillisecondArray::new(values.into(), valid).with_data_type(FieldType::Timestamp.arrow()),
    )
}

fn texts(
    events: &[Event],
    has: impl Fn(Kind) -> bool + Copy,
    mut append: impl FnMut(&Event, &mut Vec<u8>),
) -> ArrayRef {
    let mut bytes = Vec::new();
    let mut offsets = Vec::with_capacity(events.len() + 1);
    offsets.push(0);
    for event in events {
        if has(event.kind) {
            append(event, &mut bytes);
        }
        offsets.push(i32::try_from(bytes.len()).expect("a batch has less than 2 GiB of text"));
    }
    let offsets = OffsetBuffer::new(offsets.into());
    Arc::new(StringArray::new(offsets, Buffer::from_vec(bytes), validity(events, has)))
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
