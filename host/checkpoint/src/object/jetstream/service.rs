//! Asking the servers: each request is bounded, and tried again while it may yet succeed. What is read is what the
//! stream's leader says, never what a replica knows that may be behind.
//!
//! **Writing once.** Every message is written on the condition that the last one on its subject is a certain one. So it is
//! written once, however often it has to be sent, and a copy that comes late changes nothing.
//!
//! **A leader that doesn't know yet that it is one no longer** may answer too. What it says is recognized where it matters,
//! in listings: what this process has written is in the stream before it asks, so an answer from before that is no
//! answer. That is all that the argument in `runs` needs: who has written a manifest and then sees no newer run was there
//! before that.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, PurgeErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, Request, connection, header};
use bytes::Bytes;
use object_store::Result;
use serde::Deserialize;
use tidemill_jetstream::Connection;
use tokio::sync::OnceCell;

use super::format::Subjects;
use crate::object::engine::PLAIN;
use crate::place::JetStreamPlace;

/// What failed is tried again for so long: three times what an election takes.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// The pauses in between grow from here...
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// ...to here.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A request takes longer than its answer by what is in it, on a line of 200 kB/s.
const SLOWEST_BYTES_PER_MS: u64 = 200;
/// As many subjects as the servers tell of in one answer.
const SUBJECTS_COUNT_MAX: u64 = 100_000;

/// A bucket's servers.
pub(super) struct Service {
    pub(super) place: JetStreamPlace,
    pub(super) subjects: Subjects,
    /// Whether a bucket that isn't there is made.
    pub(super) makes: bool,
    connected: OnceCell<Connected>,
    /// The largest sequence of the stream that this process knows of.
    seen: AtomicU64,
}

/// A bucket that was found to be as it has to be.
pub(super) struct Connected {
    pub(super) connection: Connection,
    pub(super) stream: Stream<()>,
    /// How many bytes a chunk has at most.
    pub(super) chunk_bytes: usize,
}

/// Why an attempt has failed.
pub(super) enum Failed {
    /// It may succeed when it is tried again.
    Temporary(String),
    /// It won't.
    Final(object_store::Error),
}

/// What became of a message.
pub(super) enum Appended {
    /// It is in the stream, with this sequence.
    At(u64),
    /// The last one on its subject isn't the one that was expected; it may be this one.
    Conflict,
}

/// The subjects that match, with how many messages each has.
pub(super) struct Page {
    pub(super) subjects: HashMap<String, u64>,
    /// When the stream was last written to.
    pub(super) written: String,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    total: u64,
    state: State,
}

#[derive(Deserialize)]
struct State {
    last_seq: u64,
    last_ts: String,
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

impl Service {
    pub(super) fn new(place: &JetStreamPlace, makes: bool) -> Self {
        Self {
            place: place.clone(),
            subjects: Subjects::new(place.bucket(), place.prefix()),
            makes,
            connected: OnceCell::new(),
            seen: AtomicU64::new(0),
        }
    }

    /// The servers, with the bucket, as long as there is a connection. What is sent without one would be kept, and sent
    /// whenever there is one again.
    pub(super) async fn connected(&self) -> Result<&Connected, Failed> {
        let connected = self.connected.get_or_try_init(|| self.open()).await?;
        match connected.connection.client().connection_state() {
            connection::State::Connected => Ok(connected),
            _ => Err(Failed::Temporary("there is no connection to the servers".to_owned())),
        }
    }

    /// Tries until it succeeds, has failed for good, or has taken too long.
    pub(super) async fn persist<T, F>(&self, mut attempt: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T, Failed>> + Send,
    {
        let (begin, mut pause) = (Instant::now(), PAUSE_FIRST);
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::Temporary(why)) if begin.elapsed() >= RETRY_TIMEOUT => {
                    return Err(plain(self.advised(&why)));
                }
                Err(Failed::Temporary(_)) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn advised(&self, why: &str) -> String {
        let bucket = self.place.bucket();
        format!(
            "{why}, for {} s; check that the servers of the connection `{}` can be reached, that most of those with a copy \
             of the stream `{}` run, and that the user may publish to $O.{bucket}.> and $JS.API.>",
            RETRY_TIMEOUT.as_secs(),
            self.place.connection(),
            self.subjects.stream(),
        )
    }

    /// The last message on a subject.
    pub(super) async fn last(&self, subject: &str) -> Result<Option<StreamMessage>> {
        self.persist(|| async {
            let connected = self.connected().await?;
            match connected.stream.get_last_raw_message_by_subject(subject).await {
                Ok(message) => Ok(Some(message)),
                Err(error) => match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => Ok(None),
                    LastRawMessageErrorKind::JetStream(error) => Err(self.refused(&error)),
                    _ => Err(temporary(error)),
                },
            }
        })
        .await
    }

