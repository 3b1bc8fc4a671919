//! `[connections.<id>]`: servers, and who connects to them.

use std::path::PathBuf;

use tidemill_jetstream::{Reconnect, Secret};

use super::file::Spanned;
use super::keys;
use super::suggest::hint;
use super::table::Table;
use super::value::Value;

/// Servers that sources read from and sinks write to. A connection belongs to one account of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its name, unique in the file.
    pub id: Spanned<String>,
    /// Addresses as in `nats://host:4222`; one at least.
    pub servers: Vec<Spanned<String>>,
    /// Who connects.
    pub credentials: CredentialsDecl,
    /// How it is encrypted.
    pub tls: TlsDecl,
    /// What happens when it is lost.
    pub reconnect: Reconnect,
    /// How long a server may take to answer, in milliseconds; `None`: the usual time.
    pub request_timeout_ms: Option<i64>,
    /// With what the subjects of answers begin; `None`: `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// The JetStream domain.
    pub domain: Option<String>,
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialsDecl {
    /// Nobody in particular.
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: SecretDecl,
    },
    /// Whoever has the token.
    Token(SecretDecl),
    /// Whoever has the seed of an nkey.
    Nkey(SecretDecl),
    /// Whoever has this file, relative to the pipeline file.
    File(PathBuf),
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretDecl {
    /// In the pipeline file itself.
    Text(Secret),
    /// In a variable of the environment.
    Env(Spanned<String>),
    /// In a file, relative to the pipeline file; white space at its end doesn't count.
    File(Spanned<PathBuf>),
}

/// How a connection is encrypted; files are relative to the pipeline file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsDecl {
    /// Only encrypted, whatever the addresses say.
    pub required: bool,
    /// Authorities that are trusted beside the system's.
    pub authorities: Option<PathBuf>,
    /// The client's certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The server expects TLS before it says anything.
    pub first: bool,
}

const TYPES: [(&str, ()); 1] = [("nats", ())];

/// The connection that a section declares.
pub(super) fn read(section: &Value<'_>) -> Option<Connection> {
    let table = section.table(&keys::CONNECTION)?;
    table.check_keys(None);
    let is_nats = table.required("type", |v| v.choice(&TYPES));
    let servers = table.required("servers", read_servers);
    let credentials = read_credentials(&table);
    let tls = table.or("tls", TlsDecl::default(), read_tls);
    let reconnect = table.or("reconnect", Reconnect::default(), read_reconnect);
    let request_timeout_ms = table.optional("request_timeout", |v| v.positive_duration_ms());
    let inbox_prefix = table.optional("inbox_prefix", |v| v.name());
    let domain = table.optional("domain", |v| v.name());
    is_nats?;
    Some(Connection {
        id: section.key(),
        servers: servers?,
        credentials: credentials?,
        tls: tls?,
        reconnect: reconnect?,
        request_timeout_ms: request_timeout_ms?,
        inbox_prefix: inbox_prefix?.map(|s| s.value),
        domain: domain?.map(|s| s.value),
    })
}

fn read_servers(value: Value<'_>) -> Option<Vec<Spanned<String>>> {
    let servers = value.one_or_more(|v| v.name())?;
    // The line that a message shows would show the secret.
    if let Some(server) = servers.iter().find(|server| server.contains('@')) {
        let why = tidemill_jetstream::check_server(server).err()?;
        return value.table.report(format!("`servers` {}: {why}", value.table.place()));
    }
    value.one_or_more(|v| {
        let server = v.name()?;
        match tidemill_jetstream::check_server(&server) {
            Ok(()) => Some(server),
            Err(why) => v.refuse(why),
        }
    })
}

