//! Pipelines between streams of a real server: what is read once is written once, whoever is killed; and a stream that isn't
//! what it was is told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_nats_test::Proxy;
use tidemill_tests::{Folder, Streams, sorted};

const STEPS: usize = 60_000;

/// From two streams through state and windows into two streams; checkpoints are made there.
fn between_streams(url: &str, checkpoints: &str) -> String {
    format!(
        r#"
        name = "p"
        [checkpoints]
        path = "{checkpoints}"
        interval = "20ms"
        retain = 2
        tolerated_failures = 1000
        [restart]
        strategy = "fixed"
        attempts = 1000
        delay = "50ms"
        [connections.local]
        type = "nats"
        servers = "{url}"
        request_timeout = "1s"
        reconnect = {{ delay = "20ms", max_delay = "200ms" }}
        [sources.steps]
        type = "jetstream"
        connection = "local"
        stream = ["STEPS_0", "STEPS_1"]
        until_end = true
        event_time = {{ field = "at" }}
        [sources.steps.fields]
        walker = "integer"
        at = {{ type = "timestamp", unit = "ms" }}
        [operators.number]
        component = "@count-by-key"
        input = "steps"
        key = "walker"
        [operators.count]
        component = "@count"
        input = "steps"
        key = "walker"
        window = {{ type = "tumbling", size = "1m" }}
        [sinks.numbers]
        type = "jetstream"
        connection = "local"
        input = "number"
        stream = "NUMBERS"
        subject = "numbers.{{walker}}"
        create = {{ subjects = "numbers.>" }}
        [sinks.counts]
        type = "jetstream"
        connection = "local"
        input = "count"
        stream = "COUNTS"
        subject = "counts.{{walker}}"
        headers = {{ "Walker" = "{{walker}}" }}
        create = {{ subjects = "counts.>" }}
        "#
    )
}

/// Steps of 300 walkers in two streams, each walker's in one.
fn steps() -> Vec<(&'static str, String)> {
    let mut walker = 7_u64;
    let step = |step: usize| {
        walker = walker.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let walker = (walker >> 33) % 300;
        let subject = if walker.is_multiple_of(2) { "STEPS_0.step" } else { "STEPS_1.step" };
        (subject, format!("{{\"walker\":{walker},\"at\":{}}}", step * 10))
    };
    (0..STEPS).map(step).collect()
}

/// What the pipeline writes, sorted.
fn written(streams: &Streams) -> [Vec<String>; 2] {
    ["NUMBERS", "COUNTS"].map(|stream| streams.payloads(stream))
}

/// Sets a flag, also when a test fails.
struct SetAtEnd<'f>(&'f AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn forget_output(streams: &Streams) {
    for stream in ["NUMBERS", "COUNTS"] {
        streams.ask(&format!("STREAM.DELETE.{stream}"), &Value::Null);
    }
}

/// With the steps, and what comes of them when nobody is killed.
fn prepared() -> Option<(Streams, [Vec<String>; 2])> {
    let streams = Streams::start()?;
    streams.make("STEPS_0", &json!({}));
    streams.make("STEPS_1", &json!({}));
    streams.publish(&steps());
    let folder = Folder::new();
    folder.live(&between_streams(&streams.server.url(), "p.checkpoints"), 2, "").well();
    let expected = written(&streams);
    assert_eq!(expected[0].len(), STEPS, "a number for each step");
    forget_output(&streams);
    Some((streams, expected))
}

