//! One Nexmark event as a pure function of the seed and its number.
//!
//! The random source is splitmix64, whose k-th draw needs none before it. So the value of a field is
//! computed without computing the fields that come earlier in the event; what has to be known is only
//! how many draws those take. Where that depends on the event (a hot key takes one draw, a cold one
//! two), a function named `…_at` tells the place.
//!
//! Ids and hot ratios are those of the Nexmark reference generator: in 50 events 1 person, 3 auctions,
//! 46 bids; half of the bids for the hot auction, 3/4 by the hot bidder, 3/4 of the auctions by the hot
//! seller. `extra` of a bid is shorter (12 bytes instead of 68), for lines of about 200 bytes.

/// The time of event 0: 2023-11-14T22:13:20Z.
const BASE_TIME_MS: u64 = 1_700_000_000_000;
/// The pattern that repeats: one person, then three auctions, then bids.
const EPOCH_EVENTS: u64 = 50;
const AUCTIONS_PER_EPOCH: u64 = 3;

const FIRST_PERSON: u64 = 1000;
const FIRST_AUCTION: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Cold persons are drawn from the newest so many, and some that are yet to come.
const ACTIVE_PERSONS: u64 = 1000;
const IN_FLIGHT_AUCTIONS: u64 = 100;
const ID_LEAD: u64 = 10;
/// The first id in each batch of so many is the hot one; for bidders it is the second.
const HOT_BATCH: u64 = 100;
/// A key is cold with a probability of one in so many.
const HOT_AUCTION_RATIO: u64 = 2;
const HOT_SELLER_RATIO: u64 = 4;
const HOT_BIDDER_RATIO: u64 = 4;
const HOT_CHANNEL_RATIO: u64 = 2;
const COLD_CHANNELS: u64 = 10_000;
/// The sizes that `extra` fills an event up to.
const PERSON_BYTES: u64 = 200;
const AUCTION_BYTES: u64 = 500;
const BID_EXTRA_BYTES: u64 = 12;
/// What an auction's other fields count towards its size.
const AUCTION_FIELDS_BYTES: u64 = 168;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
#[rustfmt::skip]
const CITIES: [&str; 10] = [
    "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent",
    "Cheyenne",
];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// One step of splitmix64: the hash that partitions events, and the source of all draws.
pub(super) fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(GOLDEN_GAMMA);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence of random numbers, each to be had by its place.
#[derive(Clone, Copy, Debug)]
struct Draws(u64);

impl Draws {
    fn at(self, place: u64) -> u64 {
        mix(self.0.wrapping_add(place.wrapping_mul(GOLDEN_GAMMA)))
    }

    /// Evenly in `0..bound`: the high half of the product, which needs no division.
    fn below(self, place: u64, bound: u64) -> u64 {
        ((u128::from(self.at(place)) * u128::from(bound)) >> 64) as u64
    }

    fn pick<'a>(self, place: u64, from: &[&'a str]) -> &'a str {
        from[self.below(place, from.len() as u64) as usize]
    }

    /// 1.00 to 1,000,000.00, in hundredths, evenly in the logarithm.
    fn price(self, place: u64) -> u64 {
        let unit = (self.at(place) >> 11) as f64 / (1_u64 << 53) as f64;
        (10_f64.powf(unit * 6.0) * 100.0).round() as u64
    }

    /// Small letters, twelve from each draw.
    fn letters(self, place: u64, count: u64, out: &mut Vec<u8>) {
        for (at, first) in (0..count).step_by(12).enumerate() {
            let mut bits = self.at(place + at as u64);
            for _ in 0..(count - first).min(12) {
                out.push(b'a' + bits as u8 % 26);
                bits = bits.rotate_right(5);
            }
        }
    }

    /// Letters that fill an event of `current` bytes up to `want`, give or take a fifth of what is
    /// missing. The length takes the first draw.
    fn filling(self, place: u64, current: u64, want: u64, out: &mut Vec<u8>) {
        let missing = want.saturating_sub(current);
        let spread = (missing + 2) / 5;
        // Would take no draw for its length in the peers' generator; no event is that nearly full.
        assert!(spread > 0, "an event of {current} bytes leaves no room for extra in {want} bytes");
        let count = missing - spread + self.below(place, 2 * spread);
        self.letters(place + 1, count, out);
    }
}

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
}

impl Kind {
    /// The value of `event_type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Auction => "auction",
            Self::Bid => "bid",
        }
    }
}

/// When events happen, and when they arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    seed: u64,
    events_per_second: u64,
    out_of_orderness_ms: u64,
}

impl Clock {
    pub(super) fn new(seed: u64, events_per_second: u64, out_of_orderness_ms: u64) -> Self {
        Self { seed, events_per_second, out_of_orderness_ms }
    }

    /// The event time of the event with this number, in ms.
    pub(super) fn time(&self, number: u64) -> u64 {
        BASE_TIME_MS + number * 1000 / self.events_per_second
    }

