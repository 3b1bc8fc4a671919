//! A file with every key in it, and a file with as few as possible.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use tidemill_flow::schema::FieldType;
use tidemill_flow::windowing::Assigner;

use crate::pipeline::declaration::*;

pub(super) const WHOLE: &str = include_str!("whole.toml");

/// What is expected needs no place: two [`Spanned`] are equal when their values are.
fn said<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Span::default())
}

fn texts(values: &[&str]) -> Vec<Spanned<String>> {
    values.iter().map(|value| said((*value).to_owned())).collect()
}

fn text(value: &str) -> Spanned<String> {
    said(value.to_owned())
}

fn path(value: &str) -> Spanned<PathBuf> {
    said(PathBuf::from(value))
}

fn field(name: &str, field_type: FieldType, path: &[&str]) -> FieldDecl {
    let path = path.iter().map(|name| (*name).to_owned()).collect();
    FieldDecl { name: text(name), field_type, path, unit: None, nullable: true }
}

#[test]
fn every_key_means_what_the_page_says() {
    let found = parse("pipeline.toml", WHOLE).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(found.name.value, "flights");
    assert_eq!(found.parallelism, NonZeroUsize::new(2));
    assert_eq!(found.dead_letters, path("out/dead-letters-*.jsonl"));
    assert_eq!(found.late, path("out/late-*.jsonl"));
    assert_eq!(found.checkpoints, Some(checkpoints()));
    let work = Some(path("/var/tmp/flights"));
    assert_eq!(found.state, State { backend: StateBackend::RocksDb, memory_bytes: 64 << 20, path: work });
    let restart = Restart::FromCheckpoint { attempts: 10, delay_ms: 250, max_delay_ms: Some(30_000) };
    assert_eq!(found.restart, restart);
    assert_eq!(found.sources, sources());
    assert_eq!(found.operators, operators());
    assert_eq!(found.sinks, sinks());
    // `joined` stands first in the file and reads the other two.
    assert_eq!(found.order, [1, 2, 0, 3]);
}

fn checkpoints() -> Checkpoints {
    Checkpoints {
        path: said(Path::new("state/checkpoints").into()),
        work: "state/checkpoints/work".into(),
        interval_ms: 1000,
        min_pause_ms: 100,
        timeout_ms: 60_000,
        unaligned_after_ms: Some(500),
        tolerated_failures: 0,
        retain: 10,
    }
}

fn sources() -> Vec<Source> {
    let departures = Decoding {
        format: FormatDecl::Csv(CsvDecl {
            delimiter: b';',
            header: false,
            null: vec![String::new(), "NA".to_owned()],
        }),
        event_time: Some(EventTime::Field { field: text("time_hour"), out_of_orderness_ms: 7_200_000 }),
        fields: vec![
            field("dep_delay", FieldType::Integer, &["dep_delay"]),
            field("a.b", FieldType::Text, &["a.b"]),
        ],
        metadata: Vec::new(),
    };
    let time = FieldDecl {
        unit: Some(TimestampDecl::Milliseconds),
        nullable: false,
        ..field("time", FieldType::Timestamp, &["meta", "time"])
    };
    let complete = FieldDecl {
        unit: Some(TimestampDecl::Milliseconds),
        ..field("complete", FieldType::Timestamp, &["meta", "complete"])
    };
    let punctuated = EventTime::Punctuated { field: text("time"), watermark_field: text("complete") };
    let logged = Decoding {
        format: FormatDecl::JsonLines,
        event_time: Some(punctuated),
        fields: vec![time, complete],
        metadata: Vec::new(),
    };
    let bids = Nexmark {
        events_count: Some(1_000_000),
        events_per_second: 20_000,
        out_of_orderness_ms: 4000,
        partitions_count: NonZeroUsize::new(2).unwrap(),
        seed: 42,
        pace: Pace::EventTime,
    };
    vec![
        Source {
            id: text("departures"),
            kind: SourceKind::Files {
                paths: texts(&["data/2013-*.csv", "data/2014.CSV"]),
                decoding: departures,
            },
            idle_after_ms: None,
            align: None,
        },
        Source {
            id: text("logged"),
            kind: SourceKind::Log {
                path: path("logs/flights"),
                decoding: logged,
                from: LogStart::End,
                until_end: true,
            },
            idle_after_ms: Some(30_000),
            align: Some(Align { group: "airports".to_owned(), max_drift_ms: 60_000 }),
        },
        Source { id: text("bids"), kind: SourceKind::Nexmark(bids), idle_after_ms: None, align: None },
    ]
}

