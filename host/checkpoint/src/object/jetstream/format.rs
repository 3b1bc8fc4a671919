//! How a bucket keeps objects: the format of ADR-20, which the tool `nats` and the clients read too. An object's content is
//! in messages on a subject of its own, in order; its metadata, in JSON, is the only message on a subject made of its
//! name. That message is what makes it an object.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::runs::chance;

/// What the name of an object's content may be made of, whoever has chosen it: a wildcard would be everybody's.
fn is_token(nuid: &str) -> bool {
    (1..=255).contains(&nuid.len())
        && nuid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// An object's metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) bucket: String,
    /// The name of its content.
    #[serde(default)]
    pub(super) nuid: String,
    /// How many bytes it has.
    #[serde(default)]
    pub(super) size: u64,
    /// In how many messages.
    #[serde(default)]
    pub(super) chunks: u64,
    /// When it was written: never, as the client in Go writes it. The message knows that better.
    #[serde(default)]
    mtime: String,
    /// `SHA-256=` and the digest in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    /// It is there no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) deleted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_chunk_size: Option<usize>,
}

impl Info {
    /// The metadata of an object whose content was written.
    pub(super) fn new(name: &str, bucket: &str, nuid: &str, content: Content) -> Self {
        let digest = format!("SHA-256={}", URL_SAFE.encode(content.hasher.finalize()));
        Self {
            name: name.to_owned(),
            bucket: bucket.to_owned(),
            nuid: nuid.to_owned(),
            size: content.size,
            chunks: content.chunks,
            mtime: "0001-01-01T00:00:00Z".to_owned(),
            digest: Some(digest),
            options: Some(Options { max_chunk_size: Some(content.chunk_bytes) }),
            deleted: false,
        }
    }

    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    pub(super) fn decode(message: &[u8]) -> Result<Self, String> {
        let info: Self = serde_json::from_slice(message).map_err(|e| e.to_string())?;
        match (info.chunks, info.deleted) {
            (0, _) | (_, true) => Ok(Self { chunks: 0, ..info }),
            _ if is_token(&info.nuid) => Ok(info),
            _ => Err("its `nuid` is no name of a content".to_owned()),
        }
    }
}

/// What is known of a content.
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) chunks: u64,
    /// How many bytes a chunk has at most.
    pub(super) chunk_bytes: usize,
    pub(super) hasher: Sha256,
}

/// The subjects of a bucket, as one pipeline uses it.
#[derive(Debug)]
pub(super) struct Subjects {
    bucket: String,
    /// What the names of this pipeline's contents begin with, so that nobody else clears them away.
    mark: String,
}

impl Subjects {
    pub(super) fn new(bucket: &str, prefix: &str) -> Self {
        let digest = Sha256::digest(prefix);
        let mark = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { bucket: bucket.to_owned(), mark }
    }

    /// The bucket's stream.
    pub(super) fn stream(&self) -> String {
        format!("OBJ_{}", self.bucket)
    }

    /// A name for a content that nobody has used.
    pub(super) fn nuid(&self) -> String {
        format!("{}{:016x}{:016x}", self.mark, chance(), chance())
    }

    /// Where the chunks of a content are.
    pub(super) fn chunks(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    /// Where an object's metadata is.
    pub(super) fn meta(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, URL_SAFE.encode(name))
    }

    /// All chunks.
    pub(super) fn all_chunks(&self) -> String {
        format!("$O.{}.C.>", self.bucket)
    }

    /// All metadata.
    pub(super) fn all_meta(&self) -> String {
        format!("$O.{}.M.>", self.bucket)
    }

    /// The object whose metadata has this subject.
    pub(super) fn name(&self, subject: &str) -> Option<String> {
        let encoded = subject.strip_prefix(self.all_meta().trim_end_matches('>'))?;
        String::from_utf8(URL_SAFE.decode(encoded).ok()?).ok()
    }

    /// The content whose chunks have this subject, if it is one of this pipeline's.
    pub(super) fn own(&self, subject: &str) -> Option<String> {
        let nuid = subject.strip_prefix(self.all_chunks().trim_end_matches('>'))?;
        (nuid.starts_with(&self.mark) && is_token(nuid)).then(|| nuid.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_other_clients() {
        let subjects = Subjects::new("b", "a");
        // What `nats object put b x/y?` writes to.
        assert_eq!(subjects.meta("x/y?"), "$O.b.M.eC95Pw==");
        assert_eq!(subjects.name("$O.b.M.eC95Pw==").as_deref(), Some("x/y?"));
        for other in ["$O.c.M.eC95Pw==", "$O.b.M.!", "$O.b.C.eC95Pw==", ""] {
            assert_eq!(subjects.name(other), None, "{other}");
        }
        let nuid = subjects.nuid();
        assert_eq!(subjects.own(&subjects.chunks(&nuid)), Some(nuid));
        assert_eq!(subjects.own(&subjects.chunks(&Subjects::new("b", "a/b").nuid())), None);
    }

    #[test]
    fn metadata_that_would_mean_other_objects_is_refused() {
        let decode = |nuid: &str| {
            Info::decode(
                format!(r#"{{"name":"x","bucket":"b","nuid":"{nuid}","size":1,"chunks":1}}"#).as_bytes(),
            )
        };
        assert_eq!(decode("aB3-_").unwrap().nuid, "aB3-_");
        for bad in ["", ">", "*", "a.b", "a b"] {
            assert!(decode(bad).unwrap_err().contains("nuid"), "{bad}");
        }
        assert!(Info::decode(b"{}").is_err());
        // As the client in Go writes a marker, and a client an empty object.
        let marker = br#"{"name":"x","bucket":"b","nuid":"","size":0,"mtime":"","chunks":0,"deleted":true}"#;
        assert!(Info::decode(marker).unwrap().deleted);
    }
}
