//! What the benchmarks share: components by name, events as text, native views of Arrow columns.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use tidemill::formats::{Encoder, Format, TimestampUnit};
use tidemill::log::nexmark;
use tidemill::plugin::{Plugin, Runtime};
use tidemill_flow::batch::record_batch;
use tidemill_sdk::Column;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The component of an example operator, built before by `cargo xtask bench`.
///
/// # Panics
/// When it isn't there; the message says what to type.
pub fn component(name: &str) -> PathBuf {
    let path = root().join("examples/operators").join(name).with_extension("wasm");
    assert!(path.exists(), "there is no {}; run `cargo xtask bench`, which builds it", path.display());
    path
}

/// An executor on which benchmarks call operators.
///
/// # Panics
/// When threads can't be started.
pub fn executor() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("an executor can be made")
}

/// Loads an example operator.
///
/// # Panics
/// When it can't be loaded.
pub fn load(name: &str) -> Plugin {
    let cache = std::env::temp_dir().join("tidemill-bench-cache");
    let runtime = Runtime::new(&cache).expect("wasmtime starts");
    let bytes = std::fs::read(component(name)).expect("the component can be read");
    executor().block_on(runtime.load(&bytes)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// An Arrow column without nulls as an operator compiled natively sees it: the same buffers.
///
/// # Panics
/// When the column is neither of integers nor of floats.
pub fn native(column: &ArrayRef) -> Column<'_> {
    assert_eq!(column.null_count(), 0, "columns of the benchmarks have no nulls");
    let data = match column.as_primitive_opt::<Int64Type>() {
        Some(integers) => integers.values().inner().as_slice(),
        None => column.as_primitive::<Float64Type>().values().inner().as_slice(),
    };
    Column { validity: None, offsets: None, data }
}

/// Nexmark events as JSON lines: those of one partition of `partitions`, up to `events` in all.
///
/// # Panics
/// When a number doesn't fit.
pub fn nexmark_lines(events: u64, partition: u32, partitions: u32) -> Vec<u8> {
    let options = nexmark::Options { events: Some(events), partitions, ..nexmark::Options::default() };
    let schema = nexmark::schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name.as_str()).collect();
    let mut generator = nexmark::Partition::new(&options, partition, &names);
    let encoder = Encoder::new(&Format::JsonLines, &schema).expect("JSON has every type");
    let mut encoder = encoder.with_timestamps(TimestampUnit::Milliseconds);
    let mut lines = Vec::new();
    while let Some(rows) = generator.next(4096) {
        encoder.encode(&record_batch(schema.arrow(), rows.columns, rows.rows), &mut lines);
    }
    without_nulls(&lines)
}

/// An event's own fields only, as a producer would write them.
fn without_nulls(lines: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(lines).expect("JSON is UTF-8");
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let inside = line.trim_start_matches('{').trim_end_matches('}');
        let fields: Vec<&str> = inside.split(',').filter(|field| !field.ends_with(":null")).collect();
        out.push('{');
        out += &fields.join(",");
        out += "}\n";
    }
    out.into_bytes()
}
