//! A producer's marker in its stream: read at the leader, changed by compare-and-set.

use async_nats::Client;
use async_nats::header::{self, HeaderMap, HeaderValue};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::subject::Subject;

use super::answer::{Answer, CONFLICT_IN_FLIGHT, Refusal, WRONG_LAST_SEQUENCE, while_connected};
use super::marker::{Marker, subject};
use super::outgoing::unsendable;
use crate::connection::Connection;
use crate::error::Error;

/// Why something isn't done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may be done, now or later, or not: the answer is missing.
    Unclear(String),
    /// It isn't done, as the marker isn't where it was expected.
    Conflict,
    /// It isn't done, and the server says why.
    Refused(Refusal),
    /// It can't be done.
    Fatal(Error),
}

/// Where a producer's marker is.
pub(super) struct Register {
    client: Client,
    stream: Stream<()>,
    pub(super) name: String,
    pub(super) subject: Subject,
}

/// A marker that was found.
pub(super) struct Found {
    pub(super) sequence: u64,
    pub(super) marker: Marker,
    /// When it was written.
    pub(super) time: String,
}

impl Register {
    pub(super) async fn new(connection: &Connection, stream: &str, producer: &str) -> Result<Self, Error> {
        let handle = connection.context().get_stream_no_info(stream).await;
        let handle = handle.map_err(|e| Error::Settings(format!("the stream `{stream}`: {e}")))?;
        Ok(Self {
            client: connection.client().clone(),
            stream: handle,
            name: stream.to_owned(),
            subject: subject(stream, producer).into(),
        })
    }

    /// The marker as the leader has it; none: there is none. A leader that was deposed and doesn't know it may have an
    /// old one; what is then written on it is refused.
    pub(super) async fn read(&self) -> Result<Option<Found>, Failure> {
        let request = self.stream.get_last_raw_message_by_subject(&self.subject);
        let Some(read) = while_connected(&self.client, request).await else {
            return Err(Failure::Unclear("the connection was lost".to_owned()));
        };
        let message = match read {
            Ok(message) => message,
            Err(error) => {
                return match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => Ok(None),
                    LastRawMessageErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Err(Failure::Fatal(Error::NoStream { stream: self.name.clone() }))
                    }
                    _ => Err(Failure::Unclear(error.to_string())),
                };
            }
        };
        let marker = Marker::decode(&message.payload).map_err(|why| {
            Failure::Fatal(Error::Changed {
                stream: self.name.clone(),
                expected: format!("a marker on `{}`", self.subject),
                found: format!("message {} there, which can't be read: {why}", message.sequence),
                advice: "use a newer version of this program, or remove what somebody else has written there"
                    .to_owned(),
            })
        })?;
        Ok(Some(Found { sequence: message.sequence, marker, time: message.time.to_string() }))
    }

    /// Writes a marker if the last one is at this sequence (0: if there is none), and says where it is.
    pub(super) async fn write(&self, expected: u64, marker: &Marker) -> Result<u64, Failure> {
        self.send(expected, marker, HeaderMap::new()).await
    }

    /// As [`Self::write`], with these headers beside.
    pub(super) async fn send(
        &self,
        expected: u64,
        marker: &Marker,
        mut headers: HeaderMap,
    ) -> Result<u64, Failure> {
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(expected));
        let request = async_nats::Request::new().headers(headers).payload(marker.encode().into());
        let request = self.client.send_request(self.subject.clone(), request);
        let message = match while_connected(&self.client, request).await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(Failure::Unclear(error.to_string())),
            None => return Err(Failure::Unclear("the connection was lost".to_owned())),
        };
        match Answer::of(&message) {
            Answer::Stored { stream, sequence } if stream == self.name => Ok(sequence),
            Answer::Stored { stream, .. } => Err(Failure::Fatal(Error::Unfit {
                stream: self.name.clone(),
                reason: format!("the stream `{stream}` takes the subject `{}`", self.subject),
                advice: "have this one take it, and no other".to_owned(),
            })),
            Answer::Taken | Answer::Nobody => {
                Err(Failure::Unclear(format!("nobody answers on `{}`", self.subject)))
            }
            Answer::Refused(Refusal { code: WRONG_LAST_SEQUENCE, .. }) => Err(Failure::Conflict),
            // Somebody's change is on its way, also one of our own; whether it arrives isn't known yet.
            Answer::Refused(Refusal { code: CONFLICT_IN_FLIGHT, reason }) => Err(Failure::Unclear(reason)),
            Answer::Refused(refusal) => Err(Failure::Refused(refusal)),
        }
    }

    /// Sends a message on which nothing is answered, or somebody else listens.
    pub(super) async fn publish(
        &self,
        subject: Subject,
        reply: Option<String>,
        headers: HeaderMap,
        payload: bytes::Bytes,
    ) -> Result<(), Failure> {
        let to = subject.clone();
        let published = match reply {
            None => self.client.publish_with_headers(subject, headers, payload).await,
            Some(reply) => self.client.publish_with_reply_and_headers(subject, reply, headers, payload).await,
        };
        published.map_err(|error| match unsendable(&self.client, &error, &to) {
            Some(error) => Failure::Fatal(error),
            None => Failure::Unclear(error.to_string()),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}
