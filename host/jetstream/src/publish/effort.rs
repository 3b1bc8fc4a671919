//! Trying again.

use std::time::Duration;

use async_nats::jetstream::stream::Info;
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::error::Error;

/// How long it is tried without getting anywhere. An election takes ten seconds, a restart of a busy server some more.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Attempts that are made until a deadline, with growing pauses.
pub(super) struct Effort {
    pub(super) deadline: Instant,
    pause: Duration,
}

impl Effort {
    pub(super) fn new() -> Self {
        Self::until(Instant::now() + PATIENCE)
    }

    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, pause: PAUSES.0 }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// When the deadline would pass: why it is given up.
    pub(super) async fn pause(&mut self, action: &str, why: &str) -> Result<(), Error> {
        tracing::debug!("cannot {action} yet: {why}");
        if Instant::now() + self.pause >= self.deadline {
            return Err(Error::Unavailable { action: action.to_owned(), reason: why.to_owned() });
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}

/// A stream as it is now; waits for a server that knows it.
///
/// # Errors
/// When there is none of this name, or no server answers.
pub(super) async fn stream_info(connection: &Connection, stream: &str) -> Result<Info, Error> {
    let mut effort = Effort::new();
    loop {
        match connection.stream(stream).await {
            Ok(found) => return Ok(found.cached_info().clone()),
            Err(Error::Unavailable { action, reason }) => effort.pause(&action, &reason).await?,
            Err(error) => return Err(error),
        }
    }
}
