//! What matters for every stream: where it is stored, what it keeps, whether it can be reached.

use async_nats::jetstream::stream::{
    ClusterInfo, Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, State, StorageType,
};

use super::servers::{Servers, Version, is_near};
use super::{Findings, Role, Wanted, bytes, duration, roles};

/// So many messages a replica may lack while it catches up with a busy leader.
const LAG_MAX: u64 = 10_000;
/// Since 2.15, where neither the stream nor the servers' configuration says another number.
const CONSUMERS_DEFAULT: u64 = 1000;

/// A stream and what is wanted of it.
pub(super) struct Case<'a> {
    pub(super) name: &'a str,
    pub(super) config: &'a Config,
    pub(super) state: &'a State,
    pub(super) cluster: Option<&'a ClusterInfo>,
    pub(super) wanted: &'a Wanted,
    pub(super) servers: &'a Servers,
}

impl Case<'_> {
    pub(super) fn what(&self, what: &str) -> String {
        format!("stream `{}`: {what}", self.name)
    }

    pub(super) fn edit(&self, flags: &str) -> String {
        format!("`nats stream edit {} {flags}`", self.name)
    }

    /// Where what is wrong can't be changed.
    pub(super) fn anew(&self) -> String {
        let make = self.wanted.command(self.config.num_replicas.max(1));
        format!("this can't be changed: make another stream as with {make}, and copy what is in this one")
    }

    /// Whether something is deleted by itself from a stream that keeps to limits.
    pub(super) fn is_limited(&self) -> bool {
        let Config { max_bytes, max_messages, max_messages_per_subject, max_age, .. } = self.config;
        *max_bytes > 0 || *max_messages > 0 || *max_messages_per_subject > 0 || !max_age.is_zero()
    }
}

pub(super) fn examine(info: &Info, wanted: &Wanted, servers: &Servers, findings: &mut Findings) {
    let Info { config, state, cluster, .. } = info;
    let case = Case { name: &config.name, config, state, cluster: cluster.as_ref(), wanted, servers };
    storage(&case, findings);
    replicas(&case, findings);
    cluster_state(&case, findings);
    retention(&case, findings);
    limits(&case, findings);
    persistence(&case, findings);
    consumers(&case, findings);
    roles::examine(&case, findings);
}

fn storage(case: &Case<'_>, findings: &mut Findings) {
    let what = case.what("storage");
    match case.config.storage {
        StorageType::File => findings.ok(&what, "file"),
        StorageType::Memory => {
            let advice = format!("all is lost when its servers stop; {}", case.anew());
            match case.wanted.role {
                Role::Read | Role::WriteIdempotent { .. } | Role::WriteAtLeastOnce => {
                    findings.warning(&what, "memory", advice);
                }
                Role::WriteExactlyOnce | Role::CheckpointBucket => findings.error(&what, "memory", advice),
            }
        }
    }
}

fn replicas(case: &Case<'_>, findings: &mut Findings) {
    let (what, count) = (case.what("replicas"), case.config.num_replicas);
    let cure = case.edit("--replicas=3");
    match count {
        0 | 1 if case.servers.clustered => {
            let advice = format!("it is gone while its one server is, and lost with its disk: {cure}");
            findings.warning(&what, "1", advice);
        }
        0 | 1 => findings.note(&what, "1", "one server has it: nothing is left when its disk fails"),
        count if count % 2 == 0 => {
            let cure = case.edit(&format!("--replicas={}", count + 1));
            let advice = format!("of {count} no more may fail than of {}: {cure}", count - 1);
            findings.warning(&what, count.to_string(), advice);
        }
        count => findings.ok(&what, count.to_string()),
    }
}

fn cluster_state(case: &Case<'_>, findings: &mut Findings) {
    let Some(cluster) = case.cluster.filter(|_| case.servers.clustered) else { return };
    match &cluster.leader {
        None => {
            let advice = "nothing is read or written before most of its replicas are up: \
                          `nats server report jetstream`";
            findings.error(&case.what("leader"), "none", advice);
        }
        Some(leader) => findings.ok(&case.what("leader"), leader.as_str()),
    }
    for peer in &cluster.replicas {
        let what = case.what(&format!("replica at {}", peer.name));
        let lag = peer.lag.unwrap_or(0);
        if peer.offline {
            findings.warning(&what, "offline", "one more that fails may stop the stream: start its server");
        } else if !peer.current || lag > LAG_MAX {
            let found = format!("{lag} operations behind, last heard of {} ago", duration(peer.active));
            findings.warning(
                &what,
                found,
                "it doesn't count until it has caught up: see its server's log and disk",
            );
        } else {
            findings.ok(&what, "current");
        }
    }
}

