//! Whenever a process is killed, and wherever: what comes out in the end is what comes out of a run that nobody
//! interrupts, and no file changes once it has appeared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Duration;

use tidemill_tests::{Consumer, Folder, workspace_file};

use crate::lives::{
    JOINS, PROCESSES, SESSIONS, WINDOWS, assert_nothing_staged, assert_same, committed, uninterrupted,
};
use crate::unaligned::{UNEVEN, rows_in_flight};

/// A matrix waits for the disk more than it computes.
const AT_ONCE: usize = 3;

#[test]
fn windows_survive_kills_in_one_task() {
    check_matrix(WINDOWS, 1);
}

#[test]
fn windows_survive_kills_in_many_tasks() {
    check_matrix(WINDOWS, 3);
}

#[test]
fn processes_survive_kills_in_one_task() {
    check_matrix(PROCESSES, 1);
}

#[test]
fn processes_survive_kills_in_many_tasks() {
    check_matrix(PROCESSES, 3);
}

#[test]
fn sessions_survive_kills_in_one_task() {
    check_matrix(SESSIONS, 1);
}

#[test]
fn sessions_survive_kills_in_many_tasks() {
    check_matrix(SESSIONS, 3);
}

#[test]
fn joins_survive_kills_in_one_task() {
    check_matrix(JOINS, 1);
}

#[test]
fn joins_survive_kills_in_many_tasks() {
    check_matrix(JOINS, 3);
}

/// Where no task waits for a second barrier, so that rows are in flight at most checkpoints: at the places that this
/// concerns.
#[test]
fn rows_in_flight_survive_kills() {
    let pipeline = UNEVEN;
    let expected = uninterrupted(pipeline);
    let (mut killed, mut in_flight) = (0, 0);
    for place in [
        "barrier.source",
        "barrier.task",
        "snapshot.slice",
        "snapshot.done",
        "persist.frozen",
        "commit.rename",
    ] {
        let deaths = ["commit.done=kill".to_owned(), format!("{place}=kill@2")];
        let (folder, mut consumer) = (Folder::new(), Consumer::new("out"));
        for death in deaths {
            let ended = folder.live(pipeline, 3, &death);
            consumer.look(&folder);
            killed += u32::from(ended.was_killed());
            in_flight += usize::from(rows_in_flight(&folder).last().is_some_and(|rows| *rows > 0));
        }
        folder.live(pipeline, 3, "").well();
        consumer.look(&folder);
        assert_same(&consumer.rows(), &expected, &format!("after {place}"));
    }
    assert!(killed >= 9, "only {killed} were killed");
    assert!(in_flight >= 3, "only {in_flight} checkpoints that were gone on from held rows in flight");
}

const WITH_OUTPUT: &str = "commit.rename=kill@2";

/// Kills a pipeline at each place, at the first, second and third time, then again where the next run recovers.
fn check_matrix(pipeline: &str, parallelism: usize) {
    let expected = uninterrupted(pipeline);
    let (recovery, places): (Vec<_>, Vec<_>) = places().into_iter().partition(|p| p.starts_with("recovery."));
    let mut cases = Vec::new();
    for time in 1..=3 {
        for place in &places {
            let recovery = &recovery[cases.len() % recovery.len()];
            let mut deaths = vec![format!("{place}=kill@{time}"), format!("{recovery}=kill")];
            if time > 1 {
                // So that there is output already, which the first checkpoints have none of.
                deaths.insert(0, WITH_OUTPUT.to_owned());
            }
            cases.push(deaths);
        }
    }
    let cases_count = cases.len();
    let (cases, killed) = (Mutex::new(cases.into_iter()), Mutex::new(Vec::<Death>::new()));
    let next = || cases.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(deaths) = next() {
                    let deaths = check(pipeline, parallelism, &deaths, &expected);
                    killed.lock().unwrap().extend(deaths);
                }
            });
        }
    });
    let killed = killed.into_inner().unwrap();
    // Every first time happens, and every recovery; a second and third time only if the disk is quick enough.
    assert!(
        killed.len() >= cases_count + places.len(),
        "{} of {cases_count} cases: {killed:?}",
        killed.len()
    );
    let places: BTreeSet<_> = recovery.iter().chain(&places).cloned().collect();
    let died_at: BTreeSet<_> = killed.iter().map(|k| k.at.split('=').next().unwrap().to_owned()).collect();
    assert_eq!(died_at, places, "where processes died");
    let with_output = killed.iter().filter(|k| k.had_output).count();
    assert!(with_output >= cases_count, "{with_output} of {} kills hit when there was output", killed.len());
    let mut times = BTreeMap::new();
    for death in &killed {
        *times.entry(death.at.rsplit_once('@').map_or("in recovery", |(_, time)| time)).or_insert(0) += 1;
    }
    println!("{} processes were killed, {with_output} with output, by time passed: {times:?}", killed.len());
}

