//! A connection to servers.

use async_nats::jetstream::{self, ErrorCode, context::ContextBuilder, stream::Stream};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::settings::{Credentials, Settings};

/// How often a server that says nothing is asked whether it is there: it is given up when it misses two answers.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a server may take to let a client in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More than any reader of ours has asked for: what doesn't fit would be dropped.
const MESSAGES_WAITING_MAX: usize = 256 << 10;

/// A connection to servers, which is made again when it is lost. Clones share it.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    context: jetstream::Context,
    settings: Arc<Settings>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the settings can't be used, or no server lets the client in.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let servers = settings.servers.join(", ");
        let addresses = settings.servers.iter().map(|s| s.parse::<ServerAddr>());
        let addresses: Vec<ServerAddr> = addresses.collect::<Result<_, _>>().map_err(|e| {
            Error::Settings(format!("the servers {servers}: {e}; write them as in nats://host:4222"))
        })?;
        let connected = options(settings).await?.connect(addresses).await;
        let client = connected.map_err(|e| match e.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Error::Refused {
                action: format!("connect to {servers}"),
                code: 0,
                reason: e.to_string(),
                advice: "see that the credentials are those of a user there".to_owned(),
            },
            _ => Error::Unavailable { action: format!("connect to {servers}"), reason: e.to_string() },
        })?;
        let builder = ContextBuilder::new().timeout(settings.request_timeout);
        let context = match &settings.domain {
            Some(domain) => builder.domain(domain).build(client.clone()),
            None => builder.build(client.clone()),
        };
        Ok(Self { client, context, settings: Arc::new(settings.clone()) })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connection itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its way to JetStream.
    pub fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// Looks a stream up, as it is now.
    ///
    /// # Errors
    /// When there is none of this name, or it can't be looked up.
    pub async fn stream(&self, name: &str) -> Result<Stream, Error> {
        use jetstream::context::GetStreamErrorKind::{EmptyName, InvalidStreamName, JetStream, Request};
        let action = || format!("look up the stream `{name}`");
        self.context.get_stream(name).await.map_err(|error| match error.kind() {
            JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Error::NoStream { stream: name.to_owned() }
            }
            // Its servers elect a leader.
            JetStream(error)
                if matches!(
                    error.error_code(),
                    ErrorCode::CLUSTER_NOT_AVAILABLE
                        | ErrorCode::CLUSTER_NOT_ACTIVE
                        | ErrorCode::CLUSTER_NOT_LEADER
                ) =>
            {
                Error::Unavailable { action: action(), reason: error.to_string() }
            }
            JetStream(error) => Error::Refused {
                action: action(),
                code: error.error_code().0,
                reason: error.to_string(),
                advice: "see that JetStream is enabled for the account".to_owned(),
            },
            EmptyName | InvalidStreamName => Error::Settings(format!(
                "`{name}` can't be a stream's name: it may have no white space, dots, `*` or `>`"
            )),
            Request => Error::Unavailable { action: action(), reason: error.to_string() },
        })
    }
}

async fn options(settings: &Settings) -> Result<ConnectOptions, Error> {
    let options = match &settings.credentials {
        Credentials::None => ConnectOptions::new(),
        Credentials::Password { user, password } => {
            ConnectOptions::with_user_and_password(user.clone(), password.reveal().to_owned())
        }
        Credentials::Token(token) => ConnectOptions::with_token(token.reveal().to_owned()),
        Credentials::Nkey(seed) => ConnectOptions::with_nkey(seed.reveal().to_owned()),
        Credentials::File(path) => ConnectOptions::with_credentials_file(path)
            .await
            .map_err(|e| Error::Settings(format!("the credentials file {}: {e}", path.display())))?,
    };
    let reconnect = settings.reconnect;
    let mut options = options
        .name(&settings.name)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(settings.request_timeout))
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(MESSAGES_WAITING_MAX)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempt| reconnect.delay(attempt))
        .event_callback(|event| async move { tell(&event) })
        .require_tls(settings.tls.required);
    if settings.tls.first {
        options = options.tls_first();
    }
    if let Some(authorities) = &settings.tls.authorities {
        options = options.add_root_certificates(authorities.clone());
    }
    if let Some((certificate, key)) = &settings.tls.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if let Some(prefix) = &settings.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    Ok(options)
}

fn tell(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS; it is tried again"),
        Event::Closed => tracing::debug!("the connection to NATS is closed"),
        event => tracing::warn!("NATS: {event}"),
    }
}
