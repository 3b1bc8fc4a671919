//! Rows in flight: those that a task had not processed when it took its snapshot for a checkpoint whose barriers it no
//! longer waited for. They are filed by key group beside the operator's state, so that they go wherever that goes, and
//! are processed before anything else by whoever goes on from the checkpoint.
//!
//! A row is written as
//!
//! * which of the next three there are, a bit for each from the lowest: 1 byte;
//! * its event time, the watermark before it, its position: 8 bytes little-endian each;
//! * its fields, as [`rows`](crate::rows) are.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
    new_null_array,
};

use crate::batch::{BATCH_ROWS_MAX, Batch, record_batch};
use crate::key::{Keys, key_group};
use crate::rows::{Codec, compatible};
use crate::schema::{Field, FieldType, Schema};
use crate::storage::{Addresses, Storage, StorageError, Write, Writes};
use crate::watermark::WATERMARK_MIN;

/// Rows that are read at once.
const READ_AT_ONCE: usize = 4096;

/// Writes and reads the rows in flight to an operator.
#[derive(Debug)]
pub struct InFlight {
    addresses: Addresses,
    schema: Schema,
    codec: Codec,
}

impl InFlight {
    /// For rows of this schema.
    ///
    /// # Panics
    /// Never: a schema is compatible with itself.
    pub fn new(addresses: Addresses, schema: &Schema) -> Self {
        Self::reading(addresses, schema, schema).expect("a schema is compatible with itself")
    }

    /// For rows that were written in the schema `written`, and are read in `schema`.
    ///
    /// # Errors
    /// When they can't be: a type has changed, or they lack a field. Even one that may be absent: it would be, in these
    /// rows only.
    pub fn reading(addresses: Addresses, schema: &Schema, written: &Schema) -> Result<Self, String> {
        if let Some(field) = schema.fields().iter().find(|f| written.field(&f.name).is_none()) {
            return Err(format!("they don't have the field {field}"));
        }
        compatible(written, schema, false)?;
        // A field that needs a value has one in each row, that was just made sure of: so any will do here.
        let initial = |field: &Field| match field {
            Field { field_type, nullable: true, .. } => new_null_array(&field_type.arrow(), 1),
            Field { field_type, .. } => some_value(*field_type),
        };
        let initial = schema.fields().iter().map(initial).collect();
        let older = if written == schema { vec![] } else { vec![(0, written.clone())] };
        let version = u8::from(written != schema);
        let codec = Codec::new(version, schema, &older, Some(initial))?;
        Ok(Self { addresses, schema: schema.clone(), codec })
    }

    /// The rows of a batch, written down as those from `number` on. `key` are the columns of its key; `watermarks` is
    /// what counts for each row.
    ///
    /// # Panics
    /// When the batch isn't of the schema, or there isn't a watermark for each row.
    pub fn write(&self, batch: &Batch, key: &[usize], watermarks: &[i64], number: u64) -> Writes {
        assert_eq!(watermarks.len(), batch.rows(), "a watermark for each row");
        let columns: Vec<&ArrayRef> = key.iter().map(|&k| batch.columns.column(k)).collect();
        let keys = Keys::of(&columns, batch.rows());
        let mut writes = Writes::default();
        for (row, (&hash, &watermark)) in keys.hashes().iter().zip(watermarks).enumerate() {
            let time = batch.times.as_ref().map(|t| t[row].cast_unsigned());
            let watermark = (watermark > WATERMARK_MIN).then_some(watermark.cast_unsigned());
            let position = batch.positions.as_ref().map(|p| p[row]);
            let id = batch.ids.as_ref().map(|ids| ids[row].cast_unsigned());
            let [low, high] = [0, 64].map(|shift| id.map(|id| (id >> shift) as u64));
            let beside = [time, watermark, position, low, high];
            let mut value = vec![0];
            for (bit, part) in beside.iter().enumerate() {
                let Some(part) = part else { continue };
                value[0] |= 1 << bit;
                value.extend_from_slice(&part.to_le_bytes());
            }
            value.extend_from_slice(&self.codec.encode(batch.columns.columns(), row));
            let address = self.addresses.in_flight(key_group(hash), number + row as u64);
            writes.list.push(Write::Put(address, value));
        }
        writes
    }

