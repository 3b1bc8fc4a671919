//! What is told of real servers and streams before a pipeline relies on them.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, SubjectTransform,
};
use tidemill_jetstream::doctor::{Finding, Role, Severity, Wanted, examine, render};
use tidemill_jetstream::{Connection, Credentials, Secret, Settings};
use tidemill_nats_test::{Cluster, Server};

async fn connect(url: String) -> Connection {
    Connection::open(&Settings::new(vec![url])).await.unwrap()
}

async fn make(connection: &Connection, config: Config) {
    connection.context().create_stream(config).await.unwrap();
}

/// A stream that does for every role.
fn fitting(name: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>"), format!("tidemill.{name}.>")],
        allow_atomic_publish: true,
        allow_direct: true,
        ..Config::default()
    }
}

/// Those that need something done.
fn bad(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|f| f.severity >= Severity::Warning).collect()
}

/// The one finding at which this was looked.
#[track_caller]
fn at<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    let found: Vec<_> = findings.iter().filter(|f| f.what.contains(what)).collect();
    assert_eq!(found.len(), 1, "{what} in\n{}", render(findings));
    found[0]
}

#[tokio::test]
async fn nothing_is_wrong_with_a_stream_that_fits() {
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    make(&connection, fitting("S")).await;
    let roles = [Role::Read, Role::WriteExactlyOnce, Role::WriteAtLeastOnce];
    let window = Role::WriteIdempotent { needed_window: Duration::from_secs(100) };
    for role in roles.into_iter().chain([window]) {
        let wanted = Wanted { subjects: vec!["S.*".to_owned()], ..Wanted::new("S", role) };
        let findings = examine(&connection, &[wanted]).await;
        assert!(bad(&findings).is_empty(), "{role:?}:\n{}", render(&findings));
        assert_eq!(at(&findings, "JetStream").severity, Severity::Ok);
        assert!(at(&findings, "version").found.contains("API level"), "{}", render(&findings));
        assert_eq!(at(&findings, "sync").severity, Severity::Note);
    }
}

#[tokio::test]
async fn what_two_want_of_the_same_stream_is_told_once() {
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    make(&connection, fitting("S")).await;
    let wanted = Wanted::new("S", Role::WriteExactlyOnce);
    let once = examine(&connection, std::slice::from_ref(&wanted)).await;
    assert_eq!(examine(&connection, &[wanted.clone(), wanted]).await, once);
}

/// How a stream is made unfit, for what, and what is said of it.
struct Unfit {
    role: Role,
    what: &'static str,
    severity: Severity,
    advice: &'static str,
    change: fn(&mut Config),
}

