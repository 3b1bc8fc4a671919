//! Writing an object: its content first, chunk after chunk, each on the condition that it follows the one before; then, in
//! one step, its metadata.
//!
//! Acknowledgements are waited for one by one. With several chunks on their way one that is lost could be written after
//! its successor, which nobody could mend where the content isn't in memory any more; and with chunks of a megabyte the
//! wait is short beside the way.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, header};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::format::{Content, Info};
use super::service::{Appended, Failed, Service, plain, temporary};

/// Who has paused longer between a content and its metadata may have been thought dead, and the content cleared away.
const PAUSE_MAX: Duration = Duration::from_mins(15);
/// A name to which others write at the same time is tried so often.
const CONFLICTS_COUNT_MAX: usize = 10;

/// A content that no metadata names yet.
pub(super) struct Draft {
    nuid: String,
    content: Content,
    /// The sequence of the last chunk, and when that was written, by this machine's clock.
    last: u64,
    written: SystemTime,
}

impl Service {
    /// Begins a content.
    pub(super) async fn draft(&self) -> Result<Draft> {
        let chunk_bytes = self.persist(|| async { Ok(self.connected().await?.chunk_bytes) }).await?;
        Ok(Draft {
            nuid: self.subjects.nuid(),
            content: Content { size: 0, chunks: 0, chunk_bytes, hasher: Sha256::new() },
            last: 0,
            written: SystemTime::now(),
        })
    }

    /// Adds to a content.
    pub(super) async fn add(&self, draft: &mut Draft, payload: PutPayload) -> Result<()> {
        let mut payload = Bytes::from(payload);
        let subject = self.subjects.chunks(&draft.nuid);
        while !payload.is_empty() {
            let chunk = payload.split_to(payload.len().min(draft.content.chunk_bytes));
            draft.content.hasher.update(&chunk);
            draft.content.size += chunk.len() as u64;
            draft.content.chunks += 1;
            draft.last = match self.append(&subject, HeaderMap::new(), chunk.clone(), draft.last).await? {
                Appended::At(sequence) => sequence,
                Appended::Conflict => self.written(&subject, draft.last, &chunk).await?,
            };
            draft.written = SystemTime::now();
        }
        Ok(())
    }

    /// The sequence of a chunk that was written though its acknowledgement was lost: nobody else writes there.
    async fn written(&self, subject: &str, before: u64, chunk: &Bytes) -> Result<u64> {
        self.persist(|| async {
            match self.last(subject).await.map_err(Failed::Final)? {
                Some(message) if message.sequence > before && message.payload == *chunk => Ok(message.sequence),
                Some(message) if message.sequence <= before => Err(temporary("a server answers that is behind")),
                _ => Err(Failed::Final(plain(
                    "what was written of it was removed meanwhile; it is written anew with the next checkpoint"
                        .to_owned(),
                ))),
            }
        })
        .await
    }

    /// Makes a content the object of this name, in place of the one that is there, if it may be.
    pub(super) async fn publish(&self, name: &str, draft: Draft, may_replace: bool) -> Result<PutResult> {
        if draft.written.elapsed().is_ok_and(|paused| paused > PAUSE_MAX) {
            return Err(plain(
                "this process has paused for so long that what it had written may be gone; it is written anew with the \
                 next checkpoint"
                    .to_owned(),
            ));
        }
        let info = Info::new(name, self.place.bucket(), &draft.nuid, draft.content);
        let encoded = Bytes::from(info.encode().map_err(|e| plain(e.to_string()))?);
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_ROLLUP, "sub");
        let mut replaced: Option<Info> = None;
        for _ in 0..CONFLICTS_COUNT_MAX {
            let found = self.look(name).await?;
            // It may be ours already: the acknowledgement was lost.
            let is_ours = found.as_ref().is_some_and(|found| found.info.nuid == info.nuid);
            if !is_ours {
                if let Some(found) = found.as_ref().filter(|found| !may_replace && !found.info.deleted) {
                    return Err(exists(name, &found.info));
                }
                let last = found.as_ref().map_or(0, |found| found.sequence);
                replaced = found.map(|found| found.info);
                let subject = self.subjects.meta(name);
                if let Appended::Conflict =
                    self.append(&subject, headers.clone(), encoded.clone(), last).await?
                {
                    continue;
                }
            }
            if let Some(replaced) = replaced.filter(|replaced| replaced.chunks > 0) {
                self.purge(&self.subjects.chunks(&replaced.nuid), None).await?;
            }
            return Ok(PutResult { e_tag: Some(info.nuid), version: None, extensions: Default::default() });
        }
        Err(plain(format!("others write to `{name}` all the time; see who else uses the same prefix")))
    }

    /// Removes a content that won't be an object. What can't be reached now is cleared away later.
    pub(super) async fn discard(&self, nuid: &str) {
        let _ = self.try_purge(&self.subjects.chunks(nuid), None).await;
    }
}

pub(super) fn exists(name: &str, info: &Info) -> Error {
    Error::AlreadyExists { path: name.to_owned(), source: format!("its content is {}", info.nuid).into() }
}

/// A large object on its way. Its parts are sent in the order in which they were given.
pub(super) struct Upload {
    service: Arc<Service>,
    name: String,
    nuid: String,
    /// Comes when the part before is sent.
    turn: Option<oneshot::Receiver<Draft>>,
}

impl Upload {
    pub(super) async fn begin(service: Arc<Service>, name: String) -> Result<Self> {
        let draft = service.draft().await?;
        let nuid = draft.nuid.clone();
        let (first, turn) = oneshot::channel();
        let _ = first.send(draft);
        Ok(Self { service, name, nuid, turn: Some(turn) })
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("name", &self.name).field("nuid", &self.nuid).finish_non_exhaustive()
    }
}

async fn draft_of(turn: Option<oneshot::Receiver<Draft>>) -> Result<Draft> {
    let failed = || plain("a part before it couldn't be written".to_owned());
    turn.ok_or_else(failed)?.await.map_err(|_| failed())
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let (done, next) = oneshot::channel();
        let turn = self.turn.replace(next);
        let service = self.service.clone();
        async move {
            let mut draft = draft_of(turn).await?;
            service.add(&mut draft, payload).await?;
            // Nobody waits for it if the upload was given up.
            let _ = done.send(draft);
            Ok(())
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let draft = draft_of(self.turn.take()).await?;
        self.service.publish(&self.name, draft, true).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.service.discard(&self.nuid).await;
        Ok(())
    }
}

impl Draft {
    pub(super) fn nuid(&self) -> &str {
        &self.nuid
    }
}
