//! What changes beside operators, in words.

use super::words::{differing, listed, new_and_gone, quoted};
use super::{Deployed, Wanted};
use crate::pipeline::declaration::{
    Connection, Declaration, Decoding, FormatDecl, Sink, SinkKind, Source, SourceKind,
};
use crate::pipeline::plan::Plan;

/// What there is of a pipeline that is new.
pub(super) fn made(after: &Declaration) -> Vec<String> {
    let sources: Vec<&str> = after.sources.iter().map(|s| s.id.value.as_str()).collect();
    let sinks: Vec<&str> = after.sinks.iter().map(|s| s.id.value.as_str()).collect();
    vec![named("new", "source", &sources), named("new", "sink", &sinks)]
}

/// What is new, gone or another.
pub(super) fn changes(before: &Deployed<'_>, after: &Wanted<'_>) -> Vec<String> {
    let (b, a) = (before.declaration, after.declaration);
    let mut changes = whole(before, after);
    let of = |connection: &Connection| connection.id.value.clone();
    changes.extend(listed_changes("connection", &b.connections, &a.connections, of, |b, a| {
        if b == a { Vec::new() } else { vec!["how it is reached"] }
    }));
    let source = |before: &Source, after: &Source| source_parts((before, b), (after, a));
    changes.extend(listed_changes("source", &b.sources, &a.sources, |s| s.id.value.clone(), source));
    let sink = |before: &Sink, after: &Sink| sink_parts((before, b), (after, a));
    changes.extend(listed_changes("sink", &b.sinks, &a.sinks, |s| s.id.value.clone(), sink));
    changes
}

/// Why a restart is a beginning, if it is one: what the pipeline knows stands in checkpoints or nowhere.
pub(super) fn begins_anew(before: &Plan, after: &Plan) -> Option<&'static str> {
    let place = |plan: &Plan| plan.checkpoints.as_ref().map(|c| c.path.clone());
    match (place(before), place(after)) {
        (None, _) => Some("it begins again at the first row, as it has had no checkpoints"),
        (Some(_), None) => Some("it begins again at the first row, as it has checkpoints no longer"),
        (Some(b), Some(a)) if b != a => {
            Some("it begins again at the first row, as its checkpoints are elsewhere")
        }
        _ => None,
    }
}

fn whole(before: &Deployed<'_>, after: &Wanted<'_>) -> Vec<String> {
    let mut changes = Vec::new();
    let (b, a) = (before.plan, after.plan);
    if b.base != a.base {
        changes.push(format!("the folder {} becomes {}", b.base.display(), a.base.display()));
    }
    for (what, b, a) in [("dead letters", &b.dead_letters, &a.dead_letters), ("late rows", &b.late, &a.late)]
    {
        if b != a {
            changes.push(format!("{what} go to {} instead of {}", a.display(), b.display()));
        }
    }
    match (&b.checkpoints, &a.checkpoints) {
        (None, Some(to)) => changes.push(format!("there are checkpoints, in {}", to.path)),
        (Some(_), None) => changes.push("there are no checkpoints any more".to_owned()),
        (Some(b), Some(a)) => changed(
            &mut changes,
            "checkpoints",
            &[
                ("path", b.path != a.path),
                ("work", b.work != a.work),
                ("interval", b.interval_ms != a.interval_ms),
                ("min_pause", b.min_pause_ms != a.min_pause_ms),
                ("timeout", b.timeout_ms != a.timeout_ms),
                ("unaligned_after", b.unaligned_after_ms != a.unaligned_after_ms),
                ("tolerated_failures", b.tolerated_failures != a.tolerated_failures),
                ("retain", b.retain != a.retain),
            ],
        ),
        (None, None) => {}
    }
    changed(
        &mut changes,
        "state",
        &[
            ("backend", b.state.backend != a.state.backend),
            ("memory", b.state.memory_bytes != a.state.memory_bytes),
            ("path", b.state.path != a.state.path),
        ],
    );
    if b.restart != a.restart {
        changes.push("[restart] is another".to_owned());
    }
    changes
}

