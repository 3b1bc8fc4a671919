//! Files that appear whole: each checkpoint's rows are written into a file with another name, which is renamed when the
//! checkpoint is committed. Nobody ever sees a torn line, or a row that a recovery takes back.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tidemill_checkpoint::failpoint;

use super::{Block, FilePart, Output, Part, WriteError};
use crate::pipeline::plan::{checkpoint_of, numbered};

/// Before the number of its run: the name of a file that isn't committed ends so.
const STAGED: &str = ".staged";

/// The files of a sink, one for each checkpoint: a path whose name holds a `*` for the checkpoint's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFiles {
    /// What [`numbered`] makes names of.
    pattern: PathBuf,
    folder: PathBuf,
    prefix: String,
    suffix: String,
    /// The number of the run that stages, so that it can't touch what an older one, still alive, is writing.
    run: u64,
}

impl fmt::Display for PartFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pattern.display())
    }
}

impl PartFiles {
    /// The files of this pattern; none if it hasn't exactly one `*`, in its file name.
    ///
    /// # Errors
    /// When the working folder, which a relative path needs, can't be found.
    pub fn of(pattern: &Path, run: u64) -> io::Result<Option<Self>> {
        let pattern = std::path::absolute(pattern)?;
        let name = pattern.file_name().and_then(OsStr::to_str);
        let Some(((prefix, suffix), folder)) = name.and_then(|n| n.split_once('*')).zip(pattern.parent())
        else {
            return Ok(None);
        };
        let (folder, prefix, suffix) = (folder.to_owned(), prefix.to_owned(), suffix.to_owned());
        Ok((!suffix.contains('*')).then_some(Self { pattern, folder, prefix, suffix, run }))
    }

    /// The files that a path means: those of its pattern that are committed, in order, or the one with its name; none
    /// that isn't there.
    pub fn of_path(path: &Path) -> Vec<PathBuf> {
        match Self::of(path, 0) {
            Ok(Some(files)) => files.committed().unwrap_or_default(),
            _ => path.exists().then(|| path.to_owned()).into_iter().collect(),
        }
    }

    /// The folder of all of them.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a pipeline without a checkpoint can begin to write these files for `id`.
    pub(super) fn check_begins(&self, id: &str) -> Result<(), WriteError> {
        let found = self.committed().map_err(|e| WriteError(format!("cannot look for {self}: {e}")))?;
        let Some(found) = found.first() else { return Ok(()) };
        Err(WriteError(format!(
            "{} is there, but no checkpoint that it belongs to: starting from the beginning would write its rows \
             again; move it away, or give `{id}` another path",
            found.display()
        )))
    }

    /// Whether nothing has appeared behind a checkpoint that the pipeline goes back to, for `id`.
    pub(super) fn check_goes_back(&self, id: &str, checkpoint: u64) -> Result<(), WriteError> {
        let is_later = |path: &&PathBuf| self.checkpoint_of(path).is_some_and(|of| of > checkpoint);
        let found = self.committed().map_err(|e| WriteError(format!("cannot look for {self}: {e}")))?;
        let Some(found) = found.iter().find(is_later) else { return Ok(()) };
        Err(WriteError(format!(
            "{} has appeared since checkpoint {checkpoint}: going on from there would write its rows again; move it and \
             what came after it away, or give `{id}` another path",
            found.display()
        )))
    }

    /// Removes what is staged.
    pub(super) fn discard(&self) -> Result<(), WriteError> {
        let discard = || self.staged_files()?.iter().try_for_each(fs::remove_file);
        discard().map_err(|e: io::Error| WriteError(format!("cannot clear what {self} had staged: {e}")))
    }

    /// Committed files that are there already, sorted.
    fn committed(&self) -> io::Result<Vec<PathBuf>> {
        self.find(|name| checkpoint_of(&self.pattern, OsStr::new(name)).map(drop))
    }

    fn checkpoint_of(&self, path: &Path) -> Option<u64> {
        checkpoint_of(&self.pattern, path.file_name()?)
    }

    /// Whether files can be made in the folder.
    pub(super) fn check(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = self.staged(0);
        File::create(&path)?;
        fs::remove_file(path)
    }

    /// The name begins with a dot, so that no pattern for the committed files finds it.
    fn staged(&self, after: u64) -> PathBuf {
        let Self { prefix, suffix, run, .. } = self;
        self.folder.join(format!(".{prefix}{after:010}-{run:06}{suffix}{STAGED}"))
    }

