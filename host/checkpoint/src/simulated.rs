//! A place that crashes where a test wants, and then has lost some of what wasn't synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::backing::{Backing, Guard, Put};
use crate::error::Error;
use crate::files::hash;
use crate::names::Digest;

/// Files in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    durable: BTreeMap<String, Vec<u8>>,
    /// What was done since the last sync, in order: a content or a removal.
    pending: Vec<(String, Option<Vec<u8>>)>,
    locks: BTreeSet<String>,
    /// Changes until the process dies.
    crash_after: Option<u64>,
    crashed: bool,
    chance: u64,
}

impl Simulated {
    /// Lets the process die at the change after so many.
    pub(crate) fn crash_after(&self, changes: u64) {
        self.inner().crash_after = Some(changes);
    }

    pub(crate) fn crashed(&self) -> bool {
        self.inner().crashed
    }

    /// The next process finds what was synced, and of the rest what chance has left.
    pub(crate) fn reboot(&self, chance: u64) {
        let mut inner = self.inner();
        inner.chance = chance;
        let pending = std::mem::take(&mut inner.pending);
        for (path, content) in pending {
            if inner.toss() {
                inner.apply(path, content);
            }
        }
        inner.locks.clear();
        inner.crash_after = None;
        inner.crashed = false;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Does a change, unless the process dies at it: then it was done or not.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> Result<T, Error> {
        let mut inner = self.inner();
        inner.check()?;
        if inner.crash_after == Some(0) {
            inner.crashed = true;
            if inner.toss() {
                change(&mut inner);
            }
            return Err(dead());
        }
        inner.crash_after = inner.crash_after.map(|left| left - 1);
        Ok(change(&mut inner))
    }
}

impl Inner {
    fn check(&self) -> Result<(), Error> {
        if self.crashed { Err(dead()) } else { Ok(()) }
    }

    fn toss(&mut self) -> bool {
        // The constants are those of Knuth's MMIX; the high bits are the good ones.
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.chance >> 63 == 1
    }

    fn apply(&mut self, path: String, content: Option<Vec<u8>>) {
        match content {
            Some(content) => drop(self.durable.insert(path, content)),
            None => drop(self.durable.remove(&path)),
        }
    }

    /// What the living process sees.
    fn visible(&self) -> BTreeMap<&String, &Vec<u8>> {
        let mut visible: BTreeMap<_, _> = self.durable.iter().collect();
        for (path, content) in &self.pending {
            match content {
                Some(content) => drop(visible.insert(path, content)),
                None => drop(visible.remove(path)),
            }
        }
        visible
    }

    /// Makes one file durable, and with it what was done to it before; nothing else.
    fn write(&mut self, path: &str, content: &[u8]) {
        self.pending.retain(|(pending, _)| pending != path);
        self.apply(path.to_owned(), Some(content.to_owned()));
    }
}

fn dead() -> Error {
    Error::io("go on")(io::Error::other("the process is dead"))
}

impl Backing for Simulated {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        let inner = self.inner();
        inner.check()?;
        let within = format!("{folder}/");
        let files = inner.visible();
        let files =
            files.iter().filter_map(|(path, content)| Some((path.strip_prefix(&within)?, content.len())));
        Ok(files.map(|(path, bytes)| (path.to_owned(), bytes as u64)).collect())
    }

    fn read(&self, path: &str, _: u64) -> Result<Option<Vec<u8>>, Error> {
        let inner = self.inner();
        inner.check()?;
        Ok(inner.visible().get(&path.to_owned()).map(|content| content.to_vec()))
    }

    fn stream(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let content = self.read(path, 0)?;
        Ok(content.map(|content| Box::new(io::Cursor::new(content)) as Box<dyn Read + Send>))
    }

    fn create(&self, path: &str, content: &[u8]) -> Result<bool, Error> {
        self.change(|inner| {
            let free = !inner.visible().contains_key(&path.to_owned());
            if free {
                inner.write(path, content);
            }
            free
        })
    }

    fn replace(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        self.change(|inner| inner.write(path, content))
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.change(|inner| inner.pending.push((path.to_owned(), None)))
    }

    fn put(&self, put: &Put<'_>, path: &dyn Fn(Digest) -> String) -> Result<(Digest, u64), Error> {
        let content = std::fs::read(put.source).unwrap();
        let (digest, bytes) = hash(&mut &content[..], |_| Ok(())).unwrap();
        self.change(|inner| inner.pending.push((path(digest), Some(content))))?;
        Ok((digest, bytes))
    }

    fn has(&self, path: &str, bytes: u64) -> Result<bool, Error> {
        Ok(self.read(path, 0)?.is_some_and(|content| content.len() as u64 == bytes))
    }

    fn local(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn sync(&self) -> Result<(), Error> {
        self.change(|inner| {
            for (path, content) in std::mem::take(&mut inner.pending) {
                inner.apply(path, content);
            }
        })
    }

    fn lock(&self, name: &str, _: bool) -> Result<Guard, Error> {
        let mut inner = self.inner();
        inner.check()?;
        if !inner.locks.insert(name.to_owned()) {
            return Err(Error::InUse { store: self.describe(), holder: "a process".to_owned() });
        }
        Ok(Box::new(Held { of: self.clone(), name: name.to_owned() }))
    }

    fn clean(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct Held {
    of: Simulated,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.inner().locks.remove(&self.name);
    }
}
