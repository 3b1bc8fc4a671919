//! A frame: the records of one append, behind one checksum. It is whole or it isn't there.
//!
//! | bytes | |
//! |---|---|
//! | 8 | XXH3-64 of all that follows, with the file's seed |
//! | 4 | `Tide` |
//! | 4 | bytes of the records |
//! | 8 | offset of the first record |
//! | 8 | tag: in a segment the number of the transaction, or 0; in a staged file the partition |
//! | 8 | when it was written, in milliseconds since 1970 |
//! | 4 | number of records, at least one |
//! | 4 | flags: 1 if a record has an id |
//!
//! The seed differs from partition to partition and from log to log, so a frame in the wrong file is found
//! too.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{LogError, Result, io_error};
use crate::segments::OFFSET_MAX;

pub(crate) const HEADER_BYTES: usize = 48;
/// Records of one append may have this many bytes, what stands before each included: four of the largest
/// records.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

const MAGIC: [u8; 4] = *b"Tide";
const HAS_IDS: u32 = 1;

/// What stands before the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) checksum: u64,
    pub(crate) body_bytes: u32,
    pub(crate) first_offset: u64,
    pub(crate) tag: u64,
    pub(crate) written_ms: i64,
    pub(crate) records: u32,
    pub(crate) has_ids: bool,
}

/// What the bytes at some place are.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A whole frame whose checksum is right.
    Whole(Frame),
    /// The beginning of one that needs this many bytes to be judged.
    Short(usize),
    /// No frame.
    Bad(&'static str),
}

impl Frame {
    /// Of the whole frame.
    pub(crate) fn bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes as usize
    }

    /// The offset after its last record.
    pub(crate) fn end_offset(&self) -> u64 {
        self.first_offset + u64::from(self.records)
    }
}

/// Makes room for a frame's header; the records are pushed behind it.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
}

/// Writes the header before records that were pushed since [`begin`].
pub(crate) fn seal(
    out: &mut [u8],
    seed: u64,
    first_offset: u64,
    tag: u64,
    written_ms: i64,
    records: usize,
    has_ids: bool,
) -> Result<Frame> {
    let body = out.len() - HEADER_BYTES;
    if body > BATCH_BYTES_MAX {
        let (bytes, bytes_max) = (body as u64, BATCH_BYTES_MAX as u64);
        return Err(LogError::TooLarge { what: "a batch of records", bytes, bytes_max });
    }
    let mut frame = Frame {
        checksum: 0,
        body_bytes: u32::try_from(body).expect("64 MiB at most"),
        first_offset,
        tag,
        written_ms,
        records: u32::try_from(records).expect("a record has 20 bytes at least"),
        has_ids,
    };
    assert!(frame.records > 0, "an empty frame is never written");
    out[8..12].copy_from_slice(&MAGIC);
    out[12..16].copy_from_slice(&frame.body_bytes.to_le_bytes());
    out[16..24].copy_from_slice(&first_offset.to_le_bytes());
    out[24..32].copy_from_slice(&tag.to_le_bytes());
    out[32..40].copy_from_slice(&written_ms.to_le_bytes());
    out[40..44].copy_from_slice(&frame.records.to_le_bytes());
    out[44..48].copy_from_slice(&(if has_ids { HAS_IDS } else { 0 }).to_le_bytes());
    frame.checksum = xxh3_64_with_seed(&out[8..], seed);
    out[..8].copy_from_slice(&frame.checksum.to_le_bytes());
    Ok(frame)
}

/// Reads the header of the frame that the bytes begin with, and checks all of the frame.
pub(crate) fn parse(bytes: &[u8], seed: u64) -> Parsed {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Parsed::Short(HEADER_BYTES) };
    let eight = |at: usize| -> [u8; 8] { std::array::from_fn(|i| header[at + i]) };
    let four = |at: usize| -> [u8; 4] { std::array::from_fn(|i| header[at + i]) };
    if four(8) != MAGIC {
        return Parsed::Bad("no frame begins there");
    }
    let flags = u32::from_le_bytes(four(44));
    let frame = Frame {
        checksum: u64::from_le_bytes(eight(0)),
        body_bytes: u32::from_le_bytes(four(12)),
        first_offset: u64::from_le_bytes(eight(16)),
        tag: u64::from_le_bytes(eight(24)),
        written_ms: i64::from_le_bytes(eight(32)),
        records: u32::from_le_bytes(four(40)),
        has_ids: flags & HAS_IDS != 0,
    };
    if frame.body_bytes as usize > BATCH_BYTES_MAX {
        return Parsed::Bad("the frame's length is impossible");
    }
    let Some(whole) = bytes.get(8..frame.bytes()) else { return Parsed::Short(frame.bytes()) };
    if xxh3_64_with_seed(whole, seed) != frame.checksum {
        return Parsed::Bad("the frame's checksum is wrong");
    }
    if flags > HAS_IDS || frame.records == 0 || frame.first_offset > OFFSET_MAX {
        return Parsed::Bad("the frame was written by a newer version");
    }
    Parsed::Whole(frame)
}

/// Looks for a good frame at or behind a byte of a file: the first that `which` accepts.
pub(crate) fn find(
    path: &Path,
    from: u64,
    seed: u64,
    which: impl Fn(&Frame) -> bool,
) -> Result<Option<(u64, Frame)>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(io_error("open", path))?;
    file.seek(SeekFrom::Start(from)).map_err(io_error("read", path))?;
    file.read_to_end(&mut bytes).map_err(io_error("read", path))?;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        let Some(hit) = rest.windows(MAGIC.len()).position(|w| w == MAGIC) else { break };
        if let Some(start) = (at + hit).checked_sub(8)
            && let Parsed::Whole(frame) = parse(bytes.get(start..).unwrap_or_default(), seed)
            && which(&frame)
        {
            return Ok(Some((from + start as u64, frame)));
        }
        at += hit + 1;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seed: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        begin(&mut bytes);
        bytes.extend_from_slice(b"a body");
        seal(&mut bytes, seed, 40, 2, 1_000, 3, true).unwrap();
        bytes
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_only_whole() {
        let bytes = frame(7);
        let Parsed::Whole(frame) = parse(&bytes, 7) else { panic!("a frame was written") };
        assert_eq!((frame.bytes(), frame.first_offset, frame.end_offset()), (bytes.len(), 40, 43));
        assert_eq!((frame.tag, frame.written_ms, frame.has_ids), (2, 1_000, true));
        for end in 0..bytes.len() {
            assert!(matches!(parse(&bytes[..end], 7), Parsed::Short(_)), "cut off at {end}");
        }
        assert!(matches!(parse(&bytes, 8), Parsed::Bad(_)), "of another file");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = frame(7);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&flipped, 7), Parsed::Whole(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_found_behind_other_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = [b"Tide, which is no frame".to_vec(), frame(7), frame(9)].concat();
        std::fs::write(&path, &bytes).unwrap();
        let found = |from, seed| find(&path, from, seed, |_| true).unwrap().map(|(byte, _)| byte);
        assert_eq!(found(0, 7), Some(23));
        assert_eq!(found(0, 9), Some(23 + 54));
        assert_eq!(found(24, 7), None);
        assert_eq!(find(&path, 0, 7, |f| f.tag == 0).unwrap(), None);
    }
}
