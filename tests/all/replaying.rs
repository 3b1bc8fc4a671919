//! A shadow of a pipeline makes what the live one has made of the same stretch; another version of it makes something else
//! exactly where it is another; and it takes the live one's place at a position of its sources.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidemill::pipeline::check;
use tidemill::pipeline::declaration;
use tidemill::pipeline::plan::Plan;
use tidemill::plugin::Runtime;
use tidemill::replay::{Live, Origin, Progress, ReplayError, Report, Shadow, report_html, report_text};
use tidemill::worker::{Checkpointing, Job};
use tidemill_checkpoint::{Manifest, Name, Place, Store};
use tidemill_log::{Log, Options, Record, Writer};
use tidemill_tests::{Folder, component, sorted};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// From a log of two partitions into windows, by files and by a log, and into running numbers.
const PIPELINE: &str = r#"
    name = "p"
    [checkpoints]
    interval = "20ms"
    retain = 1000
    [sources.bookings]
    type = "log"
    path = "in"
    event_time = { field = "at" }
    [sources.bookings.fields]
    key = "integer"
    at = { type = "timestamp", unit = "ms" }
    amount = "integer"
    [operators.sum]
    component = "sum-by-key"
    input = "bookings"
    key = "key"
    window = { type = "tumbling", size = "1s" }
    [operators.number]
    component = "count-by-key"
    input = "bookings"
    key = "key"
    [operators.visits]
    component = "count"
    input = "bookings"
    key = "key"
    window = { type = "session", gap = "10ms" }
    [sinks.sums]
    type = "files"
    input = "sum"
    path = "out/sums-*.jsonl"
    [sinks.logged]
    type = "log"
    input = "sum"
    path = "out/logged"
    [sinks.numbers]
    type = "files"
    input = "number"
    path = "out/numbers-*.csv"
    [sinks.visits-out]
    type = "files"
    input = "visits"
    path = "out/visits-*.jsonl"
    [sinks.at-once]
    type = "files"
    input = "sum"
    path = "out/at-once.jsonl"
    delivery = "at-least-once"
    "#;

const KEYS: i64 = 20;
/// Which of them another version sees otherwise.
const OTHER_KEY: i64 = 7;

