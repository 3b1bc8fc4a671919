//! A store in an object store: one that speaks S3, or JetStream's. Objects appear whole, in one step, and are in the next
//! listing: so nothing has to be synced, renamed or cleared away. What it hasn't is locks.
//!
//! **Who may write.** A run's number is taken by a conditional write (S3: `If-None-Match: *`) of `runs/<n>`, of which of
//! two at the same time one succeeds; its content tells whose it is, so that an answer that was lost can be looked up. A run
//! that sees a newer number stops. It looks before it writes a manifest, before it begins a commit, and before it
//! removes anything. Between the look and the deed a newer run may begin. What can come of that:
//!
//! * *A manifest*: it is a zombie's, is never restored, and none of its output is committed; the argument is in `runs`.
//! * *A commit*: then its manifest was there when the newer run began, which restores it and commits the very same
//!   parts. Both rename the same files to the same names, which one of them does. What is left is a reader: if it
//!   *copies* a new file over an old name, or brings a file back that it has moved away, it may see the other's rename.
//! * *Files*: see below.
//!
//! A run that doesn't commit shows nothing, whatever it still computes; but output that is seen at once (`delivery =
//! "at-least-once"`, the standard output) it writes until it looks again, for an interval of checkpoints at most.
//!
//! **What may be removed.** A file that no manifest names may be about to be named by a newer run that somebody doesn't
//! know yet. So only files older than [`GRACE`] are removed, by the service's clock, and only by a run, which looks for a
//! newer one before each request. A file that isn't known from a checkpoint of this process is uploaded even if it is
//! there, which makes it young. What remains: a request to remove a file that was on its way when a newer run began,
//! and arrives after that one has uploaded the same content again and listed it; the next start would find that
//! checkpoint damaged and say so.
//!
//! A person who keeps a checkpoint looks, when the savepoint is there, whether the checkpoint still is: only whoever
//! removes its manifest removes files, and looks for savepoints after that.

mod download;
mod engine;
#[cfg(feature = "jetstream")]
mod jetstream;
#[cfg(feature = "s3")]
mod s3;
#[cfg(test)]
pub(crate) mod tests;
mod upload;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use self::download::{Ranges, is_missing};
use self::engine::Engine;
use crate::backing::{Backing, Guard, Put};
use crate::error::Error;
use crate::names::Digest;
use crate::place::Place;
use crate::runs::chance;

/// Files that nothing needs stay so long, counted from the newest file that there is. Far more than a request can be on
/// its way, and than a checkpoint takes from its first file to its manifest.
const GRACE: Duration = Duration::from_hours(1);
/// Where the state's files are.
const FILES: &str = "files";
/// A service that says of a conditional write that something else wrote at the same moment is asked again so often.
const CONFLICTS_COUNT_MAX: usize = 5;

/// A store in an object store.
#[derive(Debug)]
pub(crate) struct Objects {
    engine: Arc<Engine>,
    grace: Duration,
    /// The files that are there, with their sizes, since they were listed; none: they weren't. Held for moments.
    present: Mutex<Option<BTreeMap<String, u64>>>,
    /// The bucket in JetStream, if it is one: there what uploads leave that died is ours to remove.
    #[cfg(feature = "jetstream")]
    bucket: Option<jetstream::Bucket>,
}

impl Objects {
    /// The place in a bucket. Whether a bucket that isn't there is made where stores can do that is said.
    ///
    /// # Errors
    /// When it is a folder, or an object store that this was built without or that isn't set up. Nothing is asked of
    /// the service yet.
    #[cfg_attr(not(feature = "jetstream"), expect(unused_variables, reason = "nobody makes buckets of S3"))]
    pub(crate) fn at(place: &Place, makes: bool) -> Result<Self, Error> {
        match place {
            #[cfg(feature = "s3")]
            Place::S3(s3) => Self::new(s3::client(s3)?, place.to_string(), s3.prefix(), s3::REACHED_BY),
            #[cfg(feature = "jetstream")]
            Place::JetStream(at) => {
                let bucket = jetstream::Bucket::new(at, makes).map_err(Error::Invalid)?;
                let store = Arc::new(bucket.clone());
                let objects = Self::new(store, place.to_string(), at.prefix(), jetstream::REACHED_BY)?;
                Ok(Self { bucket: Some(bucket), ..objects })
            }
            place => Err(Error::Invalid(format!(
                "{place} can't be used: it is in no object store that this tidemill was built with"
            ))),
        }
    }

