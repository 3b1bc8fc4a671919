//! Reading an object's content: through a consumer that begins at the chunk that is wanted. Which that is says a first pass
//! over the chunks' headers, since other clients make chunks of any size.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::ConsumerErrorKind;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::{Error, Result};

use super::format::Info;
use super::service::{Failed, Service, plain, temporary};

/// So many chunks are asked for at once: a range as the store reads it, and one cut off at each end.
const CHUNKS_AT_ONCE: usize = 10;
/// How long a chunk may take to come; also what a request for some is good for.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);
/// A consumer that nobody has removed goes by itself.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(60);
/// In a message of which only the headers come: how many bytes its content has.
const SIZE_HEADER: &str = "Nats-Msg-Size";
/// As many objects as are read at once, and some more.
const LAYOUTS_COUNT_MAX: usize = 16;

/// Where the chunks of a content are.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    sequence: u64,
    /// The bytes of the content that are in it.
    bytes: Range<u64>,
}

/// The chunks of contents that were read a moment ago: a large one is read range by range.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    /// By their names. Held for moments.
    known: Mutex<VecDeque<(String, Arc<[Chunk]>)>>,
}

impl Layouts {
    fn get(&self, nuid: &str) -> Option<Arc<[Chunk]>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(name, _)| name == nuid).map(|(_, chunks)| chunks.clone())
    }

    fn add(&self, nuid: &str, chunks: Arc<[Chunk]>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == LAYOUTS_COUNT_MAX {
            known.pop_front();
        }
        known.push_back((nuid.to_owned(), chunks));
    }
}

/// A range of an object's content, which isn't empty.
pub(super) fn content(
    service: Arc<Service>,
    layouts: Arc<Layouts>,
    info: Info,
    range: Range<u64>,
) -> BoxStream<'static, Result<Bytes>> {
    stream::once(blocks(service, layouts, info, range)).try_flatten().boxed()
}

async fn blocks(
    service: Arc<Service>,
    layouts: Arc<Layouts>,
    info: Info,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    if info.chunks == 1 {
        let block = cut(service.only_chunk(&info).await?, &(0..info.size), &range);
        return Ok(stream::iter([Ok(block)]).boxed());
    }
    let chunks = match layouts.get(&info.nuid) {
        Some(chunks) => chunks,
        None => {
            let chunks: Arc<[Chunk]> = service.layout(&info).await?.into();
            layouts.add(&info.nuid, chunks.clone());
            chunks
        }
    };
    let first = chunks.partition_point(|chunk| chunk.bytes.end <= range.start);
    let end = chunks.partition_point(|chunk| chunk.bytes.start < range.end);
    let blocks = stream::try_unfold(first, move |at| {
        let (service, chunks, info, range) = (service.clone(), chunks.clone(), info.clone(), range.clone());
        async move {
            let next = end.min(at + CHUNKS_AT_ONCE);
            let some = chunks.get(at..next).unwrap_or_default();
            let blocks = service.chunks(&info, some).await?.into_iter().zip(some);
            let blocks: Vec<_> = blocks.map(|(block, chunk)| Ok(cut(block, &chunk.bytes, &range))).collect();
            Ok::<_, Error>((!blocks.is_empty()).then(|| (stream::iter(blocks), next)))
        }
    });
    Ok(blocks.try_flatten().boxed())
}

/// What of a chunk is in a range.
fn cut(block: Bytes, bytes: &Range<u64>, range: &Range<u64>) -> Bytes {
    let within =
        |at: u64| usize::try_from(at.clamp(bytes.start, bytes.end) - bytes.start).unwrap_or(usize::MAX);
    let (start, end) = (within(range.start).min(block.len()), within(range.end).min(block.len()));
    block.slice(start..end.max(start))
}

impl Service {
    /// The content of an object that has one chunk: for these a consumer would be much ado.
    async fn only_chunk(&self, info: &Info) -> Result<Bytes> {
        let message = self.last(&self.subjects.chunks(&info.nuid)).await?.ok_or_else(|| gone(info))?;
        if message.payload.len() as u64 != info.size {
            return Err(damaged(info, message.payload.len() as u64));
        }
        Ok(message.payload)
    }

