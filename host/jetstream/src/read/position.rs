//! Places in a stream.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use xxhash_rust::xxh3::Xxh3;

use crate::error::Error;

/// Room for a few small messages in each pull.
const BUFFER_BYTES_MIN: usize = 4 << 10;
/// Less would be taken for a failure on any busy machine; with more none would be noticed.
const HEARTBEAT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(60);

/// Where a reader starts when there is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first message that the stream still has.
    Beginning,
    /// Behind the last message that the stream has by then.
    End,
    /// At the message of this sequence, which the stream must still have, or come to next.
    Sequence(u64),
    /// At the first message that was stored at this time or later.
    Time {
        /// Milliseconds since 1970.
        since_ms: i64,
    },
}

/// How far a stream has been read: what a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The stream: one that is made anew by the same name has another.
    pub identity: u64,
    /// The message that was read last; what comes next has a higher sequence. 0: none.
    pub sequence: u64,
    /// What the last messages were, by which another stream of the same identity is noticed, as a server's that was
    /// restored from an old disk and written to since; 0: not known.
    pub history: u64,
}

/// How a stream is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Goes on where messages are missing, and counts them. Deleting a message inside a stream is legal in JetStream,
    /// and streams with `max_msgs_per_subject` do it all the time; but a stream that was purged, or whose retention
    /// has overtaken the reader, looks just the same. So this is for streams that aren't expected to be complete.
    pub allow_gaps: bool,
    /// So many bytes are asked for and kept at most until they are taken; a single message may be larger. Each message
    /// counts with its subject and headers, and some 100 bytes for itself. 4 KiB at least.
    pub buffer_bytes: usize,
    /// How often the server says that it is there when it has no messages; when it misses two, another consumer is
    /// made. Between 50 ms and a minute.
    pub heartbeat: Duration,
    /// How long a stream must look changed, or gone, before that is believed: a server that was just elected the
    /// leader may not know the last messages yet.
    pub confirm: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_gaps: false,
            // Four pulls of one megabyte: 6,000 messages of 100 bytes, or 900 of a kilobyte. Larger ones aren't faster.
            buffer_bytes: 4 << 20,
            heartbeat: Duration::from_secs(1),
            confirm: Duration::from_secs(3),
        }
    }
}

impl Options {
    pub(super) fn check(&self) -> Result<(), Error> {
        let Self { buffer_bytes, heartbeat, .. } = self;
        if *buffer_bytes < BUFFER_BYTES_MIN {
            return Err(Error::Settings(format!(
                "a reader can't do with a buffer of {buffer_bytes} bytes; give it {BUFFER_BYTES_MIN} or more"
            )));
        }
        if !HEARTBEAT.contains(heartbeat) {
            return Err(Error::Settings(format!(
                "a reader can't have a heartbeat each {heartbeat:?}; let it be between {:?} and {:?}",
                HEARTBEAT.start(),
                HEARTBEAT.end()
            )));
        }
        Ok(())
    }
}

/// By which a stream is told from any other. The server keeps the time of its creation over restarts and restores.
pub(super) fn identity(info: &Info) -> u64 {
    identity_of(&info.config.name, info.created.unix_timestamp_nanos())
}

fn identity_of(name: &str, created_ns: i128) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(name.as_bytes());
    hash.update(&created_ns.to_le_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cant_work_are_refused() {
        let refused = |options: Options| matches!(options.check(), Err(Error::Settings(_)));
        assert!(!refused(Options::default()));
        assert!(refused(Options { buffer_bytes: 4095, ..Options::default() }));
        assert!(refused(Options { heartbeat: Duration::from_millis(49), ..Options::default() }));
        assert!(refused(Options { heartbeat: Duration::MAX, ..Options::default() }));
    }

    #[test]
    fn a_stream_is_told_by_its_name_and_the_time_of_its_creation() {
        let orders = identity_of("orders", 1_700_000_000_000_000_001);
        assert_eq!(orders, identity_of("orders", 1_700_000_000_000_000_001));
        assert_ne!(orders, identity_of("orders", 1_700_000_000_000_000_002));
        assert_ne!(orders, identity_of("order", 1_700_000_000_000_000_001));
    }
}
