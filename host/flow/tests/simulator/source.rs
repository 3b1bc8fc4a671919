//! A source: one partition, read by position.

use tidemill_flow::watermark::WATERMARK_MAX;

use crate::bugs::Bug;
use crate::context::Context;
use crate::data::Pipeline;
use crate::inbox::Signal;

pub(crate) struct Source {
    number: usize,
    rows: u32,
    position: u32,
    last_barrier: u64,
    /// The maximum watermark was sent: nothing comes any more but barriers.
    pub(crate) at_end: bool,
    /// `End` was sent: not even barriers come.
    pub(crate) left: bool,
    /// Its last barrier, for now, was that of a last checkpoint.
    paused: bool,
}

impl Source {
    /// Goes on from a position. Watermarks aren't part of this world's checkpoints: the source knows its own.
    pub(crate) fn new(number: usize, position: u32, pipeline: &Pipeline) -> (Self, Option<Signal>) {
        let rows = pipeline.rows[number];
        let source =
            Self { number, rows, position, last_barrier: 0, at_end: false, left: false, paused: false };
        let watermark = position.checked_sub(1).map(|last| source.watermark_after(last, pipeline));
        (source, watermark)
    }

    /// Some rows and the watermark behind them, or that there are none.
    pub(crate) fn read(&mut self, pipeline: &Pipeline, cx: &mut Context) -> Vec<Signal> {
        if self.at_end || self.paused {
            return Vec::new();
        }
        if self.position >= self.rows {
            self.at_end = true;
            return vec![Signal::Watermark(WATERMARK_MAX)];
        }
        let end = self.rows.min(self.position + cx.random.between(1, 3) as u32);
        let rows = (self.position..end).map(|n| Signal::Row(pipeline.input(self.number, n)));
        let signals = rows.chain([self.watermark_after(end - 1, pipeline)]).collect();
        self.position = end;
        signals
    }

    /// The coordinator has triggered a checkpoint. Returns the position to acknowledge and the barrier to send; nothing
    /// if that is over.
    pub(crate) fn trigger(
        &mut self,
        checkpoint: u64,
        last: bool,
        cx: &Context,
    ) -> Option<(u32, Vec<Signal>)> {
        if checkpoint <= self.last_barrier {
            return None;
        }
        self.last_barrier = checkpoint;
        self.paused |= last;
        let position = match cx.bug {
            Some(Bug::PositionTooFar) => self.position + 1,
            Some(Bug::PositionTooShort) => self.position.saturating_sub(1),
            _ => self.position,
        };
        Some((position, if self.left { Vec::new() } else { vec![Signal::Barrier(checkpoint)] }))
    }

    fn watermark_after(&self, last: u32, pipeline: &Pipeline) -> Signal {
        Signal::Watermark(i64::from(pipeline.input(self.number, last).time) - 1)
    }
}
