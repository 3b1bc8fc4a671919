//! A file with every key in it, and a file with as few as possible.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use tidemill_flow::schema::FieldType;
use tidemill_flow::window::Windows;

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
    assert_eq!(found.dead_letters, path("out/dead-letters.jsonl"));
    assert_eq!(found.late, path("out/late.jsonl"));
    assert_eq!(found.sources, sources());
    assert_eq!(found.operators, operators());
    assert_eq!(found.sinks, sinks());
    // `joined` stands first in the file and reads the other two.
    assert_eq!(found.order, [1, 2, 0]);
}

fn sources() -> Vec<Source> {
    let departures = Decoding {
        format: FormatDecl::Csv(CsvDecl {
            delimiter: b';',
            header: false,
            null: vec![String::new(), "NA".to_owned()],
        }),
        event_time: Some(EventTime { field: text("time_hour"), out_of_orderness_ms: 7_200_000 }),
        fields: vec![
            field("dep_delay", FieldType::Integer, &["dep_delay"]),
            field("a.b", FieldType::Text, &["a.b"]),
        ],
    };
    let time = FieldDecl {
        unit: Some(TimestampDecl::Milliseconds),
        nullable: false,
        ..field("time", FieldType::Timestamp, &["meta", "time"])
    };
    let piped = Decoding { format: FormatDecl::JsonLines, event_time: None, fields: vec![time] };
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
        },
        Source { id: text("piped"), kind: SourceKind::Stdin { decoding: piped } },
        Source { id: text("bids"), kind: SourceKind::Nexmark(bids) },
    ]
}

fn operators() -> Vec<Operator> {
    let settings = [("min", "3"), ("mask", "255"), ("share", "0.50"), ("name", "x y"), ("strict", "true")];
    vec![
        Operator {
            id: text("joined"),
            component: path("join.wasm"),
            inputs: vec![said(Upstream::Operator(1)), said(Upstream::Operator(2)), said(Upstream::Source(2))],
            settings: settings.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
            memory_bytes: 1 << 20,
            call_timeout_ms: 500,
            key: vec![],
            window: Some(said(Windows::Global)),
            parallelism: NonZeroUsize::new(1),
        },
        Operator {
            id: text("by-origin"),
            component: path("operators/by_origin.wasm"),
            inputs: vec![said(Upstream::Source(0))],
            settings: vec![],
            memory_bytes: 64 << 20,
            call_timeout_ms: 10_000,
            key: texts(&["origin"]),
            window: Some(said(Windows::Tumbling { size_ms: 3_600_000, offset_ms: 900_000 })),
            parallelism: None,
        },
        Operator {
            id: text("hopping"),
            component: path("operators/by_origin.wasm"),
            inputs: vec![said(Upstream::Source(1))],
            settings: vec![],
            memory_bytes: 64 << 20,
            call_timeout_ms: 10_000,
            key: texts(&["origin", "dest"]),
            window: Some(said(Windows::Hopping { size_ms: 5_400_000, slide_ms: 60_000, offset_ms: 0 })),
            parallelism: None,
        },
    ]
}

fn sinks() -> Vec<Sink> {
    vec![
        Sink {
            id: text("hourly"),
            input: said(Upstream::Operator(1)),
            kind: SinkKind::Files { path: path("out/hourly.tsv") },
            format: FormatDecl::Csv(CsvDecl { delimiter: b'\t', header: false, null: vec![String::new()] }),
            fields: Some(texts(&["origin", "window_start"])),
            timestamps: TimestampDecl::Seconds,
        },
        Sink {
            id: text("late-departures"),
            input: said(Upstream::Late(1)),
            kind: SinkKind::Files { path: path("out/late-departures.csv") },
            format: FormatDecl::Csv(CsvDecl::default()),
            fields: None,
            timestamps: TimestampDecl::Rfc3339,
        },
        Sink {
            id: text("shown"),
            input: said(Upstream::Operator(0)),
            kind: SinkKind::Stdout,
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
    assert_eq!(found.operators[0].windows(), Windows::Global);
    assert_eq!(found.sinks[0].format, FormatDecl::JsonLines);
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
