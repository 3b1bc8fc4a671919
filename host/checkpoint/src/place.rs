//! Where a store is, as a person writes it: a folder, `s3://bucket/prefix`, or `nats://connection/bucket/prefix`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(feature = "jetstream")]
use tidemill_jetstream::Settings;

use crate::names::shown;

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a local folder.
    Folder(PathBuf),
    /// In an object store that speaks S3.
    S3(S3Place),
    /// In the object store of NATS JetStream.
    JetStream(JetStreamPlace),
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

/// A place in the object store of NATS JetStream, in a bucket that is made if it isn't there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStreamPlace {
    connection: String,
    bucket: String,
    prefix: String,
    replicas: usize,
    /// How the servers are reached; none: nobody has said so yet.
    #[cfg(feature = "jetstream")]
    settings: Option<Box<Settings>>,
}

impl JetStreamPlace {
    /// The place in a bucket that a connection leads to. What the connection's name means says
    /// [`JetStreamPlace::reached_by`].
    ///
    /// # Errors
    /// When a name isn't one; the message says what is expected.
    pub fn new(connection: &str, bucket: &str, prefix: &str) -> Result<Self, String> {
        // A port may be in it, where it is an address.
        let is_connection =
            (1..=255).contains(&connection.len()) && connection.bytes().all(|b| plain(b) || b == b':');
        let is_bucket = (1..=200).contains(&bucket.len())
            && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !is_connection || !is_bucket || !is_prefix(prefix) {
            return Err(format!(
                "`{}` is no place in an object store: expected nats://connection/bucket/prefix, the bucket's name \
                 letters, digits, `_` and `-`; the prefix letters, digits, `.`, `_`, `-` and `=`, with single `/` \
                 between them",
                shown(&format!("nats://{connection}/{bucket}/{prefix}"))
            ));
        }
        Ok(Self {
            connection: connection.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            replicas: 1,
            #[cfg(feature = "jetstream")]
            settings: None,
        })
    }

    /// The same, with what its connection is. Only so can it be used.
    #[cfg(feature = "jetstream")]
    #[must_use]
    pub fn reached_by(self, settings: Settings) -> Self {
        Self { settings: Some(Box::new(settings)), ..self }
    }

    /// The same, in a bucket that this many servers have a copy of; it is made with as many if it isn't there, and
    /// refused if it has fewer.
    #[must_use]
    pub fn with_replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    /// The connection's name.
    pub fn connection(&self) -> &str {
        &self.connection
    }

    /// The bucket's name; its stream is `OBJ_<bucket>`.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// As [`S3Place::prefix`].
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How many servers have a copy of the bucket, at least.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// How the servers are reached, if that was said.
    #[cfg(feature = "jetstream")]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_deref()
    }
}

impl Place {
    /// The same, a folder's path being relative to `base`.
    pub fn within(&self, base: &Path) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(base.join(folder)),
            Self::S3(_) | Self::JetStream(_) => self.clone(),
        }
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::S3(_) | Self::JetStream(_) => None,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Folder(text.into()));
        };
        let (first, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        match scheme {
            "s3" if cfg!(feature = "s3") => S3Place::parse(text, first, prefix).map(Self::S3),
            "nats" if cfg!(feature = "jetstream") => {
                let (bucket, prefix) = prefix.split_once('/').unwrap_or((prefix, ""));
                JetStreamPlace::new(first, bucket, without_slash(prefix)).map(Self::JetStream)
            }
            "s3" => Err(without("s3")),
            "nats" => Err(without("jetstream")),
            _ => Err(format!(
                "`{}` is no place for checkpoints; write the path of a folder, `s3://bucket/prefix` or \
                 `nats://connection/bucket/prefix`",
                shown(text)
            )),
        }
    }
}

fn without(feature: &str) -> String {
    format!(
        "this tidemill was built without the feature `{feature}`, so checkpoints can't be there; choose a local folder, \
         or use one that was built with it"
    )
}

impl S3Place {
    fn parse(text: &str, bucket: &str, prefix: &str) -> Result<Self, String> {
        let prefix = without_slash(prefix);
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        if !is_bucket || !is_prefix(prefix) {
            return Err(format!(
                "`{}` is no place in an object store: expected s3://bucket/prefix, the bucket's name 3 to 63 of a-z, \
                 0-9, `-` and `.`; the prefix letters, digits, `.`, `_`, `-` and `=`, with single `/` between them",
                shown(text)
            ));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

fn without_slash(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// Names that every client and server writes in the same way, whatever they think must be escaped.
fn plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'=')
}

fn is_prefix(prefix: &str) -> bool {
    let is_component =
        |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(plain) && name.len() <= 255;
    prefix.len() <= 500 && (prefix.is_empty() || prefix.split('/').all(is_component))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::S3(place) => place.fmt(f),
            Self::JetStream(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bucket, prefix } = self;
        if prefix.is_empty() { write!(f, "s3://{bucket}") } else { write!(f, "s3://{bucket}/{prefix}") }
    }
}

impl fmt::Display for JetStreamPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, bucket, prefix, .. } = self;
        write!(f, "nats://{connection}/{bucket}")?;
        if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
    }
}

impl From<JetStreamPlace> for Place {
    fn from(place: JetStreamPlace) -> Self {
        Self::JetStream(place)
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

    #[test]
    fn without_the_feature_an_object_store_is_refused() {
        let features = [("s3", cfg!(feature = "s3")), ("jetstream", cfg!(feature = "jetstream"))];
        for ((feature, has), text) in
            features.into_iter().zip(["s3://bucket/prefix", "nats://prod/bucket/prefix"])
        {
            match text.parse::<Place>() {
                Ok(place) => assert!(has, "{place}"),
                Err(message) => {
                    assert!(
                        !has && message.contains(&format!("without the feature `{feature}`")),
                        "{message}"
                    );
                }
            }
        }
    }

    #[cfg(feature = "jetstream")]
    #[test]
    fn a_place_in_jetstream_names_its_connection() {
        for (text, shown) in [
            ("nats://prod/bucket", "nats://prod/bucket"),
            ("nats://prod/Bucket_1/", "nats://prod/Bucket_1"),
            ("nats://10.0.0.1:4222/bucket-1/a/b_c=d/", "nats://10.0.0.1:4222/bucket-1/a/b_c=d"),
        ] {
            let place = text.parse::<Place>().unwrap();
            assert_eq!(place.to_string(), shown);
            assert_eq!(shown.parse(), Ok(place));
        }
        for bad in [
            "nats://",
            "nats://prod",
            "nats:///bucket",
            "nats://prod/",
            "nats://prod/a.b",
            "nats://prod/bucket/a//b",
            "nats://prod/bucket/..",
            "nats://user:word@prod/bucket",
        ] {
            let message = bad.parse::<Place>().unwrap_err();
            assert!(message.contains("expected nats://connection/bucket/prefix"), "{bad}: {message}");
        }
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
