//! Somebody who reads the files of each checkpoint, as soon as they appear.

use std::collections::BTreeMap;

use crate::{Folder, sorted};

/// What has appeared in a folder so far. A file that has appeared stays as it is, whatever happens.
#[derive(Clone, Debug)]
pub struct Consumer {
    folder: &'static str,
    seen: BTreeMap<String, String>,
}

impl Consumer {
    /// Nobody has seen anything yet.
    pub fn new(folder: &'static str) -> Self {
        Self { folder, seen: BTreeMap::new() }
    }

    /// Looks for new files.
    ///
    /// # Panics
    /// When one that was there is gone or changed, or one has a torn last line.
    #[track_caller]
    pub fn look(&mut self, in_folder: &Folder) {
        let appeared: Vec<String> =
            in_folder.files(self.folder).into_iter().filter(|name| !name.starts_with('.')).collect();
        for name in self.seen.keys() {
            assert!(appeared.contains(name), "{name} had appeared, and is gone");
        }
        for name in appeared {
            let text = in_folder.read(&format!("{}/{name}", self.folder));
            assert!(text.ends_with('\n'), "{name} has a torn last line, or none: {text:?}");
            if let Some(before) = self.seen.get(&name) {
                assert!(*before == text, "{name} has changed since it appeared");
            }
            self.seen.insert(name, text);
        }
    }

    /// What has appeared, by the name of the file.
    pub fn seen(&self) -> &BTreeMap<String, String> {
        &self.seen
    }

    /// All rows that have appeared, each behind the name of its sink, sorted, with those that occur twice.
    pub fn rows(&self) -> Vec<String> {
        let of_file = |(name, text): (&String, &String)| -> Vec<String> {
            let (sink, _) = name.rsplit_once('-').expect("a checkpoint's number follows `-`");
            text.lines().map(|line| format!("{sink} {line}")).collect()
        };
        let rows: Vec<String> = self.seen.iter().flat_map(of_file).collect();
        sorted(rows.iter().map(String::as_str))
    }
}
