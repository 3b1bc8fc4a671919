//! How long rows wait because versions of an operator are exchanged while they flow.
//!
//! 50,000 rows a second are appended to a log, read by a pipeline with a stateful aggregate that keeps checkpoints and
//! delivers exactly once, and the aggregate's two versions take turns 50 times. A sampler looks each half millisecond
//! whether rows have gone through the aggregate; the longest time in which none has, in the second behind each swap, is its
//! pause. The same is measured for seconds without a swap. At the end every row must have gone through one version, and
//! each partition must have changed with each swap once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidemill::pipeline::plan::Plan;
use tidemill::pipeline::{check, declaration};
use tidemill::plugin::Runtime;
use tidemill::worker::{Checkpointing, Control, Job, Swap, Swapping};
use tidemill_benches::component;
use tidemill_flow::probation::Limits;
use tidemill_log::{Durability, Log, Options, Record, Writer};

const SWAPS: usize = 50;
const ROWS_PER_SECOND: u64 = 50_000;
const PARTITIONS: u32 = 2;
/// So often the writer adds what is due.
const STEP: Duration = Duration::from_millis(2);
const SAMPLE: Duration = Duration::from_micros(500);
/// Behind each swap.
const WATCHED: Duration = Duration::from_millis(600);

const PIPELINE: &str = r#"
name = "swaps"
[checkpoints]
path = "checkpoints"
interval = "250ms"
[sources.rows]
type = "log"
path = "rows"
event_time = { field = "at" }
[sources.rows.fields]
part = "integer"
number = "integer"
at = { type = "timestamp", unit = "ms" }
[operators.marks]
component = "marks"
input = "rows"
key = "part"
window = { type = "tumbling", size = "100ms" }
[sinks.out]
type = "log"
input = "marks"
path = "out"
"#;

fn main() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    executor.expect("threads can be started").block_on(measure(folder.path()));
}

async fn measure(folder: &Path) {
    make_log(folder);
    let runtime = Runtime::new(&folder.join("cache")).expect("wasmtime starts");
    let [one, two] = [plan(folder, &runtime, "marks-one").await, plan(folder, &runtime, "marks-two").await];
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (folder, stop) = (folder.join("rows"), stop.clone());
        move || write(&folder, &stop)
    });
    let data_plane = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let data_plane = data_plane.expect("threads can be started");
    let checkpointing = Checkpointing::open(&one, None).expect("there is nothing yet");
    let job = Job::start(&one, data_plane.handle(), checkpointing).await.expect("it starts");
    let (counters, control) = (job.counters().clone(), job.control());
    let running = tokio::spawn(job.wait());
    let sampler = Sampler::start(move || counters.operators[0].rows_in.get());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut still = Vec::new();
    for _ in 0..SWAPS {
        let begun = Instant::now();
        tokio::time::sleep(WATCHED).await;
        still.push(begun);
    }
    let mut swapped = Vec::new();
    for number in 0..SWAPS {
        let plans = if number % 2 == 0 { [&one, &two] } else { [&two, &one] };
        swapped.push(Instant::now());
        swap(&control, plans, number).await;
        tokio::time::sleep(WATCHED).await;
    }
    let stood_ms = control.take_pause_us() as f64 / 1_000.0;
    stop.store(true, Ordering::Relaxed);
    let rows = writer.join().expect("the writer doesn't fail");
    while sampler.rows() < rows {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    control.drain();
    running.await.expect("it doesn't panic").expect("it doesn't fail");
    let samples = sampler.stop();
    data_plane.shutdown_background();
    let changes = check_output(folder, rows);
    println!("{rows} rows, {SWAPS} swaps, each row through one version; changes by partition: {changes:?}");
    println!("| longest time without a row, ms | p50 | p99 | max |\n|---|---|---|---|");
    for (what, begun) in [("seconds without a swap", still), ("behind a swap", swapped)] {
        let mut pauses: Vec<f64> = begun.iter().map(|&at| longest(&samples, at)).collect();
        pauses.sort_by(f64::total_cmp);
        let at = |share: f64| pauses[((pauses.len() - 1) as f64 * share).round() as usize];
        println!("| {what} | {:.1} | {:.1} | {:.1} |", at(0.5), at(0.99), at(1.0));
    }
    println!("no task stood still for more than {stood_ms:.1} ms for a swap");
    assert!(changes.iter().all(|&changes| changes == SWAPS), "each partition changes with each swap once");
}

async fn plan(folder: &Path, runtime: &Runtime, package: &str) -> Arc<Plan> {
    let declaration = declaration::parse("swaps.toml", PIPELINE).expect("the file is right");
    let bytes = std::fs::read(component(&package.replace('-', "_"))).expect("the component can be read");
    let plugin = runtime.load(&bytes).await.expect("it is an operator");
    Arc::new(check::plan(&declaration, vec![plugin], folder, 2).unwrap_or_else(|e| panic!("{e}")))
}