#[test]
fn messages_are_written_once_whoever_is_killed() {
    let Some((streams, expected)) = prepared() else { return };
    let (host_kills, server_kills) = (AtomicU32::new(0), AtomicU32::new(0));
    let mut died_at = BTreeSet::new();
    let deaths = [
        ["sink.part=kill", "recovery.decided=kill"],
        ["sink.part=kill@3", "recovery.commit=kill"],
        ["persist.done=kill", "recovery.commit=kill"],
        ["persist.files=kill@2", "recovery.state=kill"],
        ["commit.begin=kill", "commit.rename=kill"],
        ["commit.rename=kill", "commit.rename=kill"],
        ["commit.rename=kill@2", "commit.rename=kill@2"],
        ["commit.rename=kill@3", "recovery.discard=kill"],
        ["commit.rename=kill@5", "recovery.begin=kill"],
        ["commit.done=kill", "sink.part=kill@2"],
    ];
    for (case, deaths) in deaths.iter().enumerate() {
        // Every third time checkpoints are in the server too, and nothing outlives a process on its own disk.
        let is_diskless = case % 3 == 2;
        let place =
            if is_diskless { format!("nats://local/checkpoints/{case}") } else { "checkpoints".to_owned() };
        let pipeline = between_streams(&streams.server.url(), &place);
        let folder = Folder::new();
        let forget_disk = || {
            if is_diskless {
                _ = std::fs::remove_dir_all(folder.path("p.work"));
            }
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _done = SetAtEnd(&done);
            scope.spawn(|| {
                // The moments differ from case to case.
                let mut pause = Duration::from_millis(150 + 37 * case as u64);
                while !done.load(Ordering::Relaxed) {
                    std::thread::sleep(pause);
                    streams.server.kill();
                    std::thread::sleep(Duration::from_millis(20));
                    streams.server.restart();
                    server_kills.fetch_add(1, Ordering::Relaxed);
                    pause = Duration::from_millis(400);
                }
            });
            for death in deaths {
                let ended = folder.live(&pipeline, 2, death);
                forget_disk();
                if ended.was_killed() {
                    host_kills.fetch_add(1, Ordering::Relaxed);
                    died_at.insert(*death);
                } else {
                    ended.well();
                }
            }
            folder.live(&pipeline, 2, "").well();
        });
        for (found, expected) in written(&streams).iter().zip(&expected) {
            let counts = (found.len(), expected.len());
            assert!(found == expected, "after {deaths:?}: {counts:?} messages, found and expected");
        }
        forget_output(&streams);
    }
    let kills = (host_kills.into_inner(), server_kills.into_inner());
    println!("{} kills of the host at {died_at:?}, and {} of the server", kills.0, kills.1);
    assert!(kills.0 >= 18 && kills.0 + kills.1 >= 40, "{kills:?} kills");
}

/// Copies a stream to another, with what is known of each message.
fn copying(url: &str, source: &str, sink: &str, more: &str) -> String {
    format!(
        r#"
        name = "p"
        dead_letters = "dead-*.jsonl"
        [checkpoints]
        interval = "20ms"
        [restart]
        strategy = "fixed"
        attempts = 1000
        delay = "50ms"
        [connections.local]
        type = "nats"
        servers = "{url}"
        request_timeout = "1s"
        reconnect = {{ delay = "20ms", max_delay = "200ms" }}
        [sources.lines]
        type = "jetstream"
        connection = "local"
        stream = "IN"
        fields = {{ n = "integer", to = "text" }}
        {source}
        [sinks.copy]
        type = "jetstream"
        connection = "local"
        input = "lines"
        stream = "OUT"
        {sink}
        {more}
        "#
    )
}

const TO_OUT: &str = "subject = \"out.{to}\"\ncreate = { subjects = \"out.>\", duplicate_window = \"2m\" }";

/// A stream `IN` of so many lines.
fn with_lines(streams: &Streams, lines: std::ops::Range<u32>) {
    let lines: Vec<_> = lines.map(|n| ("IN.line", format!("{{\"n\":{n},\"to\":\"a\"}}"))).collect();
    streams.publish(&lines);
}

