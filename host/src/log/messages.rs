//! Messages of a stream as the rows of a partition: each message's payload is one row, with what else is known of the
//! message in fields of their own.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use memchr::memchr;
use tidemill_flow::schema::FieldType;
use tidemill_jetstream::{Error, Message, Options, Position, Reader, Start};

use super::partition::Begin;
use super::records::decode_values;
use crate::formats::{Decoded, Decoder, Malformed};
use crate::nats::{Servers, patiently, wait};
use crate::pipeline::plan::{Metadata, StreamStart};

/// Messages of a stream.
pub(super) struct Messages {
    servers: Arc<Servers>,
    stream: String,
    options: Options,
    start: Start,
    /// None: nothing has been asked of it yet, and it may still be told where to go on.
    reader: Option<Reader>,
    decoder: Decoder,
    metadata: Vec<(usize, Metadata)>,
    until_end: bool,
    /// Where reading ends, whatever the stream has.
    bound: Option<Position>,
    /// Behind the last message that was handed out; none: nothing was read.
    position: Option<Position>,
    /// Decoded, and not handed out yet.
    held: Option<Held>,
    /// The payloads of a batch, each as a line.
    lines: Vec<u8>,
    /// Whether a line break within a payload is as good as a space, as it is to JSON.
    breaks_are_spaces: bool,
    /// Something was decoded: what a file would begin with is behind us.
    begun: bool,
    /// Bytes of the payloads that were handed out.
    pub(super) bytes: u64,
}

struct Held {
    decoded: Decoded,
    behind: Position,
    bytes: u64,
}

impl Messages {
    /// Nothing is asked of the servers yet.
    pub(super) fn open(
        servers: &Arc<Servers>,
        stream: &str,
        (decoder, breaks_are_spaces): (Decoder, bool),
        metadata: Vec<(usize, Metadata)>,
        (from, until_end, allow_gaps): (StreamStart, bool, bool),
    ) -> Self {
        let start = match from {
            StreamStart::Beginning => Start::Beginning,
            StreamStart::End => Start::End,
            StreamStart::Sequence(sequence) => Start::Sequence(sequence),
            StreamStart::Time(since_ms) => Start::Time { since_ms },
        };
        Self {
            servers: servers.clone(),
            stream: stream.to_owned(),
            options: Options { allow_gaps, ..Options::default() },
            start,
            reader: None,
            decoder,
            metadata,
            until_end,
            bound: None,
            position: None,
            held: None,
            lines: Vec::new(),
            breaks_are_spaces,
            begun: false,
            bytes: 0,
        }
    }

    fn reader(&mut self) -> Result<&mut Reader, Error> {
        if self.reader.is_none() {
            let (connection, stream) = (self.servers.connection()?, self.stream.clone());
            let (options, start, position) = (self.options.clone(), self.start, self.position);
            let opened = wait(async move {
                let open = async || match position {
                    Some(position) => Reader::resume(&connection, &stream, position, options.clone()).await,
                    None => Reader::open(&connection, &stream, start, options.clone()).await,
                };
                patiently(open).await
            })?;
            self.position = Some(opened.position());
            self.reader = Some(opened);
        }
        Ok(self.reader.as_mut().expect("it was just opened"))
    }

    /// How far it has been read.
    pub(super) fn position(&mut self) -> Result<Position, Error> {
        self.reader()?;
        Ok(self.position.expect("the reader was opened at one"))
    }

    /// By which the stream is told from any other.
    pub(super) fn identity(&mut self) -> Result<u64, Error> {
        Ok(self.reader()?.identity())
    }

    /// The number of the last message that was handed out.
    pub(super) fn sequence(&self) -> u64 {
        self.position.map_or(0, |position| position.sequence)
    }

    /// Goes on at a position; nothing has been read yet.
    pub(super) fn resume(&mut self, position: Position) -> Result<(), Error> {
        (self.reader, self.position) = (None, Some(position));
        self.reader().map(drop)
    }

    /// Reads up to a position of the same stream and nothing of what follows it.
    pub(super) fn end_at(&mut self, position: Position) -> Result<(), String> {
        let found = self.identity().map_err(|e| e.to_string())?;
        if found != position.identity {
            return Err(format!(
                "the stream `{}` isn't the one that was read up to message {}: it was made anew since",
                self.stream, position.sequence
            ));
        }
        self.bound = Some(position);
        Ok(())
    }

    /// Begins at another place; nothing has been read yet.
    pub(super) fn begin_at(&mut self, begin: Begin) {
        self.start = match begin {
            Begin::Sequence(sequence) => Start::Sequence(sequence),
            Begin::Time(since_ms) => Start::Time { since_ms },
        };
    }

