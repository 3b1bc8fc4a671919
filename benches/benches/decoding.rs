//! How fast do bytes become columns? JSON lines with six demanded fields, against serde_json into a borrowed struct of
//! just those fields.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group};
use serde::Deserialize;
use tidemill::formats::{Decoder, Demand, Format};
use tidemill::log::nexmark;
use tidemill_benches::nexmark_lines;

const FIELDS: [&str; 6] = ["event_type", "auction", "bidder", "price", "dateTime", "extra"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    event_type: &'a str,
    auction: Option<i64>,
    bidder: Option<i64>,
    price: Option<i64>,
    #[serde(rename = "dateTime")]
    date_time: i64,
    extra: &'a str,
}

fn json_lines(c: &mut Criterion) {
    let lines = nexmark_lines(20_000, 0, 1);
    let mut group = c.benchmark_group("json-lines");
    group.throughput(Throughput::Bytes(lines.len() as u64));
    group.bench_function("serde_json", |b| {
        b.iter(|| {
            for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let event: Event<'_> = serde_json::from_slice(black_box(line)).expect("it was written so");
                black_box((
                    event.event_type,
                    event.auction,
                    event.bidder,
                    event.price,
                    event.date_time,
                    event.extra,
                ));
            }
        });
    });
    let demands = || {
        let schema = nexmark::schema();
        FIELDS
            .iter()
            .map(|name| Demand::named(schema.field(name).expect("a field").clone()))
            .collect::<Vec<_>>()
    };
    group.bench_function("columns", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new(&Format::JsonLines, demands()).expect("JSON has them");
            let mut at = 0;
            while at < lines.len() {
                at += decoder.decode(black_box(&lines[at..]), true, 4096).expect("JSON has no header");
                black_box(decoder.take());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, json_lines);