/// A kill that happened.
#[derive(Debug)]
struct Death {
    /// The failpoint.
    at: String,
    /// Whether output had appeared by then.
    had_output: bool,
}

/// Lives through these deaths and then to the end. Those that happened.
fn check(pipeline: &str, parallelism: usize, deaths: &[String], expected: &[String]) -> Vec<Death> {
    let (folder, mut consumer) = (Folder::new(), Consumer::new("out"));
    let mut happened = Vec::new();
    for death in deaths {
        let ended = folder.live(pipeline, parallelism, death);
        consumer.look(&folder);
        if ended.was_killed() {
            happened.push(Death { at: death.clone(), had_output: !consumer.seen().is_empty() });
        } else {
            ended.well();
        }
    }
    folder.live(pipeline, parallelism, "").well();
    consumer.look(&folder);
    assert_nothing_staged(&folder);
    assert_same(&consumer.rows(), expected, &format!("after {happened:?} of {deaths:?}"));
    happened
}

/// The names of all failpoints.
fn places() -> Vec<String> {
    let source = workspace_file("host/checkpoint/src/failpoint.rs");
    let (_, rest) = source.split_once("pub const NAMES").expect("the failpoints have names");
    let (names, _) = rest.split_once("];").expect("the list of names ends");
    let names: Vec<_> = names.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(names.len() >= 20, "{names:?}");
    // Nothing is exchanged here: see `swapping`.
    names.into_iter().filter(|name| !name.starts_with("swap.") && !name.starts_with("takeover.")).collect()
}

