//! What does the whole host do, from memory? Nexmark queries 1 and 7 over generated events, through sources, operators, shuffle
//! and windows to lines of JSON that are thrown away. And does a hopping window cost more, the more often a row is in one?

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group};
use tidemill::pipeline::{check, declaration};
use tidemill::worker::{Ended, Job};
use tidemill_benches::{component, executor, load};

const EVENTS: u64 = 200_000;

/// Of 1.6 million events a second of event time: 75 slides of 50 ms, each with 73,600 bids on 10,004 channels, so that there
/// are about as many results whatever the size of a window.
const HOPPING_EVENTS: u64 = 6_000_000;

fn pipeline(events: &str, operators: &str, sink: &str) -> String {
    format!(
        r#"
        name = "bench"
        parallelism = 2
        [sources.events]
        type = "nexmark"
        {events}
        partitions = 2
        {operators}
        [sinks.out]
        type = "files"
        format = "json-lines"
        path = "/dev/null"
        timestamps = "ms"
        {sink}
        "#
    )
}

fn operator(id: &str, name: &str, rest: &str) -> String {
    format!("[operators.{id}]\ncomponent = {:?}\n{rest}\n", component(name).display().to_string())
}

fn run(c: &mut Criterion, group: &str, name: &str, events: u64, text: &str, components: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let declaration = declaration::parse("bench.toml", text).unwrap_or_else(|e| panic!("{e}"));
    let plugins: Vec<_> = components.iter().map(|c| load(c)).collect();
    let data_plane = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let data_plane = data_plane.expect("threads can be started");
    let executor = executor();
    let mut group = c.benchmark_group(group);
    group.throughput(Throughput::Elements(events)).sample_size(10);
    group.bench_function(name, |b| {
        b.iter(|| {
            let plan = check::plan(&declaration, plugins.clone(), Path::new(folder.path()), 2);
            let plan = plan.unwrap_or_else(|e| panic!("{e}"));
            let ended =
                executor.block_on(async { Job::start(&plan, data_plane.handle(), None).await?.wait().await });
            assert_eq!(ended.unwrap_or_else(|e| panic!("{e}")), Ended::Finished);
        });
    });
    group.finish();
}

fn queries(c: &mut Criterion) {
    let events = format!("events = {EVENTS}");
    let q1 = pipeline(
        &events,
        &operator("convert", "nexmark_currency", "input = \"events\""),
        "input = \"convert\"\nfields = [\"auction\", \"bidder\", \"price\", \"dateTime\", \"extra\"]",
    );
    run(c, "end-to-end", "q1", EVENTS, &q1, &["nexmark_currency"]);
    let bids = operator("bids", "nexmark_bids", "input = \"events\"");
    let windows = "input = \"bids\"\nwindow = { type = \"tumbling\", size = \"10s\" }";
    let operators = bids + &operator("highest", "nexmark_highest_bid", windows);
    let q7 = pipeline(&events, &operators, "input = \"highest\"");
    run(c, "end-to-end", "q7", EVENTS, &q7, &["nexmark_bids", "nexmark_highest_bid"]);
}

fn hopping(c: &mut Criterion) {
    let events = format!("events = {HOPPING_EVENTS}\nevents_per_second = 1_600_000");
    let bids = operator("bids", "nexmark_bids", "input = \"events\"");
    for slides in [1, 10, 60] {
        let size_ms = 50 * slides;
        let windows = format!(
            "input = \"bids\"\nkey = \"channel\"\nwindow = {{ type = \"hopping\", size = \"{size_ms}ms\", slide = \"50ms\" }}"
        );
        let text =
            pipeline(&events, &(bids.clone() + &operator("count", "count", &windows)), "input = \"count\"");
        run(c, "hopping", &slides.to_string(), HOPPING_EVENTS, &text, &["nexmark_bids", "count"]);
    }
}

criterion_group!(benches, queries, hopping);
