//! Files and folders that must be as they should be after a crash, and small texts behind a checksum.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{LogError, Result, io_error};

/// A larger text is none of ours.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Makes it last that files of the folder were made, renamed or removed.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    // Elsewhere folders can't be opened, and needn't be.
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(io_error("sync", folder))?;
    }
    Ok(())
}

/// Puts a file in place, whole and lasting, or leaves what was there.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    let mut file = File::create(&new).map_err(io_error("create", &new))?;
    file.write_all(bytes).map_err(io_error("write", &new))?;
    file.sync_all().map_err(io_error("sync", &new))?;
    fs::rename(&new, &path).map_err(io_error("replace", &path))?;
    sync_folder(folder)
}

/// Reads a file that may be absent.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(about) if about.len() > TEXT_BYTES_MAX => {
            let (bytes, bytes_max) = (about.len(), TEXT_BYTES_MAX);
            Err(LogError::TooLarge { what: "a file of the log", bytes, bytes_max })
        }
        Ok(_) => fs::read(path).map(Some).map_err(io_error("read", path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Adds the line that proves a text, whose last line has ended, to be whole.
pub(crate) fn seal_text(mut text: String) -> String {
    let checksum = xxh3_64(text.as_bytes());
    text += &format!("checksum {checksum:016x}\n");
    text
}

/// The text before the line that proves it, if it does.
pub(crate) fn open_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let at = text.rfind("checksum ")?;
    let (text, line) = text.split_at_checked(at)?;
    (line == format!("checksum {:016x}\n", xxh3_64(text.as_bytes()))).then_some(text)
}

/// The lines of a text as names and values.
pub(crate) fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(|line| line.split_once(' ').unwrap_or((line, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_whole_or_refused() {
        let sealed = seal_text("kind 1\nname a b\n".to_owned());
        let text = open_text(sealed.as_bytes()).unwrap();
        assert_eq!(fields(text).collect::<Vec<_>>(), [("kind", "1"), ("name", "a b")]);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open_text(&flipped).is_none(), "bit {bit}");
        }
        for end in 0..sealed.len() {
            assert!(open_text(&sealed.as_bytes()[..end]).is_none(), "cut off at {end}");
        }
    }
}
