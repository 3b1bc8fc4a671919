//! A reader of a stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::attach::{Place, attach_surely, connects};
use super::follow::Follower;
use super::handover::Handover;
use super::message::Batch;
use super::position::{Options, Position, Start};
use crate::connection::Connection;
use crate::error::Error;

/// Reads a stream in its order: each message once, whatever happens to the connection, the servers and what they keep
/// for the reader. It waits for them without limit; what can't be gone on with is an error: a message that is missing,
/// a stream that is gone or another one.
///
/// The server keeps nothing of it but a consumer, which goes with the reader. An account needs these requests of the
/// JetStream API, each for the stream's name: `STREAM.INFO`, `STREAM.MSG.GET`, `CONSUMER.CREATE`, `CONSUMER.INFO`,
/// `CONSUMER.MSG.NEXT` and `CONSUMER.DELETE`.
///
/// ```no_run
/// use tidemill_jetstream::{Connection, Options, Reader, Settings, Start};
///
/// # async fn read() -> Result<(), tidemill_jetstream::Error> {
/// let connection = Connection::open(&Settings::new(vec!["nats://localhost".to_owned()])).await?;
/// let mut reader = Reader::open(&connection, "orders", Start::Beginning, Options::default()).await?;
/// while !reader.is_caught_up() {
///     let batch = reader.next().await?;
///     println!("{} messages up to {}", batch.messages.len(), batch.position.sequence);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    handover: Arc<Handover>,
    position: Position,
    end_at_open: u64,
    gaps: u64,
}

impl Reader {
    /// A reader that starts at a place.
    ///
    /// # Errors
    /// When there is no such stream, it can't be read in this way, or it doesn't have the place; and when the server
    /// can't be reached.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(
        connection: &Connection,
        stream: &str,
        start: Start,
        options: Options,
    ) -> Result<Self, Error> {
        Self::begin(connection, stream, Place::Start(start), options).await
    }

    /// A reader that goes on behind a position.
    ///
    /// # Errors
    /// As [`Self::open`]; and when the stream isn't the one that the position was taken in: it was made anew, ends
    /// before the position, doesn't have the next message any more, or has others where the last were.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn resume(
        connection: &Connection,
        stream: &str,
        position: Position,
        options: Options,
    ) -> Result<Self, Error> {
        Self::begin(connection, stream, Place::Behind(position), options).await
    }

    async fn begin(
        connection: &Connection,
        stream: &str,
        from: Place,
        options: Options,
    ) -> Result<Self, Error> {
        options.check()?;
        let attached = attach_surely(connection, stream, &from, &options).await?;
        let (position, end_at_open) = (attached.position, attached.end);
        let handover = Arc::new(Handover::default());
        let follower = Follower::new(connection.clone(), stream, from, options, handover.clone(), &attached);
        tokio::spawn(follower.run(attached));
        Ok(Self { connection: connection.clone(), handover, position, end_at_open, gaps: 0 })
    }

    /// By which the stream is told from any other: its name and the time of its creation.
    pub fn identity(&self) -> u64 {
        self.position.identity
    }

    /// What has come, if anything has.
    ///
    /// # Errors
    /// When the reader can't go on: with what it found instead of the stream that it read. It is told again each time.
    pub fn try_next(&mut self) -> Result<Option<Batch>, Error> {
        Ok(self.handover.take()?.map(|taken| self.hand_out(taken)))
    }

    /// Waits for messages. Nothing is lost when it is dropped while it waits.
    ///
    /// # Errors
    /// As [`Self::try_next`].
    pub async fn next(&mut self) -> Result<Batch, Error> {
        let taken = poll_fn(|context| self.handover.poll_take(context)).await?;
        Ok(self.hand_out(taken))
    }

    /// Waits until [`Self::try_next`] has something, or until the server has said that nothing is pending, for which
    /// it is ready until [`Self::try_next`] is called. Only the last of those that wait is woken.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.handover.poll_ready(context)
    }

    /// Whether the server has said that nothing is pending behind what was handed out. What was published since may
    /// be on its way. It isn't known while the connection is lost, and until the server has said so again.
    pub fn is_caught_up(&self) -> bool {
        self.handover.caught_up().is_some_and(|by| connects(&self.connection) == Some(by))
    }

    /// The place behind the last message that was handed out.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The sequence of the stream's last message when the reader was opened; 0: it never had one.
    pub fn end_at_open(&self) -> u64 {
        self.end_at_open
    }

    /// How many messages were missing between those that were handed out; see [`Options::allow_gaps`].
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    fn hand_out(&mut self, (batch, gaps): (Batch, u64)) -> Batch {
        self.position = batch.position;
        self.gaps = gaps;
        batch
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.handover.close();
    }
}