    /// The time at which the event comes out: never before it happened, at most the out-of-orderness later.
    pub(super) fn arrival(&self, number: u64) -> u64 {
        self.time(number) + Draws(mix(self.seed ^ !number)).below(0, self.out_of_orderness_ms + 1)
    }

    /// The first event that can arrive at this time or later.
    pub(super) fn first_arriving_at(&self, time_ms: u64) -> u64 {
        let after_ms = time_ms.saturating_sub(BASE_TIME_MS + self.out_of_orderness_ms);
        (after_ms * self.events_per_second).div_ceil(1000)
    }
}

/// An event whose fields are still to be computed. Each field's method expects the kind that has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    number: u64,
    pub(super) kind: Kind,
    draws: Draws,
}

impl Event {
    /// The event with this number; `seed_mixed` is [`mix`] of the seed.
    pub(super) fn new(seed_mixed: u64, number: u64) -> Self {
        let kind = match number % EPOCH_EVENTS {
            0 => Kind::Person,
            place if place <= AUCTIONS_PER_EPOCH => Kind::Auction,
            _ => Kind::Bid,
        };
        Self { number, kind, draws: Draws(mix(seed_mixed ^ number)) }
    }

    /// The number of the newest person so far, counted from 0.
    fn newest_person(&self) -> u64 {
        self.number / EPOCH_EVENTS
    }

    /// The number of the newest auction so far, counted from 0, for an event that comes after one or is one.
    fn newest_auction(&self) -> u64 {
        let place = self.number % EPOCH_EVENTS;
        self.number / EPOCH_EVENTS * AUCTIONS_PER_EPOCH + (place - 1).min(AUCTIONS_PER_EPOCH - 1)
    }

    fn cold_person(&self, place: u64) -> u64 {
        let persons = self.newest_person() + 1;
        let active = persons.min(ACTIVE_PERSONS);
        persons - active + self.draws.below(place, active + ID_LEAD)
    }

    fn cold_auction(&self, place: u64) -> u64 {
        let newest = self.newest_auction();
        let oldest = newest.saturating_sub(IN_FLIGHT_AUCTIONS);
        oldest + self.draws.below(place, newest - oldest + 1 + ID_LEAD)
    }

    /// 1 if the key drawn here is a cold one, which then takes one draw more.
    fn cold(&self, place: u64, ratio: u64) -> u64 {
        u64::from(self.draws.below(place, ratio) == 0)
    }

    // What persons and auctions have.

    pub(super) fn id(&self) -> u64 {
        match self.kind {
            Kind::Person => FIRST_PERSON + self.newest_person(),
            Kind::Auction | Kind::Bid => FIRST_AUCTION + self.newest_auction(),
        }
    }

    // What all have.