    /// The subjects that match.
    pub(super) async fn page(&self, filter: &str) -> Result<Page> {
        // What was written before this was asked has to be in the answer.
        let seen = self.seen.load(Ordering::Acquire);
        self.persist(|| async {
            let connected = self.connected().await?;
            let asked = serde_json::json!({ "subjects_filter": filter });
            let api = format!("STREAM.INFO.{}", self.subjects.stream());
            let told: Response<Told> =
                connected.connection.context().request(api, &asked).await.map_err(temporary)?;
            let told = match told {
                Response::Ok(told) => told,
                Response::Err { error } => return Err(self.refused(&error)),
            };
            if told.state.last_seq < seen {
                return Err(Failed::Temporary("a server answers that is behind".to_owned()));
            }
            if told.total > SUBJECTS_COUNT_MAX {
                return Err(Failed::Final(plain(format!(
                    "the bucket `{}` has {} objects, and no more than {SUBJECTS_COUNT_MAX} can be listed; give the \
                     pipeline a bucket of its own",
                    self.place.bucket(),
                    told.total
                ))));
            }
            Ok(Page { subjects: told.state.subjects.unwrap_or_default(), written: told.state.last_ts })
        })
        .await
    }

    /// Removes the messages on a subject, or of these all before a sequence.
    pub(super) async fn purge(&self, subject: &str, before: Option<u64>) -> Result<()> {
        self.persist(|| self.try_purge(subject, before)).await
    }

    pub(super) async fn try_purge(&self, subject: &str, before: Option<u64>) -> Result<(), Failed> {
        let purge = self.connected().await?.stream.purge().filter(subject);
        let purged = match before {
            Some(sequence) => purge.sequence(sequence).await,
            None => purge.await,
        };
        purged.map(drop).map_err(|error| match error.kind() {
            PurgeErrorKind::JetStream(error) => self.refused(&error),
            _ => temporary(error),
        })
    }

    /// Writes a message if the last one on its subject has this sequence; 0: if there is none.
    pub(super) async fn append(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        last: u64,
    ) -> Result<Appended> {
        let mut headers = headers;
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
        self.persist(|| self.try_append(subject, headers.clone(), payload.clone())).await
    }

    async fn try_append(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Appended, Failed> {
        let client = self.connected().await?.connection.client();
        let on_its_way = Duration::from_millis(payload.len() as u64 / SLOWEST_BYTES_PER_MS);
        let timeout = self.place.settings().map(|settings| settings.request_timeout + on_its_way);
        let request = Request::new().headers(headers).payload(payload).timeout(timeout);
        let answer = client.send_request(subject.to_owned(), request).await.map_err(temporary)?;
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload).map_err(temporary)? {
            Response::Ok(ack) => {
                self.seen.fetch_max(ack.sequence, Ordering::AcqRel);
                Ok(Appended::At(ack.sequence))
            }
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE => {
                Ok(Appended::Conflict)
            }
            Response::Err { error } => Err(self.refused(&error)),
        }
    }

    /// That the servers have answered with an error.
    pub(super) fn refused(&self, error: &jetstream::Error) -> Failed {
        let said = format!("the server says: {error}");
        let is_full = error.to_string().contains("maximum");
        match error.error_code() {
            ErrorCode::STREAM_NOT_FOUND => Failed::Final(self.no_bucket()),
            ErrorCode::STREAM_STORE_FAILED | ErrorCode::STORAGE_RESOURCES_EXCEEDED if is_full => {
                Failed::Final(plain(format!(
                    "the bucket `{}` is full: {said}; raise its limit (`nats stream edit {} --max-bytes=...`), or keep \
                     fewer checkpoints",
                    self.place.bucket(),
                    self.subjects.stream()
                )))
            }
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                Failed::Temporary("another message is on its way to the same subject".to_owned())
            }
            _ if matches!(error.code(), 408 | 429 | 503) => Failed::Temporary(said),
            _ => Failed::Final(plain(format!(
                "{said}; see that the user may use the stream `{}`, and that its limits leave room",
                self.subjects.stream()
            ))),
        }
    }

    pub(super) fn no_bucket(&self) -> object_store::Error {
        plain(format!(
            "there is no bucket `{}` (stream `{}`); `tidemill run` makes it, or correct `path`",
            self.place.bucket(),
            self.subjects.stream()
        ))
    }
}

/// An error that says in full what is wrong and what to do.
pub(super) fn plain(why: String) -> object_store::Error {
    object_store::Error::Generic { store: PLAIN, source: why.into() }
}

pub(super) fn temporary(why: impl std::fmt::Display) -> Failed {
    Failed::Temporary(why.to_string())
}
