//! Connections, and the streams that they lead to.

use std::path::PathBuf;
use std::time::Duration;

use tidemill_flow::schema::FieldType;
use tidemill_jetstream::{Reconnect, Secret};

use crate::pipeline::declaration::*;

const FILE: &str = r#"
name = "p"
[checkpoints]
path = "nats://shop/checkpoints/p"
[connections.shop]
type = "nats"
servers = ["tls://one:4222", "tls://two:4222"]
user = "ann"
password = { env = "WORD" }
request_timeout = "2s"
inbox_prefix = "_INBOX_ann"
domain = "hub"
tls = { required = true, authorities = "ca.pem", certificate = "ann.pem", key = "ann.key", first = true }
reconnect = { delay = "1s", max_delay = "3s" }
[connections.other]
type = "nats"
servers = "nats://localhost"
nkey = { file = "seed" }
[sources.orders]
type = "jetstream"
connection = "shop"
stream = ["A", "B"]
from = { time = 2026-11-21T08:00:00+01:00 }
until_end = true
allow_gaps = true
metadata = { subject = "topic", time = "arrived", sequence = "number", headers = { "Trace-Id" = "trace" } }
event_time = { field = "arrived" }
[sinks.out]
type = "jetstream"
input = "orders"
connection = "other"
stream = "OUT"
subject = "out.{topic}"
headers = { "Trace-Id" = "{trace}" }
create = { subjects = ["out.>"], replicas = 3, max_age = "1h", max_bytes = "1MiB", duplicate_window = "5m" }
"#;

fn text(value: &str) -> Spanned<String> {
    Spanned::new(value.to_owned(), Span::default())
}

fn path(value: &str) -> Spanned<PathBuf> {
    Spanned::new(value.into(), Span::default())
}

#[test]
fn every_key_of_connections_and_streams_means_what_the_page_says() {
    let found = parse("p.toml", FILE).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(found.checkpoints.as_ref().unwrap().path.value.to_string(), "nats://shop/checkpoints/p");
    let shop = Connection {
        id: text("shop"),
        servers: vec![text("tls://one:4222"), text("tls://two:4222")],
        credentials: CredentialsDecl::Password {
            user: "ann".to_owned(),
            password: SecretDecl::Env(text("WORD")),
        },
        tls: TlsDecl {
            required: true,
            authorities: Some("ca.pem".into()),
            certificate: Some(("ann.pem".into(), "ann.key".into())),
            first: true,
        },
        reconnect: Reconnect { delay_min: Duration::from_secs(1), delay_max: Duration::from_secs(3) },
        request_timeout_ms: Some(2000),
        inbox_prefix: Some("_INBOX_ann".to_owned()),
        domain: Some("hub".to_owned()),
    };
    let other = Connection {
        id: text("other"),
        servers: vec![text("nats://localhost")],
        credentials: CredentialsDecl::Nkey(SecretDecl::File(path("seed"))),
        tls: TlsDecl::default(),
        reconnect: Reconnect::default(),
        request_timeout_ms: None,
        inbox_prefix: None,
        domain: None,
    };
    assert_eq!(found.connections, [shop, other]);
    let metadata = [
        ("topic", Metadata::Subject),
        ("arrived", Metadata::Time),
        ("number", Metadata::Sequence),
        ("trace", Metadata::Header("Trace-Id".to_owned())),
    ];
    let types = metadata.iter().map(|(_, metadata)| metadata.field_type()).collect::<Vec<_>>();
    assert_eq!(types, [FieldType::Text, FieldType::Timestamp, FieldType::Integer, FieldType::Text]);
    let kind = SourceKind::JetStream {
        connection: 0,
        streams: vec![text("A"), text("B")],
        decoding: Decoding {
            format: FormatDecl::JsonLines,
            event_time: Some(EventTime::Field { field: text("arrived"), out_of_orderness_ms: 0 }),
            fields: Vec::new(),
            metadata: metadata
                .map(|(field, metadata)| MetadataDecl { field: text(field), metadata })
                .to_vec(),
        },
        from: StreamStart::Time(1_795_244_400_000),
        until_end: true,
        allow_gaps: true,
    };
    assert_eq!(found.sources[0].kind, kind);
    let kind = SinkKind::JetStream {
        connection: 1,
        stream: text("OUT"),
        subject: text("out.{topic}"),
        headers: vec![(text("Trace-Id"), text("{trace}"))],
        create: Some(CreateDecl {
            subjects: vec!["out.>".to_owned()],
            replicas: 3,
            max_age_ms: Some(3_600_000),
            max_bytes: Some(1 << 20),
            duplicate_window_ms: Some(300_000),
        }),
    };
    assert_eq!((&found.sinks[0].kind, found.sinks[0].delivery), (&kind, Delivery::ExactlyOnce));
}

#[test]
fn what_is_not_written_of_a_stream_has_its_default() {
    let text = "name = \"p\"\n[connections.c]\ntype = \"nats\"\nservers = \"localhost\"\ntoken = \"hush\"\n\
                [sources.s]\ntype = \"jetstream\"\nconnection = \"c\"\nstream = \"A\"\n\
                [sinks.k]\ntype = \"jetstream\"\ninput = \"s\"\nconnection = \"c\"\nstream = \"B\"\nsubject = \"b\"\n";
    let found = parse("p.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    let token = CredentialsDecl::Token(SecretDecl::Text(Secret::new("hush".to_owned())));
    assert_eq!(found.connections[0].credentials, token);
    assert!(!format!("{found:?}").contains("hush"), "a secret is printed");
    let SourceKind::JetStream { from, until_end, allow_gaps, decoding, .. } = &found.sources[0].kind else {
        panic!("{:?}", found.sources)
    };
    assert_eq!((*from, *until_end, *allow_gaps), (StreamStart::Beginning, false, false));
    assert_eq!(decoding.metadata, []);
    assert_eq!(found.sinks[0].delivery, Delivery::AtLeastOnce);
    let SinkKind::JetStream { create: None, headers, .. } = &found.sinks[0].kind else {
        panic!("{:?}", found.sinks)
    };
    assert_eq!(headers, &[]);
}