/// A folder with a log, and what runs there.
struct World {
    folder: Folder,
    runtime: Runtime,
    written: i64,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let options = Options { partitions: 2, ..Options::default() };
        Writer::create(&folder.path("in"), &options).and_then(Writer::close).unwrap();
        let runtime = Runtime::new(&folder.path("cache")).unwrap();
        Self { folder, runtime, written: 0 }
    }

    /// Appends so many bookings, a millisecond apart.
    fn append(&mut self, count: i64) {
        let writer = Writer::open(&self.folder.path("in")).unwrap();
        for first in (self.written..self.written + count).step_by(500) {
            let mut lines: [Vec<String>; 2] = [Vec::new(), Vec::new()];
            for at in first..(first + 500).min(self.written + count) {
                let key = at * 7 % KEYS;
                let other = if key == OTHER_KEY { at % 5 + 1 } else { at % 5 };
                lines[usize::try_from(key % 2).unwrap()]
                    .push(format!("{{\"key\":{key},\"at\":{at},\"amount\":{},\"other\":{other}}}", at % 5));
            }
            for (partition, lines) in (0..).zip(&lines) {
                let record = |line: &'_ String| line.clone().into_bytes();
                let values: Vec<Vec<u8>> = lines.iter().map(record).collect();
                let records: Vec<Record<'_>> = values
                    .iter()
                    .map(|value| Record { value, timestamp_ms: first, ..Record::default() })
                    .collect();
                writer.append(partition, &records).unwrap();
            }
        }
        self.written += count;
        writer.close().unwrap();
    }

    async fn plan_of(&self, text: &str) -> Plan {
        let declaration = declaration::parse("p.toml", text).unwrap_or_else(|e| panic!("{e}"));
        let mut plugins = Vec::new();
        for operator in &declaration.operators {
            let package = operator.component.value.to_str().unwrap();
            let bytes = std::fs::read(component(package)).unwrap();
            plugins.push(self.runtime.load(&bytes).await.unwrap());
        }
        check::plan(&declaration, plugins, &self.folder.path(""), 2).unwrap_or_else(|e| panic!("{e}"))
    }

    async fn plan(&self) -> Plan {
        self.plan_of(PIPELINE).await
    }

    /// The other version: it takes the amount from another field, which differs for one key.
    async fn other_plan(&self) -> Plan {
        let other = "amount = { type = \"integer\", path = \"other\" }";
        self.plan_of(&PIPELINE.replace("amount = \"integer\"", other)).await
    }

    fn store(&self) -> Place {
        Place::Folder(self.folder.path("p.checkpoints"))
    }

    /// Runs the pipeline until it has read what was appended and has made so many checkpoints behind that; then stops it.
    async fn run(&self, plan: &Plan, checkpoints: u64) -> Manifest {
        let checkpointing = Checkpointing::open(plan, None).unwrap();
        let job = Job::start(plan, &Handle::current(), checkpointing).await.unwrap();
        let (counters, completed, stop) = (job.counters().clone(), job.completed(), job.stop_handle());
        let ended = tokio::spawn(job.wait());
        wait_until(|| counters.rows_read() >= self.written.unsigned_abs()).await;
        let before = completed();
        wait_until(|| completed() >= before + checkpoints).await;
        stop.stop();
        ended.await.unwrap().unwrap();
        self.newest()
    }

    fn manifests(&self) -> Vec<Manifest> {
        let listed = Store::look(self.store()).unwrap().list().unwrap();
        let listed = listed.into_iter().filter(|l| matches!(l.name, Name::Checkpoint(_)));
        listed.map(|l| l.manifest.unwrap()).collect()
    }

    fn newest(&self) -> Manifest {
        self.manifests().pop().unwrap()
    }

    /// Keeps the newest checkpoint as a savepoint.
    fn keep(&self, name: &str) {
        let contents = Store::look(self.store()).unwrap();
        contents.keep(self.newest().checkpoint, &name.parse().unwrap()).unwrap();
    }

    fn shadow(&self, name: &str, live: &Plan, origin: &str) -> Result<Shadow, ReplayError> {
        let place = self.store();
        let live = Live { plan: live, place: &place };
        Shadow::create(&self.folder.path(name), &live, &origin.parse::<Origin>().unwrap())
    }

    fn compare(&self, shadow: &Shadow, live: &Plan) -> Report {
        let place = self.store();
        shadow.compare(&Live { plan: live, place: &place }).unwrap()
    }
}

async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it takes too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn run_to(shadow: &mut Shadow, plan: Plan, to: &Manifest) -> Result<(), ReplayError> {
    let (_stop, stopped) = watch::channel(false);
    let plan = Arc::new(shadow.plan(plan, to, None)?);
    shadow.run_to(plan, to, &Handle::current(), &|_| (), stopped).await
}

/// Counts of a sink: equal or later, different, missing, added.
fn counts(report: &Report, sink: &str) -> (u64, u64, u64, u64) {
    let sink = report.sinks.iter().find(|s| s.id == sink).unwrap();
    assert_eq!(sink.not_compared, None, "{}", sink.id);
    (sink.equal + sink.later, sink.different, sink.missing, sink.added)
}

fn told(report: &Report) -> String {
    report_text(&serde_json::to_string(report).unwrap()).unwrap()
}