fn changed(changes: &mut Vec<String>, section: &str, parts: &[(&'static str, bool)]) {
    let parts = differing(parts);
    if !parts.is_empty() {
        changes.push(format!("[{section}] has another {}", quoted(&parts)));
    }
}

fn named(how: &str, what: &str, ids: &[&str]) -> String {
    format!("{how} {what}{} {}", if ids.len() == 1 { "" } else { "s" }, quoted(ids))
}

/// What of a section's things is new, gone or another.
fn listed_changes<T>(
    what: &str,
    before: &[T],
    after: &[T],
    id: impl Fn(&T) -> String,
    parts: impl Fn(&T, &T) -> Vec<&'static str>,
) -> Vec<String> {
    let ids = |things: &[T]| -> Vec<String> { things.iter().map(&id).collect() };
    let (old_ids, new_ids) = (ids(before), ids(after));
    let (new, gone) = new_and_gone(old_ids.iter().map(String::as_str), new_ids.iter().map(String::as_str));
    let mut changes = Vec::new();
    for (how, ids) in [("new", &new), ("no longer the", &gone)] {
        if !ids.is_empty() {
            changes.push(named(how, what, ids));
        }
    }
    for a in after {
        let Some(b) = before.iter().find(|b| id(b) == id(a)) else { continue };
        let parts = parts(b, a);
        if !parts.is_empty() {
            changes.push(format!("the {what} `{}` changes: {}", id(a), listed(&parts)));
        }
    }
    changes
}

type Of<'a, T> = (&'a T, &'a Declaration);

fn source_parts((before, b): Of<'_, Source>, (after, a): Of<'_, Source>) -> Vec<&'static str> {
    let connection = |kind: &SourceKind, of: &Declaration| match kind {
        SourceKind::JetStream { connection, .. } => Some(of.connections[*connection].id.value.clone()),
        _ => None,
    };
    // What is compared by itself is taken out of the rest.
    let rest = |kind: &SourceKind| {
        let mut kind = kind.clone();
        match &mut kind {
            SourceKind::JetStream { connection, decoding, .. } => {
                *connection = 0;
                *decoding = plain();
            }
            SourceKind::Files { decoding, .. }
            | SourceKind::Stdin { decoding }
            | SourceKind::Log { decoding, .. }
            | SourceKind::Told { decoding, .. } => *decoding = plain(),
            SourceKind::Nexmark(_) => {}
        }
        kind
    };
    let decoding = |differs: fn(&Decoding, &Decoding) -> bool| {
        let pair = before.kind.decoding().zip(after.kind.decoding());
        pair.is_some_and(|(b, a)| differs(b, a))
    };
    differing(&[
        ("its connection", connection(&before.kind, b) != connection(&after.kind, a)),
        ("what it reads, or from where", rest(&before.kind) != rest(&after.kind)),
        ("format", decoding(|b, a| b.format != a.format)),
        ("event_time", decoding(|b, a| b.event_time != a.event_time)),
        ("fields", decoding(|b, a| (&b.fields, &b.metadata) != (&a.fields, &a.metadata))),
        ("idle_after", before.idle_after_ms != after.idle_after_ms),
        ("align", before.align != after.align),
    ])
}

/// The same for all.
fn plain() -> Decoding {
    Decoding { format: FormatDecl::Text, event_time: None, fields: Vec::new(), metadata: Vec::new() }
}

fn sink_parts((before, b): Of<'_, Sink>, (after, a): Of<'_, Sink>) -> Vec<&'static str> {
    let connection = |kind: &SinkKind, of: &Declaration| match kind {
        SinkKind::JetStream { connection, .. } => Some(of.connections[*connection].id.value.clone()),
        _ => None,
    };
    let rest = |kind: &SinkKind| {
        let mut kind = kind.clone();
        if let SinkKind::JetStream { connection, .. } = &mut kind {
            *connection = 0;
        }
        kind
    };
    let input = |sink: &Sink, of: &Declaration| of.upstream_name(sink.input.value);
    differing(&[
        ("its input", input(before, b) != input(after, a)),
        ("its connection", connection(&before.kind, b) != connection(&after.kind, a)),
        ("what it writes to", rest(&before.kind) != rest(&after.kind)),
        ("delivery", before.delivery != after.delivery),
        ("format", (&before.format, before.timestamps) != (&after.format, after.timestamps)),
        ("fields", before.fields != after.fields),
    ])
}
