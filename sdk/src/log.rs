//! What an operator may say to the people who run it. The host limits it; it is never an error.
//!
//! ```
//! use tidemill_sdk::log;
//! log::info("opened");
//! log::count("late_flights", 3);
//! ```
//!
//! In a component this goes to the host; in a native build, log lines go to standard error, and numbers
//! nowhere.

use std::cell::Cell;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For who looks for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Someone should look.
    Warn,
    /// Something is broken.
    Error,
}

/// Logs a line for who looks for a fault.
pub fn debug(message: impl AsRef<str>) {
    (channel().log)(Level::Debug, message.as_ref());
}

/// Logs a line.
pub fn info(message: impl AsRef<str>) {
    (channel().log)(Level::Info, message.as_ref());
}

/// Logs a line that someone should look at.
pub fn warn(message: impl AsRef<str>) {
    (channel().log)(Level::Warn, message.as_ref());
}

/// Logs a line about something broken.
pub fn error(message: impl AsRef<str>) {
    (channel().log)(Level::Error, message.as_ref());
}

/// Adds to a counter of this operator.
pub fn count(name: &str, by: u64) {
    (channel().count)(name, by);
}

/// Sets a gauge of this operator.
pub fn gauge(name: &str, value: f64) {
    (channel().gauge)(name, value);
}

/// Where it goes. The imports live in the operator's crate, with its bindings; this crate only knows how to
/// call them.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Channel {
    pub log: fn(Level, &str),
    pub count: fn(&str, u64),
    pub gauge: fn(&str, f64),
}

thread_local! {
    static CHANNEL: Cell<Channel> = const {
        Cell::new(Channel { log: to_standard_error, count: |_, _| {}, gauge: |_, _| {} })
    };
}

fn channel() -> Channel {
    CHANNEL.get()
}

fn to_standard_error(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

/// Connects a component to its host, and sends the message and place of a panic there before the trap.
#[doc(hidden)]
pub fn connect(channel: Channel) {
    CHANNEL.set(channel);
    std::panic::set_hook(Box::new(|panic| error(panic.to_string())));
}
