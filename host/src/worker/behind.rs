//! Word that an input has gone idle, which must not overtake a watermark that waits for timers or rows: who is idle isn't
//! listened to, so the watermark would be lost.

use super::Signal;

/// What waits behind a watermark.
#[derive(Debug, Default)]
pub(super) struct Behind {
    idle: bool,
}

impl Behind {
    /// The input has gone idle, or is active again. Says what goes on now: nothing, while a watermark before it `waits`.
    pub(super) fn come(&mut self, signal: Signal, waits: bool) -> Option<Signal> {
        let nobody_knows = matches!(signal, Signal::Active) && std::mem::take(&mut self.idle);
        if nobody_knows {
            return None;
        }
        self.idle = matches!(signal, Signal::Idle) && waits;
        (!self.idle).then_some(signal)
    }

    /// The watermark has gone on: what goes on behind it, if anything waits.
    pub(super) fn follow(&mut self) -> Option<Signal> {
        std::mem::take(&mut self.idle).then_some(Signal::Idle)
    }
}
