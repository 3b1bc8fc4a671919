//! Components: listed, uploaded, and found for operators.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use tidemill::plugin::COMPONENT_BYTES_MAX;
use tidemill::service::model::ComponentInfo;

use super::client::{Client, typed};
use super::{HostArgs, ago, cell, client, print_json, print_text, short, whoami};
use crate::cli::data::DataFolder;
use crate::cli::exit::Exit;
use crate::cli::tell;
use crate::cli::text::{lay_out, size};

/// The arguments of `tidemill upload`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UploadArgs {
    /// The component, a .wasm file
    file: PathBuf,
    /// Who asks, for the history; default: the user and this machine
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

pub(super) async fn list(args: &HostArgs, data: &DataFolder) -> Result<(), Exit> {
    let answer = client(args, data)?.get(&["components"], &[]).await?;
    if args.json {
        return print_json(&answer);
    }
    print_text(&as_text(&typed::<Vec<ComponentInfo>>(&answer)?))
}

pub(super) async fn upload(args: &UploadArgs, data: &DataFolder) -> Result<(), Exit> {
    let client = client(&args.host, data)?;
    let bytes = read(&args.file)?;
    let by = args.by.clone().unwrap_or_else(whoami);
    let answer = send(&client, &args.file, bytes, &by).await?;
    if args.host.json {
        return print_json(&answer);
    }
    let ComponentInfo { digest, world, name, version, .. } = typed(&answer)?;
    print_text(&format!("{name} {version}, {world}: {digest}\n"))
}

/// The host's store, as far as a command needs it: it uploads what isn't there.
pub(super) struct Uploads<'a> {
    client: &'a Client,
    by: &'a str,
    known: BTreeSet<String>,
    /// What was read already.
    digests: BTreeMap<PathBuf, String>,
}

impl<'a> Uploads<'a> {
    pub(super) async fn new(client: &'a Client, by: &'a str) -> Result<Self, Exit> {
        let components: Vec<ComponentInfo> = typed(&client.get(&["components"], &[]).await?)?;
        let known = components.into_iter().map(|component| component.digest).collect();
        Ok(Self { client, by, known, digests: BTreeMap::new() })
    }

    /// The digest of a file's component, which is in the store now.
    pub(super) async fn file(&mut self, path: &Path) -> Result<String, Exit> {
        if let Some(digest) = self.digests.get(path) {
            return Ok(digest.clone());
        }
        let bytes = read(path)?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if !self.known.contains(&digest) {
            tell(&format!("uploading {} ({})\n", path.display(), size(bytes.len() as u64)));
            send(self.client, path, bytes, self.by).await?;
            self.known.insert(digest.clone());
        }
        self.digests.insert(path.to_owned(), digest.clone());
        Ok(digest)
    }

    /// The digests of components that are files, or named by their digests.
    pub(super) async fn all(&mut self, of: &[OperatorComponent]) -> Result<BTreeMap<String, String>, Exit> {
        let mut digests = BTreeMap::new();
        for OperatorComponent { operator, component } in of {
            let digest = match as_digest(component) {
                Some(digest) => digest.to_owned(),
                None => self.file(Path::new(component)).await?,
            };
            if digests.insert(operator.clone(), digest).is_some() {
                return Err(Exit::usage(format!("there are two components for the operator `{operator}`")));
            }
        }
        Ok(digests)
    }
}

/// An operator and the component that it shall have, as people type it: `count=count.wasm`, or with a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OperatorComponent {
    operator: String,
    component: String,
}

impl std::str::FromStr for OperatorComponent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((operator, component)) if !component.is_empty() => {
                Ok(Self { operator: super::name(operator)?, component: component.to_owned() })
            }
            _ => Err("write OPERATOR=COMPONENT, a .wasm file or the digest of one in the store".to_owned()),
        }
    }
}

fn as_digest(component: &str) -> Option<&str> {
    let digest = component.strip_prefix("sha256:").unwrap_or(component);
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (digest.len() == 64 && digest.bytes().all(hex)).then_some(digest)
}

fn read(path: &Path) -> Result<Vec<u8>, Exit> {
    let path_shown = path.display();
    let bytes = crate::cli::read(path, COMPONENT_BYTES_MAX);
    let bytes = bytes.map_err(|e| Exit::usage(format!("cannot read the component {path_shown}: {e}")))?;
    if bytes.len() > COMPONENT_BYTES_MAX {
        let limit = COMPONENT_BYTES_MAX >> 20;
        return Err(Exit::usage(format!(
            "{path_shown} has more than {limit} MiB, which no component may have"
        )));
    }
    Ok(bytes)
}

async fn send(client: &Client, path: &Path, bytes: Vec<u8>, by: &str) -> Result<serde_json::Value, Exit> {
    let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    client.upload(&["components"], &[("file", &cell(&file)), ("by", by)], bytes).await
}

fn as_text(components: &[ComponentInfo]) -> String {
    if components.is_empty() {
        return "there are no components yet\n".to_owned();
    }
    let titles = ["digest", "name", "version", "world", "size", "uploaded", "by", "file"].map(str::to_owned);
    let row = |c: &ComponentInfo| {
        let last = c.uploads.last();
        [
            short(&c.digest).to_owned(),
            cell(&c.name),
            cell(&c.version),
            cell(&c.world),
            size(c.bytes),
            last.map_or_else(String::new, |upload| format!("{} ago", ago(upload.at_ms))),
            last.map_or_else(String::new, |upload| cell(&upload.by)),
            last.map_or_else(String::new, |upload| cell(&upload.file)),
        ]
    };
    let rows: Vec<[String; 8]> = std::iter::once(titles).chain(components.iter().map(row)).collect();
    lay_out(&rows, &[4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_a_file_or_a_digest() {
        let given: OperatorComponent = "count=a/b=c.wasm".parse().unwrap();
        assert_eq!((given.operator.as_str(), given.component.as_str()), ("count", "a/b=c.wasm"));
        for wrong in ["", "count", "count=", "=a.wasm", "../x=a.wasm"] {
            assert!(wrong.parse::<OperatorComponent>().is_err(), "{wrong}");
        }
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(as_digest(&format!("sha256:{digest}")), Some(digest.as_str()));
        assert_eq!(as_digest(&digest), Some(digest.as_str()));
        assert_eq!([as_digest(&digest[1..]), as_digest("count.wasm")], [None, None]);
    }
}
