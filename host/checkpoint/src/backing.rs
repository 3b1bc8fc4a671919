//! Where a store's bytes are: the few things that a place must be able to do. All that a store means by them is decided
//! above, once.

use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::names::Digest;

/// A place for files, named by paths with `/` in which each component is plain. A method that returns an error may have
/// done its work or not, but never a part of it that could be read.
pub(crate) trait Backing: Debug + Send + Sync {
    /// The place, for people.
    fn describe(&self) -> String;

    /// The paths and sizes of the files below a folder, in no order; none if there is no such folder. Paths begin in it.
    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Error>;

    /// A file's content; none if there is no such file. Of a larger one, one byte more than `bytes_max`.
    fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Error>;

    /// A file's content, bit by bit; none if there is no such file.
    fn stream(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>, Error>;

    /// Makes a file, whole and durable. False, and nothing is done, if there is one of this name.
    fn create(&self, path: &str, content: &[u8]) -> Result<bool, Error>;

    /// Makes a file, whole and durable, in place of the one that may be there.
    fn replace(&self, path: &str, content: &[u8]) -> Result<(), Error>;

    /// Removes a file if there is one; durably only with the next [`Backing::sync`].
    fn remove(&self, path: &str) -> Result<(), Error>;

    /// Takes in a local file under the path that is made of its content, and says what that is. It is durable with the
    /// next [`Backing::sync`]. What may be there already is replaced unless it is the very same file, so that it can be
    /// relied on.
    fn put(&self, put: &Put<'_>, path: &dyn Fn(Digest) -> String) -> Result<(Digest, u64), Error>;

    /// Whether a file of this size is there.
    fn has(&self, path: &str, bytes: u64) -> Result<bool, Error>;

    /// The first of these files, with their sizes, that isn't there; whatever was found before, it is looked up.
    fn first_missing(&self, files: &[(String, u64)]) -> Result<Option<usize>, Error> {
        for (at, (path, bytes)) in files.iter().enumerate() {
            if !self.has(path, *bytes)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Where a file lies on a local disk; none if it has to be read from elsewhere.
    fn local(&self, path: &str) -> Option<PathBuf>;

    /// Makes everything durable that was put or removed.
    fn sync(&self) -> Result<(), Error>;

    /// Whether [`Backing::lock`] keeps anybody out. Where it doesn't, a process that was thought dead may still be at
    /// work, and a person keeps and deletes while files are removed; see the module `object`.
    fn locks(&self) -> bool {
        true
    }

    /// As [`Backing::list`], without those that are so young that somebody whom no lock keeps out may be about to
    /// name them in a manifest.
    fn list_settled(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        self.list(folder)
    }

    /// Removes files, durably.
    fn remove_all(&self, paths: &[String]) -> Result<(), Error> {
        paths.iter().try_for_each(|path| self.remove(path))?;
        self.sync()
    }

    /// Keeps other processes from holding the same lock until the guard is dropped; waits for it if asked to,
    /// otherwise returns [`Error::InUse`].
    fn lock(&self, name: &str, wait: bool) -> Result<Guard, Error>;

    /// Removes what processes that died left half-written.
    fn clean(&self) -> Result<(), Error>;
}

/// A local file to be taken in.
pub(crate) struct Put<'a> {
    pub(crate) source: &'a Path,
    /// It is never changed, so a link will do.
    pub(crate) immutable: bool,
}

/// A lock that is held.
pub(crate) type Guard = Box<dyn std::any::Any + Send + Sync>;
