//! How far time has come: by the word of records, by the clock, past partitions that are silent, and in step with others.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidemill_tests::{Ended, Folder, tidemill_in};

/// Steps in a log that is followed, counted by the second for each walker.
const STEPS: &str = r#"
    name = "p"
    late = "late.jsonl"
    [sources.steps]
    type = "log"
    path = "steps"
    event_time = { field = "at" }
    idle_after = "300ms"
    [sources.steps.fields]
    walker = "integer"
    at = { type = "timestamp", unit = "ms" }
    [operators.count]
    component = "@count"
    input = "steps"
    key = "walker"
    window = { type = "tumbling", size = "1s" }
    [sinks.counts]
    type = "files"
    input = "count"
    path = "counts.jsonl"
    delivery = "at-least-once"
    timestamps = "ms"
    "#;

/// Two walkers whose steps stand in different partitions.
struct Walkers {
    folder: Folder,
    walkers: [i64; 2],
}

impl Walkers {
    fn new() -> Self {
        let folder = Folder::new();
        log(&folder, &["create", "steps", "--partitions", "2"]);
        log(&folder, &["create", "probe", "--partitions", "2"]);
        let lines: String = (0..16).map(|walker| format!("{{\"walker\":{walker}}}\n")).collect();
        append(&folder, "probe", &lines);
        let read = log(&folder, &["read", "probe", "--json"]);
        let records: Vec<Value> = read.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let walker_in = |partition: i64| {
            let record = records.iter().find(|r| r["partition"] == partition).unwrap();
            record["key"].as_str().unwrap().parse().unwrap()
        };
        Self { walkers: [walker_in(0), walker_in(1)], folder }
    }

    fn walk(&self, walker: usize, times: &[i64]) {
        let walker = self.walkers[walker];
        let line = |at: &i64| format!("{{\"walker\":{walker},\"at\":{at}}}\n");
        append(&self.folder, "steps", &times.iter().map(line).collect::<String>());
    }

    /// The windows so far: walker, start and count, sorted.
    fn windows(&self) -> Vec<(usize, i64, i64)> {
        if !self.folder.has("counts.jsonl") {
            return Vec::new();
        }
        let text = self.folder.read("counts.jsonl");
        // The last line may be on its way.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let window = |row: Value| {
            let walker = usize::from(row["walker"].as_i64().unwrap() == self.walkers[1]);
            (walker, row["window_start"].as_i64().unwrap(), row["count"].as_i64().unwrap())
        };
        let mut windows: Vec<_> = lines.map(window).collect();
        windows.sort_unstable();
        windows
    }

    #[track_caller]
    fn wait_for(&self, windows: &[(usize, i64, i64)]) {
        wait_until(|| self.windows() == windows, || format!("{:?}, expected {windows:?}", self.windows()));
    }
}

fn log(folder: &Folder, arguments: &[&str]) -> Ended {
    tidemill_in(&folder.path(""), ["log"].iter().chain(arguments)).well()
}

fn append(folder: &Folder, name: &str, lines: &str) {
    folder.write("lines.jsonl", lines);
    log(folder, &["append", name, "lines.jsonl", "--key-field", "walker"]);
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "after 30 s: {}", otherwise());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn windows_fire_past_a_partition_that_is_silent() {
    for parallelism in ["1", "2"] {
        let steps = Walkers::new();
        steps.walk(0, &[500, 1500, 2500]);
        let running = steps.folder.start(STEPS, &["--json", "--parallelism", parallelism], b"");
        steps.wait_for(&[(0, 0, 1), (0, 1000, 1)]);
        // Now the other has steps: one is for a window that has fired, the other one isn't.
        steps.walk(1, &[700, 2600]);
        steps.walk(0, &[3500]);
        let all = [(0, 0, 1), (0, 1000, 1), (0, 2000, 1), (1, 2000, 1)];
        steps.wait_for(&all);
        running.interrupt();
        let ended = running.wait().with(130);
        assert_eq!(ended.count("operators", "count", "late"), 1, "parallelism {parallelism}");
        assert_eq!(steps.windows(), all);
        assert_eq!(steps.folder.json_lines("late.jsonl")[0]["event_time"], "1970-01-01T00:00:00.700Z");
    }
}

#[test]
fn a_silent_partition_holds_back_time_unless_told_otherwise() {
    let steps = Walkers::new();
    steps.walk(0, &[500, 1500, 2500]);
    let patient = STEPS.replace("idle_after = \"300ms\"", "");
    let running = steps.folder.start(&patient, &["--json", "--parallelism", "1"], b"");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(steps.windows(), []);
    // It has only been waited for: nothing is late.
    steps.walk(1, &[700, 2600]);
    steps.wait_for(&[(0, 0, 1), (0, 1000, 1), (1, 0, 1)]);
    running.interrupt();
    assert_eq!(running.wait().with(130).count("operators", "count", "late"), 0);
}