    /// What is in flight to these key groups, in the order in which it came. They must have been one task's.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no row.
    pub fn read(&self, storage: &dyn Storage, groups: Range<u32>) -> Result<Vec<Batch>, StorageError> {
        let (mut from, end) = self.range(groups);
        let mut found = Vec::new();
        loop {
            let some = storage.scan(&from, &end, READ_AT_ONCE)?;
            let Some((last, _)) = some.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (address, value) in some {
                found.push((self.addresses.read_in_flight(&address)?.1, value));
            }
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        let rows = found.iter().map(|(number, value)| {
            read_row(value)
                .ok_or_else(|| StorageError(format!("row {number} in flight is torn: {value:02x?}")))
        });
        let rows: Vec<(Beside, &[u8])> = rows.collect::<Result<_, _>>()?;
        let mut batches = Vec::new();
        // A batch has times for all of its rows or for none, and so with positions and ids.
        let alike = |a: &(Beside, &[u8]), b: &(Beside, &[u8])| {
            [0, 2, 3].iter().all(|&part| a.0[part].is_some() == b.0[part].is_some())
        };
        for rows in rows.chunk_by(alike).flat_map(|rows| rows.chunks(BATCH_ROWS_MAX)) {
            batches.push(self.batch(rows)?);
        }
        Ok(batches)
    }

    fn batch(&self, rows: &[(Beside, &[u8])]) -> Result<Batch, StorageError> {
        let written: Vec<&[u8]> = rows.iter().map(|(_, row)| *row).collect();
        let columns = self.codec.decode(&written);
        let columns = columns.map_err(|e| StorageError(format!("a row in flight can't be read: {e}")))?;
        let watermark = |(beside, _): &(Beside, &[u8])| beside[1].map_or(WATERMARK_MIN, u64::cast_signed);
        let times: Option<Vec<i64>> =
            rows.iter().map(|(beside, _)| beside[0].map(u64::cast_signed)).collect();
        let positions: Option<Vec<u64>> = rows.iter().map(|(beside, _)| beside[2]).collect();
        let id = |(beside, _): &(Beside, &[u8])| {
            let (low, high) = (u128::from(beside[3]?), u128::from(beside[4]?));
            Some((low | high << 64).cast_signed())
        };
        let ids: Option<Vec<i128>> = rows.iter().map(id).collect();
        Ok(Batch {
            columns: record_batch(self.schema.arrow(), columns, rows.len()),
            // Without time nothing is late.
            watermarks: times.is_some().then(|| rows.iter().map(watermark).collect::<Vec<_>>().into()),
            times: times.map(Into::into),
            positions: positions.map(Into::into),
            ids: ids.map(Into::into),
        })
    }

    /// Removes what is in flight to these key groups.
    pub fn remove(&self, groups: Range<u32>) -> Writes {
        let (from, end) = self.range(groups);
        Writes { list: vec![Write::DeleteRange(from, end)] }
    }

    fn range(&self, groups: Range<u32>) -> (Vec<u8>, Vec<u8>) {
        (self.addresses.in_flight_of_group(groups.start), self.addresses.in_flight_of_group(groups.end))
    }
}

/// What stands before a row's fields: its event time, its watermark, its position, and the low and the high half of its
/// id.
type Beside = [Option<u64>; 5];

/// What stands before a row's fields, and these; nothing, of a torn row.
fn read_row(value: &[u8]) -> Option<(Beside, &[u8])> {
    let (there, mut rest) = value.split_first()?;
    let mut beside = Beside::default();
    for (bit, part) in beside.iter_mut().enumerate() {
        if there & (1 << bit) != 0 {
            let (bytes, tail) = rest.split_first_chunk::<8>()?;
            (*part, rest) = (Some(u64::from_le_bytes(*bytes)), tail);
        }
    }
    (there >> beside.len() == 0).then_some((beside, rest))
}

/// How late the rows of one channel are, seen from the snapshot of a task that goes on without the channels' barriers.
///
/// Those who go on from the checkpoint process what is in flight before any watermark comes. So for each row counts what
/// counted at the snapshot: the watermark of its own channel just before it, held back to those of the others as they
/// were. The operator's own watermark was the minimum of all then, so it isn't ahead of any row that isn't late.
#[derive(Clone, Debug)]
pub struct ChannelTime {
    others: i64,
    reached: i64,
}

impl ChannelTime {
    /// For a channel of a task whose combined watermark is `watermark`, and that of its other channels `others`.
    pub fn new(watermark: i64, others: i64) -> Self {
        Self { others, reached: watermark }
    }

