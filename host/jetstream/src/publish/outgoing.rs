//! A message on its way out, and what the client makes of it.

use std::io;

use async_nats::header::{self, HeaderMap, HeaderName, HeaderValue};
use async_nats::{Client, Subject};
use bytes::Bytes;

use crate::error::Error;
use crate::subject::{is_reserved, is_reserved_header};

/// A message on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Where it goes: without wildcards, and not below `tidemill`, `$` or `_INBOX`.
    pub subject: &'a str,
    /// A line for each header, with its name, a colon and its value, as in `Trace-Id:7`; names that begin with `Nats-` are
    /// the server's.
    pub headers: &'a str,
    /// By which the server recognizes a copy within the stream's duplicate window.
    pub id: Option<&'a str>,
    /// What it says.
    pub payload: Bytes,
}

impl Outgoing<'_> {
    /// About as many bytes as it takes on its way.
    pub(super) fn bytes(&self) -> usize {
        self.subject.len() + self.headers.len() + self.id.map_or(0, |id| id.len() + 13) + self.payload.len()
    }
}

/// The messages of an epoch, which can be gone through more than once: what wasn't committed is sent again.
///
/// Reading them may touch a disk for a moment; nothing is awaited in it.
pub trait Epoch: Send {
    /// How many there are. It never changes, also not for a later run that has the same epoch to publish.
    fn count(&self) -> u64;

    /// Has [`Epoch::next`] go on with the message of this index, counted from 0.
    ///
    /// # Errors
    /// When they can't be read.
    fn seek(&mut self, index: u64) -> io::Result<()>;

    /// The next message; none behind the last.
    ///
    /// # Errors
    /// When it can't be read.
    fn next(&mut self) -> io::Result<Option<Outgoing<'_>>>;
}

/// Makes messages what the client wants. Subjects come in runs, so the last one is kept.
#[derive(Default)]
pub(super) struct Encoder {
    last: Option<Subject>,
}

impl Encoder {
    pub(super) fn subject(&mut self, message: &Outgoing<'_>) -> Result<Subject, Error> {
        if let Some(last) = self.last.as_ref().filter(|last| last.as_str() == message.subject) {
            return Ok(last.clone());
        }
        if is_reserved(message.subject) {
            return Err(wrong(message, "the subject is reserved; choose one that begins otherwise"));
        }
        let subject = Subject::from(message.subject);
        self.last = Some(subject.clone());
        Ok(subject)
    }

    /// Its headers and id; `more` are to come.
    pub(super) fn headers(message: &Outgoing<'_>) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for line in message.headers.split('\n').filter(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                return Err(wrong(message, &format!("the header `{}` has no colon", line.escape_debug())));
            };
            if is_reserved_header(name) {
                return Err(wrong(
                    message,
                    &format!("the header `{name}` is the server's; name it otherwise"),
                ));
            }
            let parsed: HeaderName = name.parse().map_err(|_| {
                let why = "a header's name has ASCII without colons, spaces and control characters";
                wrong(message, &format!("{why}, which `{}` isn't", name.escape_debug()))
            })?;
            headers.append(parsed, header_value(message, value)?);
        }
        if let Some(id) = message.id {
            headers.insert(header::NATS_MESSAGE_ID, header_value(message, id)?);
        }
        Ok(headers)
    }
}

fn header_value(message: &Outgoing<'_>, value: &str) -> Result<HeaderValue, Error> {
    value.parse().map_err(|_| {
        wrong(message, &format!("a header's value has no line breaks, as `{}` has", value.escape_debug()))
    })
}

fn wrong(message: &Outgoing<'_>, reason: &str) -> Error {
    Error::Message { subject: message.subject.to_owned(), reason: reason.to_owned() }
}

/// Why the client doesn't even send a message; none: it is closed.
pub(super) fn unsendable(
    client: &Client,
    error: &async_nats::client::PublishError,
    subject: &str,
) -> Option<Error> {
    use async_nats::client::PublishErrorKind::{InvalidSubject, MaxPayloadExceeded, Send};
    let reason = match error.kind() {
        MaxPayloadExceeded => format!(
            "with its headers it is larger than the {} bytes that the server takes; make it smaller, or raise \
             max_payload in the server's configuration",
            client.max_payload()
        ),
        InvalidSubject => "the subject is empty or has spaces".to_owned(),
        Send => return None,
    };
    Some(Error::Message { subject: subject.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(subject: &'a str, headers: &'a str, id: Option<&'a str>) -> Outgoing<'a> {
        Outgoing { subject, headers, id, payload: Bytes::new() }
    }

    #[test]
    fn what_would_break_the_protocol_is_no_header() {
        for headers in ["Nats-Batch-Commit:1", "nats-msg-id:1", "a b:1", "a", "a:1\r\nb:2"] {
            let refused = Encoder::headers(&message("a", headers, None)).unwrap_err();
            assert!(refused.to_string().contains("header"), "{refused}");
        }
        assert!(Encoder::headers(&message("a", "", Some("x\ny"))).is_err());
        let headers = Encoder::headers(&message("a", "x:1\nx:2\ny:", Some("7"))).unwrap();
        let values: Vec<&str> = headers.get_all("x").map(HeaderValue::as_str).collect();
        assert_eq!((values, headers.get("Nats-Msg-Id").unwrap().as_str()), (vec!["1", "2"], "7"));
    }

    #[test]
    fn nobody_writes_a_marker_by_chance() {
        let mut encoder = Encoder::default();
        for subject in ["tidemill.orders.shop_out.marker", "tidemill", "$JS.API.INFO", "_INBOX.x.y"] {
            assert!(encoder.subject(&message(subject, "", None)).is_err(), "{subject}");
        }
        for subject in ["tidemills.a", "orders", "orders"] {
            assert_eq!(encoder.subject(&message(subject, "", None)).unwrap().as_str(), subject);
        }
    }
}
