//! NATS JetStream as the log that pipelines read and write: reading a stream by sequence with every gap noticed, and
//! publishing so that each row arrives once.

mod connection;
mod error;
mod settings;

pub use connection::Connection;
pub use error::Error;
pub use settings::{Credentials, Reconnect, Secret, Settings, Tls};
