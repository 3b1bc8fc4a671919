//! Streams for output: made when they are missing, looked at when they are there.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};

use crate::connection::Connection;
use crate::error::Error;
use crate::fitness::takes;
use crate::publish::marker_subjects;

/// How a stream should be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamWanted {
    /// Its name.
    pub name: String,
    /// What it takes; wildcards are allowed. Subjects of markers come in addition.
    pub subjects: Vec<String>,
    /// On how many servers.
    pub replicas: usize,
    /// How long a message is kept; none: for ever.
    pub max_age: Option<Duration>,
    /// How many bytes it may have; none: as many as come.
    pub max_bytes: Option<u64>,
    /// What happens when it is full.
    pub discard: DiscardPolicy,
    /// How long copies are recognized by their ids.
    pub duplicate_window: Duration,
}

impl StreamWanted {
    /// One that keeps all, on one server, and recognizes copies for two minutes.
    pub fn new(name: &str, subjects: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            subjects,
            replicas: 1,
            max_age: None,
            max_bytes: None,
            discard: DiscardPolicy::New,
            duplicate_window: Duration::from_secs(120),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let mut subjects = self.subjects.clone();
        subjects.push(marker_subjects(&self.name));
        let max_age = self.max_age.unwrap_or_default();
        // The server takes no window that is longer than messages are kept.
        let duplicate_window =
            self.max_age.map_or(self.duplicate_window, |age| age.min(self.duplicate_window));
        Config {
            name: self.name.clone(),
            subjects,
            num_replicas: self.replicas,
            max_age,
            max_bytes: self.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            discard: self.discard,
            duplicate_window,
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            allow_direct: true,
            allow_atomic_publish: true,
            ..Config::default()
        }
    }

    /// In what a stream that is there isn't as wanted, each with the line to type.
    fn differences(&self, found: &Config) -> Vec<String> {
        let wanted = self.config();
        let edit = format!("nats stream edit {}", self.name);
        let mut differences = Vec::new();
        let missing: Vec<&str> =
            wanted.subjects.iter().map(String::as_str).filter(|s| !takes(found, s)).collect();
        if !missing.is_empty() {
            let all = found.subjects.iter().map(String::as_str).chain(missing.iter().copied());
            let flags: String = all.map(|subject| format!(" --subjects='{subject}'")).collect();
            differences.push(format!("it doesn't take {}: `{edit}{flags}`", missing.join(", ")));
        }
        let mut differs = |differs: bool, what: String, flag: &str| {
            if differs {
                differences.push(format!("{what}: `{edit} {flag}`"));
            }
        };
        differs(!found.allow_atomic_publish, "it takes no atomic batches".to_owned(), "--allow-batch");
        differs(!found.allow_direct, "it can't be read directly".to_owned(), "--allow-direct");
        let replicas = found.num_replicas.max(1);
        differs(
            replicas != wanted.num_replicas,
            format!("it has {replicas} replicas, not {}", wanted.num_replicas),
            &format!("--replicas={}", wanted.num_replicas),
        );
        differs(
            found.max_age != wanted.max_age,
            format!("it keeps messages for {}, not {}", age(found.max_age), age(wanted.max_age)),
            &format!("--max-age={}s", wanted.max_age.as_secs()),
        );
        differs(
            found.max_bytes.max(-1) != wanted.max_bytes,
            format!("it keeps {} bytes, not {}", bytes(found.max_bytes), bytes(wanted.max_bytes)),
            &format!("--max-bytes={}", wanted.max_bytes),
        );
        differs(
            found.discard != wanted.discard,
            format!("when it is full it {}", when_full(found.discard)),
            if wanted.discard == DiscardPolicy::New { "--discard=new" } else { "--discard=old" },
        );
        differs(
            found.duplicate_window < wanted.duplicate_window,
            format!(
                "it recognizes copies for {}, not {}",
                age(found.duplicate_window),
                age(wanted.duplicate_window)
            ),
            &format!("--dupe-window={}s", wanted.duplicate_window.as_secs()),
        );
        differences
    }
}

fn age(age: Duration) -> String {
    if age.is_zero() { "ever".to_owned() } else { format!("{} s", age.as_secs()) }
}

fn bytes(bytes: i64) -> String {
    if bytes < 0 { "all".to_owned() } else { bytes.to_string() }
}

fn when_full(discard: DiscardPolicy) -> &'static str {
    match discard {
        DiscardPolicy::Old => "drops the oldest messages",
        DiscardPolicy::New => "refuses new messages",
    }
}

/// What came of a wish for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was made.
    Made,
    /// It was there, and was left as it is.
    Found {
        /// In what it isn't as wanted, each with the line to type.
        differences: Vec<String>,
    },
}

/// Makes a stream if there is none of its name; one that is there stays as it is.
///
/// # Errors
/// When it can't be made or looked up.
pub async fn ensure_stream(connection: &Connection, wanted: &StreamWanted) -> Result<Ensured, Error> {
    let found = |info: &Info| Ensured::Found { differences: wanted.differences(&info.config) };
    match connection.stream(&wanted.name).await {
        Ok(stream) => return Ok(found(stream.cached_info())),
        Err(Error::NoStream { .. }) => {}
        Err(error) => return Err(error),
    }
    let action = || format!("make the stream `{}`", wanted.name);
    match connection.context().create_stream(wanted.config()).await {
        Ok(_) => Ok(Ensured::Made),
        Err(error) => match error.kind() {
            // Somebody was faster.
            CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                Ok(found(connection.stream(&wanted.name).await?.cached_info()))
            }
            CreateStreamErrorKind::JetStream(error) => Err(Error::Refused {
                action: action(),
                code: error.error_code().0,
                reason: error.to_string(),
                advice: match error.error_code() {
                    ErrorCode::STREAM_SUBJECT_OVERLAP => {
                        "another stream takes subjects of it; see `nats stream ls --subject=…`".to_owned()
                    }
                    _ => "change the wish, or what the account may have".to_owned(),
                },
            }),
            CreateStreamErrorKind::EmptyStreamName | CreateStreamErrorKind::InvalidStreamName => {
                Err(Error::Settings(format!(
                    "`{}` is no name for a stream: it has no spaces, dots, `*` and `>`",
                    wanted.name
                )))
            }
            kind => Err(Error::Unavailable { action: action(), reason: kind.to_string() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fitness::check_transactions;

    #[test]
    fn what_is_made_is_as_wanted_and_fit() {
        for max_age in [None, Some(Duration::from_secs(5))] {
            let mut wanted = StreamWanted::new("out", vec!["orders.>".to_owned()]);
            wanted.max_age = max_age;
            let config = wanted.config();
            assert_eq!(wanted.differences(&config), [""; 0]);
            check_transactions(&config, "p/s").unwrap();
        }
    }

    #[test]
    fn differences_say_what_to_type() {
        let wanted = StreamWanted::new("out", vec!["orders.>".to_owned(), "bills".to_owned()]);
        let mut found =
            Config { allow_atomic_publish: false, max_age: Duration::from_secs(9), ..wanted.config() };
        found.subjects = vec!["orders.*".to_owned(), "tidemill.>".to_owned()];
        let differences = wanted.differences(&found).join("\n");
        for line in [
            "`nats stream edit out --subjects='orders.*' --subjects='tidemill.>' --subjects='orders.>' --subjects='bills'`",
            "`nats stream edit out --allow-batch`",
            "it keeps messages for 9 s, not ever: `nats stream edit out --max-age=0s`",
        ] {
            assert!(differences.contains(line), "{differences}");
        }
    }
}
