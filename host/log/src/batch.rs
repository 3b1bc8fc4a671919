//! Records that were read, as they lie in the reader's buffer.

use crate::record::{Place, Record};

/// Records of a partition with consecutive offsets, borrowed from the reader that read them.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) places: &'a [Place],
    pub(crate) first_offset: u64,
}

impl<'a> Batch<'a> {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none: everything that is committed was read.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The offset of the first record, or if there is none, of the one that will be next.
    pub fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// The record with this index in the batch; its offset is so much higher than the first one's.
    pub fn get(&self, index: usize) -> Option<Record<'a>> {
        self.places.get(index).map(|place| place.record(self.bytes))
    }

    /// The records with their offsets.
    pub fn records(&self) -> impl ExactSizeIterator<Item = (u64, Record<'a>)> + use<'a> {
        let Self { bytes, places, first_offset } = *self;
        places.iter().enumerate().map(move |(i, place)| (first_offset + i as u64, place.record(bytes)))
    }
}
