//! Rows that stay in memory until somebody takes them: the output of a pipeline that goes through a script.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Block, Output, Part};

/// Rows in memory. Cheap to clone; all clones have the same rows.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<Captured>>>);

/// A row that has come to its sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// As its sink's format writes it.
    pub line: Vec<u8>,
    /// Its event time, if it has one.
    pub time: Option<i64>,
}

impl Memory {
    /// What has come since the last call, in its order.
    pub fn take(&self) -> Vec<Captured> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Output for Memory {
    fn write(&mut self, block: &Block, _: u64) -> io::Result<()> {
        let times = block.beside.as_ref().and_then(|beside| beside.times.as_ref());
        let lines = block.bytes.split_inclusive(|b| *b == b'\n').enumerate();
        let captured = |(row, line): (usize, &[u8])| Captured {
            line: line.strip_suffix(b"\n").unwrap_or(line).to_vec(),
            time: times.map(|times| times[row]),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(lines.map(captured));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn passed(&mut self, _: u64) -> io::Result<Vec<Part>> {
        Ok(Vec::new())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
