//! What a join keeps, read for people: of the entries in a storage those that are rows.

use super::buffers::{ROWS, SCHEDULE, time_of};
use super::table::{self, VERSIONS};
use super::{Side, window};
use crate::storage::StorageError;

/// How a join files its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By window.
    Window,
    /// By key and time.
    Interval,
    /// Waiting rows by when they are due, versions by key and time.
    Table,
}

/// A row that a join keeps.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Its side.
    pub side: Side,
    /// Its key.
    pub key: &'a [u8],
    /// Its time, in milliseconds since the Unix epoch.
    pub time: i64,
    /// The last millisecond of the window in which it is kept.
    pub window_last: Option<i64>,
    /// The row, as a [`Layout`](super::Layout) writes it.
    pub row: &'a [u8],
}

impl Form {
    /// The form of the join whose [`Spec`](super::Spec) reads like this.
    pub fn of(spec: &str) -> Option<Self> {
        let (before, _) = spec.split_once(" join")?;
        match before.split_once(' ')?.1 {
            "window" => Some(Self::Window),
            "interval" => Some(Self::Interval),
            "table" => Some(Self::Table),
            _ => None,
        }
    }

    /// The row at an entry of a collection of a key, if it is one.
    ///
    /// # Errors
    /// When what stands there is damaged.
    pub fn read<'a>(
        self,
        collection: u8,
        key: &'a [u8],
        entry: &'a [u8],
        value: &'a [u8],
    ) -> Result<Option<Kept<'a>>, StorageError> {
        if collection >= SCHEDULE {
            return Ok(None);
        }
        let side = Side::BOTH[usize::from(collection == Side::Right as u8)];
        Ok(Some(match (self, collection) {
            (Self::Window, _) => window::kept(entry, value)?,
            (Self::Table, ROWS) => table::waiting(value)?,
            (Self::Table, VERSIONS..) => {
                Kept { side, key, time: table::version_time(entry)?, window_last: None, row: value }
            }
            (Self::Interval, _) => Kept { side, key, time: time_of(entry)?, window_last: None, row: value },
        }))
    }
}
