//! The Nexmark queries against a reference that reads the same events one by one, without Tidemill's methods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::Value;
use tidemill_tests::{Folder, example, sorted};

const EVENTS: usize = 100_000;
/// Fewer a second than the default: so that they fill ten windows of ten seconds.
const EVENTS_PER_SECOND: usize = 1_000;

#[test]
fn q0_passes_every_bid() {
    check("q0", &rows(bid));
}

#[test]
fn q1_converts_every_bid() {
    check("q1", &rows(|b| bid(&Bid { price: b.price * 908 / 1000, ..b.clone() })));
}

#[test]
fn q2_selects_bids_by_auction() {
    let selected = bids().iter().filter(|b| b.auction % 123 == 0);
    check(
        "q2",
        &selected.map(|b| format!(r#"{{"auction":{},"price":{}}}"#, b.auction, b.price)).collect::<Vec<_>>(),
    );
}

#[test]
fn q5_finds_the_hot_auctions() {
    let mut windows: BTreeMap<i64, BTreeMap<i64, u64>> = BTreeMap::new();
    for bid in bids() {
        let newest = bid.time_ms - bid.time_ms.rem_euclid(2_000);
        for start in (0..5).map(|n| newest - n * 2_000) {
            *windows.entry(start).or_default().entry(bid.auction).or_default() += 1;
        }
    }
    let mut expected = Vec::new();
    for (start, counts) in windows {
        let most = counts.values().max().expect("a window has bids");
        for (auction, count) in counts.iter().filter(|(_, count)| *count == most) {
            expected.push(format!(r#"{{"window_start":{start},"auction":{auction},"count":{count}}}"#));
        }
    }
    check("q5", &expected);
}

#[test]
fn q7_finds_the_highest_bids() {
    let mut windows: BTreeMap<i64, (i64, i64, i64, i64)> = BTreeMap::new();
    for bid in bids() {
        let candidate = (bid.price, bid.auction, bid.bidder, bid.time_ms);
        let highest = windows.entry(bid.time_ms - bid.time_ms.rem_euclid(10_000)).or_insert(candidate);
        *highest = candidate.max(*highest);
    }
    let row = |(start, (price, auction, bidder, time)): (&i64, &(i64, i64, i64, i64))| {
        format!(
            r#"{{"window_start":{start},"price":{price},"auction":{auction},"bidder":{bidder},"dateTime":{time}}}"#
        )
    };
    check("q7", &windows.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn q3_finds_who_sells_locally() {
    let persons: BTreeMap<i64, &Value> = of_kind("person").map(|p| (integer(p, "id"), p)).collect();
    let local = of_kind("auction").filter(|a| integer(a, "category") == 10).filter_map(|auction| {
        let person = persons.get(&integer(auction, "seller"))?;
        let (name, city, state) = (&person["name"], &person["city"], &person["state"]);
        ["OR", "ID", "CA"].contains(&state.as_str()?).then(|| {
            format!(r#"{{"name":{name},"city":{city},"state":{state},"auction":{}}}"#, auction["id"])
        })
    });
    check_some("q3", &local.collect::<Vec<_>>());
}

#[test]
fn q4_averages_the_prices_of_categories() {
    let mut prices: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (auction, bid) in won() {
        prices.entry(integer(auction, "category")).or_default().push(bid.price);
    }
    let mean = |(category, prices): (i64, Vec<i64>)| {
        let mean = prices.iter().sum::<i64>() / prices.len() as i64;
        format!(r#"{{"category":{category},"mean_price":{mean}}}"#)
    };
    assert_eq!(prices.len(), 5, "categories");
    check_rows("q4", &prices.into_iter().map(mean).collect::<Vec<_>>(), 5);
}

#[test]
fn q8_finds_who_sells_as_soon_as_they_come() {
    let window = |event: &Value| {
        let time = integer(event, "dateTime");
        time - time.rem_euclid(10_000)
    };
    let sellers: BTreeSet<(i64, i64)> =
        of_kind("auction").map(|auction| (window(auction), integer(auction, "seller"))).collect();
    let new = of_kind("person").filter(|p| sellers.contains(&(window(p), integer(p, "id"))));
    let row =
        |p: &Value| format!(r#"{{"person":{},"name":{},"window_start":{}}}"#, p["id"], p["name"], window(p));
    check_some("q8", &new.map(row).collect::<Vec<_>>());
}

#[test]
fn q9_finds_the_winning_bids() {
    let row = |(auction, bid): (&Value, &Bid)| {
        let field = |name: &str| auction[name].clone();
        format!(
            r#"{{"of_auction":{},"itemName":{},"initialBid":{},"reserve":{},"dateTime":{},"expires":{},"seller":{},"category":{},"price":{},"bidder":{},"bidTime":{}}}"#,
            field("id"),
            field("itemName"),
            field("initialBid"),
            field("reserve"),
            field("dateTime"),
            field("expires"),
            field("seller"),
            field("category"),
            bid.price,
            bid.bidder,
            bid.time_ms
        )
    };
    check_some("q9", &won().into_iter().map(row).collect::<Vec<_>>());
}

#[test]
fn q11_counts_bids_in_sessions() {
    let mut times: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    bids().iter().for_each(|bid| times.entry(bid.bidder).or_default().push(bid.time_ms));
    let mut expected = Vec::new();
    for (bidder, mut times) in times {
        times.sort_unstable();
        for session in times.chunk_by(|one, next| next - one <= 10_000) {
            let (count, start, end) = (session.len(), session[0], session[session.len() - 1] + 10_000);
            expected.push(format!(
                r#"{{"bidder":{bidder},"count":{count},"window_start":{start},"window_end":{end}}}"#
            ));
        }
    }
    check_some("q11", &expected);
}

#[test]
fn q18_keeps_the_latest_bids() {
    let mut latest: BTreeMap<(i64, i64), &Bid> = BTreeMap::new();
    let rank = |bid: &Bid| (bid.time_ms, bid.price, bid.channel.clone(), bid.extra.clone());
    for bid in bids() {
        let known = latest.entry((bid.auction, bid.bidder)).or_insert(bid);
        if rank(bid) > rank(known) {
            *known = bid;
        }
    }
    let row = |bid: &&Bid| {
        let Bid { auction, bidder, price, channel, time_ms, extra } = bid;
        format!(
            r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"channel":"{channel}","dateTime":{time_ms},"extra":"{extra}"}}"#
        )
    };
    check_some("q18", &latest.values().map(row).collect::<Vec<_>>());
}

#[test]
fn q19_ranks_the_highest_bids() {
    let mut of_auction: BTreeMap<i64, Vec<(i64, i64, i64)>> = BTreeMap::new();
    for bid in bids() {
        of_auction.entry(bid.auction).or_default().push((-bid.price, bid.time_ms, bid.bidder));
    }
    let mut expected = Vec::new();
    for (auction, mut highest) in of_auction {
        highest.sort_unstable();
        for (rank, (price, time, bidder)) in (1..=10).zip(highest) {
            let price = -price;
            expected.push(format!(
                r#"{{"auction":{auction},"rank":{rank},"price":{price},"bidder":{bidder},"dateTime":{time}}}"#
            ));
        }
    }
    check_some("q19", &expected);
}

#[test]
fn q20_expands_bids() {
    let wanted = of_kind("auction").filter(|a| integer(a, "category") == 10);
    let auctions: BTreeMap<i64, &Value> = wanted.map(|a| (integer(a, "id"), a)).collect();
    let expanded = bids().iter().filter_map(|bid| {
        let a = auctions.get(&bid.auction)?;
        let Bid { auction, bidder, price, time_ms, .. } = bid;
        Some(format!(
            r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"dateTime":{time_ms},"itemName":{},"initialBid":{},"reserve":{},"expires":{},"seller":{},"category":10}}"#,
            a["itemName"], a["initialBid"], a["reserve"], a["expires"], a["seller"]
        ))
    });
    check_some("q20", &expanded.collect::<Vec<_>>());
}

/// Each auction with the bid that wins it, if one does.
fn won() -> Vec<(&'static Value, &'static Bid)> {
    let mut of_auction: BTreeMap<i64, Vec<&Bid>> = BTreeMap::new();
    bids().iter().for_each(|bid| of_auction.entry(bid.auction).or_default().push(bid));
    let best = |auction: &'static Value| {
        let open = integer(auction, "dateTime")..=integer(auction, "expires");
        let bids = of_auction.get(&integer(auction, "id"))?.iter().filter(|b| open.contains(&b.time_ms));
        Some((auction, *bids.max_by_key(|b| (b.price, -b.time_ms, -b.bidder))?))
    };
    of_kind("auction").filter_map(best).collect()
}

/// Runs a query in order and shuffled, with few and more tasks: always these rows.
fn check_some(query: &str, expected: &[String]) {
    check_rows(query, expected, 10);
}

fn check_rows(query: &str, expected: &[String], rows_min: usize) {
    let expected = sorted(expected.iter().map(String::as_str));
    assert!(expected.len() >= rows_min, "{} rows prove little", expected.len());
    for (shuffle_s, parallelism, source) in [
        (0, "1", generator as fn(u64, usize) -> String),
        (4, "1", files),
        (0, "4", files),
        (4, "4", generator),
    ] {
        check_run(query, &source(shuffle_s, 3), parallelism, &expected);
    }
}

/// Runs a query over the generator and over files, in order and shuffled, with few and more tasks and partitions:
/// always these rows.
fn check(query: &str, expected: &[String]) {
    let expected = sorted(expected.iter().map(String::as_str));
    assert!(expected.len() > 9, "{} rows prove little", expected.len());
    for shuffle_s in [0, 4] {
        for partitions in [1, 3] {
            for parallelism in ["1", "4"] {
                for source in [generator(shuffle_s, partitions), files(shuffle_s, partitions)] {
                    check_run(query, &source, parallelism, &expected);
                }
            }
        }
    }
}

fn check_run(query: &str, source: &str, parallelism: &str, expected: &[String]) {
    let example = example(&format!("nexmark/{query}.toml"));
    let (head, rest) = example.split_once("[sources.events]").expect("the example has a source");
    let (_, operators) = rest.split_once("\n\n").expect("a blank line ends the source");
    let folder = Folder::new();
    let pipeline = format!("{head}{source}\n{operators}");
    let ended = folder.run_with(&pipeline, &["--json", "--parallelism", parallelism]).well();
    assert_eq!(ended.count("sources", "events", "rows"), EVENTS as u64, "{source}");
    let found = folder.rows(&format!("out/{query}.jsonl"));
    let differs = || found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} rows for {}; the first that differ: {:?}, with {parallelism} tasks and\n{source}",
        found.len(),
        expected.len(),
        differs()
    );
    assert!(
        !folder.has(&format!("nexmark-{query}.late.jsonl")),
        "nothing is late within the bound: {source}"
    );
}

fn generator(shuffle_s: u64, partitions: usize) -> String {
    format!(
        r#"
        [sources.events]
        type = "nexmark"
        events = {EVENTS}
        events_per_second = {EVENTS_PER_SECOND}
        out_of_orderness = "{shuffle_s}s"
        partitions = {partitions}
        "#
    )
}

/// The same events as lines, written before. Where there are several partitions, the shuffled lines are dealt out
/// in turn: in each file they are out of order as far as in the whole.
fn files(shuffle_s: u64, partitions: usize) -> String {
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Folder::new();
        for shuffle_s in [0, 4] {
            let text = lines(shuffle_s);
            folder.write(&format!("{shuffle_s}s-of-1-0.jsonl"), &text);
            for part in 0..3 {
                let lines: String = text.split_inclusive('\n').skip(part).step_by(3).collect();
                folder.write(&format!("{shuffle_s}s-of-3-{part}.jsonl"), lines);
            }
        }
        folder
    });
    let path = folder.path(&format!("{shuffle_s}s-of-{partitions}-*.jsonl"));
    format!(
        r#"
        [sources.events]
        type = "files"
        path = {path:?}
        event_time = {{ field = "dateTime", out_of_orderness = "{shuffle_s}s" }}
        [sources.events.fields]
        event_type = {{ type = "text", nullable = false }}
        auction = "integer"
        bidder = "integer"
        price = "integer"
        channel = "text"
        dateTime = {{ type = "timestamp", unit = "ms" }}
        extra = "text"
        id = "integer"
        name = "text"
        city = "text"
        state = "text"
        itemName = "text"
        initialBid = "integer"
        reserve = "integer"
        expires = {{ type = "timestamp", unit = "ms" }}
        seller = "integer"
        category = "integer"
        "#
    )
}

