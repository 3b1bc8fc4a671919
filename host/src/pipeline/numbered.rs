//! Files that come one for each checkpoint: of `out/hourly-*.csv`, checkpoint 41 makes `out/hourly-0000000041.csv`.
//!
//! The `*` stands in the file's name, once; in a folder's name it is a character like any other.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What stands for the checkpoint's number.
pub(super) const WILDCARD: char = '*';

/// With so many digits names sort as numbers do, for three centuries of a checkpoint a second.
pub(super) const DIGITS: usize = 10;

/// The file that a checkpoint makes; a path without `*` is that file itself.
pub fn numbered(pattern: &Path, checkpoint: u64) -> PathBuf {
    match halves(pattern) {
        Some((before, after)) => pattern.with_file_name(format!("{before}{checkpoint:0DIGITS$}{after}")),
        None => pattern.to_owned(),
    }
}

/// The checkpoint that makes a file of this name; none if the name isn't made from the pattern. Folders are not
/// compared.
pub fn checkpoint_of(pattern: &Path, file_name: &OsStr) -> Option<u64> {
    let (before, after) = halves(pattern)?;
    let digits = file_name.to_str()?.strip_prefix(before)?.strip_suffix(after)?;
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    // One number, one name: `041` is none of ours.
    (digits == format!("{number:0DIGITS$}")).then_some(number)
}

/// What stands before and after the `*` in the file's name.
pub(super) fn halves(pattern: &Path) -> Option<(&str, &str)> {
    pattern.file_name()?.to_str()?.split_once(WILDCARD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_bears_the_number_in_ten_digits() {
        for (pattern, checkpoint, expected) in [
            ("out/hourly-*.csv", 41, "out/hourly-0000000041.csv"),
            ("*", 0, "0000000000"),
            ("a*b/x-*", 9_999_999_999, "a*b/x-9999999999"),
            ("x-*", 10_000_000_000, "x-10000000000"),
            ("a*b/plain.csv", 41, "a*b/plain.csv"),
        ] {
            assert_eq!(numbered(Path::new(pattern), checkpoint), Path::new(expected));
        }
    }

    #[test]
    fn a_name_tells_its_checkpoint_and_other_names_tell_none() {
        let of = |name: &str| checkpoint_of(Path::new("out/hourly-*.csv"), OsStr::new(name));
        for checkpoint in [0, 41, 9_999_999_999, 10_000_000_000, u64::MAX] {
            let made = numbered(Path::new("hourly-*.csv"), checkpoint);
            assert_eq!(of(made.to_str().unwrap()), Some(checkpoint));
        }
        for name in [
            "hourly-41.csv",
            "hourly-00000000041.csv",
            "hourly-0000000041.csv.part",
            "hourly-+000000041.csv",
            "hourly-99999999999999999999.csv",
            "hourly-*.csv",
            "hourly-.csv",
            "daily-0000000041.csv",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
        assert_eq!(checkpoint_of(Path::new("hourly.csv"), OsStr::new("hourly.csv")), None);
    }
}
