//! Reading objects, in ranges: each is a request that is bounded and tried again by itself, however large the object.

use std::io::{self, Read};
use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::engine::Engine;
use super::upload::PART_BYTES;
use crate::error::Error;

impl Engine {
    /// The content of a small object; of a larger one, one byte more than `bytes_max`.
    pub(super) fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let name = self.name(path);
        let limit = usize::try_from(bytes_max.saturating_add(1)).unwrap_or(usize::MAX);
        let read = self.wait(async {
            let mut blocks = self.store.get(&name).await?.into_stream();
            let mut content = Vec::new();
            while let Some(block) = blocks.try_next().await? {
                content.extend_from_slice(&block[..block.len().min(limit - content.len())]);
                if content.len() == limit {
                    break;
                }
            }
            Ok(content)
        });
        match read {
            Ok(content) => Ok(Some(content)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed("read", path, error)),
        }
    }

    /// The size of an object.
    pub(super) fn bytes(&self, path: &str) -> Result<Option<u64>, Error> {
        let head = self.wait(self.store.head(&self.name(path)));
        match head {
            Ok(object) => Ok(Some(object.size)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.failed("look at", path, error)),
        }
    }
}

/// That there is no such object; not that there is no such bucket, which has nearly the same answer.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !error.to_string().contains("NoSuchBucket")
}

/// A large object, range by range.
pub(super) struct Ranges {
    engine: Arc<Engine>,
    name: Path,
    bytes: u64,
    /// Where the next range begins.
    at: u64,
    /// What was read and not taken yet.
    block: io::Cursor<Vec<u8>>,
}

impl Ranges {
    pub(super) fn new(engine: Arc<Engine>, path: &str, bytes: u64) -> Self {
        let name = engine.name(path);
        Self { engine, name, bytes, at: 0, block: io::Cursor::default() }
    }
}

impl Read for Ranges {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.block.read(into)?;
        if read > 0 || into.is_empty() || self.at == self.bytes {
            return Ok(read);
        }
        let range = self.at..self.bytes.min(self.at + PART_BYTES);
        let block = self.engine.wait(self.engine.store.get_range(&self.name, range.clone()));
        let block = block.map_err(|error| io::Error::other(self.engine.reason(&error)))?;
        if block.len() as u64 != range.end - range.start {
            return Err(io::Error::other(format!(
                "the service sent {} bytes of {}",
                block.len(),
                range.end - range.start
            )));
        }
        self.at = range.end;
        self.block = io::Cursor::new(block.into());
        self.block.read(into)
    }
}
