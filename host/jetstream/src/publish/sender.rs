//! Sends the messages of an epoch, as many as a batch may have.

use std::time::Duration;

use tokio::time::timeout;

use super::batch::{Batch, BatchLimits, Staged};
use super::outgoing::{Encoder, Epoch};
use super::register::{Failure, Register};

/// A server forgets a batch of which it hears nothing for so long. The client takes no more messages while it has no
/// connection.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// What is needed to send a batch.
#[derive(Default)]
pub(super) struct Sender {
    pub(super) limits: BatchLimits,
    encoder: Encoder,
    /// How many batches were begun.
    batches: u64,
    /// The server is to say what it thinks of each message.
    pub(super) asking: bool,
}

/// Why a batch isn't sent.
pub(super) enum Unsent {
    /// The messages can't be read; the reason.
    Unreadable(String),
    Failed(Failure),
}

impl Sender {
    /// Sends as many of the next messages as a batch may have; `left` are to come, at least one.
    pub(super) async fn stage(
        &mut self,
        register: &Register,
        owner: &str,
        messages: &mut dyn Epoch,
        left: u64,
    ) -> Result<Staged, Unsent> {
        self.batches += 1;
        // Never the same twice, also not after a batch that failed: some of it may still be on its way.
        let id = format!("{owner}-{}", self.batches);
        let sending = async {
            let batch = Batch::begin(register, &mut self.encoder, id, self.asking).await;
            let mut batch = batch.map_err(Unsent::Failed)?;
            for sent in 0..left {
                if !batch.has_room(self.limits) {
                    break;
                }
                let message =
                    messages.next().map_err(|e| Unsent::Unreadable(e.to_string()))?.ok_or_else(|| {
                        let reason = format!("its messages end {} before the last", left - sent);
                        Unsent::Unreadable(reason)
                    })?;
                batch.send(&message).await.map_err(Unsent::Failed)?;
            }
            Ok(batch.staged())
        };
        let late = || Failure::Unclear("the connection takes no messages".to_owned());
        timeout(SEND_WITHIN, sending).await.unwrap_or_else(|_| Err(Unsent::Failed(late())))
    }
}
