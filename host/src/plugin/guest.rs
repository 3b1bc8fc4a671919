//! What the host keeps for one guest, beside its memory: its limits, and what it says through telemetry.

use super::bindings::transform::tidemill::operator::telemetry::{Host, Level};
use super::bindings::transform::tidemill::operator::types;
use super::collections::LentCollections;
use super::engine::TICK;

/// What one instance of an operator may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, summed over the instance, in bytes.
    pub memory_bytes: usize,
    /// How long one call may run, in milliseconds; waiting for a thread doesn't count.
    pub call_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, call_ms: 10_000 }
    }
}

/// The most bytes that the host copies out of a guest in one call.
pub(super) const COPIED_BYTES_MAX: usize = 128 << 20;
/// Entries of all tables together. A Rust guest has some hundreds.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Lines that an instance may log in its life; the rest is counted, and said once.
const LOG_LINES_MAX: u64 = 1_000;
const LOG_LINE_BYTES_MAX: usize = 4_096;

/// The data of a guest's store.
pub(super) struct Guest {
    operator: String,
    limits: Limits,
    memory_bytes: usize,
    table_elements: usize,
    /// Whether memory was refused: a trap that follows is most likely its consequence.
    pub(super) memory_refused: bool,
    ticks_left: u64,
    log_lines: u64,
    /// The last error that the guest logged in this call: a panic's message, as a rule.
    pub(super) last_error: Option<String>,
    /// The collections of the call at hand, where it is one about keys.
    pub(super) lent: Option<LentCollections>,
}

impl Guest {
    pub(super) fn new(operator: &str, limits: Limits) -> Self {
        Self {
            operator: operator.to_owned(),
            limits,
            memory_bytes: 0,
            table_elements: 0,
            memory_refused: false,
            ticks_left: 0,
            log_lines: 0,
            last_error: None,
            lent: None,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Nothing that it says is heard from now on.
    pub(super) fn silence(&mut self) {
        self.log_lines = LOG_LINES_MAX + 1;
    }

    pub(super) fn begin_call(&mut self) {
        self.say_last_error();
        // One more, as a call begins in the middle of a tick.
        self.ticks_left = 1 + self.limits.call_ms.div_ceil(TICK.as_millis().try_into().expect("some ms"));
        self.memory_refused = false;
    }

    /// Counts something that the guest says; beyond the limit it is dropped, which is said once.
    fn may_speak(&mut self) -> bool {
        self.log_lines += 1;
        if self.log_lines == LOG_LINES_MAX + 1 {
            tracing::warn!(operator = self.operator, "logged {LOG_LINES_MAX} lines; the rest is dropped");
        }
        self.log_lines <= LOG_LINES_MAX
    }

    /// Logs the error that was held back: it wasn't the message of a panic, which the failure shows.
    fn say_last_error(&mut self) {
        if let Some(message) = self.last_error.take().filter(|_| self.log_lines <= LOG_LINES_MAX) {
            tracing::error!(operator = self.operator, "{message}");
        }
    }

    /// A tick has passed while the guest ran. Says whether it may go on.
    pub(super) fn tick(&mut self) -> bool {
        self.ticks_left = self.ticks_left.saturating_sub(1);
        self.ticks_left > 0
    }

    pub(super) fn timed_out(&self) -> bool {
        self.ticks_left == 0
    }
}

/// Sums over all memories of the store: wasmtime's own limiter looks at each singly.
impl wasmtime::ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.limits.memory_bytes {
            self.memory_refused = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.say_last_error();
    }
}

impl types::Host for Guest {}

impl Host for Guest {
    fn log(&mut self, level: Level, message: String) {
        let heard = self.may_speak();
        let message = readable(&message);
        match level {
            // Kept also when no more is logged: it may be why the guest traps.
            Level::Error => {
                self.say_last_error();
                self.last_error = Some(message);
            }
            Level::Debug | Level::Info | Level::Warn if !heard => {}
            Level::Debug => tracing::debug!(operator = self.operator, "{message}"),
            Level::Info => tracing::info!(operator = self.operator, "{message}"),
            Level::Warn => tracing::warn!(operator = self.operator, "{message}"),
        }
    }

    fn count(&mut self, name: String, by: u64) {
        if self.may_speak() {
            tracing::debug!(operator = self.operator, counter = readable(&name), by);
        }
    }

    fn gauge(&mut self, name: String, value: f64) {
        if self.may_speak() {
            tracing::debug!(operator = self.operator, gauge = readable(&name), value);
        }
    }
}

/// A guest's text, cut to a length, on one line and without what could steer a terminal.
pub(super) fn readable(text: &str) -> String {
    let end = text.floor_char_boundary(LOG_LINE_BYTES_MAX);
    let visible = |c: char| match c {
        '\n' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text[..end].chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::ResourceLimiter;

    #[test]
    fn memory_is_summed_over_the_store() {
        let mut guest = Guest::new("o", Limits { memory_bytes: 100, call_ms: 1 });
        assert!(guest.memory_growing(0, 60, None).unwrap());
        assert!(guest.memory_growing(0, 40, None).unwrap());
        assert!(!guest.memory_growing(60, 61, None).unwrap());
        assert!(guest.memory_refused);
    }

    #[test]
    fn a_guest_cannot_steer_the_terminal() {
        assert_eq!(readable("a\u{1b}[31mb"), "a\u{fffd}[31mb");
        assert_eq!(readable(&"é".repeat(5_000)).len(), LOG_LINE_BYTES_MAX);
    }
}
