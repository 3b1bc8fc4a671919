//! Why the host doesn't do what it was asked for.

use std::fmt;

/// The host doesn't do what it was asked for; the message says why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of what kind the reason is.
    pub kind: RefusalKind,
    /// For the person who asked.
    pub message: String,
}

/// Of what kind a reason is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What it is about isn't there.
    NotFound,
    /// It was asked for wrongly.
    Invalid,
    /// It doesn't go together with how things stand.
    Conflict,
    /// The host has failed.
    Failed,
}

impl Refusal {
    /// What it is about isn't there.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self { kind: RefusalKind::NotFound, message: message.to_string() }
    }

    /// It was asked for wrongly.
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self { kind: RefusalKind::Invalid, message: message.to_string() }
    }

    /// It doesn't go together with how things stand.
    pub fn conflict(message: impl fmt::Display) -> Self {
        Self { kind: RefusalKind::Conflict, message: message.to_string() }
    }

    /// The host has failed.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { kind: RefusalKind::Failed, message: message.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
