//! What does the sandbox cost? A batch of 4,096 rows through a transform with three numeric columns in and one out, and
//! through an aggregate, as a component and as the same code compiled natively, on the same Arrow columns.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{ArrayRef, Float64Array, Int64Array};
use criterion::{Criterion, Throughput, criterion_group};
use tidemill::plugin::Limits;
use tidemill_benches::{executor, load, native};
use tidemill_sdk::{Batch, Column};

const ROWS: usize = 4096;

fn transform(c: &mut Criterion) {
    let column = |low: f64, high: f64| -> ArrayRef {
        let value = |row: usize| low + (high - low) * (row * 37 % ROWS) as f64 / ROWS as f64;
        Arc::new(Float64Array::from_iter_values((0..ROWS).map(value)))
    };
    let columns = [column(-20.0, 40.0), column(0.0, 100.0), column(980.0, 1040.0)];
    let mut group = c.benchmark_group("transform");
    group.throughput(Throughput::Elements(ROWS as u64));

    let operator = air_density::open(&[]).expect("it has no settings");
    let lent: Vec<Column<'_>> = columns.iter().map(native).collect();
    group.bench_function("native", |b| {
        b.iter(|| operator.process(Batch { rows: ROWS, columns: black_box(&lent) }).expect("a good batch"));
    });

    let executor = executor();
    let plugin = load("air_density");
    let mut guest = executor.block_on(plugin.transform("o", &[], Limits::default())).expect("it starts");
    group.bench_function("wasm", |b| {
        b.iter_custom(|count| {
            executor.block_on(async {
                let started = Instant::now();
                for _ in 0..count {
                    black_box(guest.process(black_box(&columns), ROWS).await.expect("a good batch"));
                }
                started.elapsed()
            })
        });
    });
    group.finish();
}

fn aggregate(c: &mut Criterion) {
    const GROUPS: u32 = 64;
    let delays: [ArrayRef; 1] =
        [Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| row as i64 % 90 - 10)))];
    let group_of: Vec<u32> = (0..ROWS as u32).map(|row| row * 37 % GROUPS).collect();
    let zeros = || -> ArrayRef { Arc::new(Int64Array::from(vec![0; GROUPS as usize])) };
    let accumulators = [zeros(), zeros()];
    let mut group = c.benchmark_group("aggregate");
    group.throughput(Throughput::Elements(ROWS as u64));

    let operator = mean_delay::open(&[]).expect("it has no settings");
    let lent: Vec<Column<'_>> = delays.iter().map(native).collect();
    let state: Vec<Column<'_>> = accumulators.iter().map(native).collect();
    let groups: Vec<u8> = group_of.iter().flat_map(|g| g.to_le_bytes()).collect();
    group.bench_function("native", |b| {
        b.iter(|| {
            let batch = Batch { rows: ROWS, columns: black_box(&lent) };
            operator.accumulate(GROUPS as usize, &state, &groups, batch).expect("a good batch")
        });
    });

    let executor = executor();
    let plugin = load("mean_delay");
    let mut guest = executor.block_on(plugin.aggregate("o", &[], Limits::default())).expect("it starts");
    group.bench_function("wasm", |b| {
        b.iter_custom(|count| {
            executor.block_on(async {
                let started = Instant::now();
                for _ in 0..count {
                    let call =
                        guest.accumulate(GROUPS as usize, &accumulators, &group_of, black_box(&delays));
                    black_box(call.await.expect("a good batch"));
                }
                started.elapsed()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, transform, aggregate);