fn operator(id: &str, component: &str, input: Upstream) -> Operator {
    Operator {
        id: text(id),
        component: path(component),
        inputs: vec![said(input)],
        settings: vec![],
        memory_bytes: 64 << 20,
        call_timeout_ms: 10_000,
        key: vec![],
        right_key: vec![],
        join: None,
        window: None,
        allowed_lateness_ms: None,
        trigger: None,
        ttl: vec![],
        parallelism: None,
    }
}

fn fixed(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Option<Spanned<Window>> {
    let assigner = Assigner::Fixed { size_ms, slide_ms, offset_ms };
    Some(said(Window { assigner, time: Clock::Event }))
}

fn operators() -> Vec<Operator> {
    let settings = [("min", "3"), ("mask", "255"), ("share", "0.50"), ("name", "x y"), ("strict", "true")];
    let ttl = |slot, after_ms, clock| Ttl { slot: text(slot), after_ms, clock };
    vec![
        Operator {
            inputs: vec![said(Upstream::Operator(1)), said(Upstream::Operator(2)), said(Upstream::Source(2))],
            settings: settings.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
            memory_bytes: 1 << 20,
            call_timeout_ms: 500,
            window: Some(said(Window::GLOBAL)),
            parallelism: NonZeroUsize::new(1),
            ..operator("joined", "join.wasm", Upstream::Source(2))
        },
        Operator {
            key: texts(&["origin"]),
            window: fixed(3_600_000, 3_600_000, 900_000),
            ..operator("by-origin", "operators/by_origin.wasm", Upstream::Source(0))
        },
        Operator {
            key: texts(&["origin", "dest"]),
            window: fixed(5_400_000, 60_000, 0),
            ..operator("hopping", "operators/by_origin.wasm", Upstream::Source(1))
        },
        Operator {
            key: texts(&["bidder"]),
            ttl: vec![
                ttl("last-seen", 604_800_000, Clock::Event),
                ttl("by day", 5_400_000, Clock::Processing),
            ],
            ..operator("sessions", "operators/sessions.wasm", Upstream::Source(2))
        },
    ]
}

fn sinks() -> Vec<Sink> {
    vec![
        Sink {
            id: text("hourly"),
            input: said(Upstream::Operator(1)),
            kind: SinkKind::Files { path: path("out/hourly-*.tsv") },
            delivery: Delivery::ExactlyOnce,
            format: FormatDecl::Csv(CsvDecl { delimiter: b'\t', header: false, null: vec![String::new()] }),
            fields: Some(texts(&["origin", "window_start"])),
            timestamps: TimestampDecl::Seconds,
        },
        Sink {
            id: text("late-departures"),
            input: said(Upstream::Late(1)),
            kind: SinkKind::Files { path: path("out/late-departures.csv") },
            delivery: Delivery::AtLeastOnce,
            format: FormatDecl::Csv(CsvDecl::default()),
            fields: None,
            timestamps: TimestampDecl::Rfc3339,
        },
        Sink {
            id: text("shown"),
            input: said(Upstream::Operator(0)),
            kind: SinkKind::Stdout,
            delivery: Delivery::AtLeastOnce,
            format: FormatDecl::JsonLines,
            fields: None,
            timestamps: TimestampDecl::Rfc3339,
        },
        Sink {
            id: text("onwards"),
            input: said(Upstream::Operator(3)),
            kind: SinkKind::Log {
                path: path("logs/sessions"),
                partitions_count: NonZeroUsize::new(12).unwrap(),
                key: texts(&["bidder", "auction"]),
            },
            delivery: Delivery::Idempotent,
            format: FormatDecl::JsonLines,
            fields: None,
            timestamps: TimestampDecl::Rfc3339,
        },
    ]
}

const SMALL: &str = r#"
name = "small"
[sources.bids]
type = "nexmark"
[operators.clean]
component = "clean.wasm"
input = "bids"
[sinks.shown]
type = "stdout"
input = "clean"
"#;

#[test]
fn what_is_not_written_has_its_default() {
    let found = parse("pipeline.toml", SMALL).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(found.parallelism, None);
    assert_eq!(found.dead_letters, path("small.dead-letters.jsonl"));
    assert_eq!(found.late, path("small.late.jsonl"));
    assert_eq!(found.checkpoints, None);
    let state = State { backend: StateBackend::RocksDb, memory_bytes: 512 << 20, path: None };
    assert_eq!(found.state, state);
    assert_eq!(found.restart, Restart::None);
    let SourceKind::Nexmark(bids) = &found.sources[0].kind else { panic!("{:?}", found.sources) };
    let expected = Nexmark {
        events_count: None,
        events_per_second: 10_000,
        out_of_orderness_ms: 0,
        partitions_count: NonZeroUsize::MIN,
        seed: 42,
        pace: Pace::None,
    };
    assert_eq!(*bids, expected);
    assert_eq!(found.operators[0].windows(), &Window::GLOBAL);
    assert_eq!(found.sinks[0].format, FormatDecl::JsonLines);
}

#[test]
fn rows_may_happen_when_they_arrive() {
    let text = "name = \"p\"\n[sources.s]\ntype = \"stdin\"\nformat = \"csv\"\nevent_time = \"arrival\"\n\
                [sinks.k]\ntype = \"stdout\"\ninput = \"s\"\n";
    let found = parse("pipeline.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(found.sources[0].kind.decoding().unwrap().event_time, Some(EventTime::Arrival));
}

fn with_checkpoints(more: &str) -> Declaration {
    let text = format!("{SMALL}\n[checkpoints]\n{more}");
    parse("pipeline.toml", &text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn an_empty_section_is_enough_for_checkpoints() {
    let found = with_checkpoints("");
    let expected = Checkpoints {
        path: said(Path::new("small.checkpoints").into()),
        work: "small.checkpoints/work".into(),
        interval_ms: 10_000,
        min_pause_ms: 0,
        timeout_ms: 600_000,
        unaligned_after_ms: None,
        tolerated_failures: 3,
        retain: 3,
    };
    assert_eq!(found.checkpoints, Some(expected));
    assert_eq!(found.dead_letters, path("small.dead-letters-*.jsonl"));
    assert_eq!(found.late, path("small.late-*.jsonl"));
    assert_eq!(found.restart, Restart::None);
}

#[test]
fn a_delivery_that_is_not_written_is_the_best_that_there_is() {
    let sinks = "[sinks.file]\ntype = \"files\"\ninput = \"bids\"\npath = \"a-*.csv\"\n\
                 [sinks.logged]\ntype = \"log\"\ninput = \"bids\"\npath = \"log\"\n";
    let deliveries = |found: Declaration| found.sinks.iter().map(|s| s.delivery).collect::<Vec<_>>();
    let (exactly, at_least) = (Delivery::ExactlyOnce, Delivery::AtLeastOnce);
    assert_eq!(deliveries(with_checkpoints(sinks)), [at_least, exactly, exactly]);
    let without = format!("{SMALL}\n{}", sinks.replace("-*", ""));
    assert_eq!(deliveries(parse("pipeline.toml", &without).unwrap()), [at_least; 3]);
}

#[test]
fn what_is_said_of_restarts_has_its_defaults() {
    for (said, delay_ms, max_delay_ms) in [
        ("strategy = \"fixed\"", 1000, None),
        ("strategy = \"fixed\"\ndelay = \"0s\"", 0, None),
        ("strategy = \"exponential\"", 1000, Some(60_000)),
        // What is to grow can't begin beyond its end.
        ("strategy = \"exponential\"\ndelay = \"5m\"", 300_000, Some(300_000)),
    ] {
        let found = with_checkpoints(&format!("[restart]\n{said}"));
        let expected = Restart::FromCheckpoint { attempts: 3, delay_ms, max_delay_ms };
        assert_eq!(found.restart, expected, "{said}");
    }
    assert_eq!(with_checkpoints("[restart]").restart, Restart::None);
}

#[test]
fn state_can_stand_where_its_default_does() {
    let found = with_checkpoints("path = \"c\"\n[state]\npath = \"./c/work\"");
    assert_eq!(found.state.path, Some(path("./c/work")));
}

#[test]
fn checkpoints_in_an_object_store_have_their_working_copy_beside_the_file() {
    let found = with_checkpoints("path = \"s3://bucket/a/b/\"").checkpoints.unwrap();
    assert_eq!(found.path.to_string(), "s3://bucket/a/b");
    assert_eq!(found.work, PathBuf::from("small.work"));
    let refused = |checkpoints: &str| {
        parse("pipeline.toml", &format!("{SMALL}\n[checkpoints]\n{checkpoints}")).unwrap_err().to_string()
    };
    let message = refused("path = \"gs://bucket/a\"");
    assert!(message.contains("write the path of a folder, `s3://bucket/prefix` or `nats:"), "{message}");
    let taken =
        "path = \"s3://bucket/a\"\n[sinks.l]\ntype = \"log\"\ninput = \"bids\"\npath = \"small.work\"";
    assert!(refused(taken).contains("written by the state already"), "{}", refused(taken));
}

#[test]
fn files_whose_names_can_never_be_equal_are_different() {
    // Ten digits and another are eleven; `b` is no digit; another folder's `a-1.csv` is another file.
    let paths = ["a-*.csv", "a-1*.csv", "a-b*.csv", "a-1.csv", "x/a-*.csv", "a-*.csv.gz"];
    let sink = |(at, path)| {
        let delivery = if str::contains(path, '*') { "exactly-once" } else { "at-least-once" };
        format!(
            "[sinks.k{at}]\ntype = \"files\"\ninput = \"bids\"\npath = \"{path}\"\nformat = \"csv\"\n\
             delivery = \"{delivery}\"\n"
        )
    };
    let found = with_checkpoints(&paths.into_iter().enumerate().map(sink).collect::<String>());
    assert_eq!(found.sinks.len(), 1 + paths.len());
}

#[test]
fn extensions_stand_for_formats() {
    for (name, expected) in [
        ("a.csv", FormatDecl::Csv(CsvDecl::default())),
        ("a.jsonl", FormatDecl::JsonLines),
        ("a.ndjson", FormatDecl::JsonLines),
        ("a.JSON", FormatDecl::JsonLines),
        ("a.*.txt", FormatDecl::Text),
    ] {
        let text = SMALL.replace("type = \"nexmark\"", &format!("type = \"files\"\npath = \"{name}\""));
        let found = parse("pipeline.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
        let SourceKind::Files { decoding, .. } = &found.sources[0].kind else {
            panic!("{:?}", found.sources)
        };
        assert_eq!(decoding.format, expected, "{name}");
    }
}

#[test]
fn everything_knows_its_place() {
    let found = parse("pipeline.toml", SMALL).unwrap();
    let clean = &found.operators[0];
    assert_eq!(found.place(&clean.id).to_string(), "pipeline.toml:5:12");
    assert_eq!(found.place(&clean.inputs[0]).to_string(), "pipeline.toml:7:9");
    assert_eq!(found.upstream_name(clean.inputs[0].value), "bids");
    // A default stands where what it derives from does.
    assert_eq!(found.place(&found.late).to_string(), "pipeline.toml:2:8");
}

#[test]
fn later_checks_report_in_the_same_form() {
    let found = parse("pipeline.toml", SMALL).unwrap();
    let problems = found.problems();
    problems.report(&found.sinks[0].input, "operator `clean` emits no field `origin`");
    let errors = problems.settle(Some(())).unwrap_err();
    let expected = "pipeline.toml:10:9: operator `clean` emits no field `origin`\n   \
                    10 | input = \"clean\"\n      |         ^^^^^^^";
    assert_eq!(errors.to_string(), expected);
}