/// The numbers in the payloads of a stream, sorted.
fn numbers(streams: &Streams, stream: &str) -> Vec<u64> {
    let payloads = streams.payloads(stream);
    let number = |payload: &String| serde_json::from_str::<Value>(payload).unwrap()["n"].as_u64().unwrap();
    let mut numbers: Vec<u64> = payloads.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn what_is_known_of_a_message_is_in_fields_and_goes_out_in_its_address() {
    let Some(streams) = Streams::start() else { return };
    streams.make("IN", &json!({}));
    streams.publish_with([
        ("IN.north", "Trace: t1\nOther: x", &br#"{"n":1,"to":"a"}"#[..]),
        ("IN.south", "", br#"{"n":2,"to":"b"}"#),
        ("IN.south", "", br#"{"n":3,"to":"has.a.dot"}"#),
        ("IN.south", "", br#"{"n":4,"to":"*"}"#),
        ("IN.south", "", br#"{"n":5}"#),
        ("IN.south", "", b"no JSON"),
    ]);
    let source = "until_end = true\nmetadata = { subject = \"by\", time = \"arrived\", sequence = \"number\", headers = { \"Trace\" = \"trace\" } }";
    let sink = format!(
        "{TO_OUT}\nheaders = {{ \"From\" = \"{{by}}\" }}\nfields = [\"n\", \"to\", \"by\", \"number\", \"trace\", \"arrived\"]"
    );
    let folder = Folder::new();
    folder.run(&copying(&streams.server.url(), source, &sink, "")).well();
    let found: Vec<_> = streams.read("OUT").into_iter().filter(|m| m.subject.starts_with("out.")).collect();
    let subjects: Vec<_> = found.iter().map(|m| (m.subject.as_str(), m.header("From"))).collect();
    assert_eq!(subjects, [("out.a", Some("IN.north")), ("out.b", Some("IN.south"))]);
    let row: Value = serde_json::from_str(&found[0].text()).unwrap();
    assert_eq!((&row["by"], &row["number"], &row["trace"]), (&json!("IN.north"), &json!(1), &json!("t1")));
    assert!(row["arrived"].as_str().unwrap().starts_with("20"), "{row}");
    let dead = folder.files("").into_iter().filter(|name| name.starts_with("dead-"));
    let dead: Vec<Value> = dead.flat_map(|name| folder.json_lines(&name)).collect();
    let reasons = sorted(dead.iter().map(|letter| letter["reason"].as_str().unwrap()));
    assert_eq!(dead.len(), 4, "{dead:?}");
    assert_eq!(dead.iter().filter(|letter| letter["sink"] == "copy").count(), 3, "{reasons:?}");
    assert_eq!(dead.iter().filter(|letter| letter["from"] == "stream IN").count(), 4, "{dead:?}");
}

#[test]
fn messages_may_be_csv_or_text() {
    let Some(streams) = Streams::start() else { return };
    streams.make("IN", &json!({}));
    let payloads = ["7,north", "8,\"far, south\"\n", "two\nlines", "9,west"];
    streams.publish(&payloads.map(|payload| ("IN.a", payload.to_owned())));
    let fields = "fields = { n = \"integer\", to = \"text\" }";
    let run = |declared: &str, expected: [&str; 3]| {
        let sink = "subject = \"out\"\ncreate = { subjects = \"out\" }";
        let pipeline = copying(&streams.server.url(), "until_end = true", sink, "").replace(fields, declared);
        let folder = Folder::new();
        folder.run(&pipeline).well();
        assert_eq!(streams.payloads("OUT"), expected);
        let dead = folder.files("").into_iter().filter(|name| name.starts_with("dead-"));
        let dead: Vec<Value> = dead.flat_map(|name| folder.json_lines(&name)).collect();
        let raw: Vec<_> = dead.iter().map(|letter| (&letter["raw"], &letter["record"])).collect();
        assert_eq!(raw, [(&json!("two\nlines"), &json!(3))]);
        streams.ask("STREAM.DELETE.OUT", &Value::Null);
    };
    run(
        "format = \"csv\"\ncsv = { header = false }\n\
         fields = { n = { type = \"integer\", path = [\"1\"] }, to = { type = \"text\", path = [\"2\"] } }",
        [r#"{"n":7,"to":"north"}"#, r#"{"n":8,"to":"far, south"}"#, r#"{"n":9,"to":"west"}"#],
    );
    run(
        "format = \"text\"\nfields = { line = \"text\" }",
        [r#"{"line":"7,north"}"#, r#"{"line":"8,\"far, south\""}"#, r#"{"line":"9,west"}"#],
    );
}

/// Runs a pipeline that copies without end until so many messages are there, while something is done to it.
#[track_caller]
fn copy_while(streams: &Streams, pipeline: &str, count: u32, disturb: impl FnOnce(&Folder)) -> Folder {
    let folder = Folder::new();
    let running = folder.start(pipeline, &["--quiet"], b"");
    disturb(&folder);
    let begun = Instant::now();
    loop {
        let found = numbers(streams, "OUT");
        if found.len() >= count as usize {
            break;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "{} of {count} messages came", found.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    running.interrupt();
    running.wait().with(130);
    folder
}

#[test]
fn cut_offs_of_any_length_lose_and_double_nothing() {
    for delivery in ["exactly-once", "idempotent"] {
        let Some(streams) = Streams::start() else { return };
        let proxy = Proxy::start(&streams.server.address());
        streams.make("IN", &json!({}));
        let sink = format!("{TO_OUT}\ndelivery = \"{delivery}\"");
        let pipeline = copying(&proxy.url(), "", &sink, "");
        copy_while(&streams, &pipeline, 10_000, |_| {
            for (part, outage_ms) in (0..).zip([0, 20, 300, 1_500, 3_500]) {
                with_lines(&streams, part * 2_000..part * 2_000 + 1_000);
                proxy.cut();
                with_lines(&streams, part * 2_000 + 1_000..part * 2_000 + 2_000);
                std::thread::sleep(Duration::from_millis(outage_ms));
                proxy.heal();
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        assert!(numbers(&streams, "OUT").into_iter().eq(0..10_000), "{delivery}");
    }
}

#[test]
fn an_outage_longer_than_the_duplicate_window_doubles_nothing() {
    for delivery in ["exactly-once", "idempotent"] {
        let Some(streams) = Streams::start() else { return };
        streams.make("IN", &json!({}));
        let config = |window_ms: u64| {
            json!({
                "name": "OUT", "subjects": ["out.>", "tidemill.OUT.>"], "allow_atomic": true,
                "duplicate_window": window_ms * 1_000_000,
            })
        };
        streams.ask("STREAM.CREATE.OUT", &config(120_000));
        with_lines(&streams, 0..100_000);
        let sink = format!("subject = \"out.{{to}}\"\ndelivery = \"{delivery}\"");
        let pipeline = copying(&streams.server.url(), "until_end = true", &sink, "");
        let (folder, mut killed) = (Folder::new(), 0);
        for death in ["commit.done=kill", "persist.done=kill"] {
            killed += u32::from(folder.live(&pipeline, 1, death).was_killed());
            // As short as there is, and no id outlives a restart then.
            streams.ask("STREAM.UPDATE.OUT", &config(100));
            std::thread::sleep(Duration::from_millis(300));
            streams.server.kill();
            streams.server.restart();
            streams.ask("STREAM.UPDATE.OUT", &config(120_000));
        }
        folder.live(&pipeline, 1, "").well();
        assert_eq!(killed, 2);
        assert!(numbers(&streams, "OUT").into_iter().eq(0..100_000), "{delivery}");
    }
}

/// A pipeline that went on from a checkpoint in a stream that isn't what it was: its message.
#[track_caller]
fn refused_after(change: impl FnOnce(&Streams)) -> Option<String> {
    let streams = Streams::start()?;
    streams.make("IN", &json!({}));
    with_lines(&streams, 0..1_000);
    let pipeline = copying(&streams.server.url(), "", TO_OUT, "");
    let pipeline = pipeline.replace("attempts = 1000", "attempts = 1");
    let folder = copy_while(&streams, &pipeline, 1_000, |_| {});
    change(&streams);
    let ended = folder.run(&pipeline);
    assert_ne!(ended.status, Some(0));
    Some(ended.stderr)
}

#[test]
fn a_stream_that_is_not_what_it_was_is_told() {
    let recreated = refused_after(|streams| {
        streams.ask("STREAM.DELETE.IN", &Value::Null);
        streams.make("IN", &json!({}));
        with_lines(streams, 0..2_000);
    });
    let Some(recreated) = recreated else { return };
    assert!(recreated.contains("stream `IN` has changed"), "{recreated}");
    let gone = refused_after(|streams| drop(streams.ask("STREAM.DELETE.IN", &Value::Null)));
    assert!(gone.is_some_and(|gone| gone.contains("no stream `IN`")));
    let purged = refused_after(|streams| {
        with_lines(streams, 1_000..2_000);
        streams.ask("STREAM.PURGE.IN", &json!({ "seq": 1_500 }));
    });
    let purged = purged.unwrap();
    assert!(purged.contains("expected") && purged.contains("1500"), "{purged}");
}

/// Of real partitions some of which are silent: time goes on without those.
#[test]
fn silent_streams_hold_back_time_no_more() {
    let Some(streams) = Streams::start() else { return };
    for stream in ["A", "B", "C"] {
        streams.make(stream, &json!({}));
    }
    let pipeline = format!(
        r#"
        name = "p"
        [connections.local]
        type = "nats"
        servers = "{}"
        [sources.steps]
        type = "jetstream"
        connection = "local"
        stream = ["A", "B", "C"]
        event_time = {{ field = "at" }}
        idle_after = "300ms"
        fields = {{ walker = "integer", at = {{ type = "timestamp", unit = "ms" }} }}
        [operators.count]
        component = "@count"
        input = "steps"
        key = "walker"
        window = {{ type = "tumbling", size = "1s" }}
        [sinks.out]
        type = "jetstream"
        connection = "local"
        input = "count"
        stream = "OUT"
        subject = "out.{{walker}}"
        create = {{ subjects = "out.>" }}
        "#,
        streams.server.url()
    );
    let folder = Folder::new();
    let running = folder.start(&pipeline, &["--quiet"], b"");
    let step = |stream: &'static str, at: u64| (stream, format!("{{\"walker\":1,\"at\":{at}}}"));
    streams.publish(&[step("A.s", 100), step("A.s", 2_500)]);
    let counted = || {
        let names = streams.ask("STREAM.NAMES", &Value::Null)["streams"].to_string();
        if names.contains("OUT") { numbers_of(&streams) } else { Vec::new() }
    };
    let wait_for = |expected: &[u64]| {
        let begun = Instant::now();
        while counted() != expected {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{:?}, expected {expected:?}",
                streams.payloads("OUT")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait_for(&[1]);
    // B has rows of that time now, which are in time, as A hasn't come further.
    streams.publish(&[step("B.s", 2_600)]);
    // A message that is stored is read within milliseconds, on a machine with other things to do within a second.
    std::thread::sleep(Duration::from_secs(2));
    streams.publish(&[step("A.s", 2_700), step("A.s", 4_000)]);
    wait_for(&[1, 3]);
    running.interrupt();
    running.wait().with(130);
}

/// What was counted, in the order of the stream.
fn numbers_of(streams: &Streams) -> Vec<u64> {
    let counts = streams.read("OUT").into_iter().filter(|m| m.subject.starts_with("out."));
    counts.map(|m| serde_json::from_str::<Value>(&m.text()).unwrap()["count"].as_u64().unwrap()).collect()
}