    fn new(
        store: Arc<dyn ObjectStore>,
        shown: String,
        prefix: &str,
        reached_by: &'static str,
    ) -> Result<Self, Error> {
        let engine = Arc::new(Engine::new(store, shown, prefix, reached_by)?);
        Ok(Self {
            engine,
            grace: GRACE,
            present: Mutex::default(),
            #[cfg(feature = "jetstream")]
            bucket: None,
        })
    }

    /// One in which nothing is too young to be removed.
    #[cfg(test)]
    pub(crate) fn of_tests(store: Arc<dyn ObjectStore>) -> Self {
        let objects = Self::new(store, "memory".to_owned(), "", "memory").expect("a thread can be started");
        Self { grace: Duration::ZERO, ..objects }
    }

    /// Some services ignore the condition of a write. There nothing would keep two runs apart.
    ///
    /// # Errors
    /// When this is one of them, or nothing can be written.
    pub(crate) fn check_conditions(&self) -> Result<(), Error> {
        let path = format!("tmp/condition-{:016x}", chance());
        self.create_once(&path, b"first").map_err(|e| self.engine.failed("write", &path, e))?;
        let second = self.create_once(&path, b"second").map_err(|e| self.engine.failed("write", &path, e))?;
        self.remove(&path)?;
        if second {
            return Err(Error::Invalid(format!(
                "{} is in an object store that ignores the condition of a write (S3: If-None-Match: *), so nothing would \
                 keep two runs apart; use one that heeds it, such as S3, R2, Ceph or a MinIO of 2024 or later",
                self.describe()
            )));
        }
        Ok(())
    }

