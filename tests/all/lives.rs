//! The pipelines whose lives other tests interrupt, and what comes out of them when nobody does.

use tidemill_tests::{Consumer, Folder};

/// Nexmark's query 5 at the scale of a test: two aggregations, one after the other, over windows that overlap. Real time
/// paces it, so that any machine has time for some checkpoints. Nothing is late.
pub(crate) const WINDOWS: &str = r#"
    name = "p"
    [checkpoints]
    interval = "30ms"
    retain = 1
    [sources.events]
    type = "nexmark"
    events = 50_000
    events_per_second = 100_000
    out_of_orderness = "40ms"
    partitions = 2
    pace = "event-time"
    [operators.bids]
    component = "@nexmark-bids"
    input = "events"
    [operators.count]
    component = "@count"
    input = "bids"
    key = "auction"
    window = { type = "hopping", size = "100ms", slide = "20ms" }
    [operators.hottest]
    component = "@nexmark-hot-auctions"
    input = "count"
    key = ["window_start", "window_end"]
    window = { type = "tumbling", size = "20ms" }
    [sinks.counts]
    type = "files"
    input = "count"
    path = "out/counts-*.jsonl"
    [sinks.hot]
    type = "files"
    input = "hottest"
    path = "out/hot-*.jsonl"
    "#;

/// Process operators: a running number for each bidder, and visits that event-time timers end. The rows of a visit come
/// in one order, since there is one partition of them: what is a visit depends on it.
pub(crate) const PROCESSES: &str = r#"
    name = "p"
    [checkpoints]
    interval = "30ms"
    retain = 2
    [sources.events]
    type = "nexmark"
    events = 50_000
    events_per_second = 100_000
    out_of_orderness = "40ms"
    partitions = 2
    pace = "event-time"
    [sources.others]
    type = "nexmark"
    events = 35_000
    events_per_second = 70_000
    out_of_orderness = "40ms"
    seed = 7
    pace = "event-time"
    [operators.bids]
    component = "@nexmark-bids"
    input = "events"
    [operators.number]
    component = "@count-by-key"
    input = "bids"
    key = "bidder"
    [operators.other-bids]
    component = "@nexmark-bids"
    input = "others"
    [operators.sessions]
    component = "@sessions"
    input = "other-bids"
    key = "bidder"
    settings = { gap_minutes = 0 }
    [sinks.numbers]
    type = "files"
    input = "number"
    path = "out/numbers-*.jsonl"
    [sinks.visits]
    type = "files"
    input = "sessions"
    path = "out/visits-*.jsonl"
    "#;

/// Sessions of bidders, and the visits of each that are open at once with others; nothing is late.
pub(crate) const SESSIONS: &str = r#"
    name = "p"
    [checkpoints]
    interval = "30ms"
    retain = 1
    [sources.events]
    type = "nexmark"
    events = 50_000
    events_per_second = 100_000
    out_of_orderness = "40ms"
    partitions = 2
    pace = "event-time"
    [operators.bids]
    component = "@nexmark-bids"
    input = "events"
    [operators.visits]
    component = "@count"
    input = "bids"
    key = "bidder"
    window = { type = "session", gap = "7ms" }
    [operators.by-fifties]
    component = "@count"
    input = "bids"
    key = "auction"
    window = { type = "hopping", size = "100ms", slide = "50ms" }
    allowed_lateness = "20ms"
    [sinks.visits-out]
    type = "files"
    input = "visits"
    path = "out/visits-*.jsonl"
    [sinks.fifties]
    type = "files"
    input = "by-fifties"
    path = "out/fifties-*.jsonl"
    "#;

/// Each join of bids by price, which few of them share, and an aggregate behind the one whose watermark is held back. One
/// partition has the versions of the table: with several, which of two at one time counts depends on chance.
pub(crate) const JOINS: &str = r#"
    name = "p"
    late = "late-*.jsonl"
    [checkpoints]
    interval = "30ms"
    retain = 2
    [sources.events]
    type = "nexmark"
    events = 8_000
    events_per_second = 100_000
    out_of_orderness = "40ms"
    partitions = 2
    pace = "event-time"
    [sources.others]
    type = "nexmark"
    events = 6_000
    events_per_second = 70_000
    out_of_orderness = "40ms"
    seed = 7
    pace = "event-time"
    [operators.bids]
    component = "@nexmark-bids"
    input = "events"
    [operators.other-bids]
    component = "@nexmark-bids"
    input = "others"
    [operators.near]
    component = "@bid-pairs"
    inputs = ["bids", "other-bids"]
    key = "price"
    join = { type = "interval", kind = "full", lower = "-10ms", upper = "20ms" }
    [operators.together]
    component = "@bid-pairs"
    inputs = ["bids", "other-bids"]
    key = "price"
    join = { type = "window", kind = "left" }
    window = { type = "hopping", size = "40ms", slide = "20ms" }
    [operators.known]
    component = "@bid-pairs"
    inputs = ["bids", "other-bids"]
    key = "price"
    join = { type = "table", kind = "left", grace = "10ms", versions = "50ms" }
    [operators.count]
    component = "@count"
    input = "near"
    key = "other_bidder"
    window = { type = "tumbling", size = "20ms" }
    [sinks.near-out]
    type = "files"
    input = "near"
    path = "out/near-*.jsonl"
    fields = ["price", "auction", "bidder", "other_auction", "other_bidder"]
    [sinks.together-out]
    type = "files"
    input = "together"
    path = "out/together-*.jsonl"
    fields = ["price", "auction", "bidder", "other_auction", "other_bidder"]
    [sinks.known-out]
    type = "files"
    input = "known"
    path = "out/known-*.jsonl"
    fields = ["price", "auction", "bidder", "other_auction", "other_bidder"]
    [sinks.counts]
    type = "files"
    input = "count"
    path = "out/counts-*.jsonl"
    "#;

/// All rows that a pipeline writes into `out` when nobody interrupts it.
pub(crate) fn uninterrupted(pipeline: &str) -> Vec<String> {
    let folder = Folder::new();
    folder.live(pipeline, 2, "").well();
    committed(&folder)
}

/// All rows in `out`, of which nothing may be staged any more.
#[track_caller]
pub(crate) fn committed(folder: &Folder) -> Vec<String> {
    let mut consumer = Consumer::new("out");
    consumer.look(folder);
    assert_nothing_staged(folder);
    consumer.rows()
}

/// Checks that no file is left that was never committed.
#[track_caller]
pub(crate) fn assert_nothing_staged(folder: &Folder) {
    let hidden: Vec<_> = folder.files("out").into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?} were left");
}

/// Checks that both have the same rows, and says which they don't share.
#[track_caller]
pub(crate) fn assert_same(rows: &[String], expected: &[String], what: &str) {
    if rows == expected {
        return;
    }
    let (mut more, mut less) = (rows.to_vec(), expected.to_vec());
    remove_all(&mut more, expected);
    remove_all(&mut less, rows);
    let some = |rows: &[String]| rows.iter().take(5).cloned().collect::<Vec<_>>();
    panic!(
        "{what}: {} rows instead of {}; {} too many, such as {:#?}; {} missing, such as {:#?}",
        rows.len(),
        expected.len(),
        more.len(),
        some(&more),
        less.len(),
        some(&less)
    );
}

/// Takes sorted rows out of sorted ones, each as often as it occurs.
fn remove_all(from: &mut Vec<String>, rows: &[String]) {
    let mut rows = rows.iter().peekable();
    from.retain(|row| {
        while rows.next_if(|other| *other < row).is_some() {}
        rows.next_if(|other| *other == row).is_none()
    });
}
