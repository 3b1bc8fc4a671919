//! Is a stream the one that was read, and does it have what comes next? If not, the errors say what was found.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, RetentionPolicy, Stream};
use futures_util::future::try_join_all;

use super::attach::refused;
use super::history::{History, messages_count};
use super::message::Message;
use super::position::{Options, Position, Start, identity};
use crate::error::Error;

/// What can be done when a stream isn't what it was.
const ADVICE: &str = "restore a checkpoint that fits the stream, or start anew with `from = \"beginning\"` or another \
                      place that the stream has";

/// That messages stay when they were read: with other retentions a reader's consumer, or that of somebody else, would
/// remove them.
pub(super) fn retention(name: &str, info: &Info) -> Result<(), Error> {
    if info.config.retention == RetentionPolicy::Limits {
        return Ok(());
    }
    Err(Error::Settings(format!(
        "the stream `{name}` removes messages when they were read (retention {:?}), so nothing could be read again \
         after a failure; name a stream with retention `limits`, as one that has `{name}` as its source",
        info.config.retention
    )))
}

/// That the stream has the place to start at.
pub(super) fn start(name: &str, info: &Info, start: Start, options: &Options) -> Result<(), Error> {
    let Start::Sequence(sequence) = start else { return Ok(()) };
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    if (sequence >= first || options.allow_gaps) && sequence <= last.saturating_add(1) {
        return Ok(());
    }
    Err(Error::Changed {
        stream: name.to_owned(),
        expected: format!("message {sequence}, to start with"),
        found: extent(first, last),
        advice: "start with a message that it has, or with the one that comes next".to_owned(),
    })
}

/// That the stream is the one of a position, and has what comes next.
pub(super) fn position(name: &str, info: &Info, position: Position, options: &Options) -> Result<(), Error> {
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    let Position { identity: expected, sequence, .. } = position;
    if identity(info) != expected {
        return Err(another(name, sequence));
    }
    if last < sequence {
        return Err(Error::Changed {
            stream: name.to_owned(),
            expected: format!("message {sequence}, which was read last"),
            found: format!(
                "that it ends with {last}: its server has lost messages, or was restored from an older copy"
            ),
            advice: ADVICE.to_owned(),
        });
    }
    if first > sequence.saturating_add(1) && !options.allow_gaps {
        return Err(gone(name, sequence.saturating_add(1), first));
    }
    Ok(())
}

/// The stream isn't the one that was read up to this message.
pub(super) fn another(name: &str, sequence: u64) -> Error {
    Error::Changed {
        stream: name.to_owned(),
        expected: format!("the one that was read up to message {sequence}"),
        found: "another one by its name: it was deleted, and made anew".to_owned(),
        advice: format!("give the pipeline the stream that it has read; or {ADVICE}"),
    }
}

/// The message that comes next isn't in the stream any more, which begins with `first`.
pub(super) fn gone(name: &str, expected: u64, first: u64) -> Error {
    Error::Changed {
        stream: name.to_owned(),
        expected: format!("message {expected}"),
        found: format!(
            "that it begins with {first}: it was purged, or its retention has overtaken the reader"
        ),
        advice: format!("keep messages for longer than a pipeline may be behind; {ADVICE}"),
    }
}

/// Messages inside the stream are missing.
pub(super) fn missing(name: &str, expected: u64, found: u64) -> Error {
    Error::Changed {
        stream: name.to_owned(),
        expected: format!("message {expected}"),
        found: format!("{found}: those between were deleted from the stream"),
        advice: format!(
            "go on without them by `allow_gaps = true`, if the stream needn't be complete; or {ADVICE}"
        ),
    }
}

fn extent(first: u64, last: u64) -> String {
    if first > last || last == 0 {
        format!("that it is empty, and the next is {}", last.saturating_add(1))
    } else {
        format!("that it has {first} to {last}")
    }
}

/// Reads the messages before a position again; nothing if not all of them are there any more.
///
/// # Errors
/// When they aren't those that the position was taken behind.
pub(super) async fn reread(name: &str, stream: &Stream, position: Position) -> Result<History, Error> {
    let Position { sequence, history: expected, .. } = position;
    let first = sequence.saturating_sub(messages_count(expected)).saturating_add(1);
    if messages_count(expected) == 0 || stream.cached_info().state.first_sequence > first {
        return Ok(History::default());
    }
    let again = try_join_all((first..=sequence).map(|sequence| get(name, stream, sequence))).await?;
    let Some(again) = again.into_iter().collect::<Option<Vec<Message>>>() else {
        tracing::debug!(
            "messages {first} to {sequence} of `{name}` aren't all there any more to be compared"
        );
        return Ok(History::default());
    };
    let mut history = History::default();
    history.extend(&again);
    if history.number() != expected {
        return Err(Error::Changed {
            stream: name.to_owned(),
            expected: format!("messages {first} to {sequence} as they were read"),
            found: "others in their place: its server was restored from an older copy and written to since"
                .to_owned(),
            advice: ADVICE.to_owned(),
        });
    }
    Ok(history)
}

/// A message; none if it isn't there any more.
async fn get(name: &str, stream: &Stream, sequence: u64) -> Result<Option<Message>, Error> {
    let error = match stream.get_raw_message(sequence).await {
        Ok(message) => return Ok(Some(to_message(message))),
        Err(error) => error,
    };
    let action = format!("read message {sequence} of the stream `{name}` again");
    match error.kind() {
        RawMessageErrorKind::NoMessageFound => Ok(None),
        RawMessageErrorKind::JetStream(e) if e.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        RawMessageErrorKind::JetStream(e) => Err(refused(action, &e)),
        _ => Err(Error::Unavailable { action, reason: error.to_string() }),
    }
}

fn to_message(message: StreamMessage) -> Message {
    let StreamMessage { subject, sequence, headers, payload, time } = message;
    let time_ms = i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    Message { sequence, time_ms, subject, headers: Some(headers).filter(|h| !h.is_empty()), payload }
}