#[test]
fn what_fired_past_a_silent_partition_does_not_fire_again_after_a_restart() {
    let steps = Walkers::new();
    let lasting = STEPS.replace("late.jsonl\"", "late-*.jsonl\"\n    [checkpoints]\n    interval = \"50ms\"");
    steps.walk(0, &[500, 1500, 2500]);
    let running = steps.folder.start(&lasting, &["--json", "--parallelism", "2"], b"");
    let fired = [(0, 0, 1), (0, 1000, 1)];
    steps.wait_for(&fired);
    running.interrupt();
    running.wait().with(130);
    steps.walk(1, &[700, 2600]);
    let running = steps.folder.start(&lasting, &["--json", "--parallelism", "1"], b"");
    steps.walk(0, &[3500]);
    let all = [(0, 0, 1), (0, 1000, 1), (0, 2000, 1), (1, 2000, 1)];
    steps.wait_for(&all);
    running.interrupt();
    let ended = running.wait().with(130);
    assert_eq!(ended.count("operators", "count", "late"), 1, "as late as it would have been");
    assert_eq!(steps.windows(), all);
}

#[test]
fn records_say_how_far_time_has_come() {
    let records = [
        r#"{"walker":1,"at":1100}"#,
        // Far behind, but nobody has said that there are no more of its kind.
        r#"{"walker":1,"at":500}"#,
        r#"{"complete":1000}"#,
        r#"{"walker":1,"at":900}"#,
        // Up to here, with this one.
        r#"{"walker":1,"at":1200,"complete":1999}"#,
        r#"{"walker":1,"at":1300}"#,
        r#"{"walker":1,"at":2500,"complete":1500}"#,
        // Only the end of the input is the end of time.
        r#"{"walker":1,"at":2500,"complete":9223372036854775807}"#,
        r#"{"walker":1}"#,
        r#"{"walker":1,"at":2000}"#,
    ];
    let folder = Folder::with(&[("steps.jsonl", &(records.join("\n") + "\n"))]);
    let pipeline = STEPS
        .replace("type = \"log\"\n    path = \"steps\"", "type = \"files\"\n    path = \"steps.jsonl\"")
        .replace("idle_after = \"300ms\"", "")
        .replace("{ field = \"at\" }", "{ field = \"at\", watermark_field = \"complete\" }")
        .replace(
            "walker = \"integer\"",
            "walker = \"integer\"\n    complete = { type = \"timestamp\", unit = \"ms\" }",
        );
    let ended = folder.run(&pipeline).well();
    let counts = folder.json_lines("counts.jsonl");
    let counts: Vec<_> =
        counts.iter().map(|r| (r["window_start"].as_i64().unwrap(), r["count"].as_i64().unwrap())).collect();
    assert_eq!(counts, [(0, 1), (1000, 2), (2000, 2)]);
    assert_eq!(ended.count("operators", "count", "late"), 2);
    assert_eq!(ended.count("sources", "steps", "malformed"), 2);
    assert_eq!(ended.count("sources", "steps", "rows"), 7);
}

#[test]
fn rows_that_happen_when_they_arrive_need_no_others_for_their_windows_to_end() {
    let steps = Walkers::new();
    let arriving = STEPS
        .replace("event_time = { field = \"at\" }", "event_time = \"arrival\"")
        .replace("idle_after = \"300ms\"", "");
    let now_ms = || i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    for parallelism in ["1", "2"] {
        let running = steps.folder.start(&arriving, &["--json", "--parallelism", parallelism], b"");
        let begun = now_ms();
        // What its fields say is another matter.
        steps.walk(0, &[5]);
        let counted = || steps.windows().iter().map(|w| w.2).sum::<i64>();
        let steps_count = if parallelism == "1" { 1 } else { 2 };
        wait_until(|| counted() == steps_count, || format!("{:?}", steps.windows()));
        running.interrupt();
        let ended = running.wait().with(130);
        assert_eq!(ended.count("operators", "count", "late"), 0);
        for (_, start, _) in steps.windows() {
            assert!(
                begun - 1000 < start && start + 1000 <= now_ms(),
                "{start} isn't from {begun} to {}",
                now_ms()
            );
        }
    }
}