fn retention(case: &Case<'_>, findings: &mut Findings) {
    let what = case.what("retention");
    let found = match case.config.retention {
        RetentionPolicy::Limits => return findings.ok(&what, "limits"),
        RetentionPolicy::Interest => "interest",
        RetentionPolicy::WorkQueue => "work queue",
    };
    let advice = match case.wanted.role {
        Role::Read => "a message is deleted once it was taken, and can't be read again after a failure",
        Role::WriteExactlyOnce => {
            "a message is deleted once nobody waits for it, and with it the marker of what was written"
        }
        Role::CheckpointBucket => "checkpoints would be deleted",
        Role::WriteIdempotent { .. } | Role::WriteAtLeastOnce => {
            let advice =
                "rows are deleted once they were taken; with `interest`, also when nobody waits for them";
            return findings.note(&what, found, advice);
        }
    };
    findings.error(&what, found, format!("{advice}; {}", case.anew()));
}

/// What is kept, and what happens when that is full.
fn limits(case: &Case<'_>, findings: &mut Findings) {
    let Config { max_bytes, max_messages, max_age, max_messages_per_subject, discard, .. } = case.config;
    let positive = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
    let (max_bytes, max_messages) = (positive(*max_bytes), positive(*max_messages));
    let mut kept = Vec::new();
    kept.extend((!max_age.is_zero()).then(|| duration(*max_age)));
    kept.extend(max_bytes.map(bytes));
    kept.extend(max_messages.map(|max| format!("{max} messages")));
    kept.extend(positive(*max_messages_per_subject).map(|max| format!("{max} of each subject")));
    let near = max_bytes.is_some_and(|max| is_near(case.state.bytes, max))
        || max_messages.is_some_and(|max| is_near(case.state.messages, max));
    let refuses = *discard == DiscardPolicy::New && (max_bytes.is_some() || max_messages.is_some());
    let what = case.what("kept");
    let found = match (kept.is_empty(), refuses) {
        (true, _) => "everything".to_owned(),
        (false, true) => format!("{}, then publishers are refused", kept.join(", ")),
        (false, false) => format!("{}, then the oldest are deleted", kept.join(", ")),
    };
    let used = format!("{} messages, {} are stored", case.state.messages, bytes(case.state.bytes));
    let deleting = case.edit("--max-age=7d --max-bytes=100GB --discard=old");
    if refuses && near {
        let advice = format!(
            "{used}: it is nearly full, and what writes to it will stop; delete what is old, or {}",
            case.edit("--max-bytes=100GB")
        );
        findings.warning(&what, found, advice);
    } else if refuses {
        findings.note(&what, found, format!("what writes to it waits when it is full; {used}"));
    } else if kept.is_empty() && case.wanted.role != Role::CheckpointBucket {
        let advice =
            format!("it grows until the account or the disk is full; {used}; for a limit, {deleting}");
        findings.note(&what, found, advice);
    } else if case.wanted.role == Role::Read {
        let advice = format!(
            "a pipeline that was down for longer, or goes back further, finds a gap and stops; {used} since {}",
            case.state.first_timestamp
        );
        findings.note(&what, found, advice);
    } else {
        findings.ok(&what, found);
    }
}

fn persistence(case: &Case<'_>, findings: &mut Findings) {
    if case.config.persist_mode != Some(PersistenceMode::Async) {
        return;
    }
    let advice = format!(
        "messages are acknowledged before they are stored, and lost when the server is killed; atomic batches are \
         refused; {}",
        case.anew()
    );
    let what = case.what("persist mode");
    match case.wanted.role {
        Role::Read => findings.warning(&what, "async", advice),
        _ => findings.error(&what, "async", advice),
    }
}

fn consumers(case: &Case<'_>, findings: &mut Findings) {
    let more = case.wanted.consumers;
    if more == 0 {
        return;
    }
    let own = u64::try_from(case.config.max_consumers).ok().filter(|max| *max > 0);
    let assumed = (own.is_none() && case.servers.version >= Version(2, 15, 0)).then_some(CONSUMERS_DEFAULT);
    let limits = [own, case.servers.max_consumers, assumed];
    let Some(max) = limits.into_iter().flatten().min() else { return };
    let there = u64::try_from(case.state.consumer_count).unwrap_or(u64::MAX);
    let wanted = there.saturating_add(more);
    let (what, found) = (case.what("consumers"), format!("{there} of {max}, and {more} more are wanted"));
    let advice = if case.servers.max_consumers == Some(max) {
        "raise `max_consumers` of the account, or delete some: `nats consumer ls`".to_owned()
    } else {
        format!("{}, or delete some: `nats consumer ls {}`", case.edit("--max-consumers=5000"), case.name)
    };
    // The servers' configuration may say another number than is assumed, which no client is told.
    if wanted > max && assumed != Some(max) {
        findings.error(&what, found, advice);
    } else if is_near(wanted, max) && wanted > more {
        findings.warning(&what, found, advice);
    } else {
        findings.ok(&what, found);
    }
}
