//! What a server answers to a message, and how long to wait for it.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;

use crate::error::Error;

/// How often somebody who waits looks whether the connection is still the one that was.
const LOOK: Duration = Duration::from_millis(50);

/// What a server answers to a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is stored.
    Stored {
        stream: String,
        sequence: u64,
    },
    /// It is a batch's, and is stored with the batch.
    Taken,
    /// No stream takes the subject, or one that does has no leader now.
    Nobody,
    Refused(Refusal),
}

/// Why a server doesn't store a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    #[serde(rename = "err_code")]
    pub(super) code: u64,
    #[serde(rename = "description")]
    pub(super) reason: String,
}

/// An answer as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    error: Option<Refusal>,
    stream: String,
    seq: u64,
}

impl Answer {
    pub(super) fn of(message: &Message) -> Self {
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Self::Nobody;
        }
        if message.payload.is_empty() {
            return Self::Taken;
        }
        match serde_json::from_slice::<Written>(&message.payload) {
            Ok(Written { error: Some(refusal), .. }) => Self::Refused(refusal),
            Ok(Written { stream, seq, .. }) if seq > 0 => Self::Stored { stream, sequence: seq },
            _ => {
                let text = String::from_utf8_lossy(&message.payload);
                Self::Refused(Refusal { code: 0, reason: format!("an answer that can't be read: {text}") })
            }
        }
    }
}

pub(super) const STORE_FAILED: u64 = 10077;
pub(super) const WRONG_LAST_SEQUENCE: u64 = 10071;
pub(super) const CONFLICT_IN_FLIGHT: u64 = 10164;
pub(super) const BATCH_INCOMPLETE: u64 = 10176;
pub(super) const BATCH_TOO_LARGE: u64 = 10199;

impl Refusal {
    /// Whether the same may succeed when it is tried again.
    pub(super) fn is_temporary(&self) -> bool {
        const NOT_AVAILABLE: u64 = 10008;
        const NOT_LEADER: u64 = 10009;
        const COPY_ON_ITS_WAY: u64 = 10158;
        const CHECK_NOT_READY: u64 = 10163;
        const TOO_MANY_REQUESTS: u64 = 10167;
        const BATCHES_OPEN: u64 = 10210;
        let codes = [
            NOT_AVAILABLE,
            NOT_LEADER,
            COPY_ON_ITS_WAY,
            CHECK_NOT_READY,
            CONFLICT_IN_FLIGHT,
            TOO_MANY_REQUESTS,
            BATCH_INCOMPLETE,
            BATCHES_OPEN,
        ];
        codes.contains(&self.code)
    }

    pub(super) fn into_error(self, action: String, stream: &str) -> Error {
        let advice = match self.code {
            STORE_FAILED => format!(
                "the stream is full and refuses what is new: make room with `nats stream purge {stream}`, or raise its \
                 limits with `nats stream edit {stream} --max-bytes=…`"
            ),
            10047 | 10002 | 10023 | 10028 => {
                "raise the account's or the server's limits for JetStream, or free some of its storage"
                    .to_owned()
            }
            10054 => format!(
                "make the message smaller, or raise the limit with `nats stream edit {stream} --max-msg-size=…`"
            ),
            10109 => "the stream is sealed for ever; name another".to_owned(),
            10174 => format!(
                "allow it with `nats stream edit {stream} --allow-batch`, and see that no other stream takes subjects \
                 of the output"
            ),
            10201 => "leave the message ids out: an epoch is published once without them".to_owned(),
            _ => format!("look at it with `nats stream info {stream}`"),
        };
        Error::Refused { action, code: self.code, reason: self.reason, advice }
    }
}

/// Waits for what was requested; none when the connection has been made anew since, as an answer would have gone to the
/// lost one. Without this a request would wait its whole time, as the client doesn't fail those in flight.
pub(super) async fn while_connected<T>(client: &Client, request: impl Future<Output = T>) -> Option<T> {
    let before = connects(client);
    tokio::pin!(request);
    loop {
        match timeout(LOOK, &mut request).await {
            Ok(answer) => return Some(answer),
            Err(_) if connects(client) != before => return None,
            Err(_) => {}
        }
    }
}

/// How often the client was connected.
pub(super) fn connects(client: &Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &str, status: Option<StatusCode>) -> Answer {
        Answer::of(&Message {
            subject: "a".into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status,
            description: None,
            length: 0,
        })
    }

    #[test]
    fn answers_are_told_apart() {
        let stored = Answer::Stored { stream: "S".to_owned(), sequence: 7 };
        assert_eq!(answer(r#"{"stream":"S", "seq":7}"#, None), stored);
        assert_eq!(answer(r#"{"stream":"S","seq":7,"duplicate":true}"#, None), stored);
        assert_eq!(answer("", None), Answer::Taken);
        assert_eq!(answer("", Some(StatusCode::NO_RESPONDERS)), Answer::Nobody);
        let full = r#"{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"S","seq":0}"#;
        let Answer::Refused(refusal) = answer(full, None) else { panic!("not refused") };
        assert!((refusal.code, refusal.reason.as_str()) == (10077, "full") && !refusal.is_temporary());
        for nonsense in ["{}", "[]", "+ACK", r#"{"stream":"S"}"#, r#"{"stream":"S","seq":-1}"#] {
            assert!(matches!(answer(nonsense, None), Answer::Refused(r) if r.code == 0), "{nonsense}");
        }
    }
}
