//! Two writers of one file would destroy each other's rows, and a reader of it would read its own output. Folders
//! with files of the host's own, as those of checkpoints and logs, are nobody else's.

use std::path::{Component, Path, PathBuf};

use super::checkpoints::Checkpoints;
use super::errors::Problems;
use super::file::Spanned;
use super::operator::Read;
use super::sink::{Sink, SinkKind};
use super::source::{Source, SourceKind};
use crate::pipeline::numbered::{DIGITS, halves, numbered};

/// The working copy of the state stands here, within the folder of the checkpoints, unless the file says otherwise.
pub(super) const WORK_FOLDER: &str = "work";

/// The folders that the pipeline as a whole uses.
pub(super) struct Folders<'a> {
    pub(super) checkpoints: Option<&'a Checkpoints>,
    pub(super) state: Option<&'a Spanned<PathBuf>>,
}

/// Reports every path that is written twice, or written and read.
pub(super) fn check(
    problems: &Problems,
    folders: Folders<'_>,
    own: [&Option<Spanned<PathBuf>>; 2],
    sources: &[Option<Source>],
    sinks: &[Read<Sink>],
) {
    let mut users = Users { problems, readers: Vec::new(), globs: Vec::new(), writers: Vec::new() };
    sources.iter().flatten().for_each(|source| users.read(source));
    if let Some(checkpoints) = folders.checkpoints {
        match checkpoints.path.value.folder() {
            Some(folder) => {
                let path = Spanned::new(folder.to_owned(), checkpoints.path.span);
                users.write(&path, Place::folder(&path), "the checkpoints", "folder");
            }
            None if folders.state.is_none() => {
                let path = Spanned::new(checkpoints.work.clone(), checkpoints.path.span);
                users.write(&path, Place::folder(&path), "the state", "folder");
            }
            None => {}
        }
    }
    let usual = folders.checkpoints.filter(|c| c.path.value.folder().is_some()).map(|c| normal(&c.work));
    if let Some(path) = folders.state.filter(|path| Some(normal(path)) != usual) {
        users.write(path, Place::folder(path), "the state", "folder");
    }
    for (path, who) in own.into_iter().zip(["the dead letters", "the late rows"]) {
        if let Some(path) = path {
            users.write(path, Place::file(path), who, "file");
        }
    }
    for Sink { id, kind, .. } in sinks.iter().filter_map(|(_, sink)| sink.as_ref()) {
        let who = format!("the sink `{}`", id.value);
        match kind {
            SinkKind::Files { path } => {
                users.check_globs(path, &who);
                users.write(path, Place::file(path), &who, "file");
            }
            SinkKind::Log { path, .. } => users.write(path, Place::folder(path), &who, "log"),
            SinkKind::Stdout | SinkKind::Memory | SinkKind::JetStream { .. } => {}
        }
    }
}

/// Who uses what. They are compared one by one, in time that grows with the square; a file's size bounds that.
struct Users<'a> {
    problems: &'a Problems,
    readers: Vec<(Place, String)>,
    /// The patterns that sources read by.
    globs: Vec<(glob::Pattern, String)>,
    writers: Vec<(Place, String)>,
}