async fn swap(control: &Control, [before, after]: [&Arc<Plan>; 2], number: usize) {
    let swap = Swap {
        plan: after.clone(),
        operators: vec![0],
        probation: Duration::ZERO,
        limits: Limits { rejected_share_max: 1.0, slowdown_max: f64::INFINITY },
        keep: format!("before-{number}").parse().expect("a name"),
    };
    let mut progress = control.swap(swap, before).await.expect("it can be swapped");
    progress.wait_for(|at| matches!(at, Swapping::Passed(_))).await.expect("it passes");
}

fn make_log(folder: &Path) {
    let options = Options { partitions: PARTITIONS, ..Options::default() };
    Writer::create(&folder.join("rows"), &options).and_then(Writer::close).expect("a log can be made");
}

/// Appends rows as they are due; says how many they were.
fn write(folder: &Path, stop: &AtomicBool) -> u64 {
    let writer = Writer::open(folder).expect("the log is there").with_durability(Durability::OnRequest);
    let begun = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = begun.elapsed().as_micros() as u64 * ROWS_PER_SECOND / 1_000_000 / u64::from(PARTITIONS);
        for partition in 0..PARTITIONS {
            let lines: Vec<String> = (number..due)
                .map(|n| format!(r#"{{"part":{partition},"number":{n},"at":{}}}"#, n / 25))
                .collect();
            let records: Vec<Record<'_>> = lines.iter().map(|line| record(line)).collect();
            if !records.is_empty() {
                writer.append_all(partition, &records).expect("rows can be appended");
            }
        }
        number = due.max(number);
        std::thread::sleep(STEP);
    }
    writer.close().expect("the log can be closed");
    number * u64::from(PARTITIONS)
}

fn record(line: &str) -> Record<'_> {
    Record { timestamp_ms: 0, key: None, id: None, value: line.as_bytes() }
}

/// Looks how many rows have gone through, again and again.
struct Sampler {
    rows: Arc<dyn Fn() -> u64 + Send + Sync>,
    stop: Arc<AtomicBool>,
    samples: std::thread::JoinHandle<Vec<Instant>>,
}

impl Sampler {
    fn start(rows: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let (rows, stop) = (Arc::new(rows), Arc::new(AtomicBool::new(false)));
        let samples = std::thread::spawn({
            let (rows, stop) = (rows.clone(), stop.clone());
            move || {
                // When there were more than before.
                let (mut seen, mut moments) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let now = rows();
                    if now > seen {
                        seen = now;
                        moments.push(Instant::now());
                    }
                    std::thread::sleep(SAMPLE);
                }
                moments
            }
        });
        Self { rows, stop, samples }
    }

    fn rows(&self) -> u64 {
        (self.rows)()
    }

    fn stop(self) -> Vec<Instant> {
        self.stop.store(true, Ordering::Relaxed);
        self.samples.join().expect("looking doesn't fail")
    }
}

/// The longest time without a row in the time behind a moment, in milliseconds.
fn longest(moments: &[Instant], from: Instant) -> f64 {
    let first = moments.partition_point(|&at| at < from).saturating_sub(1);
    let until = from + WATCHED;
    let within = moments[first..].iter().take_while(|&&at| at < until);
    let within: Vec<Instant> = within.copied().collect();
    let gaps = within.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or(WATCHED).as_secs_f64() * 1_000.0
}

/// That each row went through one version; how often the version changed, by partition.
fn check_output(folder: &Path, rows: u64) -> Vec<usize> {
    let log = Log::open(&folder.join("out")).expect("the output is there");
    let mut groups: Vec<serde_json::Value> = Vec::new();
    for partition in 0..log.partitions() {
        let mut reader = log.reader(partition, 0).expect("it can be read");
        loop {
            let batch = reader.read(10_000, 16 << 20).expect("it can be read");
            if batch.is_empty() {
                break;
            }
            let row = |(_, record): (u64, Record<'_>)| {
                serde_json::from_slice(record.value).expect("output is JSON")
            };
            groups.extend(batch.records().map(row));
        }
    }
    groups.sort_by_key(|g| g["first_one"].as_u64().into_iter().chain(g["first_two"].as_u64()).min());
    let (mut changes, mut total) = (Vec::new(), 0);
    for part in 0..PARTITIONS {
        let (mut next, mut last, mut changed) = (0, None, 0);
        for group in groups.iter().filter(|g| g["part"] == part) {
            let mut seen = Vec::new();
            for (version, name) in [(1, "one"), (2, "two")] {
                if let (Some(first), Some(last)) =
                    (group[format!("first_{name}")].as_u64(), group[format!("last_{name}")].as_u64())
                {
                    let count = group[format!("rows_{name}")].as_u64().expect("a count");
                    assert_eq!(count, last + 1 - first, "rows of version {version} stand together: {group}");
                    seen.push((first, last, version));
                }
            }
            seen.sort_unstable();
            for (first, end, version) in seen {
                assert_eq!(first, next, "no row is missing or there twice: {group}");
                next = end + 1;
                changed += usize::from(last.is_some_and(|last| last != version));
                last = Some(version);
            }
        }
        total += next;
        changes.push(changed);
    }
    assert_eq!(total, rows, "every row is in the output");
    changes
}