fn read_credentials(table: &Table<'_>) -> Option<CredentialsDecl> {
    let user = table.optional("user", |v| v.name())?;
    let password = table.optional("password", read_secret)?;
    let token = table.optional("token", read_secret)?;
    let nkey = table.optional("nkey", read_secret)?;
    let file = table.optional("credentials", |v| v.path())?;
    let kinds = [user.is_some() || password.is_some(), token.is_some(), nkey.is_some(), file.is_some()];
    if kinds.into_iter().filter(|given| *given).count() > 1 {
        return table.report(
            "more than one of `user` with `password`, `token`, `nkey` and `credentials`; a connection is made by one",
        );
    }
    Some(match (user, password, token, nkey, file) {
        (Some(user), Some(password), ..) => CredentialsDecl::Password { user: user.value, password },
        (Some(_), None, ..) => return table.report("a `user` needs a `password`"),
        (None, Some(_), ..) => return table.report("a `password` needs a `user`"),
        (_, _, Some(token), ..) => CredentialsDecl::Token(token),
        (_, _, _, Some(seed), _) => CredentialsDecl::Nkey(seed),
        (_, _, _, _, Some(file)) => CredentialsDecl::File(file.value),
        (None, None, None, None, None) => CredentialsDecl::None,
    })
}

/// Text, `{ env = "NAME" }` or `{ file = "path" }`.
fn read_secret(value: Value<'_>) -> Option<SecretDecl> {
    if value.is_text() {
        return value.name().map(|text| SecretDecl::Text(Secret::new(text.value)));
    }
    if !value.is_table() {
        return value.mismatch("text, or a table with `env` or `file`");
    }
    let table = value.table(&keys::SECRET)?;
    table.check_keys(None);
    let (env, file) = (table.optional("env", |v| v.name())?, table.optional("file", |v| v.path())?);
    match (env, file) {
        (Some(env), None) => Some(SecretDecl::Env(env)),
        (None, Some(file)) => Some(SecretDecl::File(file)),
        _ => table.report("expected either `env`, a variable's name, or `file`, a file's path"),
    }
}

fn read_tls(value: Value<'_>) -> Option<TlsDecl> {
    let table = value.table(&keys::TLS)?;
    table.check_keys(None);
    let required = table.or("required", false, |v| v.boolean());
    let first = table.or("first", false, |v| v.boolean());
    let authorities = table.optional("authorities", |v| v.path());
    let (certificate, key) =
        (table.optional("certificate", |v| v.path())?, table.optional("key", |v| v.path())?);
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate.value, key.value)),
        (None, None) => None,
        _ => return table.report("a client's `certificate` needs its `key`, and the key its certificate"),
    };
    Some(TlsDecl {
        required: required?,
        authorities: authorities?.map(|path| path.value),
        certificate,
        first: first?,
    })
}

fn read_reconnect(value: Value<'_>) -> Option<Reconnect> {
    let table = value.table(&keys::RECONNECT)?;
    table.check_keys(None);
    let usual = Reconnect::default();
    let duration =
        |v: Value<'_>| v.positive_duration_ms().map(|ms| std::time::Duration::from_millis(ms.unsigned_abs()));
    let delay_min = table.or("delay", usual.delay_min, duration);
    let delay_max = table.or("max_delay", usual.delay_max, duration);
    let (delay_min, delay_max) = (delay_min?, delay_max?);
    if delay_min > delay_max {
        return table.report("`delay` is longer than `max_delay`, which is 2s unless it is given");
    }
    Some(Reconnect { delay_min, delay_max })
}

/// The connection of this name, by its number.
pub(super) fn of_name(value: &Value<'_>, connections: &[Spanned<String>]) -> Option<usize> {
    let name = value.name()?;
    if let Some(at) = connections.iter().position(|id| *id == name) {
        return Some(at);
    }
    value.refuse(unknown(&name, connections.iter().map(|id| id.value.as_str())))
}

/// That there is no connection of this name among those.
pub(super) fn unknown<'a>(name: &str, connections: impl Iterator<Item = &'a str> + Clone) -> String {
    let hint = match connections.clone().next() {
        None => "there is none; add a section [connections.<id>]".to_owned(),
        Some(_) => hint(name, connections, '`'),
    };
    format!("unknown connection `{name}`; {hint}")
}
