//! Where a store is, as a person writes it: a folder, or `s3://bucket/prefix`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::names::shown;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a local folder.
    Folder(PathBuf),
    /// In an object store that speaks S3.
    S3(S3Place),
}

/// A place in an object store that speaks S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Place {
    bucket: String,
    prefix: String,
}

impl S3Place {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What all names in the bucket begin with: plain components with `/` between them, or nothing.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Place {
    /// The same, a folder's path being relative to `base`.
    pub fn within(&self, base: &Path) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(base.join(folder)),
            Self::S3(place) => Self::S3(place.clone()),
        }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::S3(_) => None,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Folder(text.into()));
        };
        if scheme != "s3" {
            return Err(format!(
                "`{}` is no place for checkpoints; write the path of a folder, or `s3://bucket/prefix`",
                shown(text)
            ));
        }
        if !cfg!(feature = "s3") {
            return Err(
                "this tidemill was built without the feature `s3`, so checkpoints can only be in a local \
                        folder; use one that was built with it"
                    .to_owned(),
            );
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        // Names that every client and server writes in the same way, whatever they think must be escaped.
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'=');
        let is_component =
            |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(plain) && name.len() <= 255;
        if !is_bucket || !(prefix.is_empty() || prefix.split('/').all(is_component)) || prefix.len() > 500 {
            return Err(format!(
                "`{}` is no place in an object store: expected s3://bucket/prefix, the bucket's name 3 to 63 of a-z, \
                 0-9, `-` and `.`; the prefix letters, digits, `.`, `_`, `-` and `=`, with single `/` between them",
                shown(text)
            ));
        }
        Ok(Self::S3(S3Place { bucket: bucket.to_owned(), prefix: prefix.to_owned() }))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::S3(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix } = self;
        if prefix.is_empty() { write!(f, "s3://{bucket}") } else { write!(f, "s3://{bucket}/{prefix}") }
    }
}

impl From<&Path> for Place {
    fn from(folder: &Path) -> Self {
        Self::Folder(folder.to_owned())
    }
}

impl From<&PathBuf> for Place {
    fn from(folder: &PathBuf) -> Self {
        Self::Folder(folder.clone())
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_scheme_is_a_folder() {
        for text in ["out/checkpoints", "/c", "C:/c", "s3:/bucket", "s3"] {
            assert_eq!(text.parse(), Ok(Place::Folder(text.into())), "{text}");
        }
        for bad in ["gs://bucket/x", "file:///x", "://x", "S3://bucket"] {
            let message = bad.parse::<Place>().unwrap_err();
            assert!(message.contains("s3://bucket/prefix"), "{message}");
        }
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn without_the_feature_an_object_store_is_refused() {
        let message = "s3://bucket/prefix".parse::<Place>().unwrap_err();
        assert!(message.contains("without the feature `s3`"), "{message}");
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_place_in_a_bucket_is_written_in_one_way() {
        for (text, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/a/b_c=d/", "s3://my.bucket-1/a/b_c=d"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), shown);
        }
        for bad in [
            "s3://",
            "s3:///x",
            "s3://ab",
            "s3://Bucket",
            "s3://bucket/a//b",
            "s3://bucket/..",
            "s3://bucket/ä",
        ] {
            let message = bad.parse::<Place>().unwrap_err();
            assert!(message.contains("expected s3://bucket/prefix"), "{bad}: {message}");
        }
    }
}
