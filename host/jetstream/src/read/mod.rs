//! Reading a stream by sequence: from a place, or behind a position that a checkpoint holds, in the stream's order,
//! each message once, and with every gap noticed.
//!
//! A [`Reader`] hands over what a tokio task of its own ([`follow`]) has received. The task [`attach`]es: it looks
//! whether the stream is still the one that was read, and makes a consumer that begins behind the last message. Then it
//! pulls, as far as there is room ([`pulls`]), and attaches again when anything seems wrong: nothing is heard, a
//! message was lost on the way, the connection is another one. The server keeps no position; the consumers
//! acknowledge nothing and end with the reader.

mod attach;
mod check;
mod delivery;
mod feed;
mod follow;
mod handover;
mod history;
mod message;
mod order;
mod position;
mod pulls;
mod reader;

pub use message::{Batch, Message};
pub use position::{Options, Position, Start};
pub use reader::Reader;

/// By which a stream is told from any other: its name and the time of its creation.
pub fn identity_of(info: &async_nats::jetstream::stream::Info) -> u64 {
    position::identity(info)
}