/// Two sources that are as old as each other and not equally fast: one as it happens, the other as fast as it can.
const UNEVEN: &str = r#"
    name = "p"
    [sources.slow]
    type = "nexmark"
    events_per_second = 2_000
    pace = "event-time"
    ALIGN
    [sources.fast]
    type = "nexmark"
    events_per_second = 2_000
    partitions = 2
    seed = 7
    ALIGN
    [operators.all]
    component = "@nexmark-bids"
    inputs = ["slow", "fast"]
    [operators.count]
    component = "@count"
    input = "all"
    key = "auction"
    window = { type = "tumbling", size = "1s" }
    [sinks.counts]
    type = "files"
    input = "count"
    path = "counts.jsonl"
    delivery = "at-least-once"
    [sinks.fast-out]
    type = "files"
    input = "fast"
    path = "fast.jsonl"
    fields = ["dateTime"]
    delivery = "at-least-once"
    "#;

const ALIGN: &str = "align = { group = \"all\", max_drift = \"3s\" }";

/// What was read of both sources when it was stopped, and the groups in open windows.
struct Uneven {
    slow: u64,
    fast: u64,
    groups: u64,
}

/// Runs it until so many rows of the fast source are out, and half a second more.
fn run_uneven(pipeline: &str, parallelism: &str, fast_rows: usize) -> Uneven {
    let folder = Folder::new();
    let running = folder.start(pipeline, &["--json", "--parallelism", parallelism], b"");
    let out = || if folder.has("fast.jsonl") { folder.read("fast.jsonl").lines().count() } else { 0 };
    wait_until(|| out() >= fast_rows, || format!("{} rows of the fast source", out()));
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    running.interrupt();
    let ended = running.wait().with(130);
    assert!(asked.elapsed() < Duration::from_secs(10), "who waits for others hears that it shall stop");
    let rows = |source| ended.count("sources", source, "rows");
    Uneven {
        slow: rows("slow"),
        fast: rows("fast"),
        groups: ended.count("operators", "count", "groups_left"),
    }
}

#[test]
fn a_source_that_is_ahead_waits_for_the_others() {
    // So many events are in 3 s, and each of the two partitions may read a batch more.
    let most = |slow: u64| slow + 3 * 2_000 + 2 * 4_096 + 200;
    let free = run_uneven(&UNEVEN.replace("ALIGN", ""), "2", 60_000);
    assert!(free.fast > most(free.slow), "{} events of the fast source to {}", free.fast, free.slow);
    let with_checkpoints = "[checkpoints]\n    interval = \"100ms\"\n    [sources.slow]";
    for (parallelism, begin) in [("1", "[sources.slow]"), ("2", "[sources.slow]"), ("2", with_checkpoints)] {
        let aligned = UNEVEN.replace("ALIGN", ALIGN).replace("[sources.slow]", begin);
        let held = run_uneven(&aligned, parallelism, 6_000);
        let which =
            format!("{} events of the fast source to {}, parallelism {parallelism}", held.fast, held.slow);
        assert!(held.fast <= most(held.slow), "{which}");
        assert!(held.fast >= held.slow + 2 * 2_000, "it may be ahead: {which}");
        assert!(
            held.groups * 2 < free.groups,
            "{} groups in open windows, {} if free",
            held.groups,
            free.groups
        );
    }
}

#[test]
fn who_has_ended_or_is_silent_is_not_waited_for() {
    let folder = Folder::new();
    let ending = UNEVEN
        .replace("ALIGN", &format!("events = 30_000\n    {ALIGN}"))
        .replace("pace = \"event-time\"\n    events = 30_000", "pace = \"event-time\"\n    events = 1_000");
    let ended = folder.run(&ending).well();
    assert_eq!(ended.count("sources", "fast", "rows"), 30_000);

    let mut silent = String::from(
        "[sources.slow]\n    type = \"log\"\n    path = \"steps\"\n    event_time = { field = \"at\" }\n",
    );
    write!(silent, "    idle_after = \"300ms\"\n    {ALIGN}\n    [sources.fast]").unwrap();
    let (head, rest) = UNEVEN.split_once("[sources.slow]").unwrap();
    let (_, rest) = rest.split_once("[sources.fast]").unwrap();
    let rest = rest
        .replace("ALIGN", &format!("events = 30_000\n    {ALIGN}"))
        .replace("inputs = [\"slow\", \"fast\"]", "input = \"fast\"");
    let more = "[sinks.slow-out]\n    type = \"files\"\n    input = \"slow\"\n    path = \"slow.jsonl\"\n    fields = [\"at\"]\n";
    let silent = format!("{head}{silent}{rest}{more}");
    let folder = Walkers::new().folder;
    let running = folder.start(&silent, &["--json"], b"");
    // The windows of all events but the last second.
    let fired = || if folder.has("counts.jsonl") { folder.read("counts.jsonl").lines().count() } else { 0 };
    wait_until(|| fired() > 1_000, || format!("{} windows", fired()));
    std::thread::sleep(Duration::from_millis(500));
    running.interrupt();
    assert_eq!(running.wait().with(130).count("sources", "fast", "rows"), 30_000);
}