    fn staged_files(&self) -> io::Result<Vec<PathBuf>> {
        self.find(|name| {
            let rest = name.strip_prefix('.')?.strip_prefix(&self.prefix)?;
            let number = rest.strip_suffix(STAGED)?.strip_suffix(&self.suffix)?;
            number.bytes().all(|b| b.is_ascii_digit() || b == b'-').then_some(())
        })
    }

    fn find(&self, is_one: impl Fn(&str) -> Option<()>) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().and_then(&is_one).is_some() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Parts that are being written.
pub(super) struct Staged {
    files: PartFiles,
    header: Vec<u8>,
    /// By the barrier after which its rows came.
    open: BTreeMap<u64, OpenPart>,
}

struct OpenPart {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    rows: u64,
}

impl Staged {
    pub(super) fn new(files: PartFiles, header: Vec<u8>) -> Self {
        Self { files, header, open: BTreeMap::new() }
    }

    fn part(&mut self, after: u64) -> io::Result<&mut OpenPart> {
        use std::collections::btree_map::Entry;
        match self.open.entry(after) {
            Entry::Occupied(part) => Ok(part.into_mut()),
            Entry::Vacant(free) => {
                fs::create_dir_all(&self.files.folder)?;
                let path = self.files.staged(after);
                let mut file = BufWriter::new(File::create(&path)?);
                file.write_all(&self.header)?;
                Ok(free.insert(OpenPart { path, file, bytes: self.header.len() as u64, rows: 0 }))
            }
        }
    }
}

impl Output for Staged {
    fn write(&mut self, block: &Block, barrier: u64) -> io::Result<()> {
        let part = self.part(barrier)?;
        part.file.write_all(&block.bytes)?;
        part.bytes += block.bytes.len() as u64;
        part.rows += block.rows;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn passed(&mut self, checkpoint: u64) -> io::Result<Vec<Part>> {
        failpoint::at("sink.part")?;
        let after = self.open.split_off(&checkpoint);
        let before = std::mem::replace(&mut self.open, after);
        let mut parts = Vec::new();
        // Rows before a barrier that was given up are in a part of their own, with its number: so names sort as rows came.
        let numbers: Vec<u64> = before.keys().skip(1).copied().chain([checkpoint]).collect();
        for (mut part, number) in before.into_values().zip(numbers) {
            part.file.flush()?;
            part.file.get_ref().sync_all()?;
            parts.push(Part::File(FilePart {
                staged: part.path,
                committed: numbered(&self.files.pattern, number),
                bytes: part.bytes,
                rows: part.rows,
            }));
        }
        if !parts.is_empty() {
            File::open(&self.files.folder)?.sync_all()?;
        }
        Ok(parts)
    }

    /// What no barrier followed is committed by nobody.
    fn finish(&mut self) -> io::Result<()> {
        while let Some((_, part)) = self.open.pop_first() {
            drop(part.file);
            fs::remove_file(part.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::commit;
    use super::*;

    fn block(text: &str) -> Block {
        Block { bytes: text.as_bytes().to_vec(), rows: 1, ..Block::default() }
    }

    #[test]
    fn rows_appear_with_the_checkpoint_that_they_came_before() {
        let folder = tempfile::tempdir().unwrap();
        let files = PartFiles::of(&folder.path().join("out/r-*.csv"), 3).unwrap().unwrap();
        let mut staged = Staged::new(files.clone(), b"h\n".to_vec());
        staged.write(&block("1\n"), 0).unwrap();
        // Another task has sent barrier 7 already: its row isn't part of checkpoint 7.
        staged.write(&block("2\n"), 7).unwrap();
        let parts = staged.passed(7).unwrap();
        let [Part::File(FilePart { rows: 1, bytes: 4, .. })] = parts.as_slice() else { panic!("{parts:?}") };
        assert!(files.committed().unwrap().is_empty());
        // As often as one likes.
        commit(&parts, false).unwrap();
        commit(&parts, false).unwrap();
        let committed = files.committed().unwrap();
        assert!(committed[0].ends_with("r-0000000007.csv"));
        assert_eq!(fs::read(&committed[0]).unwrap(), b"h\n1\n");
        let parts = staged.passed(9).unwrap();
        commit(&parts, false).unwrap();
        files.discard().unwrap();
        assert_eq!(fs::read(&files.committed().unwrap()[1]).unwrap(), b"h\n2\n");
        staged.write(&block("3\n"), 9).unwrap();
        let lost = staged.passed(10).unwrap();
        files.discard().unwrap();
        assert!(commit(&lost, false).unwrap_err().to_string().contains("is there"));
        commit(&lost, true).unwrap();
        assert!(staged.passed(11).unwrap().is_empty());
    }
}
