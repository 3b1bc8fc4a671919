//! A record: what it has, and how it is written.
//!
//! Timestamp (8 bytes), length of the key (4), of the id (4), of the value (4), then key, id and value. All
//! integers are little-endian; the length `ffffffff` says that there is no key, or no id.

use crate::error::{LogError, Result};

/// A record may have this many bytes of key, id and value together: as much as a source decodes.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// What stands before the bytes of each record.
const LENGTHS_BYTES: usize = 20;
const ABSENT: u32 = u32::MAX;

/// A record, borrowed from whoever appends it or from the bytes that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its time in milliseconds since 1970, as whoever appends it means it; the log makes nothing of it.
    pub timestamp_ms: i64,
    /// What it is about, if anything.
    pub key: Option<&'a [u8]>,
    /// By which a copy of it is known, if by anything; see
    /// [`Options::ids_records`](crate::Options::ids_records).
    pub id: Option<&'a [u8]>,
    /// What it says.
    pub value: &'a [u8],
}

impl Record<'_> {
    /// The bytes of key, id and value.
    pub fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.id.map_or(0, <[u8]>::len) + self.value.len()
    }
}

/// Where in a buffer the parts of a record are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    timestamp_ms: i64,
    /// Where the key begins; the id and the value follow.
    key: usize,
    id: usize,
    value: usize,
    /// Where the record ends and the next begins.
    pub(crate) end: usize,
    has_key: bool,
    has_id: bool,
}

/// Writes a record.
pub(crate) fn push(out: &mut Vec<u8>, record: &Record<'_>) -> Result<()> {
    let bytes = record.bytes();
    if bytes > RECORD_BYTES_MAX {
        let (bytes, bytes_max) = (bytes as u64, RECORD_BYTES_MAX as u64);
        return Err(LogError::TooLarge { what: "a record", bytes, bytes_max });
    }
    let length =
        |part: Option<&[u8]>| part.map_or(ABSENT, |p| u32::try_from(p.len()).expect("16 MiB at most"));
    out.extend_from_slice(&record.timestamp_ms.to_le_bytes());
    for part in [record.key, record.id, Some(record.value)] {
        out.extend_from_slice(&length(part).to_le_bytes());
    }
    for part in [record.key.unwrap_or_default(), record.id.unwrap_or_default(), record.value] {
        out.extend_from_slice(part);
    }
    Ok(())
}

impl Place {
    /// Where the record that begins at `at` is, if the bytes up to `end` have one.
    pub(crate) fn find(bytes: &[u8], at: usize, end: usize) -> Option<Self> {
        let (lengths, rest) = bytes.get(at..end)?.split_first_chunk::<LENGTHS_BYTES>()?;
        let (timestamp, lengths) = lengths.split_first_chunk::<8>()?;
        let length = |part: usize| {
            let bytes = lengths.get(part * 4..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let (key, id, value) = (length(0)?, length(1)?, length(2)?);
        let size = |length: u32| if length == ABSENT { 0 } else { length as usize };
        let sizes = size(key).checked_add(size(id))?.checked_add(value as usize)?;
        if sizes > rest.len() {
            return None;
        }
        let start = at + LENGTHS_BYTES;
        Some(Self {
            timestamp_ms: i64::from_le_bytes(*timestamp),
            key: start,
            id: start + size(key),
            value: start + size(key) + size(id),
            end: start + sizes,
            has_key: key != ABSENT,
            has_id: id != ABSENT,
        })
    }

    /// The record, in the bytes that it was found in.
    pub(crate) fn record<'a>(&self, bytes: &'a [u8]) -> Record<'a> {
        let part = |from: usize, end: usize| bytes.get(from..end).unwrap_or_default();
        Record {
            timestamp_ms: self.timestamp_ms,
            key: self.has_key.then(|| part(self.key, self.id)),
            id: self.has_id.then(|| part(self.id, self.value)),
            value: part(self.value, self.end),
        }
    }

    /// The bytes of key, id and value.
    pub(crate) fn bytes(&self) -> usize {
        self.end - self.key
    }
}

/// A record of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its place in the partition.
    pub offset: u64,
    /// As in [`Record`].
    pub timestamp_ms: i64,
    /// As in [`Record`].
    pub key: Option<Vec<u8>>,
    /// As in [`Record`].
    pub id: Option<Vec<u8>>,
    /// As in [`Record`].
    pub value: Vec<u8>,
}

impl OwnedRecord {
    /// Copies a record.
    pub fn of(offset: u64, record: &Record<'_>) -> Self {
        Self {
            offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            id: record.id.map(<[u8]>::to_vec),
            value: record.value.to_vec(),
        }
    }

    /// Lends it, without its offset.
    pub fn as_record(&self) -> Record<'_> {
        Record {
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            id: self.id.as_deref(),
            value: &self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (key, empty) = (b"key".as_slice(), b"".as_slice());
        let records = [
            Record { timestamp_ms: -7, key: Some(key), id: Some(b"id"), value: b"value" },
            Record { timestamp_ms: i64::MAX, key: Some(empty), id: None, value: empty },
            Record { timestamp_ms: 0, key: None, id: Some(empty), value: b"v" },
        ];
        let mut bytes = vec![1, 2, 3];
        records.iter().for_each(|r| push(&mut bytes, r).unwrap());
        let mut at = 3;
        for record in records {
            let place = Place::find(&bytes, at, bytes.len()).unwrap();
            assert_eq!((place.record(&bytes), place.bytes()), (record, record.bytes()));
            assert!(Place::find(&bytes, at, place.end - 1).is_none(), "cut off");
            at = place.end;
        }
        assert_eq!(at, bytes.len());
    }

    #[test]
    fn a_record_that_is_too_large_is_refused() {
        let value = vec![0; RECORD_BYTES_MAX + 1];
        let error = push(&mut Vec::new(), &Record { value: &value, ..Record::default() }).unwrap_err();
        assert_eq!(error.to_string(), "a record has 16777217 bytes; at most 16777216 are possible");
    }
}
