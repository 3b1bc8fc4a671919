//! Where in a segment an offset is, roughly: every so many bytes one frame is remembered, and from there the
//! segment is read. Nothing of it is on the disk; whoever reads a segment notes what he passes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One frame is noted in so many bytes: reading them takes far less than the seek that finds them.
const STEP_BYTES: u64 = 64 << 10;
/// Segments that are remembered; of 64 MiB each has a thousand places at most, 16 KiB.
const SEGMENTS_MAX: usize = 256;

/// The places of a log's segments.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By partition and first offset of the segment; held for a look or a push only.
    segments: Mutex<BTreeMap<(u32, u64), Vec<Place>>>,
}

/// The frame that begins with `offset` begins at `byte`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) byte: u64,
}

impl Index {
    /// A committed frame of a segment begins there.
    pub(crate) fn note(&self, partition: u32, segment: u64, place: Place) {
        let mut segments = self.lock();
        let places = segments.entry((partition, segment)).or_default();
        let last = places.last().copied().unwrap_or(Place { offset: segment, byte: 0 });
        if place.byte < last.byte + STEP_BYTES {
            return;
        }
        places.push(place);
        if segments.len() > SEGMENTS_MAX {
            segments.pop_first();
        }
    }

    /// The nearest known frame of the segment that begins at or before an offset.
    pub(crate) fn find(&self, partition: u32, segment: u64, offset: u64) -> Place {
        let segments = self.lock();
        let places = segments.get(&(partition, segment)).map(Vec::as_slice).unwrap_or_default();
        let behind = places.partition_point(|p| p.offset <= offset);
        let place = behind.checked_sub(1).and_then(|last| places.get(last));
        place.copied().unwrap_or(Place { offset: segment, byte: 0 })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u32, u64), Vec<Place>>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_frame_before_an_offset_is_found() {
        let index = Index::default();
        let place = |offset| Place { offset, byte: (offset - 1_000) * 100 };
        for offset in 1_000..3_000 {
            index.note(2, 1_000, place(offset));
        }
        assert_eq!(index.find(2, 1_000, 1_655), place(1_000));
        assert_eq!(index.find(2, 1_000, 1_656), place(1_656), "the first behind 64 KiB");
        assert_eq!(index.find(2, 1_000, 2_311), place(1_656));
        assert_eq!(index.find(2, 1_000, u64::MAX), place(2_968));
        assert_eq!(index.find(1, 1_000, 1_700), place(1_000), "nothing is known");
    }

    #[test]
    fn it_stays_small() {
        let index = Index::default();
        for segment in 0..1_000 {
            index.note(0, segment, Place { offset: segment + 1, byte: STEP_BYTES });
        }
        assert_eq!(index.lock().len(), SEGMENTS_MAX);
        assert_eq!(index.find(0, 999, 1_000).byte, STEP_BYTES);
    }
}
