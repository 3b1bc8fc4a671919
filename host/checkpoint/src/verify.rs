//! Verifying a checkpoint: every byte of every file is read and hashed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::backing::Backing;
use crate::error::Problem;
use crate::files::{hash, path_of};
use crate::manifest::FileEntry;

/// As many as read a disk at full speed; the pipeline isn't running yet, or needs the other cores.
const THREADS_COUNT: usize = 2;
/// From elsewhere so many are read at once, since each waits for answers most of the time.
const REMOTE_THREADS_COUNT: usize = 4;

/// How far verifying has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Files that were read.
    pub files_done: u64,
    /// All files.
    pub files_count: u64,
    /// Bytes that were read.
    pub bytes_done: u64,
    /// All bytes.
    pub bytes_count: u64,
}

/// What was verified, and is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The files.
    pub files_count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Verifies files. What doesn't lie on a local disk is left in the folder `into`, if one is given, under its digest.
pub(crate) fn verify(
    backing: &dyn Backing,
    files: &[FileEntry],
    into: Option<&Path>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, Vec<Problem>> {
    let is_local = backing.local("files").is_some();
    let verifying = Verifying {
        backing,
        files,
        is_local,
        into: into.filter(|_| !is_local),
        bytes_count: files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes)),
        next: AtomicUsize::new(0),
        files_done: AtomicU64::new(0),
        bytes_done: AtomicU64::new(0),
        problems: Mutex::default(),
        progress,
    };
    std::thread::scope(|scope| {
        let threads_count = if is_local { THREADS_COUNT } else { REMOTE_THREADS_COUNT };
        for _ in 1..threads_count.min(files.len()) {
            scope.spawn(|| verifying.work());
        }
        verifying.work();
    });
    let mut problems = verifying.problems.into_inner().unwrap_or_else(PoisonError::into_inner);
    if problems.is_empty() {
        return Ok(Report { files_count: files.len() as u64, bytes: verifying.bytes_count });
    }
    problems.sort_by_key(|(at, _)| *at);
    Err(problems.into_iter().map(|(_, problem)| problem).collect())
}

struct Verifying<'a> {
    backing: &'a dyn Backing,
    files: &'a [FileEntry],
    is_local: bool,
    into: Option<&'a Path>,
    bytes_count: u64,
    next: AtomicUsize,
    files_done: AtomicU64,
    bytes_done: AtomicU64,
    /// What is wrong with which file. Held while one is added.
    problems: Mutex<Vec<(usize, Problem)>>,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Verifying<'_> {
    fn work(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = self.files.get(at) else { return };
            if let Err(problem) = self.verify(file) {
                // What can't be believed isn't restored. If it can't be removed either, it is verified anew before.
                let _ = self.into.map(|into| fs::remove_file(into.join(file.sha256.to_string())));
                self.problems.lock().unwrap_or_else(PoisonError::into_inner).push((at, problem));
            }
            self.files_done.fetch_add(1, Ordering::Relaxed);
            self.report();
        }
    }

    fn verify(&self, file: &FileEntry) -> Result<(), Problem> {
        let path = path_of(file.sha256);
        let shown = format!("{}/{path}", self.backing.describe());
        let name = file.name.to_string();
        let unreadable = |why: String| match self.is_local {
            true => Problem::Unreadable { file: shown.clone(), name: name.clone(), why },
            false => Problem::Unreachable { file: shown.clone(), name: name.clone(), why },
        };
        let Some(mut content) = self.backing.stream(&path).map_err(|e| unreadable(e.to_string()))? else {
            return Err(Problem::Missing { file: shown, name });
        };
        let mut kept = self.keep(file).map_err(|e| unreadable(e.to_string()))?;
        let hashed = hash(&mut content, |block| {
            self.bytes_done.fetch_add(block.len() as u64, Ordering::Relaxed);
            self.report();
            kept.as_mut().map_or(Ok(()), |kept| kept.write_all(block))
        });
        let (digest, bytes) = hashed.map_err(|e| unreadable(e.to_string()))?;
        if bytes != file.bytes {
            return Err(Problem::Size { file: shown, name, expected: file.bytes, found: bytes });
        }
        if digest != file.sha256 {
            return Err(Problem::Content { file: shown, name, expected: file.sha256, found: digest });
        }
        Ok(())
    }

    /// The local file for what is read. Two threads may write the same, if two files are alike: each its own, and the
    /// name is the last one's.
    fn keep(&self, file: &FileEntry) -> io::Result<Option<File>> {
        let Some(into) = self.into else { return Ok(None) };
        fs::create_dir_all(into)?;
        let path = into.join(file.sha256.to_string());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::create(&path).map(Some)
    }

    fn report(&self) {
        (self.progress)(Progress {
            files_done: self.files_done.load(Ordering::Relaxed),
            files_count: self.files.len() as u64,
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_count: self.bytes_count,
        });
    }
}
