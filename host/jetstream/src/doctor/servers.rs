//! What doesn't belong to one stream: the servers' version, the way to them, and the account's limits.

use async_nats::jetstream::account::{Account, Limits};
use async_nats::jetstream::context::AccountErrorKind;

use super::{Findings, Role, Severity, Wanted, bytes};
use crate::connection::Connection;
use crate::settings::{Credentials, Settings};

/// The first whose atomic batches take what ours hold.
const ATOMIC_VERSION: Version = Version(2, 12, 1);
/// The one that all is tested with.
const TESTED_VERSION: Version = Version(2, 15, 0);
/// So much of a limit is near it, in percent.
const NEAR_PERCENT: u64 = 80;
/// A piece of a checkpoint, of a size that is worth its acknowledgement, and its headers.
const PAYLOAD_FOR_CHECKPOINTS: usize = 64 << 10;

/// What rules for streams need to know of their servers.
pub(super) struct Servers {
    pub(super) version: Version,
    pub(super) clustered: bool,
    pub(super) max_payload: usize,
    /// The account's, per stream.
    pub(super) max_consumers: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u64, pub(super) u64, pub(super) u64);

impl Version {
    /// Of a text like `2.15.1` or `2.16.0-beta.1`; zeros where it is none.
    fn parse(text: &str) -> Self {
        let mut numbers = text.split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().unwrap_or(0)
        });
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next(), next())
    }
}

/// Looks at them; none if there is no JetStream, where streams need not be looked for.
pub(super) async fn examine(
    connection: &Connection,
    wanted: &[Wanted],
    findings: &mut Findings,
) -> Option<Servers> {
    let info = connection.client().server_info();
    let encrypted = info.tls_required || asks_for_tls(connection.settings());
    transport(connection.settings(), encrypted, findings);
    let version = Version::parse(&info.version);
    let account = account(connection, findings).await;
    let level = account.as_ref().map(|account| account.requests.level);
    self::version(&info.version, level, wanted, findings);
    payload(info.max_payload, wanted, findings);
    let account = account?;
    let mut max_consumers = None;
    for (what, used, limits) in tiers(&account) {
        limit(findings, &format!("{what}: file storage"), used.storage, limits.max_storage, bytes);
        limit(findings, &format!("{what}: memory"), used.memory, limits.max_memory, bytes);
        limit(findings, &format!("{what}: streams"), used.streams, limits.max_streams, |n| n.to_string());
        max_consumers = max_consumers.max(limits.max_consumers);
    }
    if !wanted.is_empty() {
        sync(findings);
    }
    let max_consumers = max_consumers.and_then(|max| u64::try_from(max).ok()).filter(|max| *max > 0);
    Some(Servers { version, clustered: info.cluster.is_some(), max_payload: info.max_payload, max_consumers })
}

fn asks_for_tls(settings: &Settings) -> bool {
    let schemes = ["tls://", "wss://"];
    settings.tls.required
        || settings.tls.first
        || settings.servers.iter().all(|server| schemes.iter().any(|scheme| server.starts_with(scheme)))
}

/// Whether what is said to the servers can be read on the way.
fn transport(settings: &Settings, encrypted: bool, findings: &mut Findings) {
    let what = "connection: encryption";
    let near = settings.servers.iter().all(|server| is_loopback(server));
    let cure = "add `tls { cert_file: …, key_file: … }` to the servers' configuration and write `tls://` before their \
                addresses here";
    match &settings.credentials {
        _ if encrypted => findings.ok(what, "TLS"),
        _ if near => findings.note(what, "none, on this machine", ""),
        Credentials::Password { .. } | Credentials::Token(_) => {
            findings.warning(what, "none: the password or token can be read on the way", cure);
        }
        Credentials::None | Credentials::Nkey(_) | Credentials::File(_) => {
            findings.warning(what, "none: rows can be read and changed on the way", cure);
        }
    }
}