impl Users<'_> {
    fn read(&mut self, source: &Source) {
        let user = format!("read by the source `{}`", source.id.value);
        match &source.kind {
            SourceKind::Files { paths, .. } => {
                for path in paths {
                    if !path.contains(['*', '?', '[']) {
                        self.readers.push((Place::plain(Path::new(path.as_str())), user.clone()));
                    } else if let Some(text) = normal(Path::new(path.as_str())).to_str()
                        && let Ok(pattern) = glob::Pattern::new(text)
                    {
                        self.globs.push((pattern, user.clone()));
                    }
                }
            }
            SourceKind::Log { path, .. } => self.readers.push((Place::folder(path), user)),
            SourceKind::Stdin { .. }
            | SourceKind::Nexmark(_)
            | SourceKind::JetStream { .. }
            | SourceKind::Told { .. } => {}
        }
    }

    /// Reports it if somebody uses the place already, and remembers it.
    fn write(&mut self, path: &Spanned<PathBuf>, place: Place, who: &str, kind: &str) {
        let mut users = self.readers.iter().chain(&self.writers);
        let conflict = users.find_map(|(other, user)| Some((place.meets(other)?, user)));
        match conflict {
            None => self.writers.push((place, format!("written by {who}"))),
            Some((meeting, user)) => {
                let shown = path.display();
                self.problems.report(
                    path,
                    match meeting {
                        Meeting::Same => {
                            format!("\"{shown}\" is {user} already; {who} must go to another {kind}")
                        }
                        Meeting::Within => {
                            format!("\"{shown}\" is within a folder that is {user}; {who} must go elsewhere")
                        }
                        Meeting::Around => {
                            format!("\"{shown}\" has within it what is {user}; {who} must go elsewhere")
                        }
                    },
                );
            }
        }
    }

    /// Reports a file for each checkpoint that a source would read when the pipeline begins again. Of plain paths it
    /// is found out when the files are there: a source may well begin where an earlier run has ended.
    fn check_globs(&self, path: &Spanned<PathBuf>, who: &str) {
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        let first = normal(&numbered(path, 1));
        let mut users = self.globs.iter().filter(|_| halves(path).is_some());
        if let Some((_, user)) = users.find(|(glob, _)| glob.matches_path_with(&first, options)) {
            let shown = path.display();
            let message = format!("\"{shown}\" makes files that are {user}; {who} must go to another folder");
            self.problems.report(path, message);
        }
    }
}

/// What is read or written.
enum Place {
    /// A file. `None` in its name is a digit of a checkpoint's number.
    File { path: PathBuf, name: Vec<Option<char>> },
    /// A folder with all that is in it.
    Folder { path: PathBuf },
}

/// How a place is used already.
enum Meeting {
    /// It is the other.
    Same,
    /// It is within the other, which is a folder.
    Within,
    /// It is a folder that the other is within.
    Around,
}

impl Place {
    /// A file, or where its name has a `*` the files of all checkpoints.
    fn file(path: &Path) -> Self {
        let Some((before, after)) = halves(path) else { return Self::plain(path) };
        let name = before.chars().map(Some).chain([None; DIGITS]).chain(after.chars().map(Some));
        Self::File { path: normal(path), name: name.collect() }
    }

    /// A file whose name is meant as it stands.
    fn plain(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::File { path: normal(path), name: name.chars().map(Some).collect() }
    }

    fn folder(path: &Path) -> Self {
        Self::Folder { path: normal(path) }
    }

    fn path(&self) -> &Path {
        let (Self::File { path, .. } | Self::Folder { path }) = self;
        path
    }

    fn meets(&self, other: &Self) -> Option<Meeting> {
        let (path, other_path) = (self.path(), other.path());
        match (self, other) {
            (Self::File { name, .. }, Self::File { name: other, .. }) => {
                let can_be_equal = name.len() == other.len() && name.iter().zip(other).all(can_be_equal);
                (can_be_equal && path.parent() == other_path.parent()).then_some(Meeting::Same)
            }
            (_, Self::Folder { .. }) if path == other_path => Some(Meeting::Same),
            (_, Self::Folder { .. }) if path.starts_with(other_path) => Some(Meeting::Within),
            (Self::Folder { .. }, _) if path == other_path => Some(Meeting::Same),
            (Self::Folder { .. }, _) if other_path.starts_with(path) => Some(Meeting::Around),
            _ => None,
        }
    }
}

fn can_be_equal(pair: (&Option<char>, &Option<char>)) -> bool {
    match pair {
        (Some(one), Some(other)) => one == other,
        (Some(c), None) | (None, Some(c)) => c.is_ascii_digit(),
        (None, None) => true,
    }
}

/// The path without detours, so that `out/x` and `./out/y/../x` are seen to be the same. Links are not
/// followed: this never looks at the disk.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            _ => normal.push(component),
        }
    }
    normal
}