/// All events as JSON lines, straight from the generator to a file.
fn lines(shuffle_s: u64) -> String {
    let folder = Folder::new();
    let pipeline = format!(
        r#"
        name = "events"
        {}
        [sinks.lines]
        type = "files"
        input = "events"
        path = "events.jsonl"
        timestamps = "ms"
        "#,
        generator(shuffle_s, 1)
    );
    folder.run(&pipeline).well();
    folder.read("events.jsonl")
}

#[derive(Clone)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    time_ms: i64,
    channel: String,
    extra: String,
}

fn events() -> &'static [Value] {
    static EVENTS_READ: OnceLock<Vec<Value>> = OnceLock::new();
    EVENTS_READ.get_or_init(|| {
        let events: Vec<Value> = lines(0).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(events.len(), EVENTS);
        events
    })
}

fn of_kind(kind: &str) -> impl Iterator<Item = &'static Value> {
    events().iter().filter(move |e| e["event_type"] == kind)
}

fn integer(event: &Value, name: &str) -> i64 {
    event[name].as_i64().unwrap_or_else(|| panic!("{name} of {event}"))
}

fn bids() -> &'static [Bid] {
    static BIDS: OnceLock<Vec<Bid>> = OnceLock::new();
    BIDS.get_or_init(|| {
        let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
        let bid = |event: &Value| Bid {
            auction: integer(event, "auction"),
            bidder: integer(event, "bidder"),
            price: integer(event, "price"),
            time_ms: integer(event, "dateTime"),
            channel: text(event, "channel"),
            extra: text(event, "extra"),
        };
        of_kind("bid").map(bid).collect()
    })
}

fn rows(row: impl Fn(&Bid) -> String) -> Vec<String> {
    bids().iter().map(row).collect()
}

fn bid(bid: &Bid) -> String {
    let Bid { auction, bidder, price, time_ms, extra, .. } = bid;
    format!(
        r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"dateTime":{time_ms},"extra":"{extra}"}}"#
    )
}

#[test]
fn shuffled_events_are_the_same_events() {
    let (in_order, shuffled) = (lines(0), lines(4));
    assert_ne!(in_order, shuffled);
    assert_eq!(sorted(in_order.lines()), sorted(shuffled.lines()));
    let kinds: BTreeSet<&str> = in_order.lines().filter_map(|l| l.split('"').nth(3)).collect();
    assert_eq!(kinds, BTreeSet::from(["auction", "bid", "person"]));
}