/// Of an address with or without a scheme, a user and a port.
fn is_loopback(server: &str) -> bool {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn version(text: &str, level: Option<usize>, wanted: &[Wanted], findings: &mut Findings) {
    let version = Version::parse(text);
    let atomic = wanted.iter().any(|wanted| wanted.role == Role::WriteExactlyOnce);
    let found = level.map_or_else(|| text.to_owned(), |level| format!("{text}, JetStream API level {level}"));
    let Version(major, minor, patch) = ATOMIC_VERSION;
    let (severity, advice) = if version < ATOMIC_VERSION {
        let severity = if atomic { Severity::Error } else { Severity::Warning };
        (
            severity,
            format!("atomic batches, by which rows are written exactly once, need {major}.{minor}.{patch}"),
        )
    } else if version < TESTED_VERSION {
        (Severity::Note, "2.15 is what is tested, and recommended".to_owned())
    } else {
        (Severity::Ok, String::new())
    };
    findings.add(severity, "servers: version", found, advice);
}

fn payload(max: usize, wanted: &[Wanted], findings: &mut Findings) {
    let what = "servers: largest message";
    let shown = bytes(u64::try_from(max).unwrap_or(u64::MAX));
    let checkpoints = wanted.iter().any(|wanted| wanted.role == Role::CheckpointBucket);
    if checkpoints && max < PAYLOAD_FOR_CHECKPOINTS {
        let advice = "checkpoints are stored in pieces of this size, one after the other: they are slow, and below 16 KiB \
                      refused; set `max_payload: 1M` in the servers' configuration";
        findings.warning(what, shown, advice);
    } else if wanted.iter().any(|wanted| wanted.role.writes_rows()) {
        let advice = "a row that is larger is refused; `max_payload` in the servers' configuration";
        findings.note(what, shown, advice);
    } else {
        findings.ok(what, shown);
    }
}

/// None if JetStream can't be used, which is a finding.
async fn account(connection: &Connection, findings: &mut Findings) -> Option<Account> {
    let what = "account: JetStream";
    let error = match connection.context().query_account().await {
        Ok(account) => {
            findings.ok(what, "enabled");
            return Some(account);
        }
        Err(error) => error,
    };
    let (found, advice) = match error.kind() {
        AccountErrorKind::JetStreamUnavailable => {
            let found = "nobody answers: it isn't enabled, or not in the domain that is named";
            (found.to_owned(), "add `jetstream { store_dir: … }` to the servers' configuration")
        }
        AccountErrorKind::JetStream(error) => {
            (error.to_string(), "enable it for the account: `accounts { NAME { jetstream: enabled } }`")
        }
        AccountErrorKind::TimedOut => {
            let advice = "a cluster answers when most of its servers are up; and the user must be allowed to publish \
                          to `$JS.API.>` and to subscribe to `_INBOX.>`";
            ("no answer".to_owned(), advice)
        }
        AccountErrorKind::Other => (error.to_string(), "see that the connection stays up"),
    };
    findings.error(what, found, advice);
    None
}

struct Used {
    storage: u64,
    memory: u64,
    streams: u64,
}

/// What is used and what may be: of the account as a whole, or per number of replicas, where it is limited so.
fn tiers(account: &Account) -> Vec<(String, Used, Limits)> {
    let count = |streams: usize| u64::try_from(streams).unwrap_or(u64::MAX);
    if account.tiers.is_empty() {
        let used = Used { storage: account.storage, memory: account.memory, streams: count(account.streams) };
        return vec![("account".to_owned(), used, account.limits)];
    }
    let mut tiers: Vec<_> = account.tiers.iter().collect();
    tiers.sort_unstable_by_key(|(name, _)| name.as_str());
    let tier = |(name, tier): (&String, &async_nats::jetstream::account::Tier)| {
        let used = Used { storage: tier.storage, memory: tier.memory, streams: count(tier.streams) };
        (format!("account, tier {name}"), used, tier.limits)
    };
    tiers.into_iter().map(tier).collect()
}

/// None and zero stand for no limit; what isn't used isn't said.
fn limit(findings: &mut Findings, what: &str, used: u64, max: Option<i64>, show: fn(u64) -> String) {
    let Some(max) = max.and_then(|max| u64::try_from(max).ok()).filter(|max| *max > 0) else { return };
    let found = format!("{} of {}", show(used), show(max));
    let advice = "nothing more is stored when it is reached: raise the account's limit, or let streams keep less \
                  (`nats account info`)";
    if used >= max {
        findings.error(what, found, advice);
    } else if is_near(used, max) {
        findings.warning(what, found, advice);
    } else {
        findings.ok(what, found);
    }
}

/// Whether so much is used that more will soon not fit.
pub(super) fn is_near(used: u64, max: u64) -> bool {
    u128::from(used) * 100 >= u128::from(max) * u128::from(NEAR_PERCENT)
}

/// What a client can't be told.
fn sync(findings: &mut Findings) {
    let advice = "no client is told: see `sync_interval` in `jetstream { … }` of the servers' configuration, or `/varz` \
                  of their monitoring. Unless it is set, what was acknowledged in the last 2 min may be lost when power \
                  fails: for good with one replica, with more if most servers lose it together. `sync_interval: \
                  always` prevents that";
    findings.note("servers: sync to disk", "not known", advice);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert_eq!(Version::parse("2.15.1"), Version(2, 15, 1));
        assert_eq!(Version::parse("2.16.0-beta.1"), Version(2, 16, 0));
        assert_eq!(Version::parse(""), Version(0, 0, 0));
        assert!(Version::parse("2.9.10") < ATOMIC_VERSION);
    }

    fn check(settings: &Settings, encrypted: bool, expected: Severity) {
        let mut findings = Findings::default();
        transport(settings, encrypted, &mut findings);
        assert_eq!(findings.0[0].severity, expected, "{settings:?}");
    }

    #[test]
    fn plain_text_is_told_unless_it_stays_on_the_machine() {
        let far = Settings::new(vec!["nats://nats.example.com:4222".to_owned()]);
        check(&far, false, Severity::Warning);
        check(&far, true, Severity::Ok);
        let near = ["nats://127.0.0.1:4222", "localhost", "nats://u:p@[::1]:4222", "nats://127.1.2.3"];
        let near = Settings::new(near.map(str::to_owned).to_vec());
        check(&near, false, Severity::Note);
        let password = Credentials::Password { user: "a".to_owned(), password: Secret::new("b".to_owned()) };
        let mut findings = Findings::default();
        transport(&Settings { credentials: password, ..far.clone() }, false, &mut findings);
        assert!(findings.0[0].found.contains("password"), "{}", findings.0[0].found);
        assert!(asks_for_tls(&Settings::new(vec!["tls://a".to_owned()])));
        assert!(!asks_for_tls(&Settings::new(vec!["tls://a".to_owned(), "nats://b".to_owned()])));
    }

    #[test]
    fn a_limit_is_told_before_it_is_reached() {
        let check = |used, max, expected: Option<Severity>| {
            let mut findings = Findings::default();
            limit(&mut findings, "x", used, max, |n| n.to_string());
            assert_eq!(findings.0.first().map(|f| f.severity), expected, "{used} of {max:?}");
        };
        check(0, Some(10), Some(Severity::Ok));
        check(8, Some(10), Some(Severity::Warning));
        check(10, Some(10), Some(Severity::Error));
        check(10, None, None);
        check(10, Some(-1), None);
        assert!(!is_near(u64::MAX / 2, u64::MAX));
    }

    #[test]
    fn an_old_server_is_an_error_where_rows_are_written_exactly_once() {
        let check = |text: &str, role, expected| {
            let mut findings = Findings::default();
            version(text, Some(5), &[Wanted::new("S", role)], &mut findings);
            assert_eq!(findings.0[0].severity, expected, "{text}");
        };
        check("2.11.9", Role::WriteExactlyOnce, Severity::Error);
        check("2.11.9", Role::Read, Severity::Warning);
        check("2.12.1", Role::WriteExactlyOnce, Severity::Note);
        check("2.15.0", Role::WriteExactlyOnce, Severity::Ok);
        check("", Role::Read, Severity::Warning);
    }
}
