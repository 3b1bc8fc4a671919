//! A manifest in a store: its written form, its two copies, and what is believed of them.

use serde::Deserialize;

use crate::contents::{Contents, Name};
use crate::error::Error;
use crate::manifest::{FORMAT_IN_FLIGHT, Manifest};
use crate::names::shown;
use crate::sealed::{seal, unseal};

/// Enough for the names of 400,000 files.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The two copies of a manifest, as one.
pub(crate) enum Copies {
    Missing,
    Good {
        manifest: Box<Manifest>,
        sealed: Vec<u8>,
        /// What is wrong with the other copy.
        warning: Option<String>,
        /// Where the other copy belongs.
        heal: Option<String>,
    },
    Broken(Error),
}

impl Contents {
    pub(crate) fn read_copies(&self, name: &Name) -> Result<Copies, Error> {
        let [first, second] = name.paths();
        let read = |path: &str| match self.backing.read(path, MANIFEST_BYTES_MAX) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => self.decode(path, name, &bytes).map(|manifest| Some((manifest, bytes))),
            Err(error) => Err(error),
        };
        let mut copies = [read(&first), read(&second)];
        // A service that doesn't answer says nothing about what it keeps.
        if self.backing.local(&first).is_none()
            && let Some(silent) = copies.iter_mut().find(|copy| matches!(copy, Err(Error::Io { .. })))
        {
            std::mem::replace(silent, Ok(None))?;
        }
        let [one, other] = copies;
        Ok(match (one, other) {
            (Ok(None), Ok(None)) => Copies::Missing,
            (Ok(Some((manifest, one))), Ok(Some((_, other)))) if one == other => {
                Copies::Good { manifest: Box::new(manifest), sealed: one, warning: None, heal: None }
            }
            (Ok(Some(_)), Ok(Some(_))) => Copies::Broken(Error::Broken {
                file: format!("{} and {}", self.shown(&first), self.shown(&second)),
                why: "each is whole, but they differ".to_owned(),
            }),
            (Ok(Some(good)), other) => self.one_copy(good, second, other.err()),
            (other, Ok(Some(good))) => self.one_copy(good, first, other.err()),
            (Err(error), Ok(None)) | (Ok(None), Err(error)) => Copies::Broken(error),
            (Err(newer @ Error::NewerFormat { .. }), Err(_)) => Copies::Broken(newer),
            (Err(one), Err(other)) => Copies::Broken(Error::Broken {
                file: format!("{} and its copy {}", self.shown(&first), self.shown(&second)),
                why: format!("{}; of the copy: {}", reason(&one), reason(&other)),
            }),
        })
    }

    fn one_copy(&self, good: (Manifest, Vec<u8>), bad: String, error: Option<Error>) -> Copies {
        let what = error.map_or_else(|| "it is missing".to_owned(), |error| reason(&error));
        let warning = format!("one of two copies, {}, is of no use: {what}", self.shown(&bad));
        Copies::Good { manifest: Box::new(good.0), sealed: good.1, warning: Some(warning), heal: Some(bad) }
    }

    fn decode(&self, path: &str, name: &Name, bytes: &[u8]) -> Result<Manifest, Error> {
        let broken = |why: String| Error::Broken { file: self.shown(path), why };
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(broken(format!("it is larger than {MANIFEST_BYTES_MAX} bytes")));
        }
        let text = unseal(bytes).map_err(broken)?;
        let Probe { format } = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
        if format > u64::from(FORMAT_IN_FLIGHT) {
            return Err(Error::NewerFormat {
                file: self.shown(path),
                found: format,
                known: FORMAT_IN_FLIGHT,
            });
        }
        let manifest: Manifest = serde_json::from_str(text).map_err(|e| broken(e.to_string()))?;
        manifest.check().map_err(broken)?;
        let its = match name {
            Name::Checkpoint(_) => manifest.savepoint.is_none().then(|| Name::Checkpoint(manifest.name())),
            Name::Savepoint(_) => manifest.savepoint.clone().map(Name::Savepoint),
        };
        if its.as_ref() != Some(name) {
            return Err(broken(format!("it has the content of {}", manifest.name())));
        }
        if manifest.pipeline != self.pipeline {
            return Err(broken(format!(
                "it is of pipeline `{}`, and the store is that of `{}`",
                shown(&manifest.pipeline),
                self.pipeline
            )));
        }
        Ok(manifest)
    }
}

/// All that is read of a manifest before its format is known.
#[derive(Deserialize)]
struct Probe {
    format: u64,
}

/// A manifest as it is written. What couldn't be read again isn't written.
pub(crate) fn encode(manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let name = manifest.name();
    manifest.check().map_err(|why| Error::Invalid(format!("the manifest of {name} is wrong: {why}")))?;
    let text = serde_json::to_string_pretty(manifest);
    let sealed =
        seal(text.map_err(|e| Error::Invalid(format!("the manifest of {name} can't be written: {e}")))?);
    if sealed.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "the manifest of {name} is larger than {MANIFEST_BYTES_MAX} bytes: its state has {} files",
            manifest.state.files.len()
        )));
    }
    Ok(sealed)
}

/// What is wrong, where the file was named already.
fn reason(error: &Error) -> String {
    match error {
        Error::Broken { why, .. } => why.clone(),
        other => other.to_string(),
    }
}