    /// The watermark that counts for each row of the next batch. It never goes back.
    pub fn of(&mut self, batch: &Batch) -> Vec<i64> {
        let Some(own) = &batch.watermarks else {
            // None of them is behind the watermark before it, and that isn't behind this one.
            return vec![self.reached; batch.rows()];
        };
        let mut before = |&own: &i64| {
            self.reached = self.reached.max(own.min(self.others));
            self.reached
        };
        own.iter().map(&mut before).collect()
    }
}

/// A column with one value.
fn some_value(field_type: FieldType) -> ArrayRef {
    match field_type {
        FieldType::Boolean => Arc::new(BooleanArray::from(vec![false])),
        FieldType::Integer => Arc::new(Int64Array::from(vec![0])),
        FieldType::Float => Arc::new(Float64Array::from(vec![0.0])),
        FieldType::Text => Arc::new(StringArray::from(vec![""])),
        FieldType::Bytes => Arc::new(BinaryArray::from(vec![&b""[..]])),
        FieldType::Timestamp => {
            Arc::new(TimestampMillisecondArray::from(vec![0]).with_data_type(field_type.arrow()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accumulators::tests::samples;
    use crate::key::KEY_GROUPS;
    use crate::storage::InMemory;

    const ADDRESSES: Addresses = Addresses { operator: 7 };

    fn numbers(from: i64, count: i64, times: bool) -> Batch {
        let values: Vec<i64> = (from..from + count).collect();
        let schema = Schema::new(vec![Field::new("n", FieldType::Integer)]).unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        Batch {
            columns: record_batch(schema.arrow(), vec![column], values.len()),
            times: times.then(|| values.clone().into()),
            watermarks: None,
            positions: Some(values.iter().map(|n| n.cast_unsigned()).collect::<Vec<_>>().into()),
            ids: times.then(|| values.iter().map(|&n| -i128::from(n)).collect::<Vec<_>>().into()),
        }
    }

    fn n(batches: &[Batch]) -> Vec<i64> {
        let values = batches.iter().map(|b| {
            b.columns.column(0).as_any().downcast_ref::<Int64Array>().expect("integers").values().to_vec()
        });
        values.flatten().collect()
    }

    /// They are in checkpoints, so these bytes may never change.
    #[test]
    fn rows_in_flight_are_written_as_they_always_were() {
        let schema = Schema::new(vec![Field::new("n", FieldType::Integer)]).unwrap();
        let in_flight = InFlight::new(ADDRESSES, &schema);
        let writes = in_flight.write(&numbers(1, 1, true), &[0], &[-2], 5);
        // The group of the integer 1 is 39, see docs/ARCHITECTURE.md.
        let address = vec![0, 7, 3, 0, 39, 0, 0, 0, 0, 0, 0, 0, 5];
        let mut value = vec![0b1_1111, 1, 0, 0, 0, 0, 0, 0, 0];
        value.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        value.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        value.extend_from_slice(&[0xff; 16]);
        value.extend_from_slice(&[0, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(writes.list, [Write::Put(address, value)]);
    }

    #[test]
    fn what_is_in_flight_comes_back_in_order_and_is_removed_by_group() {
        let storage = InMemory::default();
        let first = numbers(0, 5000, true);
        let in_flight =
            InFlight::new(ADDRESSES, &Schema::new(vec![Field::new("n", FieldType::Integer)]).unwrap());
        let watermarks: Vec<i64> = (0..5000).map(|n| n / 2).collect();
        storage.write(in_flight.write(&first, &[0], &watermarks, 0)).unwrap();
        let second = numbers(9000, 3, false);
        storage.write(in_flight.write(&second, &[0], &[WATERMARK_MIN; 3], 5000)).unwrap();
        let read = in_flight.read(&storage, 0..KEY_GROUPS).unwrap();
        assert_eq!(n(&read), (0..5000).chain(9000..9003).collect::<Vec<_>>());
        assert_eq!(read.iter().map(Batch::rows).collect::<Vec<_>>(), [4096, 904, 3]);
        assert_eq!(read[1].times.as_ref().unwrap()[0], 4096);
        assert_eq!(read[1].watermarks.as_ref().unwrap()[0], 2048);
        assert_eq!(read[1].positions.as_ref().unwrap()[0], 4096);
        assert_eq!(read[1].ids.as_ref().unwrap()[0], -4096);
        assert!(read[2].times.is_none() && read[2].watermarks.is_none() && read[2].ids.is_none());

        let halves = [0..360, 360..KEY_GROUPS].map(|groups| n(&in_flight.read(&storage, groups).unwrap()));
        assert!(halves.iter().all(|half| half.len() > 2000 && half.is_sorted()));
        assert_eq!(halves[0].len() + halves[1].len(), 5003);
        storage.write(in_flight.remove(0..360)).unwrap();
        assert_eq!(n(&in_flight.read(&storage, 0..KEY_GROUPS).unwrap()), halves[1]);
    }

    #[test]
    fn rows_of_every_type_survive_and_are_read_by_name() {
        let (schema, columns) = samples();
        let storage = InMemory::default();
        let batch = Batch {
            columns: record_batch(schema.arrow(), columns.clone(), 2),
            times: None,
            watermarks: None,
            positions: None,
            ids: None,
        };
        storage.write(InFlight::new(ADDRESSES, &schema).write(&batch, &[1], &[3, 3], 0)).unwrap();
        let read = InFlight::new(ADDRESSES, &schema).read(&storage, 0..KEY_GROUPS).unwrap();
        assert_eq!(read[0].columns.columns(), columns);
        let fewer = Schema::new(vec![Field::nullable("text", FieldType::Text)]).unwrap();
        let fewer = InFlight::reading(ADDRESSES, &fewer, &schema).unwrap();
        let read = fewer.read(&storage, 0..KEY_GROUPS).unwrap();
        assert_eq!(read[0].columns.columns(), &columns[3..4]);
        let refused = |field: Field| {
            InFlight::reading(ADDRESSES, &Schema::new(vec![field]).unwrap(), &schema).unwrap_err()
        };
        let new = refused(Field::nullable("new", FieldType::Integer));
        assert_eq!(new, "they don't have the field new: integer?");
        let changed = refused(Field::nullable("text", FieldType::Integer));
        assert!(changed.contains("no integer can be made of text"), "{changed}");
    }

    #[test]
    fn torn_rows_are_refused() {
        let schema = Schema::new(vec![Field::new("n", FieldType::Integer)]).unwrap();
        let in_flight = InFlight::new(ADDRESSES, &schema);
        let whole = in_flight.write(&numbers(1, 1, true), &[0], &[0], 0);
        let [Write::Put(address, value)] = &*whole.list else { panic!("one row") };
        for length in 0..value.len() {
            let storage = InMemory::default();
            let torn = Write::Put(address.clone(), value[..length].to_vec());
            storage.write(Writes { list: vec![torn] }).unwrap();
            assert!(in_flight.read(&storage, 0..KEY_GROUPS).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_row_in_flight_is_as_late_as_at_the_snapshot() {
        let check = |(watermark, others): (i64, i64), batches: &[Option<Vec<i64>>], expected: &[i64]| {
            let mut time = ChannelTime::new(watermark, others);
            let mut got = Vec::new();
            for own in batches {
                let rows = own.as_ref().map_or(1, Vec::len);
                let batch =
                    Batch { watermarks: own.clone().map(Into::into), ..numbers(0, rows as i64, true) };
                got.extend(time.of(&batch));
            }
            assert_eq!(got, expected);
        };
        // The channel is the one that is behind: its watermark counts until it has caught up with the others'.
        check((10, 20), &[Some(vec![12, 25]), None, Some(vec![26])], &[12, 20, 20, 20]);
        // Another one is behind.
        check((10, 10), &[Some(vec![30, 31]), None], &[10, 10, 10]);
        check((WATERMARK_MIN, WATERMARK_MIN), &[None, Some(vec![5])], &[WATERMARK_MIN; 2]);
    }
}
