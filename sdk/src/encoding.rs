//! How entries of a collection and their values are written as bytes: entries so that bytes sort as values do,
//! values as in columns.

use crate::batch::DataType;
use crate::value::Timestamp;

/// What can be looked up in a collection: an integer, a [`Timestamp`], a `bool`, text or bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an entry of a collection",
    label = "not something that entries are sorted by",
    note = "an entry is an `i64`, a `Timestamp`, a `bool`, a `String` or a `Vec<u8>`; floats have no order to rely on"
)]
pub trait Entry {
    /// What the contract calls this type.
    const DATA_TYPE: DataType;
    /// Appends the bytes of this entry.
    fn encode(&self, bytes: &mut Vec<u8>);
}

/// An entry that owns its data, as [`Entries`](crate::Entries) returns it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the entries of a collection",
    label = "not something that entries are sorted by",
    note = "an entry is an `i64`, a `Timestamp`, a `bool`, a `String` or a `Vec<u8>`; floats have no order to rely on"
)]
pub trait OwnedEntry: Entry + Sized {
    /// Reads what [`encode`](Entry::encode) wrote; `None` if it is something else.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// What can stand at an entry of a collection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of an entry",
    label = "not a value of a collection",
    note = "a value is an `i64`, `f64`, `bool`, `Timestamp`, `String`, `Vec<u8>` or `Vec<i64>`"
)]
pub trait EntryValue: Clone {
    /// What the contract calls this type.
    const DATA_TYPE: DataType;
    /// Appends the bytes of this value.
    fn encode(&self, bytes: &mut Vec<u8>);
    /// Reads what [`encode`](Self::encode) wrote; `None` if it is something else.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

const SIGN: u64 = 1 << 63;

/// Big-endian with the sign bit flipped: negative numbers come first.
fn ordered(number: i64) -> [u8; 8] {
    (number.cast_unsigned() ^ SIGN).to_be_bytes()
}

fn from_ordered(bytes: &[u8]) -> Option<i64> {
    Some((u64::from_be_bytes(bytes.try_into().ok()?) ^ SIGN).cast_signed())
}

fn to_bool(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

fn to_text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

macro_rules! entries {
    ($($owned:ty $(as $borrowed:ty)?: $data_type:ident, $encode:expr, $decode:expr);* $(;)?) => {$(
        entries!(@entry $owned, $data_type, $encode);
        $(entries!(@entry $borrowed, $data_type, $encode);)?

        impl OwnedEntry for $owned {
            fn decode(bytes: &[u8]) -> Option<Self> {
                let decode: fn(&[u8]) -> Option<Self> = $decode;
                decode(bytes)
            }
        }
    )*};
    (@entry $entry:ty, $data_type:ident, $encode:expr) => {
        impl Entry for $entry {
            const DATA_TYPE: DataType = DataType::$data_type;

            fn encode(&self, bytes: &mut Vec<u8>) {
                let encode: fn(&Self, &mut Vec<u8>) = $encode;
                encode(self, bytes);
            }
        }
    };
}

entries! {
    i64: Integer, |entry, bytes| bytes.extend_from_slice(&ordered(*entry)), from_ordered;
    Timestamp: Timestamp, |entry, bytes| bytes.extend_from_slice(&ordered(entry.0)),
        |bytes| from_ordered(bytes).map(Timestamp);
    bool: Boolean, |entry, bytes| bytes.push(u8::from(*entry)), to_bool;
    String as str: Text, |entry, bytes| bytes.extend_from_slice(entry.as_bytes()), to_text;
    Vec<u8> as [u8]: Bytes, |entry, bytes| bytes.extend_from_slice(entry), |bytes| Some(bytes.to_vec());
}

macro_rules! values {
    ($($value:ty: $data_type:ident, $encode:expr, $decode:expr);* $(;)?) => {$(
        impl EntryValue for $value {
            const DATA_TYPE: DataType = DataType::$data_type;

            fn encode(&self, bytes: &mut Vec<u8>) {
                let encode: fn(&Self, &mut Vec<u8>) = $encode;
                encode(self, bytes);
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                let decode: fn(&[u8]) -> Option<Self> = $decode;
                decode(bytes)
            }
        }
    )*};
}

values! {
    i64: Integer, |value, bytes| bytes.extend_from_slice(&value.to_le_bytes()),
        |bytes| bytes.try_into().ok().map(i64::from_le_bytes);
    f64: Float, |value, bytes| bytes.extend_from_slice(&value.to_le_bytes()),
        |bytes| bytes.try_into().ok().map(f64::from_le_bytes);
    Timestamp: Timestamp, |value, bytes| bytes.extend_from_slice(&value.0.to_le_bytes()),
        |bytes| bytes.try_into().ok().map(|word| Timestamp(i64::from_le_bytes(word)));
    bool: Boolean, |value, bytes| bytes.push(u8::from(*value)), to_bool;
    String: Text, |value, bytes| bytes.extend_from_slice(value.as_bytes()), to_text;
    Vec<u8>: Bytes, |value, bytes| bytes.extend_from_slice(value), |bytes| Some(bytes.to_vec());
    Vec<i64>: Bytes, |value, bytes| bytes.extend(value.iter().flat_map(|item| item.to_le_bytes())),
        |bytes| match bytes.as_chunks::<8>() {
            (items, []) => Some(items.iter().map(|item| i64::from_le_bytes(*item)).collect()),
            _ => None,
        };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ascending values must have ascending bytes, and come back.
    fn check<E: OwnedEntry + PartialEq + std::fmt::Debug>(ascending: &[E]) {
        let bytes = |entry: &E| {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            bytes
        };
        for pair in ascending.windows(2) {
            assert!(bytes(&pair[0]) < bytes(&pair[1]), "{pair:?}");
        }
        for entry in ascending {
            assert_eq!(E::decode(&bytes(entry)).as_ref(), Some(entry));
        }
    }

    #[test]
    fn entries_sort_as_their_bytes_do() {
        check(&[i64::MIN, -256, -255, -1, 0, 1, 255, 256, i64::MAX]);
        check(&[i64::MIN, -1, 0, 1, i64::MAX].map(Timestamp));
        check(&[false, true]);
        check(&["", "a", "aa", "b", "é", "潮"].map(String::from));
        check(&[vec![], vec![0], vec![0, 0], vec![1], vec![255]]);
    }

    #[test]
    fn bytes_of_another_type_are_no_value() {
        assert_eq!(
            (<i64 as EntryValue>::decode(b"1234567"), <bool as EntryValue>::decode(&[2])),
            (None, None)
        );
        assert_eq!(<String as EntryValue>::decode(&[0xff]), None);
        assert_eq!((<Vec<i64> as EntryValue>::decode(&[0; 9]), f64::decode(&[0; 8])), (None, Some(0.0)));
    }
}