    pub(super) fn extra(&self, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Person => self.draws.filling(10, 8 + self.person_fields_bytes(), PERSON_BYTES, out),
            Kind::Auction => {
                self.draws.filling(self.category_at() + 1, AUCTION_FIELDS_BYTES, AUCTION_BYTES, out);
            }
            Kind::Bid => self.draws.filling(self.price_at() + 3, 0, BID_EXTRA_BYTES, out),
        }
    }

    // Persons. The draws: 0 and 1 name, 2 and 3 e-mail, 4 to 7 credit card, 8 city, 9 state, 10 extra.

    pub(super) fn name(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.draws.pick(0, &FIRST_NAMES).as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.draws.pick(1, &LAST_NAMES).as_bytes());
    }

    pub(super) fn email_address(&self, out: &mut Vec<u8>) {
        self.draws.letters(2, 7, out);
        out.push(b'@');
        self.draws.letters(3, 5, out);
        out.extend_from_slice(b".com");
    }

    pub(super) fn credit_card(&self, out: &mut Vec<u8>) {
        for place in 4..8 {
            if place > 4 {
                out.push(b' ');
            }
            let group = self.draws.below(place, 10_000);
            out.extend([1000, 100, 10, 1].map(|unit| b'0' + (group / unit % 10) as u8));
        }
    }

    pub(super) fn city(&self) -> &'static str {
        self.draws.pick(8, &CITIES)
    }

    pub(super) fn state(&self) -> &'static str {
        self.draws.pick(9, &STATES)
    }

    /// The bytes of a person's fields up to `state`, as the reference estimates them: the JSON line so
    /// far, less 85 for names and punctuation.
    fn person_fields_bytes(&self) -> u64 {
        const PUNCTUATION: usize = r#"{"event_type":"person","id":,"name":" ","emailAddress":"@.com","creditCard":"","city":"","state":"""#.len();
        const LETTERS_AND_DIGITS: usize = 7 + 5 + "0000 0000 0000 0000".len() + "CA".len();
        let id_digits = self.id().ilog10() as usize + 1;
        let name = self.draws.pick(0, &FIRST_NAMES).len() + self.draws.pick(1, &LAST_NAMES).len();
        (PUNCTUATION + LETTERS_AND_DIGITS + id_digits + name + self.city().len() - 85) as u64
    }

    // Auctions. The draws: 0 and 1 item name, 2 to 10 description, 11 initial bid, 12 reserve,
    // 13 expiry, 14 (and 15) seller, then category, extra.

    pub(super) fn item_name(&self, out: &mut Vec<u8>) {
        self.draws.letters(0, 20, out);
    }

    pub(super) fn description(&self, out: &mut Vec<u8>) {
        self.draws.letters(2, 100, out);
    }

    pub(super) fn initial_bid(&self) -> u64 {
        self.draws.price(11)
    }

    pub(super) fn reserve(&self) -> u64 {
        self.initial_bid() + self.draws.price(12)
    }

    pub(super) fn expires(&self, clock: &Clock) -> u64 {
        let now = clock.time(self.number);
        let until = clock.time(self.number + IN_FLIGHT_AUCTIONS * EPOCH_EVENTS / AUCTIONS_PER_EPOCH);
        now + 1 + self.draws.below(13, ((until - now) * 2).max(1))
    }

    pub(super) fn seller(&self) -> u64 {
        FIRST_PERSON
            + match self.cold(14, HOT_SELLER_RATIO) {
                0 => self.newest_person() / HOT_BATCH * HOT_BATCH,
                _ => self.cold_person(15),
            }
    }

    fn category_at(&self) -> u64 {
        15 + self.cold(14, HOT_SELLER_RATIO)
    }

    pub(super) fn category(&self) -> u64 {
        FIRST_CATEGORY + self.draws.below(self.category_at(), CATEGORIES)
    }

    // Bids. The draws: 0 (and 1) auction, then (two for) the bidder, then price, whether the channel
    // is hot, which, extra.

    pub(super) fn auction(&self) -> u64 {
        FIRST_AUCTION
            + match self.cold(0, HOT_AUCTION_RATIO) {
                0 => self.newest_auction() / HOT_BATCH * HOT_BATCH,
                _ => self.cold_auction(1),
            }
    }

    fn bidder_at(&self) -> u64 {
        1 + self.cold(0, HOT_AUCTION_RATIO)
    }

    pub(super) fn bidder(&self) -> u64 {
        let place = self.bidder_at();
        FIRST_PERSON
            + match self.cold(place, HOT_BIDDER_RATIO) {
                0 => self.newest_person() / HOT_BATCH * HOT_BATCH + 1,
                _ => self.cold_person(place + 1),
            }
    }

    fn price_at(&self) -> u64 {
        let place = self.bidder_at();
        place + 1 + self.cold(place, HOT_BIDDER_RATIO)
    }

    pub(super) fn price(&self) -> u64 {
        self.draws.price(self.price_at())
    }

    fn channel_number(&self) -> Channel {
        let place = self.price_at() + 1;
        match self.cold(place, HOT_CHANNEL_RATIO) {
            0 => Channel::Hot(self.draws.below(place + 1, HOT_CHANNELS.len() as u64)),
            _ => Channel::Cold(self.draws.below(place + 1, COLD_CHANNELS)),
        }
    }

    pub(super) fn channel(&self, out: &mut Vec<u8>) {
        match self.channel_number() {
            Channel::Hot(number) => out.extend_from_slice(HOT_CHANNELS[number as usize].as_bytes()),
            Channel::Cold(number) => {
                out.extend_from_slice(b"channel-");
                let digits = number.checked_ilog10().unwrap_or(0);
                out.extend((0..=digits).rev().map(|digit| b'0' + (number / 10_u64.pow(digit) % 10) as u8));
            }
        }
    }

    pub(super) fn url<'a>(&self, urls: &'a Urls) -> &'a str {
        match self.channel_number() {
            Channel::Hot(number) => &urls.hot[number as usize],
            Channel::Cold(number) => &urls.cold[number as usize],
        }
    }
}

enum Channel {
    Hot(u64),
    Cold(u64),
}

/// The addresses of all channels: too dear to spell out for each bid, and the same for every seed.
#[derive(Debug)]
pub(super) struct Urls {
    hot: Vec<String>,
    cold: Vec<String>,
}

impl Urls {
    pub(super) fn new() -> Self {
        Self {
            hot: (0..HOT_CHANNELS.len() as u64).map(base_url).collect(),
            cold: (0..COLD_CHANNELS).map(cold_url).collect(),
        }
    }
}

/// Nine in ten cold addresses name their channel's id.
fn cold_url(channel: u64) -> String {
    let mut url = base_url(channel);
    if Draws(mix(channel)).below(0, 10) > 0 {
        let id = i64::from((channel as u32).reverse_bits() as i32).abs();
        url += &format!("&channel_id={id}");
    }
    url
}

fn base_url(channel: u64) -> String {
    let draws = Draws(mix(channel ^ u64::from_be_bytes(*b"\0\0\0\0\0url")));
    let mut places = 0..;
    let mut below = |bound| draws.below(places.next().expect("endless"), bound);
    let mut part = || -> String {
        let letters = 3 + below(2);
        (0..letters).map(|_| if below(13) == 0 { '_' } else { (b'a' + below(26) as u8) as char }).collect()
    };
    format!("https://www.nexmark.com/{}/{}/{}/item.htm?query=1", part(), part(), part())
}
