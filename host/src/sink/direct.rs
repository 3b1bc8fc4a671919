//! Rows that are written at once, to be seen as soon as the writer has caught up.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Block, Destination, Output, Part, create, make_folder};

/// A file or the standard output.
pub(super) struct Direct {
    header: Vec<u8>,
    state: State,
}

enum State {
    File(File),
    Stdout(io::Stdout),
    Unmade(PathBuf),
}

impl Direct {
    /// Opens the destination, and writes the header into what is made.
    pub(super) fn open(destination: &Destination, header: Vec<u8>) -> io::Result<Self> {
        let state = match destination {
            Destination::Stdout => State::Stdout(io::stdout()),
            Destination::File(path) => State::File(create(path)?),
            Destination::Appended(path) => return Self::append(path, header),
            // A device or a pipe is written to, and stays what it is.
            Destination::FileIfAny(path) if path.exists() && !path.is_file() => State::File(create(path)?),
            Destination::FileIfAny(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => State::Unmade(path.clone()),
            },
            Destination::Parts(_)
            | Destination::Log(_)
            | Destination::Transactions(_)
            | Destination::Messages(_)
            | Destination::Transmissions(_)
            | Destination::Recognizing(..)
            | Destination::Memory(_) => {
                unreachable!("it has an output of its own")
            }
        };
        let mut direct = Self { header, state };
        if !matches!(direct.state, State::Unmade(_)) {
            let header = std::mem::take(&mut direct.header);
            direct.write_all(&header)?;
        }
        Ok(direct)
    }

    fn append(path: &Path, header: Vec<u8>) -> io::Result<Self> {
        make_folder(path)?;
        let mut file = File::options().read(true).append(true).create(true).open(path)?;
        // A line that a crash has torn comes again, whole.
        let whole = whole_lines(&mut file)?;
        file.set_len(whole)?;
        let is_empty = whole == 0;
        let mut direct = Self { header: Vec::new(), state: State::File(file) };
        if is_empty {
            direct.write_all(&header)?;
        }
        Ok(direct)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::File(file) => file.write_all(bytes),
            State::Stdout(stdout) => stdout.write_all(bytes),
            State::Unmade(path) => {
                let mut file = create(path)?;
                file.write_all(&self.header)?;
                file.write_all(bytes)?;
                self.state = State::File(file);
                Ok(())
            }
        }
    }
}

/// The length of a file up to the end of its last whole line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

impl Output for Direct {
    fn write(&mut self, block: &Block, _: u64) -> io::Result<()> {
        self.write_all(&block.bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Stdout(stdout) => stdout.flush(),
            State::File(_) | State::Unmade(_) => Ok(()),
        }
    }

    fn passed(&mut self, _: u64) -> io::Result<Vec<Part>> {
        self.flush()?;
        if let State::File(file) = &self.state {
            // What isn't a regular file has nothing to keep.
            match file.sync_data() {
                Err(error) if file.metadata()?.is_file() => return Err(error),
                _ => {}
            }
        }
        Ok(Vec::new())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush()
    }
}
