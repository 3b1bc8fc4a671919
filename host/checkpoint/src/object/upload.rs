//! Taking in local files: small ones in one request, large ones in parts.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path as LocalPath;

use object_store::{MultipartUpload, ObjectStoreExt};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::engine::{Engine, bounded};
use crate::error::Error;
use crate::files::hash;
use crate::names::Digest;

/// A part of a large file; S3 wants 5 MiB at least. With four on their way that is 32 MiB of memory.
pub(super) const PART_BYTES: u64 = 8 << 20;
/// S3 allows 10,000 parts; from 72 GB on these become larger.
const PARTS_COUNT_MAX: u64 = 9_000;
/// So many parts are on their way at once: enough to fill a line across which an answer takes a while.
const PARTS_AT_ONCE: usize = 4;

impl Engine {
    /// Uploads a file under the path that is made of its content.
    pub(super) fn upload(
        &self,
        source: &LocalPath,
        path: &dyn Fn(Digest) -> String,
    ) -> Result<(Digest, u64), Error> {
        let unreadable = || Error::io(format!("read {}", source.display()));
        let mut file = File::open(source).map_err(unreadable())?;
        let metadata = file.metadata().map_err(unreadable())?;
        if !metadata.is_file() {
            return Err(unreadable()(io::Error::other("it isn't a file")));
        }
        if metadata.len() <= PART_BYTES {
            let mut content = Vec::new();
            (&mut file).take(PART_BYTES + 1).read_to_end(&mut content).map_err(unreadable())?;
            if content.len() as u64 <= PART_BYTES {
                let (digest, bytes) = (Digest(Sha256::digest(&content).into()), content.len() as u64);
                let path = path(digest);
                self.wait(self.store.put(&self.name(&path), content.into()))
                    .map_err(|e| self.failed("write", &path, e))?;
                return Ok((digest, bytes));
            }
            // It grows; in parts it is seen whether it still does.
            file.rewind().map_err(unreadable())?;
        }
        let (digest, bytes) = hash(&mut file, |_| Ok(())).map_err(unreadable())?;
        file.rewind().map_err(unreadable())?;
        let path = path(digest);
        let name = self.name(&path);
        let failed = |e| self.failed("write", &path, e);
        let mut upload = self.wait(self.store.put_multipart(&name)).map_err(failed)?;
        let sent = self.block_on(send(&mut *upload, &mut file, bytes));
        let is_same = match sent {
            Ok(sent) => Ok(sent == digest),
            Err(Failed::Read(error)) => Err(unreadable()(error)),
            Err(Failed::Sent(error)) => Err(failed(error)),
        };
        if !matches!(is_same, Ok(true)) {
            // Parts that stay are the service's to clear away: it has rules for that.
            let _ = self.wait(upload.abort());
            return is_same.and_then(|_| Err(unreadable()(io::Error::other("it changes while it is read"))));
        }
        self.wait(upload.complete()).map_err(failed)?;
        Ok((digest, bytes))
    }
}

enum Failed {
    Read(io::Error),
    Sent(object_store::Error),
}

/// Sends a file's parts, some at once; the digest of what was sent.
async fn send(upload: &mut dyn MultipartUpload, file: &mut File, bytes: u64) -> Result<Digest, Failed> {
    let part_bytes = PART_BYTES.max(bytes.div_ceil(PARTS_COUNT_MAX));
    let mut sending = JoinSet::new();
    let mut hasher = Sha256::new();
    let done = |joined: Option<Result<object_store::Result<()>, _>>| match joined {
        Some(Ok(sent)) => sent.map_err(Failed::Sent),
        Some(Err(error)) => Err(Failed::Read(io::Error::other(error))),
        None => Ok(()),
    };
    loop {
        let mut part = Vec::new();
        (&mut *file).take(part_bytes).read_to_end(&mut part).map_err(Failed::Read)?;
        if part.is_empty() {
            break;
        }
        hasher.update(&part);
        if sending.len() == PARTS_AT_ONCE {
            done(sending.join_next().await)?;
        }
        sending.spawn(bounded(upload.put_part(part.into())));
    }
    while !sending.is_empty() {
        done(sending.join_next().await)?;
    }
    Ok(Digest(hasher.finalize().into()))
}