    async fn layout(&self, info: &Info) -> Result<Vec<Chunk>> {
        let count = usize::try_from(info.chunks).unwrap_or(usize::MAX);
        let messages = self.persist(|| self.messages(info, DeliverPolicy::All, count, true)).await?;
        let mut chunks = Vec::with_capacity(messages.len());
        let mut at = 0;
        for (sequence, message) in messages {
            let size = message.headers.as_ref().and_then(|headers| headers.get(SIZE_HEADER));
            let size: u64 = size.and_then(|size| size.as_str().parse().ok()).unwrap_or(0);
            chunks.push(Chunk { sequence, bytes: at..at.saturating_add(size) });
            at = at.saturating_add(size);
        }
        if at == info.size { Ok(chunks) } else { Err(damaged(info, at)) }
    }

    /// The contents of some chunks, one after another.
    async fn chunks(&self, info: &Info, chunks: &[Chunk]) -> Result<Vec<Bytes>> {
        let Some(first) = chunks.first() else { return Ok(Vec::new()) };
        let from = DeliverPolicy::ByStartSequence { start_sequence: first.sequence };
        let messages = self.persist(|| self.messages(info, from, chunks.len(), false)).await?;
        let messages = messages.into_iter().zip(chunks).map(|((sequence, message), chunk)| {
            let is_it = sequence == chunk.sequence
                && message.payload.len() as u64 == chunk.bytes.end - chunk.bytes.start;
            if is_it { Ok(message.payload) } else { Err(gone(info)) }
        });
        messages.collect()
    }

    /// So many of an object's chunks, with their sequences, in order and without a gap.
    async fn messages(
        &self,
        info: &Info,
        from: DeliverPolicy,
        count: usize,
        headers_only: bool,
    ) -> Result<Vec<(u64, Message)>, Failed> {
        let stream = &self.connected().await?.stream;
        let config = pull::Config {
            deliver_policy: from,
            ack_policy: AckPolicy::None,
            filter_subject: self.subjects.chunks(&info.nuid),
            headers_only,
            inactive_threshold: CONSUMER_TIMEOUT,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(error) => self.refused(&error),
            _ => temporary(error),
        })?;
        let messages = if consumer.cached_info().num_pending < count as u64 {
            self.few(info).await
        } else {
            pulled(&consumer, count).await
        };
        let (stream, name) = (stream.clone(), consumer.cached_info().name.clone());
        // What comes of it is nothing to the reader: it goes by itself as well.
        tokio::spawn(async move { stream.delete_consumer(&name).await.map(drop) });
        messages
    }

    /// Why a consumer knows of fewer chunks than there should be: it may be where they haven't arrived yet.
    async fn few(&self, info: &Info) -> Result<Vec<(u64, Message)>, Failed> {
        let subject = self.subjects.chunks(&info.nuid);
        let page = self.page(&subject).await.map_err(Failed::Final)?;
        match page.subjects.get(&subject) {
            Some(count) if *count >= info.chunks => Err(temporary("a server answers that is behind")),
            _ => Err(Failed::Final(gone(info))),
        }
    }
}

async fn pulled(
    consumer: &async_nats::jetstream::consumer::Consumer<pull::Config>,
    count: usize,
) -> Result<Vec<(u64, Message)>, Failed> {
    let batch = consumer.batch().max_messages(count).expires(CHUNK_TIMEOUT);
    let mut batch = batch.messages().await.map_err(temporary)?;
    let mut messages = Vec::new();
    while messages.len() < count {
        let next = tokio::time::timeout(CHUNK_TIMEOUT, batch.next()).await;
        let message = match next {
            Ok(Some(message)) => message.map_err(temporary)?,
            Ok(None) | Err(_) => return Err(temporary("some of it doesn't come")),
        };
        let (sequence, place) = {
            let told = message.info().map_err(temporary)?;
            (told.stream_sequence, told.consumer_sequence)
        };
        messages.push((sequence, message.message));
        if place != messages.len() as u64 {
            return Err(temporary("some of it was lost on its way"));
        }
    }
    Ok(messages)
}

/// That the content isn't there, and so the object: it was removed or replaced while it was read.
fn gone(info: &Info) -> Error {
    Error::NotFound { path: info.name.clone(), source: "its content is gone".into() }
}

fn damaged(info: &Info, bytes: u64) -> Error {
    plain(format!(
        "it has {bytes} bytes, and its metadata says {}; bring it back from a copy, or choose another checkpoint",
        info.size
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_chunk_comes_what_is_in_the_range() {
        let check = |range: Range<u64>, expected: &[u8]| {
            assert_eq!(cut(Bytes::from_static(b"abcd"), &(10..14), &range), expected, "{range:?}");
        };
        check(0..100, b"abcd");
        check(10..14, b"abcd");
        check(11..13, b"bc");
        check(0..11, b"a");
        check(13..99, b"d");
        check(14..99, b"");
        check(0..10, b"");
    }
}
