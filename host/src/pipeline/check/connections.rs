//! The connections of a plan: what their section says, with the secrets that stand elsewhere.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemill_jetstream::{Credentials, Secret, Settings, Tls};

use super::Checker;
use crate::nats::Servers;
use crate::pipeline::declaration::{Connection, CredentialsDecl, SecretDecl, TlsDecl};

impl Checker<'_> {
    /// The servers of each connection, in the order of the file.
    pub(super) fn connections(&self, base: &Path) -> Option<Vec<Arc<Servers>>> {
        let declared = &self.declaration.connections;
        let servers: Vec<_> = declared.iter().map(|c| self.connection(c, base)).collect();
        servers.into_iter().collect()
    }

    fn connection(&self, declared: &Connection, base: &Path) -> Option<Arc<Servers>> {
        let TlsDecl { required, authorities, certificate, first } = &declared.tls;
        let mut settings = Settings::new(declared.servers.iter().map(|s| s.value.clone()).collect());
        settings.name = format!("tidemill {}", self.declaration.name.value);
        settings.credentials = match &declared.credentials {
            CredentialsDecl::None => Credentials::None,
            CredentialsDecl::Password { user, password } => {
                Credentials::Password { user: user.clone(), password: self.secret(password, base)? }
            }
            CredentialsDecl::Token(token) => Credentials::Token(self.secret(token, base)?),
            CredentialsDecl::Nkey(seed) => Credentials::Nkey(self.secret(seed, base)?),
            CredentialsDecl::File(path) => Credentials::File(base.join(path)),
        };
        settings.tls = Tls {
            required: *required,
            authorities: authorities.as_ref().map(|path| base.join(path)),
            certificate: certificate.as_ref().map(|(one, other)| (base.join(one), base.join(other))),
            first: *first,
        };
        settings.reconnect = declared.reconnect;
        if let Some(timeout_ms) = declared.request_timeout_ms {
            settings.request_timeout = Duration::from_millis(timeout_ms.unsigned_abs());
        }
        settings.inbox_prefix.clone_from(&declared.inbox_prefix);
        settings.domain.clone_from(&declared.domain);
        Some(Arc::new(Servers::new(declared.id.value.clone(), settings)))
    }

    fn secret(&self, declared: &SecretDecl, base: &Path) -> Option<Secret> {
        match declared {
            SecretDecl::Text(secret) => Some(secret.clone()),
            SecretDecl::Env(name) => match std::env::var(&name.value) {
                Ok(text) if !text.is_empty() => Some(Secret::new(text)),
                _ => {
                    let message = format!("the environment has no variable `{}`; set it", name.value);
                    self.problems.report(name, message);
                    None
                }
            },
            SecretDecl::File(path) => match fs::read_to_string(base.join(&path.value)) {
                Ok(text) => Some(Secret::new(text.trim_end().to_owned())),
                Err(error) => {
                    self.problems.report(path, format!("cannot read {}: {error}", path.display()));
                    None
                }
            },
        }
    }
}
