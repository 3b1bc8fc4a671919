//! How a command ends when it doesn't succeed: the message and the exit status.

use std::fmt::Display;
use std::process::ExitCode;

/// What the statuses mean, for `--help`.
pub(super) const STATUSES: &str = "\
Exit statuses:
    0  it is done
    1  it was begun and failed
    2  it can't be done as it was asked, or the host refused it
    3  the host can't be reached, or doesn't accept the token
  130  it was interrupted";

/// A command that didn't succeed.
#[derive(Debug)]
pub(super) struct Exit {
    message: Option<String>,
    status: u8,
}

impl Exit {
    /// What was asked for can't be done as it was asked: a wrong argument, file or component. Status 2.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { message: Some(message.to_string()), status: 2 }
    }

    /// It was begun and failed. Status 1.
    pub(super) fn failure(message: impl Display) -> Self {
        Self { message: Some(message.to_string()), status: 1 }
    }

    /// The host can't be reached, or doesn't accept the token. Status 3.
    pub(super) fn unreachable(message: impl Display) -> Self {
        Self { message: Some(message.to_string()), status: 3 }
    }

    /// It was interrupted, and ended in order. Status 130, as shells have it.
    pub(super) fn interrupted() -> Self {
        Self { message: None, status: 130 }
    }

    pub(super) fn report(self) -> ExitCode {
        if let Some(message) = self.message {
            super::tell(&format!("tidemill: {message}\n"));
        }
        ExitCode::from(self.status)
    }
}
