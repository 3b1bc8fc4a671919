//! Two writers of one file would destroy each other's rows, and a reader of it would read its own output.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::errors::Problems;
use super::file::Spanned;
use super::operator::Read;
use super::sink::{Sink, SinkKind};
use super::source::{Source, SourceKind};

/// Reports every path that is written twice, or written and read.
pub(super) fn check(
    problems: &Problems,
    dead_letters: &Option<Spanned<PathBuf>>,
    late: &Option<Spanned<PathBuf>>,
    sources: &[Option<Source>],
    sinks: &[Read<Sink>],
) {
    let mut users = BTreeMap::new();
    for source in sources.iter().flatten() {
        if let SourceKind::Files { paths, .. } = &source.kind {
            // Among the patterns only plain paths can be compared: which files match the others isn't known yet.
            for path in paths.iter().filter(|path| !path.contains(['*', '?', '['])) {
                users.insert(
                    normal(Path::new(path.as_str())),
                    format!("read by the source `{}`", source.id.value),
                );
            }
        }
    }
    let own = [("dead letters", dead_letters), ("late rows", late)];
    let own = own.into_iter().filter_map(|(what, path)| Some((format!("the {what}"), path.as_ref()?)));
    let theirs = sinks.iter().filter_map(|(_, sink)| match sink.as_ref()? {
        Sink { id, kind: SinkKind::Files { path }, .. } => Some((format!("the sink `{}`", id.value), path)),
        Sink { kind: SinkKind::Stdout, .. } => None,
    });
    for (writer, path) in own.chain(theirs) {
        match users.get(&normal(path)) {
            Some(user) => {
                let message =
                    format!("\"{}\" is {user} already; {writer} must go to another file", path.display());
                problems.report(path, message);
            }
            None => _ = users.insert(normal(path), format!("written by {writer}")),
        }
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
