//! Files of the state: hashing them, and remembering those that needn't be hashed again.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::manifest::FileEntry;
use crate::names::Digest;

/// Large enough that reading in blocks costs nothing against hashing, small enough to stay in a core's cache.
const BLOCK_BYTES: usize = 256 << 10;

/// Where the content of this digest stands in a store.
pub(crate) fn path_of(digest: Digest) -> String {
    format!("{}/{digest}", folder_of(digest.0[0]))
}

/// The folder of all files whose digest begins with this byte.
pub(crate) fn folder_of(first: u8) -> String {
    format!("files/{first:02x}")
}

/// Reads to the end: the digest and the number of bytes. Each block is handed on.
pub(crate) fn hash(
    source: &mut dyn Read,
    mut block: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut bytes = 0;
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), bytes)),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        block(&buffer[..read])?;
        bytes += read as u64;
    }
}

/// Files that are never changed and were hashed by this process. While a file of the state is in the store, it is the
/// same file there (by a link) or at least unchanged; so what has the same name, size, inode and time has the same content.
#[derive(Debug, Default)]
pub(crate) struct Known {
    files: BTreeMap<Identity, FileEntry>,
}

/// What tells a file from all others, as far as the file system says. The inode's number alone may be used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    name: String,
    bytes: u64,
    device: u64,
    inode: u64,
    modified_ns: (i64, i64),
}

impl Identity {
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            name: path.file_name()?.to_str()?.to_owned(),
            bytes: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_: &Path) -> Option<Self> {
        None
    }
}

impl Known {
    pub(crate) fn get(&self, identity: &Identity) -> Option<&FileEntry> {
        self.files.get(identity)
    }

    pub(crate) fn remember(&mut self, identity: Identity, entry: FileEntry) {
        self.files.insert(identity, entry);
    }

    /// Forgets all but those that are in a checkpoint: the database has removed the others.
    pub(crate) fn keep(&mut self, files: &[FileEntry]) {
        let names: std::collections::BTreeSet<_> = files.iter().map(|f| (&f.name, f.sha256)).collect();
        self.files.retain(|_, entry| names.contains(&(&entry.name, entry.sha256)));
    }
}