    /// False if there is one.
    fn create_once(&self, path: &str, content: &[u8]) -> object_store::Result<bool> {
        let (name, content) = (self.engine.name(path), content.to_vec().into());
        match self.engine.wait(self.engine.store.put_opts(&name, content, PutMode::Create.into())) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All objects below a folder: their paths within it, sizes, and ages by the newest of them.
    fn listed(&self, folder: &str) -> Result<Vec<(String, u64, Duration)>, Error> {
        let name = self.engine.name(folder);
        let objects = self.engine.wait(self.engine.store.list(Some(&name)).try_collect::<Vec<_>>());
        let objects = objects.map_err(|error| self.engine.failed("list", folder, error))?;
        let newest = objects.iter().map(|object| object.last_modified).max();
        let mut listed = Vec::with_capacity(objects.len());
        for object in objects {
            let path = self.engine.within(&object.location).and_then(|path| path.strip_prefix(folder));
            // What isn't named as ours are is none of ours.
            let Some(path) = path.and_then(|path| path.strip_prefix('/')) else { continue };
            let age = newest.and_then(|newest| (newest - object.last_modified).to_std().ok());
            listed.push((path.to_owned(), object.size, age.unwrap_or_default()));
        }
        if folder == FILES {
            let files = listed.iter().map(|(path, bytes, _)| (format!("{FILES}/{path}"), *bytes));
            *self.present() = Some(files.collect());
        }
        Ok(listed)
    }

    /// Removes what uploads have left that died, where nobody else does; unless told to do so now, once in a while.
    #[cfg_attr(
        not(feature = "jetstream"),
        expect(unused_variables, reason = "in S3 a rule of the bucket does it")
    )]
    fn clear_away(&self, now: bool) -> Result<(), Error> {
        #[cfg(feature = "jetstream")]
        if let Some(bucket) = &self.bucket
            && (now || bucket.is_due(GRACE))
        {
            let removed = self.engine.wait(bucket.remove_orphans(GRACE));
            removed.map_err(|error| self.engine.failed("clear away interrupted uploads in", "", error))?;
        }
        Ok(())
    }

    fn present(&self) -> MutexGuard<'_, Option<BTreeMap<String, u64>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backing for Objects {
    fn describe(&self) -> String {
        self.engine.shown.clone()
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        Ok(self.listed(folder)?.into_iter().map(|(path, bytes, _)| (path, bytes)).collect())
    }

    fn list_settled(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        self.clear_away(false)?;
        let listed = self.listed(folder)?.into_iter();
        Ok(listed.filter(|(_, _, age)| *age >= self.grace).map(|(path, bytes, _)| (path, bytes)).collect())
    }

    fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        self.engine.read(path, bytes_max)
    }

    fn stream(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let bytes = self.engine.bytes(path)?;
        Ok(bytes.map(|bytes| Box::new(Ranges::new(self.engine.clone(), path, bytes)) as Box<dyn Read + Send>))
    }

    fn create(&self, path: &str, content: &[u8]) -> Result<bool, Error> {
        let mut conflicts_count = 0;
        loop {
            let created = self.create_once(path, content);
            if matches!(created, Ok(true)) {
                return Ok(true);
            }
            // It may be ours: the answer was lost and the client has asked again, or it has given up.
            match (self.read(path, content.len() as u64), created) {
                (Ok(Some(found)), _) => return Ok(found == content),
                (_, Err(error)) => return Err(self.engine.failed("write", path, error)),
                (Err(error), Ok(_)) => return Err(error),
                (Ok(None), Ok(_)) if conflicts_count == CONFLICTS_COUNT_MAX => return Ok(false),
                (Ok(None), Ok(_)) => conflicts_count += 1,
            }
        }
    }

    fn replace(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let name = self.engine.name(path);
        self.engine
            .wait(self.engine.store.put(&name, content.to_vec().into()))
            .map(drop)
            .map_err(|error| self.engine.failed("write", path, error))
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.present().as_mut().map(|present| present.remove(path));
        let name = self.engine.name(path);
        match self.engine.wait(self.engine.store.delete(&name)) {
            Err(error) if !is_missing(&error) => Err(self.engine.failed("remove", path, error)),
            _ => Ok(()),
        }
    }

    fn remove_all(&self, paths: &[String]) -> Result<(), Error> {
        if let Some(present) = self.present().as_mut() {
            present.retain(|path, _| !paths.contains(path));
        }
        let names: Vec<_> = paths.iter().map(|path| Ok(self.engine.name(path))).collect();
        let removed = self.engine.store.delete_stream(futures_util::stream::iter(names).boxed());
        let removed = removed.filter(|removed| std::future::ready(!removed.as_ref().is_err_and(is_missing)));
        self.engine
            .wait(removed.try_for_each(|_| std::future::ready(Ok(()))))
            .map_err(|error| self.engine.failed("remove files in", FILES, error))
    }

    fn put(&self, put: &Put<'_>, path: &dyn Fn(Digest) -> String) -> Result<(Digest, u64), Error> {
        let (digest, bytes) = self.engine.upload(put.source, path)?;
        if let Some(present) = self.present().as_mut() {
            present.insert(path(digest), bytes);
        }
        Ok((digest, bytes))
    }

    /// As far as was listed: asking for each file of a large state would take longer than writing what is new of it.
    /// Before a manifest names them, they are listed anew.
    fn has(&self, path: &str, bytes: u64) -> Result<bool, Error> {
        if self.present().is_none() {
            self.listed(FILES)?;
        }
        Ok(self.present().as_ref().is_some_and(|present| present.get(path) == Some(&bytes)))
    }

    fn first_missing(&self, files: &[(String, u64)]) -> Result<Option<usize>, Error> {
        if files.is_empty() {
            return Ok(None);
        }
        self.listed(FILES)?;
        let present = self.present();
        let is_there = |(path, bytes): &(String, u64)| {
            present.as_ref().is_some_and(|present| present.get(path) == Some(bytes))
        };
        Ok(files.iter().position(|file| !is_there(file)))
    }

    fn local(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn sync(&self) -> Result<(), Error> {
        // What was written and answered is durable.
        Ok(())
    }

    fn locks(&self) -> bool {
        false
    }

    fn lock(&self, _: &str, _: bool) -> Result<Guard, Error> {
        Ok(Box::new(()))
    }

    fn clean(&self) -> Result<(), Error> {
        self.clear_away(true)
    }
}