/// What reads files and writes CSV, killed from outside: no place is chosen.
#[test]
fn a_kill_at_any_moment_changes_nothing() {
    let mut random = Random::new();
    let pipeline = r#"
        name = "p"
        [checkpoints]
        interval = "10ms"
        [sources.steps]
        type = "files"
        path = "steps-*.jsonl"
        event_time = { field = "at" }
        [sources.steps.fields]
        walker = "integer"
        at = { type = "timestamp", unit = "ms" }
        [operators.number]
        component = "@count-by-key"
        input = "steps"
        key = "walker"
        [operators.count]
        component = "@count"
        input = "steps"
        key = "walker"
        window = { type = "tumbling", size = "1m" }
        [sinks.numbers]
        type = "files"
        input = "number"
        path = "out/numbers-*.csv"
        [sinks.counts]
        type = "files"
        input = "count"
        path = "out/counts-*.csv"
        "#;
    let folder = Folder::new();
    let (mut numbers, mut counts) = (Vec::new(), BTreeMap::<(u64, u64), u64>::new());
    let mut steps = BTreeMap::<u64, u64>::new();
    for file in 0..2 {
        let mut lines = String::new();
        for step in 0..200_000 {
            let (walker, at) = (random.below(500), step * 10);
            writeln!(lines, "{{\"walker\":{walker},\"at\":{at}}}").unwrap();
            let step = steps.entry(walker).or_default();
            *step += 1;
            numbers.push(format!("numbers {walker},{step}"));
            *counts.entry((walker, at / 60_000)).or_default() += 1;
        }
        folder.write(&format!("steps-{file}.jsonl"), lines);
    }
    let mut expected = numbers;
    for ((walker, minute), count) in counts {
        let time = |minute| format!("1970-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60);
        expected.push(format!("counts {walker},{},{},{count}", time(minute), time(minute + 1)));
    }
    expected.sort_unstable();

    let (consumer, killed) = kill_at_random(&folder, pipeline, &mut random);
    let mut rows = Vec::new();
    for row in consumer.rows() {
        let is_header =
            ["numbers walker,count", "counts walker,window_start,window_end,count"].contains(&&*row);
        rows.extend((!is_header).then_some(row));
    }
    for (name, text) in consumer.seen() {
        assert!(text.starts_with("walker,"), "{name} has no header: {text:.80}");
    }
    assert_same(&rows, &expected, &format!("after {killed} kills"));
    assert!(killed >= 3, "{killed} kills hit; the others came too late");
}

/// Where most rows are behind the watermark: some in time all the same, some within the allowed lateness, so that their
/// window fires again, some beyond it. A file is cut into batches the same way in each life, and with it the firings.
#[test]
fn late_rows_survive_kills_at_any_moment() {
    let mut random = Random::new();
    let pipeline = r#"
        name = "p"
        [checkpoints]
        interval = "10ms"
        [sources.steps]
        type = "files"
        path = "steps.jsonl"
        event_time = { field = "at" }
        [sources.steps.fields]
        walker = "integer"
        at = { type = "timestamp", unit = "ms" }
        [operators.count]
        component = "@count"
        input = "steps"
        key = "walker"
        window = { type = "tumbling", size = "1m" }
        allowed_lateness = "5m"
        trigger = { mode = "discarding" }
        [operators.visits]
        component = "@count"
        input = "steps"
        key = "walker"
        window = { type = "session", gap = "30s" }
        allowed_lateness = "2m"
        [sinks.counts]
        type = "files"
        input = "count"
        path = "out/counts-*.jsonl"
        [sinks.visits-out]
        type = "files"
        input = "visits"
        path = "out/visits-*.jsonl"
        [sinks.late]
        type = "files"
        input = "count.late"
        path = "out/late-*.jsonl"
        "#;
    let mut lines = String::new();
    for step in 0..200_000_u64 {
        let behind = random.below(600_000);
        let at = (step * 20).saturating_sub(if step % 3 == 0 { 0 } else { behind });
        writeln!(lines, "{{\"walker\":{},\"at\":{at}}}", random.below(200)).unwrap();
    }
    let folder = Folder::with(&[("steps.jsonl", &lines)]);
    folder.live(pipeline, 2, "").well();
    let expected = committed(&folder);
    for sink in ["counts", "visits", "late"] {
        let rows = expected.iter().filter(|row| row.starts_with(sink)).count();
        assert!(rows > 5_000, "{rows} rows of {sink} prove little");
    }
    let folder = Folder::with(&[("steps.jsonl", &lines)]);
    let (consumer, killed) = kill_at_random(&folder, pipeline, &mut random);
    assert_same(&consumer.rows(), &expected, &format!("after {killed} kills"));
    assert!(killed >= 3, "{killed} kills hit; the others came too late");
}

/// Kills a pipeline ten times, each life after some time, and lets it live to its end. What was seen, and how often it was
/// killed.
fn kill_at_random(folder: &Folder, pipeline: &str, random: &mut Random) -> (Consumer, u32) {
    let (mut consumer, mut killed) = (Consumer::new("out"), 0);
    for _ in 0..10 {
        let mut running = folder.start(pipeline, &["--quiet"], b"");
        std::thread::sleep(Duration::from_millis(random.below(150)));
        running.kill();
        let ended = running.wait();
        consumer.look(folder);
        killed += u32::from(ended.was_killed());
        if !ended.was_killed() {
            ended.well();
        }
    }
    folder.live(pipeline, 2, "").well();
    consumer.look(folder);
    assert_nothing_staged(folder);
    (consumer, killed)
}

/// Numbers from a seed that is printed: a test that fails shows it, and `TIDEMILL_TEST_SEED` brings it back.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let asked = std::env::var("TIDEMILL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = asked.unwrap_or_else(|| u64::from(std::process::id()));
        println!("TIDEMILL_TEST_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64: every seed is a good one.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
