//! Reaching a bucket: it is made if it isn't there, never changed, and refused if checkpoints wouldn't be safe in it.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};
use object_store::Result;
use tidemill_jetstream::{Connection, Error};

use super::service::{Connected, Failed, Service, plain, temporary};

/// As large as a message may be by default, less what is before its content: the acknowledgement of each is waited for.
const CHUNK_BYTES_MAX: usize = 1016 << 10;
/// What a message has before its content, at most: its subject and headers.
const HEAD_BYTES: usize = 8 << 10;

impl Service {
    /// Connects, and looks the bucket up.
    pub(super) async fn open(&self) -> Result<Connected, Failed> {
        let Some(settings) = self.place.settings() else {
            // Seen to before: see `Bucket::new`.
            return Err(Failed::Final(plain(format!("`{}` isn't known", self.place.connection()))));
        };
        let connection = Connection::open(settings).await.map_err(failed)?;
        let name = self.subjects.stream();
        let config = match connection.stream(&name).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(Error::NoStream { .. }) if self.makes => self.make(&connection).await?,
            Err(Error::NoStream { .. }) => return Err(Failed::Final(self.no_bucket())),
            Err(error) => return Err(failed(error)),
        };
        if let Some((lack, cure)) = self.lack(&config) {
            return Err(Failed::Final(plain(format!(
                "the bucket `{}` (stream `{name}`) can't keep checkpoints: {lack}; {cure}, or name another",
                self.place.bucket()
            ))));
        }
        let mut message_bytes = connection.client().max_payload();
        if let Ok(limit @ 1..) = usize::try_from(config.max_message_size) {
            message_bytes = message_bytes.min(limit);
        }
        let chunk_bytes = message_bytes.saturating_sub(HEAD_BYTES).min(CHUNK_BYTES_MAX);
        if chunk_bytes < HEAD_BYTES {
            return Err(Failed::Final(plain(format!(
                "messages may have {message_bytes} bytes, and at least {} are needed; raise `max_payload` of the servers \
                 or `max_msg_size` of the stream `{name}`",
                2 * HEAD_BYTES
            ))));
        }
        let stream = connection.context().get_stream_no_info(name).await.map_err(temporary)?;
        Ok(Connected { connection, stream, chunk_bytes })
    }

    /// Makes the bucket. Of two who do so at the same time both succeed.
    async fn make(&self, connection: &Connection) -> Result<Config, Failed> {
        let config = Config {
            name: self.subjects.stream(),
            description: Some("checkpoints of tidemill".to_owned()),
            subjects: vec![self.subjects.all_chunks(), self.subjects.all_meta()],
            storage: StorageType::File,
            num_replicas: self.place.replicas(),
            discard: DiscardPolicy::New,
            allow_rollup: true,
            allow_direct: true,
            ..Config::default()
        };
        match connection.context().create_stream(config).await {
            Ok(stream) => Ok(stream.cached_info().config.clone()),
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NAME_EXIST =>
                {
                    Err(temporary(error))
                }
                CreateStreamErrorKind::JetStream(error) if matches!(error.code(), 408 | 429) => {
                    Err(temporary(error))
                }
                CreateStreamErrorKind::JetStream(error) => Err(Failed::Final(plain(format!(
                    "the bucket `{}` can't be made: the server says: {error}; make it with what the account asks for \
                     (`nats object add {} --replicas={}`), or name one that is there",
                    self.place.bucket(),
                    self.place.bucket(),
                    self.place.replicas()
                )))),
                _ => Err(temporary(error)),
            },
        }
    }

    /// What a bucket lacks, and what to do about it.
    fn lack(&self, config: &Config) -> Option<(String, String)> {
        let name = self.subjects.stream();
        let edit = |option: &str| format!("change that (`nats stream edit {name} {option}`)");
        let make = |kind: &str| format!("make {kind} (`nats object add`)");
        let has = |subject: &String| config.subjects.contains(subject);
        let (wanted, found) = (self.place.replicas(), config.num_replicas);
        Some(if !has(&self.subjects.all_chunks()) || !has(&self.subjects.all_meta()) {
            ("its stream has other subjects than those of a bucket".to_owned(), make("a bucket"))
        } else if config.retention != RetentionPolicy::Limits || config.no_ack || config.mirror.is_some() {
            ("its stream isn't one of a bucket".to_owned(), make("a bucket"))
        } else if config.sealed {
            ("it is sealed".to_owned(), make("another"))
        } else if config.storage != StorageType::File {
            ("it is in memory".to_owned(), make("one in files"))
        } else if config.persist_mode == Some(PersistenceMode::Async) {
            ("it acknowledges what isn't stored yet (persist mode `async`)".to_owned(), make("another"))
        } else if config.deny_delete || config.deny_purge {
            ("nothing may be removed from it".to_owned(), make("another"))
        } else if !config.max_age.is_zero() {
            (format!("what is in it is removed after {} s", config.max_age.as_secs()), edit("--max-age=0"))
        } else if config.discard != DiscardPolicy::New {
            ("when it is full it loses what is old".to_owned(), edit("--discard=new"))
        } else if config.max_messages_per_subject > 0 {
            (
                format!("it keeps {} messages of a subject", config.max_messages_per_subject),
                edit("--max-msgs-per-subject=-1"),
            )
        } else if !config.allow_rollup {
            ("no message may replace another in it".to_owned(), edit("--allow-rollup"))
        } else if found < wanted {
            (
                format!("it has {found} replicas, and {wanted} are asked for"),
                edit(&format!("--replicas={wanted}")),
            )
        } else {
            return None;
        })
    }
}

fn failed(error: Error) -> Failed {
    if error.is_temporary() { temporary(error) } else { Failed::Final(plain(error.to_string())) }
}
