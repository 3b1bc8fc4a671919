//! The beginning of reading: is the stream the one that was read, and does it have what comes next? Then a consumer is
//! made that begins there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subscriber;
use async_nats::connection::State;
use async_nats::datetime::{self, DateTime};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{ConsumerErrorKind, Info};
use async_nats::jetstream::{self, ErrorCode};
use tokio::time::{Instant, sleep};

use super::check;
use super::handover::Connects;
use super::history::History;
use super::position::{Options, Position, Start, identity};
use crate::connection::Connection;
use crate::error::Error;

/// A consumer that nobody asks is removed by the server after so long: more than any election or busy moment takes,
/// and a reader that is held back for longer makes another.
const INACTIVE_MAX: Duration = Duration::from_secs(120);
/// Before a look is taken again.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(250);

/// Where a consumer begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Nothing was read yet.
    Start(Start),
    /// Something was, or the place is known otherwise.
    Behind(Position),
}

/// A consumer to pull from.
#[derive(Debug)]
pub(super) struct Attached {
    /// What it sends.
    pub(super) subscription: Subscriber,
    /// Where it sends to; no other consumer ever does.
    pub(super) inbox: String,
    /// Its name.
    pub(super) consumer: String,
    /// Where it begins.
    pub(super) position: Position,
    /// The last messages before that, as far as they were read again.
    pub(super) history: History,
    /// The stream's last sequence.
    pub(super) end: u64,
    /// How many messages it has to send.
    pub(super) pending: u64,
    /// By which connection it was made.
    pub(super) connects: Connects,
    /// How many messages a pull may ask for; none: as many as it wants.
    pub(super) batch_max: Option<usize>,
}

/// As [`attach`]; but what a server says that may just have become the leader is looked at again.
pub(super) async fn attach_surely(
    connection: &Connection,
    stream: &str,
    from: &Place,
    options: &Options,
) -> Result<Attached, Error> {
    let begun = Instant::now();
    loop {
        let error = match attach(connection, stream, from, options).await {
            Err(error @ (Error::Changed { .. } | Error::NoStream { .. })) => error,
            done => return done,
        };
        // Whoever opens a stream for the first time has probably mistyped it.
        if matches!(from, Place::Start(_)) || begun.elapsed() >= options.confirm {
            return Err(error);
        }
        sleep(CONFIRM_INTERVAL.min(options.confirm)).await;
    }
}

/// Makes a consumer.
///
/// # Errors
/// When the stream isn't the one that was read, doesn't have the place, or nothing can be asked for now.
pub(super) async fn attach(
    connection: &Connection,
    name: &str,
    from: &Place,
    options: &Options,
) -> Result<Attached, Error> {
    let action = || format!("read the stream `{name}`");
    let connects = connects(connection).ok_or_else(|| Error::Unavailable {
        action: action(),
        reason: "the connection is lost".to_owned(),
    })?;
    let stream = connection.stream(name).await?;
    let info = stream.cached_info();
    check::retention(name, info)?;
    let identity = identity(info);
    let history = match from {
        Place::Start(start) => {
            check::start(name, info, *start, options)?;
            History::default()
        }
        Place::Behind(position) => {
            check::position(name, info, *position, options)?;
            check::reread(name, &stream, *position).await?
        }
    };
    let policy = match *from {
        Place::Behind(Position { sequence, .. }) => behind(sequence),
        Place::Start(Start::Beginning) => DeliverPolicy::All,
        Place::Start(Start::End) => behind(info.state.last_sequence),
        Place::Start(Start::Sequence(sequence)) => behind(sequence.saturating_sub(1)),
        Place::Start(Start::Time { since_ms }) => {
            DeliverPolicy::ByStartTime { start_time: time(name, since_ms)? }
        }
    };
    let inbox = connection.client().new_inbox();
    let subscription = connection
        .client()
        .subscribe(inbox.clone())
        .await
        .map_err(|e| Error::Unavailable { action: action(), reason: e.to_string() })?;
    let config = pull::Config {
        description: Some("tidemill".to_owned()),
        deliver_policy: policy,
        ack_policy: AckPolicy::None,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: inactive_max(info),
        ..Default::default()
    };
    let made = stream.create_consumer(config).await.map_err(|error| match error.kind() {
        ConsumerErrorKind::JetStream(error) => refused(action(), &error),
        _ => Error::Unavailable { action: action(), reason: error.to_string() },
    })?;
    let consumer = made.cached_info();
    let position = match *from {
        Place::Behind(position) => position,
        Place::Start(start) => {
            let sequence = match start {
                Start::End => info.state.last_sequence,
                Start::Sequence(sequence) => sequence.saturating_sub(1),
                // Where that is, only the server knows.
                Start::Beginning | Start::Time { .. } => consumer.delivered.stream_sequence,
            };
            Position { identity, sequence, history: 0 }
        }
    };
    Ok(Attached {
        subscription,
        inbox,
        consumer: consumer.name.clone(),
        position,
        history,
        end: info.state.last_sequence,
        pending: consumer.num_pending,
        connects,
        batch_max: usize::try_from(consumer.config.max_batch).ok().filter(|max| *max > 0),
    })
}

/// By which number of its attempts it is connected; none: it isn't.
pub(super) fn connects(connection: &Connection) -> Option<Connects> {
    let client = connection.client();
    let connects = client.statistics().connects.load(Ordering::Relaxed);
    (client.connection_state() == State::Connected).then_some(connects)
}

/// The stream may allow less.
fn inactive_max(info: &Info) -> Duration {
    let limit = info.config.consumer_limits.as_ref().map(|limits| limits.inactive_threshold);
    limit.filter(|limit| !limit.is_zero()).map_or(INACTIVE_MAX, |limit| limit.min(INACTIVE_MAX))
}

fn behind(sequence: u64) -> DeliverPolicy {
    DeliverPolicy::ByStartSequence { start_sequence: sequence.saturating_add(1) }
}

fn time(name: &str, since_ms: i64) -> Result<DateTime, Error> {
    datetime::from_nanos(i128::from(since_ms) * 1_000_000).map_err(|e| {
        Error::Settings(format!("the stream `{name}` can't be read from {since_ms} ms since 1970 on: {e}"))
    })
}

/// What the server says to a request for a stream that is there.
pub(super) fn refused(action: String, error: &jetstream::Error) -> Error {
    let code = error.error_code();
    match code {
        ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_ACTIVE
        | ErrorCode::CLUSTER_NOT_LEADER
        | ErrorCode::INSUFFICIENT_RESOURCES => Error::Unavailable { action, reason: error.to_string() },
        ErrorCode::STREAM_NOT_FOUND => Error::Unavailable { action, reason: "it has just gone".to_owned() },
        ErrorCode::MAXIMUM_CONSUMERS_LIMIT => Error::Refused {
            action,
            code: code.0,
            reason: error.to_string(),
            advice: "a reader needs a consumer: raise `max_consumers` of the stream or the account"
                .to_owned(),
        },
        _ => Error::Refused {
            action,
            code: code.0,
            reason: error.to_string(),
            advice: "see what the server's log says".to_owned(),
        },
    }
}
