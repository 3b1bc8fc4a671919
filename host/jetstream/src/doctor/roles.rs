//! Whether a stream does what it is wanted for: read, written, holding checkpoints.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, State};

use super::streams::Case;
use super::subjects::{covered, overlap};
use super::{Findings, Role, bytes, duration};
use crate::publish::marker_subjects;

/// What is remembered for a duplicate window takes some 240 bytes of memory a message.
const WINDOW_LARGE: Duration = Duration::from_secs(3600);
/// So close to the oldest message, in percent of those that are kept, a position is in danger.
const POSITION_PERCENT: u64 = 10;
/// The servers' own default for the largest message: what a stream refuses below this is worth to know.
const PAYLOAD_DEFAULT: u64 = 1 << 20;

pub(super) fn examine(case: &Case<'_>, findings: &mut Findings) {
    match case.wanted.role {
        Role::Read => reading(case, findings),
        Role::CheckpointBucket => bucket(case, findings),
        Role::WriteExactlyOnce => {
            writing(case, findings);
            exactly_once(case, findings);
        }
        Role::WriteIdempotent { needed_window } => {
            writing(case, findings);
            idempotent(case, needed_window, findings);
        }
        Role::WriteAtLeastOnce => writing(case, findings),
    }
}

fn reading(case: &Case<'_>, findings: &mut Findings) {
    let Config { max_messages_per_subject, subjects, allow_direct, mirror, .. } = case.config;
    if *max_messages_per_subject > 0 {
        let advice = format!(
            "older messages of a subject are deleted among newer ones of others: what is read again may lack them; {}",
            case.edit("--max-msgs-per-subject=-1")
        );
        findings.warning(
            &case.what("of each subject"),
            format!("{max_messages_per_subject} are kept"),
            advice,
        );
    }
    if case.state.deleted_count.is_some_and(|count| count > 0) {
        let found = format!("{}", case.state.deleted_count.unwrap_or(0));
        findings.note(&case.what("messages deleted among others"), found, "they aren't read");
    }
    for wanted in &case.wanted.subjects {
        // A mirror and what is sourced from other streams have what they have.
        if mirror.is_none() && case.config.sources.is_none() && !subjects.iter().any(|s| overlap(s, wanted)) {
            let advice = format!("nothing will be read; it takes in {}", listed(subjects));
            findings.error(&case.what(&format!("subject `{wanted}`")), "not taken in", advice);
        }
    }
    if !allow_direct {
        let advice = format!("single messages are asked of its leader only; {}", case.edit("--allow-direct"));
        findings.note(&case.what("direct reads"), "not allowed", advice);
    }
    position(case, findings);
}

/// Whether what a checkpoint wants to read next is there.
fn position(case: &Case<'_>, findings: &mut Findings) {
    let Some(position) = case.wanted.position else { return };
    let State { first_sequence: first, last_sequence: last, messages, .. } = *case.state;
    let what = case.what("position");
    let found = format!("{position}, of {first} to {last}");
    // Where nothing was deleted yet, the beginning is no dangerous place.
    let deletes = case.is_limited() && first > 1;
    if position > last.saturating_add(1) {
        let advice = "the stream was made anew or rolled back since: start from its beginning, or from a checkpoint of it";
        findings.error(&what, found, advice);
    } else if position < first {
        let advice =
            "what was to be read next is deleted: start from the beginning, and let the stream keep more";
        findings.error(&what, found, advice);
    } else if deletes && (position - first).saturating_mul(100) < messages.saturating_mul(POSITION_PERCENT) {
        let advice = "it is among the oldest messages, and deleted soon if the stream is at its limits: let it keep more";
        findings.warning(&what, found, advice);
    } else {
        findings.ok(&what, found);
    }
}

fn writable(case: &Case<'_>, findings: &mut Findings) {
    let Config { mirror, sealed, no_ack, .. } = case.config;
    if mirror.is_some() {
        let advice = "nothing can be written to a mirror: name the stream that it mirrors, or another";
        findings.error(&case.what("mirror"), "of another stream", advice);
    }
    if *sealed {
        findings.error(&case.what("sealed"), "yes", "nothing can be written to it ever again: name another");
    }
    if *no_ack {
        let advice = format!("nobody is told whether a row is stored: {}", case.edit("--ack"));
        findings.error(&case.what("acknowledgements"), "none", advice);
    }
}

