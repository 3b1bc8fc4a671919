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
        dateTime = {{ type = "timestamp", unit = "ms" }}
        extra = "text"
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
    extra: String,
}

fn bids() -> &'static [Bid] {
    static BIDS: OnceLock<Vec<Bid>> = OnceLock::new();
    BIDS.get_or_init(|| {
        let text = lines(0);
        let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(events.len(), EVENTS);
        let integer = |event: &Value, name: &str| event[name].as_i64().unwrap();
        let bid = |event: &Value| Bid {
            auction: integer(event, "auction"),
            bidder: integer(event, "bidder"),
            price: integer(event, "price"),
            time_ms: integer(event, "dateTime"),
            extra: event["extra"].as_str().unwrap().to_owned(),
        };
        events.iter().filter(|e| e["event_type"] == "bid").map(bid).collect()
    })
}

fn rows(row: impl Fn(&Bid) -> String) -> Vec<String> {
    bids().iter().map(row).collect()
}

fn bid(bid: &Bid) -> String {
    let Bid { auction, bidder, price, time_ms, extra } = bid;
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
