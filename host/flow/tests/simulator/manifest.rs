//! A checkpoint as it stands on the disk: a manifest in two copies, and the files of the state that it names.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_flow::checkpoint::recovery::{Found, FoundState, Name};
use xxhash_rust::xxh3::xxh3_64;

use crate::bugs::Bug;
use crate::context::{Context, manifest_path};
use crate::disk::{Disk, Folder, Path};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) checkpoint: u64,
    pub(crate) run: u64,
    /// Of the first stage.
    pub(crate) parallelism: u32,
    /// For each source.
    pub(crate) positions: Vec<u32>,
    pub(crate) parts: Vec<String>,
    pub(crate) files: Vec<String>,
}

impl Manifest {
    pub(crate) fn name(&self) -> Name {
        Name { checkpoint: self.checkpoint, run: self.run }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut text = format!("{} {} {}\n", self.checkpoint, self.run, self.parallelism);
        for (word, list) in [("part", &self.parts), ("file", &self.files)] {
            list.iter().for_each(|name| text += &format!("{word} {name}\n"));
        }
        self.positions.iter().for_each(|position| text += &format!("position {position}\n"));
        text += &format!("sum {:016x}\n", xxh3_64(text.as_bytes()));
        text.into_bytes()
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let body = bytes.len().checked_sub("sum 0123456789abcdef\n".len())?;
        let (body, sum) = bytes.split_at(body);
        (sum == format!("sum {:016x}\n", xxh3_64(body)).as_bytes()).then(|| Self::believe(body))
    }

    /// Whatever of it can be read.
    fn believe(bytes: &[u8]) -> Self {
        let mut manifest = Self::default();
        for (at, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
            let mut words = line.split(' ');
            let number = |word: Option<&str>| word.and_then(|w| w.parse().ok()).unwrap_or_default();
            if at == 0 {
                manifest.checkpoint = number(words.next());
                manifest.run = number(words.next());
                manifest.parallelism = number(words.next()) as u32;
                continue;
            }
            match (words.next(), words.next()) {
                (Some("part"), Some(name)) => manifest.parts.push(name.to_string()),
                (Some("file"), Some(name)) => manifest.files.push(name.to_string()),
                (Some("position"), position) => manifest.positions.push(number(position) as u32),
                _ => {}
            }
        }
        manifest
    }
}

/// The ordered entries of a storage, as files named by their content.
pub(crate) fn files_of(entries: &[(Vec<u8>, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = vec![Vec::new(); 4];
    for (address, value) in entries {
        let file = &mut files[(xxh3_64(address) % 4) as usize];
        for bytes in [address, value] {
            file.push(bytes.len() as u8);
            file.extend_from_slice(bytes);
        }
    }
    files.into_iter().filter(|f| !f.is_empty()).map(|f| (format!("{:016x}", xxh3_64(&f)), f)).collect()
}

/// The entries of a file of the state.
pub(crate) fn entries_of(mut file: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut next = || -> Option<Vec<u8>> {
        let (length, rest) = file.split_first()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(*length))?;
        file = rest;
        Some(bytes.to_vec())
    };
    std::iter::from_fn(|| Some((next()?, next()?))).collect()
}

/// All manifests with what is wrong with them, and the contents of those that verify. `unreadable` can't be read today.
pub(crate) fn read_all(cx: &Context, unreadable: Option<&Path>) -> (Vec<Found>, BTreeMap<Name, Manifest>) {
    let (mut found, mut good) = (Vec::new(), BTreeMap::new());
    for (name, copy) in names(&cx.disk) {
        let state = match read(cx, name, copy, unreadable) {
            Ok(manifest) => {
                good.insert(name, manifest);
                FoundState::Verified
            }
            Err(what) => FoundState::Broken(what),
        };
        found.push(Found { checkpoint: name.checkpoint, run: name.run, state });
    }
    (found, good)
}

/// All manifests on the disk, each copy by itself.
pub(crate) fn names(disk: &Disk) -> Vec<(Name, u8)> {
    let parse = |path: &str| {
        let mut parts = path.split('-').map(|p| p.parse::<u64>().expect("written so"));
        let mut next = || parts.next().expect("three parts");
        (Name { checkpoint: next(), run: next() }, next() as u8)
    };
    disk.list(Folder::Manifests).map(parse).collect()
}

fn read(cx: &Context, name: Name, copy: u8, unreadable: Option<&Path>) -> Result<Manifest, String> {
    let get = |path: Path| {
        let bytes = cx.disk.read(&path).filter(|_| Some(&path) != unreadable);
        bytes.ok_or_else(|| format!("{path:?} can't be read"))
    };
    let bytes = get(manifest_path(name, copy))?;
    if cx.has(Bug::ManifestNotAtomic) {
        return Ok(Manifest { checkpoint: name.checkpoint, run: name.run, ..Manifest::believe(bytes) });
    }
    let manifest = Manifest::read(bytes).ok_or_else(|| format!("copy {copy} of {name:?} has a wrong sum"))?;
    for file in &manifest.files {
        if format!("{:016x}", xxh3_64(get((Folder::Files, file.clone()))?)) != *file {
            return Err(format!("file {file} has a wrong sum"));
        }
    }
    Ok(manifest)
}

/// The files that manifests on the disk name; none if a manifest can be read in no copy, for then nobody knows; unless
/// one goes on `blindly`. `unreadable` can't be read today.
pub(crate) fn files_in_use(disk: &Disk, unreadable: Option<Name>, blindly: bool) -> Option<BTreeSet<String>> {
    let mut readable = BTreeMap::<Name, Option<Manifest>>::new();
    for (name, copy) in names(disk) {
        let bytes = disk.read(&manifest_path(name, copy)).filter(|_| unreadable != Some(name));
        let manifest = bytes.and_then(Manifest::read);
        let known = readable.entry(name).or_default();
        *known = known.take().or(manifest);
    }
    let mut files = BTreeSet::new();
    for manifest in readable.into_values() {
        match manifest {
            Some(manifest) => files.extend(manifest.files),
            None if blindly => {}
            None => return None,
        }
    }
    Some(files)
}
