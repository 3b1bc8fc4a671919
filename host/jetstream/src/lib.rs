//! NATS JetStream as the log that pipelines read and write: reading a stream by sequence with every gap noticed, and
//! publishing so that each row arrives once.

mod connection;
mod cryptography;
pub mod doctor;
mod error;
mod fitness;
mod names;
mod provision;
mod publish;
mod read;
mod settings;
mod subject;

pub use connection::Connection;
pub use cryptography::use_cryptography;
pub use error::Error;
pub use fitness::{check_duplicate_window, check_takes, covers};
pub use names::{check_server, check_stream};
pub use provision::{Ensured, StreamWanted, ensure_stream};
pub use publish::{
    BatchLimits, Committed, Epoch, Epochs, Outcome, Outgoing, Partial, Pipelined, Transactions, WindowLimits,
};
pub use read::{Batch, Message, Options, Position, Reader, Start, identity_of};
pub use settings::{Credentials, Reconnect, Secret, Settings, Tls};
pub use subject::{HeaderTemplate, RefusedValue, Template};