    /// Whether there is something to hand out now, or nothing will ever be.
    pub(super) fn is_ready(&mut self) -> Result<bool, String> {
        while self.held.is_none() {
            let (bound, allow_gaps) = (self.bound, self.options.allow_gaps);
            let ends = self.until_end || bound.is_some();
            if bound.is_some_and(|bound| self.sequence() >= bound.sequence) {
                return Ok(true);
            }
            let reader = self.reader().map_err(|e| e.to_string())?;
            let end = match bound {
                Some(bound) => bound.sequence,
                None if ends => reader.end_at_open(),
                None => u64::MAX,
            };
            // Where messages may be missing, so may the last ones, which nobody ever sees.
            let has_no_more = ends && allow_gaps && reader.is_caught_up();
            if reader.position().sequence >= end || has_no_more {
                self.position = bound.or(self.position);
                return Ok(true);
            }
            let Some(mut batch) = reader.try_next().map_err(|e| e.to_string())? else { return Ok(false) };
            batch.messages.retain(|message| message.sequence <= end);
            // What was read behind the bound wasn't handed out.
            let behind = bound.filter(|b| b.sequence <= batch.position.sequence).unwrap_or(batch.position);
            self.held = Some(self.decode(&batch.messages, behind)?);
        }
        Ok(true)
    }

    /// Decodes the messages of a batch, of which there are no more than a batch has rows.
    fn decode(&mut self, messages: &[Message], behind: Position) -> Result<Held, String> {
        if std::mem::replace(&mut self.begun, true) {
            self.decoder.continue_at_line(1, false);
        }
        // Elsewhere a line break is a part of the value, and can't be one of a row.
        let is_row = |m: &Message| self.breaks_are_spaces || memchr(b'\n', line(&m.payload)).is_none();
        let value = |at: usize| messages.get(at).map_or(&[][..], |m| &m.payload);
        let payloads = messages.iter().map(|m| if is_row(m) { line(&m.payload) } else { &[] });
        let mut decoded = decode_values(&mut self.decoder, &mut self.lines, payloads, value)?;
        let broken = (1..).zip(messages).filter(|(_, m)| !is_row(m));
        decoded.malformed.extend(broken.map(|(line, m)| Malformed {
            line,
            reason: "the message has several lines, and each is to be a row of its own".to_owned(),
            raw: m.payload.to_vec(),
        }));
        for (column, metadata) in &self.metadata {
            decoded.columns.insert(*column, column_of(metadata, messages, &decoded.lines));
        }
        // In place of a line, each row has its message's number.
        let number = |line: &mut u64| {
            let at = usize::try_from(*line - 1).unwrap_or(usize::MAX);
            *line = messages.get(at).map_or(0, |m| m.sequence);
        };
        decoded.lines.iter_mut().for_each(number);
        decoded.malformed.iter_mut().for_each(|m| number(&mut m.line));
        let bytes = messages.iter().map(|m| m.payload.len() as u64).sum();
        Ok(Held { decoded, behind, bytes })
    }

    /// The next messages; none at the end. Nothing is lost when this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Decoded>, String> {
        while !self.is_ready()? {
            std::future::poll_fn(|context| self.poll_told(context)).await;
        }
        let Some(Held { decoded, behind, bytes }) = self.held.take() else { return Ok(None) };
        self.position = Some(behind);
        self.bytes += bytes;
        Ok(Some(decoded))
    }

    /// Whether the server has said something since it was looked at last.
    pub(super) fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.reader {
            Some(reader) => reader.poll_ready(context),
            None => Poll::Ready(()),
        }
    }

    /// Whether the server says that there is nothing more. While it can't be asked nobody knows.
    pub(super) fn is_silent(&self) -> bool {
        self.held.is_none() && self.reader.as_ref().is_some_and(Reader::is_caught_up)
    }
}

/// A payload without the line break that it may end with.
fn line(payload: &[u8]) -> &[u8] {
    payload.strip_suffix(b"\n").unwrap_or(payload)
}

/// What is known of the messages that became rows; `lines` are their numbers from 1.
fn column_of(metadata: &Metadata, messages: &[Message], lines: &[u64]) -> ArrayRef {
    let rows = lines.iter().filter_map(|&line| messages.get(usize::try_from(line - 1).ok()?));
    match metadata {
        Metadata::Subject => Arc::new(rows.map(|m| Some(m.subject.as_str())).collect::<StringArray>()),
        Metadata::Header(name) => {
            let value = |m: &Message| {
                let header = m.headers.as_ref()?.get(name.as_str())?;
                Some(header.as_str().to_owned())
            };
            Arc::new(rows.map(value).collect::<StringArray>())
        }
        Metadata::Time => {
            let times: TimestampMillisecondArray = rows.map(|m| Some(m.time_ms)).collect();
            Arc::new(times.with_data_type(FieldType::Timestamp.arrow()))
        }
        Metadata::Sequence => Arc::new(rows.map(|m| Some(m.sequence.cast_signed())).collect::<Int64Array>()),
    }
}
