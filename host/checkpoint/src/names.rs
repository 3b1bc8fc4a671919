//! Names that come from outside, each a type that carries its check: whoever holds a [`FileName`] may join it to a
//! folder without leaving that folder.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Enough for any file of a database; what file systems allow for one name.
const FILE_NAME_BYTES_MAX: usize = 255;
/// What Linux allows for a path.
const PART_PATH_BYTES_MAX: usize = 4096;

/// The SHA-256 of some bytes. Written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` isn't a SHA-256 in 64 lower-case hex digits", shown(text));
        let mut digest = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = hex_value(*high).zip(hex_value(*low)).map(|(h, l)| h << 4 | l).ok_or_else(wrong)?;
        }
        Ok(Self(digest))
    }
}

/// Upper-case digits are no digits here: there is one way to write a digest, so that any changed byte is noticed.
fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The name of a file directly in a folder: letters, digits, `.`, `_` and `-`, and no leading `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty()
            || text.len() > FILE_NAME_BYTES_MAX
            || text.starts_with('.')
            || !text.bytes().all(plain)
        {
            return Err(format!(
                "`{}` can't be the name of a file of state: letters, digits, `.`, `_`, `-`, no leading `.`, up to \
                 {FILE_NAME_BYTES_MAX} bytes",
                shown(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The path of a sink's part, in the folder of the sink: plain components separated by `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartPath(String);

impl PartPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it is, in the sink's folder.
    pub fn in_folder(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl FromStr for PartPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |component: &str| {
            !matches!(component, "" | "." | "..")
                && !component.contains(['\\', ':'])
                && !has_control(component)
        };
        if text.len() > PART_PATH_BYTES_MAX || !text.split('/').all(plain) {
            return Err(format!(
                "`{}` can't be the path of a sink's part: it has to lie in the sink's folder",
                shown(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a savepoint: `^[a-z0-9][a-z0-9-]{0,62}$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SavepointName(String);

impl SavepointName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SavepointName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if text.is_empty() || text.len() > 63 || text.starts_with('-') || !text.bytes().all(plain) {
            return Err(format!(
                "`{}` can't be the name of a savepoint: 1 to 63 of a-z, 0-9 and `-`, and no leading `-`",
                shown(text)
            ));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` can't be the name of a savepoint: a number names a checkpoint"));
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}
text!(FileName, PartPath, SavepointName);

/// A checkpoint's manifest. Its number alone doesn't name it: two runs may have used the same, one of them by a process
/// that was thought dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointName {
    /// The checkpoint's number.
    pub checkpoint: u64,
    /// The run that wrote it.
    pub run: u64,
}

impl CheckpointName {
    /// The name of its manifest's file.
    pub(crate) fn file(self) -> String {
        format!("{:010}-run{}.json", self.checkpoint, self.run)
    }

    pub(crate) fn of_file(file: &str) -> Option<Self> {
        let (checkpoint, run) = file.strip_suffix(".json")?.split_once("-run")?;
        let name = Self { checkpoint: checkpoint.parse().ok()?, run: run.parse().ok()? };
        (name.file() == file).then_some(name)
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint {} (run {})", self.checkpoint, self.run)
    }
}

/// What a person names: a checkpoint by its number, or a savepoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// The checkpoint of this number; of two runs' the newer one's.
    Checkpoint(u64),
    /// The savepoint of this name.
    Savepoint(SavepointName),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let number = text.parse().map_err(|_| format!("`{}` is no checkpoint's number", shown(text)))?;
            return Ok(Self::Checkpoint(number));
        }
        text.parse().map(Self::Savepoint)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(number) => write!(f, "checkpoint {number}"),
            Self::Savepoint(name) => write!(f, "savepoint {name}"),
        }
    }
}

/// Text from outside, fit to be printed: short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_folder() {
        for bad in
            ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", ".hidden", "a\0b", "a\nb", "C:x", "é"]
        {
            assert!(bad.parse::<FileName>().is_err(), "{bad:?}");
        }
        for bad in ["", "..", "/x", "a/../b", "a//b", "a/", "./a", "a\\..\\b", "C:/x", "a\0"] {
            assert!(bad.parse::<PartPath>().is_err(), "{bad:?}");
        }
        for bad in ["", "-a", "A", "a_b", "a/b", "..", "12", "é", &"a".repeat(64)] {
            assert!(bad.parse::<SavepointName>().is_err(), "{bad:?}");
        }
        for good in ["000012.sst", "CURRENT", "OPTIONS-000007", "MANIFEST-000005"] {
            assert!(good.parse::<FileName>().is_ok(), "{good:?}");
        }
        assert!("late/part-3.json".parse::<PartPath>().is_ok());
        assert!("before-upgrade-2".parse::<SavepointName>().is_ok());
    }

    #[test]
    fn a_digest_is_written_in_one_way() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        for bad in [text.to_uppercase(), text[1..].to_owned(), format!("{text}0"), text.replace("ff", "fg")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_manifests_file_has_one_name() {
        let name = CheckpointName { checkpoint: 12, run: 3 };
        assert_eq!(name.file(), "0000000012-run3.json");
        assert_eq!(CheckpointName::of_file("0000000012-run3.json"), Some(name));
        let large = CheckpointName { checkpoint: u64::MAX, run: u64::MAX };
        assert_eq!(CheckpointName::of_file(&large.file()), Some(large));
        for other in ["12-run3.json", "0000000012-run03.json", "0000000012.json", "+000000012-run3.json", "x"]
        {
            assert_eq!(CheckpointName::of_file(other), None, "{other}");
        }
    }
}
