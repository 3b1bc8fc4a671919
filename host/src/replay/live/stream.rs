//! Output in a stream, as epochs, numbered as the transactions of a log are. The stream is read from its beginning, as it
//! is: with the markers that tell the epochs.

use std::ops::RangeInclusive;

use tidemill_jetstream::{Committed, Epochs, Options, Reader, Start};

use super::super::facts::Written;
use super::super::row::parse;
use super::super::{ReplayError, failed};
use super::Each;
use crate::nats::{patiently, wait};
use crate::pipeline::plan::StreamOutput;

/// Hands out the rows of a producer's epochs.
pub(super) fn rows(
    output: &StreamOutput,
    producer: &str,
    written: &Written,
    epochs: &RangeInclusive<u64>,
    each: Each<'_>,
) -> Result<(), ReplayError> {
    let connection = output.servers.connection().map_err(failed)?;
    let stream = output.stream.clone();
    let opened = wait(async move {
        let options = Options { allow_gaps: true, ..Options::default() };
        patiently(|| Reader::open(&connection, &stream, Start::Beginning, options.clone())).await
    });
    let mut reader = opened.map_err(failed)?;
    let end = reader.end_at_open();
    let mut found = Epochs::new(&output.stream, producer);
    while reader.position().sequence < end {
        // The reader comes back, so that what waits for the server does so on the threads for that.
        let (returned, read) = wait(async move {
            let read = reader.next().await;
            (reader, read)
        });
        reader = returned;
        for message in read.map_err(failed)?.messages {
            let sequence = message.sequence;
            let committed = found
                .take(message)
                .map_err(|why| failed(format!("stream `{}`, message {sequence}: {why}", output.stream)))?;
            let Some(Committed { epoch, messages }) = committed.filter(|c| epochs.contains(&c.epoch)) else {
                continue;
            };
            let messages = messages.ok_or_else(|| {
                failed(format!(
                    "messages of checkpoint {epoch} are gone from the stream `{}`; replay a later stretch, or give the \
                     stream larger limits",
                    output.stream
                ))
            })?;
            for message in messages {
                let row = parse(&message.payload, written).map_err(|why| {
                    failed(format!("stream `{}`, message {}: {why}", output.stream, message.sequence))
                })?;
                each(epoch, &row)?;
            }
        }
    }
    Ok(())
}
