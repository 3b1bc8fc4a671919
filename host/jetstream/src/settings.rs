//! How servers are reached, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How a pipeline reaches its servers. A connection belongs to one account of theirs: tenants have one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses as in `nats://host:4222`, `tls://host:4222`; one that answers is enough.
    pub servers: Vec<String>,
    /// By what name the servers know the connection.
    pub name: String,
    /// Who connects.
    pub credentials: Credentials,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// What happens when it is lost.
    pub reconnect: Reconnect,
    /// How long a server may take to answer a request.
    pub request_timeout: Duration,
    /// With what the subjects of answers begin, where an account may only use some; none: `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// The JetStream domain, for servers at a leaf node's other end.
    pub domain: Option<String>,
}

impl Settings {
    /// For these servers, without credentials.
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            name: "tidemill".to_owned(),
            credentials: Credentials::None,
            tls: Tls::default(),
            reconnect: Reconnect::default(),
            // An election takes four to nine seconds, in which nothing is answered; what fails is tried again.
            request_timeout: Duration::from_secs(5),
            inbox_prefix: None,
            domain: None,
        }
    }
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// Whoever has the token.
    Token(Secret),
    /// Whoever has this seed of an nkey.
    Nkey(Secret),
    /// Whoever has this credentials file: a JWT and the seed of its nkey.
    File(PathBuf),
}

/// What nobody should read in a log: it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for whoever checks it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How a connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Only encrypted, whatever the addresses say.
    pub required: bool,
    /// Certificates of authorities that are trusted beside the system's, in a PEM file.
    pub authorities: Option<PathBuf>,
    /// The client's own certificate and its key, in PEM files.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The server expects TLS before it says anything.
    pub first: bool,
}

/// How often a lost connection is tried again: without end, at first after `delay_min`, then each time after twice as
/// long, up to `delay_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Before the first attempt.
    pub delay_min: Duration,
    /// Between two attempts at most.
    pub delay_max: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { delay_min: Duration::from_millis(50), delay_max: Duration::from_secs(2) }
    }
}

impl Reconnect {
    /// How long to wait before an attempt, counted from 1.
    pub fn delay(&self, attempt: usize) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        self.delay_min.saturating_mul(1 << doublings).min(self.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let credentials =
            Credentials::Password { user: "ada".to_owned(), password: Secret::new("hush".to_owned()) };
        let settings = Settings { credentials, ..Settings::new(Vec::new()) };
        let printed = format!("{settings:?}");
        assert!(printed.contains("ada") && !printed.contains("hush"), "{printed}");
    }

    #[test]
    fn delays_double_up_to_a_limit() {
        let reconnect = Reconnect::default();
        let delays = [1, 2, 3, 7, 1000].map(|attempt| reconnect.delay(attempt).as_millis());
        assert_eq!(delays, [50, 100, 200, 2000, 2000]);
    }
}
