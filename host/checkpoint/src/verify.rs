//! Verifying a checkpoint: every byte of every file is read and hashed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::backing::Backing;
use crate::error::Problem;
use crate::files::{hash, path_of};
use crate::manifest::FileEntry;

/// As many as read a disk at full speed; the pipeline isn't running yet, or needs the other cores.
const THREADS_COUNT: usize = 2;

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

pub(crate) fn verify(
    backing: &dyn Backing,
    files: &[FileEntry],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, Vec<Problem>> {
    let verifying = Verifying {
        backing,
        files,
        bytes_count: files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes)),
        next: AtomicUsize::new(0),
        files_done: AtomicU64::new(0),
        bytes_done: AtomicU64::new(0),
        problems: Mutex::default(),
        progress,
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS_COUNT.min(files.len()) {
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
        let unreadable = |why: String| Problem::Unreadable { file: shown.clone(), name: name.clone(), why };
        let Some(mut content) = self.backing.stream(&path).map_err(|e| unreadable(e.to_string()))? else {
            return Err(Problem::Missing { file: shown, name });
        };
        let hashed = hash(&mut content, |block| {
            self.bytes_done.fetch_add(block.len() as u64, Ordering::Relaxed);
            self.report();
            Ok(())
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

    fn report(&self) {
        (self.progress)(Progress {
            files_done: self.files_done.load(Ordering::Relaxed),
            files_count: self.files.len() as u64,
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_count: self.bytes_count,
        });
    }
}
