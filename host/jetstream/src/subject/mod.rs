//! Subjects and headers of output, with values of rows in them.
//!
//! Values come from whoever fed the pipeline: none of them may change where a message goes by more than the token that
//! it stands in, or add a header of its own.

mod header;
mod pieces;
mod template;

pub use header::HeaderTemplate;
pub use pieces::RefusedValue;
pub use template::Template;

pub(crate) use header::is_reserved as is_reserved_header;

/// Whether a subject is the server's, an inbox, or of our markers.
pub(crate) fn is_reserved(subject: &str) -> bool {
    let first = subject.split('.').next().unwrap_or_default();
    first.starts_with('$') || first.starts_with("_INBOX") || first == "tidemill"
}
