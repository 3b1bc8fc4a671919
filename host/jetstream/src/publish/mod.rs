//! Publishing: epochs as atomic batches, each of which a stream has once; and single messages, many on their way at once.

mod answer;
mod batch;
mod effort;
mod epochs;
mod marker;
mod outgoing;
mod pipelined;
mod register;
mod sender;
mod transactions;
mod window;

pub use batch::BatchLimits;
pub use epochs::{Committed, Epochs};
pub use marker::Partial;
pub use outgoing::{Epoch, Outgoing};
pub use pipelined::Pipelined;
pub use transactions::{Outcome, Transactions};
pub use window::WindowLimits;

pub(crate) use marker::subjects as marker_subjects;
