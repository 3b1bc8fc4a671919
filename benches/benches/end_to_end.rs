//! What does the whole host do, from memory? Nexmark queries 1 and 7 over generated events, through sources, operators, shuffle
//! and windows to lines of JSON that are thrown away.

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group};
use tidemill::pipeline::{check, declaration};
use tidemill::worker::{Ended, Job};
use tidemill_benches::{component, executor, load};

const EVENTS: u64 = 200_000;

fn pipeline(operators: &str, sink: &str) -> String {
    format!(
        r#"
        name = "bench"
        parallelism = 2
        [sources.events]
        type = "nexmark"
        events = {EVENTS}
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

fn run(c: &mut Criterion, name: &str, text: &str, components: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let declaration = declaration::parse("bench.toml", text).unwrap_or_else(|e| panic!("{e}"));
    let plugins: Vec<_> = components.iter().map(|c| load(c)).collect();
    let data_plane = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let data_plane = data_plane.expect("threads can be started");
    let executor = executor();
    let mut group = c.benchmark_group("end-to-end");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10);
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
    let q1 = pipeline(
        &operator("convert", "nexmark_currency", "input = \"events\""),
        "input = \"convert\"\nfields = [\"auction\", \"bidder\", \"price\", \"dateTime\", \"extra\"]",
    );
    run(c, "q1", &q1, &["nexmark_currency"]);
    let bids = operator("bids", "nexmark_bids", "input = \"events\"");
    let windows = "input = \"bids\"\nwindow = { type = \"tumbling\", size = \"10s\" }";
    let q7 = pipeline(&(bids + &operator("highest", "nexmark_highest_bid", windows)), "input = \"highest\"");
    run(c, "q7", &q7, &["nexmark_bids", "nexmark_highest_bid"]);
}

criterion_group!(benches, queries);