fn writing(case: &Case<'_>, findings: &mut Findings) {
    writable(case, findings);
    let Config { subjects, max_message_size, .. } = case.config;
    for wanted in &case.wanted.subjects {
        let what = case.what(&format!("subject `{wanted}`"));
        if covered(wanted, subjects) {
            findings.ok(&what, "taken in");
        } else {
            let advice = format!("nobody stores what is written there: {}", with_subject(case, wanted));
            findings.error(&what, format!("not taken in; only {}", listed(subjects)), advice);
        }
    }
    let server = u64::try_from(case.servers.max_payload).unwrap_or(u64::MAX).min(PAYLOAD_DEFAULT);
    if let Ok(max @ 1..) = u64::try_from(*max_message_size)
        && max < server
    {
        let advice = format!("a row that is larger is refused: {}", case.edit("--max-msg-size=1MB"));
        findings.note(&case.what("largest message"), bytes(max), advice);
    }
}

fn exactly_once(case: &Case<'_>, findings: &mut Findings) {
    let Config { allow_atomic_publish, subjects, max_age, subject_transform, .. } = case.config;
    let what = case.what("atomic batches");
    if *allow_atomic_publish {
        findings.ok(&what, "allowed");
    } else {
        let advice = format!(
            "rows and the marker of what was written can't be stored together: {}",
            case.edit("--allow-batch")
        );
        findings.error(&what, "not allowed", advice);
    }
    let marker = marker_subjects(case.name);
    let what = case.what(&format!("markers, `{marker}`"));
    if covered(&marker, subjects) {
        findings.ok(&what, "taken in");
    } else {
        findings.error(
            &what,
            format!("not taken in; only {}", listed(subjects)),
            with_subject(case, &marker),
        );
    }
    if subject_transform.as_ref().is_some_and(|t| t.source.is_empty() || overlap(&t.source, &marker)) {
        let advice = format!(
            "markers are stored under other subjects, and not found there: {}",
            case.edit("--no-transform")
        );
        findings.error(&case.what("subjects transformed"), "also those of markers", advice);
    }
    if !max_age.is_zero() {
        let advice = "a marker is deleted too when nothing was written for so long: the pipeline then goes on only from \
                      a checkpoint that knows of it";
        findings.note(&case.what("markers' age"), format!("at most {}", duration(*max_age)), advice);
    }
}

fn idempotent(case: &Case<'_>, needed: Duration, findings: &mut Findings) {
    let (what, window) = (case.what("duplicate window"), case.config.duplicate_window);
    let found = duration(window);
    if window < needed {
        let advice = format!(
            "a row that is written again {} later isn't known any more, and is there twice: {}",
            duration(needed),
            case.edit(&format!("--dupe-window={}s", needed.as_secs().max(1)))
        );
        findings.error(&what, found, advice);
    } else if window > WINDOW_LARGE {
        let advice = "the servers keep some 240 bytes in memory for each message of that time";
        findings.note(&what, found, advice);
    } else {
        findings.ok(&what, found);
    }
    if case.config.max_messages_per_subject > 0 {
        let advice = format!(
            "identifiers of messages that were deleted for newer ones are forgotten when a server restarts: {}",
            case.edit("--max-msgs-per-subject=-1")
        );
        findings.warning(
            &case.what("of each subject"),
            format!("{} are kept", case.config.max_messages_per_subject),
            advice,
        );
    }
}

fn bucket(case: &Case<'_>, findings: &mut Findings) {
    let Config { max_age, discard, max_messages_per_subject, allow_rollup, deny_delete, deny_purge, .. } =
        case.config;
    if !max_age.is_zero() {
        let advice = format!("checkpoints that are still needed are deleted: {}", case.edit("--max-age=0"));
        findings.error(&case.what("age"), format!("at most {}", duration(*max_age)), advice);
    }
    if *discard != DiscardPolicy::New {
        let advice = format!(
            "checkpoints that are still needed are deleted when it is full: {}",
            case.edit("--discard=new")
        );
        findings.error(&case.what("discarded when full"), "what is old", advice);
    }
    if *max_messages_per_subject > 0 {
        let advice =
            format!("pieces of a checkpoint are deleted: {}", case.edit("--max-msgs-per-subject=-1"));
        findings.error(&case.what("of each subject"), format!("{max_messages_per_subject} are kept"), advice);
    }
    if !allow_rollup {
        findings.error(&case.what("replacing messages"), "not allowed", case.edit("--allow-rollup"));
    }
    if *deny_purge || *deny_delete {
        let advice = format!("old checkpoints can't be removed; {}", case.anew());
        findings.error(&case.what("deletion"), "not allowed", advice);
    }
    writable(case, findings);
}

fn with_subject(case: &Case<'_>, subject: &str) -> String {
    let all = case.config.subjects.iter().map(String::as_str).chain([subject]);
    let flags: Vec<String> = all.map(|subject| format!("--subjects='{subject}'")).collect();
    case.edit(&flags.join(" "))
}

fn listed(subjects: &[String]) -> String {
    if subjects.is_empty() {
        return "nothing".to_owned();
    }
    subjects.iter().map(|subject| format!("`{subject}`")).collect::<Vec<_>>().join(", ")
}