#[tokio::test]
async fn what_makes_a_stream_unfit_is_told_with_what_to_do() {
    use Severity::{Error, Note, Warning};
    const IDEMPOTENT: Role = Role::WriteIdempotent { needed_window: Duration::from_secs(600) };
    let unfit = |role, what, severity, advice, change| Unfit { role, what, severity, advice, change };
    let cases = [
        unfit(Role::Read, "storage", Warning, "--storage=file", |c| c.storage = StorageType::Memory),
        unfit(Role::WriteExactlyOnce, "storage", Error, "--allow-batch", |c| c.storage = StorageType::Memory),
        unfit(Role::Read, "retention", Error, "--retention=limits", |c| {
            c.retention = RetentionPolicy::Interest
        }),
        unfit(Role::Read, "retention", Error, "can't be changed", |c| {
            c.retention = RetentionPolicy::WorkQueue
        }),
        unfit(Role::WriteExactlyOnce, "retention", Error, "marker", |c| {
            c.retention = RetentionPolicy::Interest
        }),
        unfit(Role::WriteAtLeastOnce, "retention", Note, "", |c| c.retention = RetentionPolicy::WorkQueue),
        unfit(Role::Read, "kept", Note, "goes back further", |c| c.max_age = Duration::from_secs(3600)),
        unfit(Role::Read, "kept", Note, "until the account", |_| {}),
        unfit(Role::WriteAtLeastOnce, "kept", Note, "waits when it is full", |c| {
            c.max_messages = 10;
            c.discard = DiscardPolicy::New;
        }),
        unfit(Role::Read, "of each subject", Warning, "--max-msgs-per-subject", |c| {
            c.max_messages_per_subject = 1;
        }),
        unfit(IDEMPOTENT, "duplicate window", Error, "--dupe-window=600s", |_| {}),
        unfit(IDEMPOTENT, "duplicate window", Note, "240 bytes", |c| {
            c.duplicate_window = Duration::from_secs(7200);
        }),
        unfit(IDEMPOTENT, "of each subject", Warning, "forgotten", |c| {
            c.duplicate_window = Duration::from_secs(600);
            c.max_messages_per_subject = 1;
        }),
        unfit(Role::WriteExactlyOnce, "atomic batches", Error, "--allow-batch", |c| {
            c.allow_atomic_publish = false;
        }),
        unfit(
            Role::WriteExactlyOnce,
            "markers, `",
            Error,
            "--subjects='S.>' --subjects='tidemill.S.>'",
            |c| {
                c.subjects.truncate(1);
            },
        ),
        unfit(Role::WriteExactlyOnce, "markers' age", Note, "deleted too", |c| {
            c.max_age = Duration::from_secs(3600);
        }),
        unfit(Role::WriteExactlyOnce, "transformed", Error, "--no-transform", |c| {
            let (source, destination) = (">".to_owned(), "x.>".to_owned());
            c.subject_transform = Some(SubjectTransform { source, destination });
        }),
        unfit(Role::WriteAtLeastOnce, "persist mode", Error, "killed", |c| {
            c.allow_atomic_publish = false;
            c.persist_mode = Some(PersistenceMode::Async);
        }),
        unfit(Role::WriteAtLeastOnce, "acknowledgements", Error, "--ack", |c| {
            c.no_ack = true;
            c.allow_atomic_publish = false;
        }),
        unfit(Role::WriteAtLeastOnce, "largest message", Note, "--max-msg-size", |c| {
            c.max_message_size = 100
        }),
        unfit(Role::Read, "direct reads", Note, "--allow-direct", |c| c.allow_direct = false),
        unfit(Role::Read, "replicas", Note, "disk", |_| {}),
    ];
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    for Unfit { role, what, severity, advice, change } in cases {
        let mut config = fitting("S");
        change(&mut config);
        make(&connection, config.clone()).await;
        let findings = examine(&connection, &[Wanted::new("S", role)]).await;
        let findings: Vec<Finding> = findings.into_iter().filter(|f| f.what.starts_with("stream")).collect();
        let found = at(&findings, what);
        assert_eq!(found.severity, severity, "{role:?}, {what}:\n{}", render(&findings));
        assert!(found.advice.contains(advice), "{role:?}, {what}: {}", found.advice);
        let others: Vec<_> = bad(&findings).into_iter().filter(|f| f.what != found.what).collect();
        assert!(others.is_empty(), "{role:?}, {what}: {others:?}");
        connection.context().delete_stream("S").await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_is_not_there_comes_with_the_command_that_makes_it() {
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    let out = Wanted { subjects: vec!["out.*".to_owned()], ..Wanted::new("OUT", Role::WriteExactlyOnce) };
    let wanted = [out, Wanted::new("checkpoints", Role::CheckpointBucket)];
    let findings = examine(&connection, &wanted).await;
    let out = at(&findings, "stream `OUT`");
    assert_eq!(out.severity, Severity::Error);
    let command = "nats stream add OUT --storage=file --retention=limits --replicas=1 --subjects='out.*' \
                   --subjects='tidemill.OUT.>' --allow-batch --defaults";
    assert!(out.advice.contains(command), "{}", out.advice);
    let bucket = at(&findings, "stream `OBJ_checkpoints`");
    assert_eq!(bucket.severity, Severity::Note);
    assert!(bucket.advice.contains("nats object add checkpoints"), "{}", bucket.advice);
}

#[tokio::test]
async fn subjects_that_are_not_taken_in_are_errors() {
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    make(&connection, fitting("S")).await;
    for role in [Role::Read, Role::WriteAtLeastOnce] {
        let wanted = Wanted { subjects: vec!["elsewhere.*".to_owned()], ..Wanted::new("S", role) };
        let findings = examine(&connection, &[wanted]).await;
        assert_eq!(at(&findings, "elsewhere.*").severity, Severity::Error, "{}", render(&findings));
    }
}

#[tokio::test]
async fn a_position_is_looked_for_among_what_is_kept() {
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    let config = Config { max_messages: 100, ..fitting("S") };
    make(&connection, config).await;
    for _ in 0..120 {
        connection.context().publish("S.a", "".into()).await.unwrap().await.unwrap();
    }
    // 21 to 120 are there.
    for (position, severity) in [
        (1, Severity::Error),
        (20, Severity::Error),
        (21, Severity::Warning),
        (60, Severity::Ok),
        (121, Severity::Ok),
        (122, Severity::Error),
    ] {
        let wanted = Wanted { position: Some(position), ..Wanted::new("S", Role::Read) };
        let findings = examine(&connection, &[wanted]).await;
        assert_eq!(at(&findings, "position").severity, severity, "{position}:\n{}", render(&findings));
    }
}

#[tokio::test]
async fn a_stream_that_refuses_when_full_is_told_when_it_nearly_is() {
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    make(&connection, Config { max_messages: 10, discard: DiscardPolicy::New, ..fitting("S") }).await;
    for _ in 0..9 {
        connection.context().publish("S.a", "".into()).await.unwrap().await.unwrap();
    }
    let findings = examine(&connection, &[Wanted::new("S", Role::WriteAtLeastOnce)]).await;
    assert_eq!(at(&findings, "kept").severity, Severity::Warning, "{}", render(&findings));
}

#[tokio::test]
async fn consumers_that_will_not_fit_are_told() {
    let Some(server) = Server::start() else { return };
    let connection = connect(server.url()).await;
    make(&connection, Config { max_consumers: 4, ..fitting("S") }).await;
    for (consumers, severity) in [(3, Severity::Ok), (5, Severity::Error)] {
        let wanted = Wanted { consumers, ..Wanted::new("S", Role::Read) };
        let findings = examine(&connection, &[wanted]).await;
        assert_eq!(at(&findings, "consumers").severity, severity, "{}", render(&findings));
    }
}

#[tokio::test]
async fn checkpoints_need_a_bucket_that_keeps_them_and_messages_that_are_large_enough() {
    let Some(server) = Server::with("max_payload: 32K") else { return };
    let connection = connect(server.url()).await;
    let bucket = Config {
        name: "OBJ_kept".to_owned(),
        subjects: vec!["$O.kept.C.>".to_owned(), "$O.kept.M.>".to_owned()],
        discard: DiscardPolicy::New,
        allow_rollup: true,
        allow_direct: true,
        ..Config::default()
    };
    make(&connection, bucket.clone()).await;
    let wanted = [Wanted::new("kept", Role::CheckpointBucket)];
    let findings = examine(&connection, &wanted).await;
    assert_eq!(at(&findings, "largest message").severity, Severity::Warning, "{}", render(&findings));
    assert_eq!(bad(&findings).len(), 1, "{}", render(&findings));
    let lossy = Config {
        max_age: Duration::from_secs(3600),
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 1,
        allow_rollup: false,
        deny_delete: true,
        ..bucket
    };
    connection.context().delete_stream("OBJ_kept").await.unwrap();
    make(&connection, lossy).await;
    let findings = examine(&connection, &wanted).await;
    for what in ["age", "discarded", "of each subject", "replacing", "deletion"] {
        assert_eq!(
            at(&findings, &format!("`OBJ_kept`: {what}")).severity,
            Severity::Error,
            "{}",
            render(&findings)
        );
    }
}

#[tokio::test]
async fn servers_without_jetstream_are_one_error() {
    let Some(server) = Server::with("jetstream: disabled") else { return };
    let connection = connect(server.url()).await;
    let findings = examine(&connection, &[Wanted::new("S", Role::Read)]).await;
    let errors = bad(&findings);
    assert_eq!(errors.len(), 1, "{}", render(&findings));
    assert!(errors[0].advice.contains("jetstream {"), "{}", errors[0].advice);
}

const ACCOUNTS: &str = "accounts {
    small { users: [{ user: small, password: p }]
            jetstream { max_file: 100K, max_mem: 0, max_streams: 1, max_consumers: 2 } }
    none { users: [{ user: none, password: p }] }
}";

#[tokio::test]
async fn an_account_s_limits_are_told_before_they_are_reached() {
    let Some(server) = Server::with(ACCOUNTS) else { return };
    let open = async |user: &str| {
        let password = Secret::new("p".to_owned());
        let credentials = Credentials::Password { user: user.to_owned(), password };
        Connection::open(&Settings { credentials, ..Settings::new(vec![server.url()]) }).await.unwrap()
    };
    let connection = open("small").await;
    make(&connection, fitting("S")).await;
    connection.context().publish("S.a", vec![0; 90_000].into()).await.unwrap().await.unwrap();
    let wanted = Wanted { consumers: 3, ..Wanted::new("S", Role::Read) };
    let findings = examine(&connection, &[wanted]).await;
    assert_eq!(at(&findings, "file storage").severity, Severity::Warning, "{}", render(&findings));
    assert_eq!(at(&findings, "account: streams").severity, Severity::Error, "{}", render(&findings));
    assert_eq!(at(&findings, "consumers").severity, Severity::Error, "{}", render(&findings));
    let findings = examine(&open("none").await, &[]).await;
    let jetstream = at(&findings, "JetStream");
    assert_eq!(jetstream.severity, Severity::Error, "{}", render(&findings));
    assert!(jetstream.advice.contains("accounts {"), "{}", jetstream.advice);
}

#[tokio::test]
async fn a_cluster_s_streams_should_be_at_an_odd_number_of_its_servers() {
    let Some(cluster) = Cluster::start(3) else { return };
    let settings = Settings { request_timeout: Duration::from_secs(2), ..Settings::new(cluster.urls()) };
    let connection = Connection::open(&settings).await.unwrap();
    for replicas in 1..=3 {
        make(&connection, Config { num_replicas: replicas, ..fitting(&format!("S{replicas}")) }).await;
    }
    let wanted: Vec<Wanted> = (1..=3).map(|n| Wanted::new(format!("S{n}"), Role::Read)).collect();
    let findings = examine(&connection, &wanted).await;
    for (stream, severity) in [("S1", Severity::Warning), ("S2", Severity::Warning), ("S3", Severity::Ok)] {
        let found = at(&findings, &format!("`{stream}`: replicas"));
        assert_eq!(found.severity, severity, "{}", render(&findings));
        assert_eq!(at(&findings, &format!("`{stream}`: leader")).severity, Severity::Ok);
    }
    // Two of three are gone: whatever is asked is answered by nobody, or with an error.
    cluster.kill(0);
    cluster.kill(1);
    let findings = examine(&connection, &wanted).await;
    assert!(findings.iter().any(|f| f.severity == Severity::Error), "{}", render(&findings));
}