/// The rows that appeared in files and log.
fn output(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut output: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in world.folder.files("out").into_iter().filter(|f| f.contains("-0")) {
        let (sink, _) = file.rsplit_once('-').unwrap();
        let rows = world.folder.read(&format!("out/{file}"));
        output.entry(sink.to_owned()).or_default().extend(rows.lines().map(str::to_owned));
    }
    let log = Log::open(&world.folder.path("out/logged")).unwrap();
    let records = log.read(0, 0, usize::MAX, usize::MAX).unwrap();
    let values = records.iter().map(|r| String::from_utf8(r.value.to_vec()).unwrap());
    output.insert("logged".to_owned(), values.collect());
    output.into_iter().map(|(sink, rows)| (sink, sorted(rows.iter().map(String::as_str)))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_of_the_same_version_makes_the_same() {
    let mut world = World::new();
    let plan = world.plan().await;
    world.append(10_000);
    world.run(&plan, 2).await;
    world.keep("middle");
    world.append(10_000);
    let last = world.run(&plan, 2).await;
    for (name, origin) in [("shadow", "savepoint:middle"), ("whole", "beginning")] {
        let mut shadow = world.shadow(name, &plan, origin).unwrap();
        run_to(&mut shadow, world.plan().await, &last).await.unwrap();
        let report = world.compare(&shadow, &plan);
        assert!(report.equal, "{}", told(&report));
        let (equal, ..) = counts(&report, "sums");
        assert!(equal >= 180, "{}", told(&report));
        assert_eq!(counts(&report, "logged"), counts(&report, "sums"));
        assert_eq!(counts(&report, "numbers").0, report.rows_read);
        let at_once = report.sinks.iter().find(|s| s.id == "at-once").unwrap();
        assert!(at_once.not_compared.as_ref().unwrap().contains("exactly-once"), "{at_once:?}");
        assert!(report.counts.iter().all(|c| c.live == c.shadow), "{:?}", report.counts);
        // It is found again, and has nothing to do.
        let mut found = Shadow::open(shadow.folder()).unwrap();
        run_to(&mut found, world.plan().await, &last).await.unwrap();
        assert_eq!(world.compare(&found, &plan).sinks, report.sinks);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stretch_between_any_two_checkpoints_of_a_run_is_the_same() {
    let mut world = World::new();
    let plan = world.plan().await;
    world.append(20_000);
    let mut slow = world.plan().await;
    slow.rows_per_second_max = Some(40_000);
    world.run(&slow, 1).await;
    let manifests = world.manifests();
    let read = |m: &Manifest| m.counters.sources["bookings"]["rows"];
    let between: Vec<&Manifest> =
        manifests.iter().filter(|m| read(m) > 0 && read(m) < world.written.unsigned_abs()).collect();
    assert!(between.len() >= 4, "only {} checkpoints while it read", between.len());
    let (first, second, third) = (between[0], between[between.len() / 2], between[between.len() - 1]);
    let mut shadow = world.shadow("shadow", &plan, &format!("checkpoint:{}", first.checkpoint)).unwrap();
    for to in [second, third, manifests.last().unwrap()] {
        run_to(&mut shadow, world.plan().await, to).await.unwrap();
        assert_eq!(shadow.reached(), Some(to.checkpoint));
        let report = world.compare(&shadow, &plan);
        assert!(report.equal, "from {} to {}: {}", first.checkpoint, to.checkpoint, told(&report));
        assert_eq!(report.rows_read, read(to) - read(first));
    }
    // Nothing is left of what kept the checkpoint while it was copied.
    let listed = Store::look(world.store()).unwrap().list().unwrap();
    assert!(listed.iter().all(|l| matches!(l.name, Name::Checkpoint(_))));
    let refused = run_to(&mut shadow, world.plan().await, second).await.unwrap_err();
    assert!(refused.to_string().contains("is at checkpoint"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_differs_exactly_where_it_is_another_and_takes_over_at_a_position() {
    let mut world = World::new();
    let plan = world.plan().await;
    world.append(10_000);
    world.run(&plan, 1).await;
    world.keep("middle");
    world.append(5_000);
    let last = world.run(&plan, 1).await;
    let mut shadow = world.shadow("shadow", &plan, "savepoint:middle").unwrap();
    run_to(&mut shadow, world.other_plan().await, &last).await.unwrap();
    let report = world.compare(&shadow, &plan);
    let (_, different, missing, added) = counts(&report, "sums");
    // Of five windows the last isn't over.
    assert_eq!((different, missing, added), (4, 0, 0), "{}", told(&report));
    let sums = report.sinks.iter().find(|s| s.id == "sums").unwrap();
    for sample in &sums.samples {
        let key = sample.live.as_ref().unwrap().iter().find(|c| c.field == "key").unwrap();
        assert_eq!((key.value.as_str(), sample.differing.as_slice()), ("7", ["sum".to_owned()].as_slice()));
    }
    assert_eq!(counts(&report, "logged"), counts(&report, "sums"));
    assert_eq!(counts(&report, "numbers").1, 0);
    let page = report_html(&serde_json::to_string(&report).unwrap()).unwrap();
    assert!(page.contains("<mark>"), "{page}");

    let before = output(&world);
    let store = Store::open(world.store(), "p").unwrap();
    let taken = shadow.take_over(&store, &last, &world.other_plan().await).unwrap();
    assert!(taken.checkpoint > last.checkpoint);
    drop(store);
    assert_eq!(output(&world), before, "taking over shows nothing");
    world.append(5_000);
    world.run(&world.other_plan().await, 1).await;
    let after = output(&world);
    for (sink, rows) in &before {
        let others = after[sink].clone();
        assert!(rows.iter().all(|row| others.contains(row)), "rows of {sink} are gone");
    }
    // Sums are those of the old version in windows that fired before, and of the new one in those that fired since.
    let fired_before = before["sums"].len();
    let mut expected = before["sums"].clone();
    for window in (fired_before as i64 / KEYS)..19 {
        for key in 0..KEYS {
            let at = |at: &i64| at * 7 % KEYS == key;
            let amount = |at: i64| at % 5 + i64::from(key == OTHER_KEY && at >= 10_000);
            let sum: i64 = (window * 1_000..(window + 1) * 1_000).filter(at).map(amount).sum();
            let row = after["sums"].iter().find(|row| {
                row.contains(&format!("\"key\":{key},"))
                    && row.contains(&format!("\"window_start\":\"1970-01-01T00:00:{window:02}Z\""))
            });
            let row =
                row.unwrap_or_else(|| panic!("no window {window} of key {key} in {:#?}", after["sums"]));
            assert!(row.contains(&format!("\"sum\":{sum}")), "window {window} of key {key}: {sum} in {row}");
            expected.push(row.clone());
        }
    }
    assert_eq!(after["sums"], sorted(expected.iter().map(String::as_str)), "none twice, none missing");
    assert_eq!(after["logged"], after["sums"]);
    let numbers = after["numbers"].iter().filter(|row| !row.contains("count"));
    assert_eq!(numbers.count(), 20_000, "each row is numbered once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_takes_over_only_where_the_live_pipeline_stands() {
    let mut world = World::new();
    let plan = world.plan().await;
    world.append(5_000);
    let early = world.run(&plan, 1).await;
    world.append(1_000);
    let last = world.run(&plan, 1).await;
    let mut shadow = world.shadow("shadow", &plan, "beginning").unwrap();
    run_to(&mut shadow, world.plan().await, &early).await.unwrap();
    let store = Store::open(world.store(), "p").unwrap();
    let refused = shadow.take_over(&store, &last, &plan).unwrap_err().to_string();
    assert!(
        refused.contains("was read up to offset") && refused.contains("run it to checkpoint"),
        "{refused}"
    );
    let other = world.manifests().into_iter().find(|m| m.kind == tidemill_checkpoint::Kind::Checkpoint);
    let refused = shadow.take_over(&store, &other.unwrap(), &plan).unwrap_err().to_string();
    assert!(refused.contains("stop it first"), "{refused}");
    drop(store);
    assert_eq!(world.newest(), last, "nothing was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_is_stopped_goes_on_where_it_was() {
    let mut world = World::new();
    let plan = world.plan().await;
    world.append(20_000);
    let last = world.run(&plan, 1).await;
    let mut shadow = world.shadow("shadow", &plan, "beginning").unwrap();
    let (stop, stopped) = watch::channel(false);
    let slow = Arc::new(shadow.plan(world.plan().await, &last, Some(20_000)).unwrap());
    let seen: Mutex<Vec<Progress>> = Mutex::default();
    let progress = |progress: Progress| {
        seen.lock().unwrap().push(progress);
        if progress.rows_read > 2_000 {
            stop.send_replace(true);
        }
    };
    let begun = Instant::now();
    let ended = shadow.run_to(slow, &last, &Handle::current(), &progress, stopped).await;
    assert_eq!(ended, Err(ReplayError::Stopped));
    let read = seen.lock().unwrap().last().copied().unwrap();
    assert!(read.rows_read < 20_000 && read.rows == 20_000, "{read:?}");
    let allowed = 20_000.0 * begun.elapsed().as_secs_f64() + 12_000.0;
    assert!((read.rows_read as f64) < allowed, "{read:?} in {:?}", begun.elapsed());
    let mut shadow = Shadow::open(shadow.folder()).unwrap();
    assert!(world.folder.path("shadow/shadow.json").exists() && shadow.reached().is_none());
    run_to(&mut shadow, world.plan().await, &last).await.unwrap();
    let report = world.compare(&shadow, &plan);
    assert!(report.equal && report.rows_read == 20_000, "{}", told(&report));
    let folder = shadow.folder().to_owned();
    shadow.remove().unwrap();
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_without_state_is_compared_in_the_windows_that_it_knows_whole() {
    let mut world = World::new();
    let plan = world.plan().await;
    world.append(20_000);
    let last = world.run(&plan, 1).await;
    for origin in ["sequence:3000", "time:1970-01-01T00:00:06.1Z"] {
        let name = origin.split(':').next().unwrap();
        let mut shadow = world.shadow(name, &plan, origin).unwrap();
        run_to(&mut shadow, world.plan().await, &last).await.unwrap();
        let report = world.compare(&shadow, &plan);
        let sums = report.sinks.iter().find(|s| s.id == "sums").unwrap();
        assert!(report.equal && sums.equal >= 12 * 20 && sums.left_out > 0, "{origin}: {}", told(&report));
        let numbers = report.sinks.iter().find(|s| s.id == "numbers").unwrap();
        let why = numbers.not_compared.as_ref().unwrap();
        assert!(why.contains("depend on rows from before the replay begins"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_replayed_is_refused() {
    let mut world = World::new();
    let plan = world.plan().await;
    world.append(100);
    let last = world.run(&plan, 1).await;
    let missing = world.shadow("a", &plan, "checkpoint:999").unwrap_err().to_string();
    assert!(missing.contains("999"), "{missing}");
    world.folder.write("b/file", "x");
    let taken = world.shadow("b", &plan, "beginning").unwrap_err().to_string();
    assert!(taken.contains("isn't empty"), "{taken}");
    let shadow = world.shadow("c", &plan, "beginning").unwrap();
    let refused = shadow.plan(world.plan().await, &last, Some(0)).map(drop).unwrap_err().to_string();
    assert!(refused.contains("0 rows a second"), "{refused}");
    let other = world.plan_of(&PIPELINE.replace("bookings", "others")).await;
    let refused = shadow.plan(other, &last, None).map(drop).unwrap_err().to_string();
    assert!(refused.contains("source `others` isn't in checkpoint"), "{refused}");
    world.folder.write("files.jsonl", "{\"key\":1,\"at\":1,\"amount\":1}\n");
    let files =
        PIPELINE.replace("type = \"log\"\n    path = \"in\"", "type = \"files\"\n    path = \"files.jsonl\"");
    let files = world.plan_of(&files).await;
    let refused = world.shadow("d", &files, "time:2026-11-20T00:00:00Z").unwrap_err().to_string();
    assert!(refused.contains("only logs and streams know where a time stands"), "{refused}");
    let compared = shadow.compare(&Live { plan: &plan, place: &world.store() }).unwrap_err().to_string();
    assert!(compared.contains("hasn't run"), "{compared}");
    assert!(Shadow::open(Path::new("/nowhere")).is_err());
}
