//! Rows to the lines that a writer gets, and for a log what stands beside each line.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::ScalarBuffer;
use tidemill_flow::batch::{Batch, record_batch};
use tidemill_flow::row_id::Ids;
use tidemill_flow::schema::{FieldType, Schema};

use super::Block;
use super::addresses::Addresses;
use crate::formats::{Encoder, Format, TimestampUnit};
use crate::pipeline::plan::StreamOutput;

/// Encodes the rows of an edge to a sink.
pub struct Lines {
    encoder: Encoder,
    /// For a log: the columns of its key.
    key: Option<Vec<KeyColumn>>,
    /// For a stream.
    addresses: Option<Addresses>,
}

struct KeyColumn {
    column: usize,
    schema: Schema,
    encoder: Encoder,
    is_text: bool,
}

/// What a log has beside the line of each row.
#[derive(Debug, Default)]
pub struct Beside {
    /// Event times; none: the rows have none.
    pub times: Option<ScalarBuffer<i64>>,
    /// Keys as they are written, or the addresses of messages; none: the records have none.
    pub keys: Option<Keys>,
    /// The rows' ids; none: copies aren't recognized.
    pub ids: Option<Ids>,
}

/// The keys of a block's rows.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Keys {
    pub(super) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    /// The key of a row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn get(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[row]]
    }
}

impl Lines {
    /// Lines of rows with this schema; with `log_key` they go to a log, and these columns are its key.
    ///
    /// # Panics
    /// When the format can't hold rows of the schema, which the check has tried.
    pub fn new(
        format: &Format,
        timestamps: TimestampUnit,
        schema: &Schema,
        log_key: Option<&[usize]>,
    ) -> Self {
        let encoder = |schema: &Schema| {
            let encoder = Encoder::new(format, schema).expect("the check has tried");
            encoder.with_timestamps(timestamps)
        };
        let column = |&column: &usize| {
            let field = schema.fields()[column].clone();
            let is_text = field.field_type == FieldType::Text;
            let schema = Schema::new(vec![field]).expect("a single name");
            KeyColumn { column, encoder: encoder(&schema), schema, is_text }
        };
        let key = log_key.map(|key| key.iter().map(column).collect());
        Self { encoder: encoder(schema), key, addresses: None }
    }

    /// Lines that are the payloads of messages.
    #[must_use]
    pub fn addressed(self, output: &StreamOutput) -> Self {
        Self { addresses: Some(Addresses::new(output)), ..self }
    }

    /// The rows of a batch.
    pub fn block(&mut self, batch: &Batch) -> Block {
        if let Some(addresses) = &mut self.addresses {
            let (addresses, refused) = addresses.of(&batch.columns);
            if refused.is_empty() {
                return self.messages(batch, addresses);
            }
            let is_refused = |row: &u32| refused.binary_search_by_key(row, |(row, _)| *row).is_ok();
            let rows: Vec<u32> = (0..).take(batch.rows()).filter(|row| !is_refused(row)).collect();
            return Block { refused, ..self.messages(&batch.take(&rows), addresses) };
        }
        let mut block = Block { rows: batch.rows() as u64, ..Block::default() };
        self.encoder.encode(&batch.columns, &mut block.bytes);
        if let Some(key) = &mut self.key {
            let keys = (!key.is_empty()).then(|| keys(key, batch));
            block.beside = Some(Beside { times: batch.times.clone(), keys, ids: batch.ids.clone() });
        }
        block
    }
}

impl Lines {
    fn messages(&mut self, batch: &Batch, addresses: Keys) -> Block {
        let mut block = Block { rows: batch.rows() as u64, ..Block::default() };
        self.encoder.encode(&batch.columns, &mut block.bytes);
        let (times, ids) = (batch.times.clone(), batch.ids.clone());
        block.beside = Some(Beside { times, keys: Some(addresses), ids });
        block
    }
}

/// The key of each row as it is written: a single text as it stands, any other value as in JSON, several values as an
/// array of JSON. So `tidemill log append --key-field` gives a record the same key.
fn keys(key: &mut [KeyColumn], batch: &Batch) -> Keys {
    let mut keys = Keys::default();
    let rows = batch.rows();
    if let [KeyColumn { column, is_text: true, .. }] = key {
        let column = batch.columns.column(*column);
        let texts = column.as_string::<i32>();
        for row in 0..rows {
            let text = if texts.is_null(row) { "null" } else { texts.value(row) };
            keys.bytes.extend_from_slice(text.as_bytes());
            keys.ends.push(keys.bytes.len());
        }
        return keys;
    }
    let columns: Vec<Vec<Vec<u8>>> =
        key.iter_mut().map(|k| k.values(batch.columns.column(k.column))).collect();
    for row in 0..rows {
        match columns.as_slice() {
            [column] => keys.bytes.extend_from_slice(&column[row]),
            columns => {
                for (at, column) in columns.iter().enumerate() {
                    keys.bytes.push(if at == 0 { b'[' } else { b',' });
                    keys.bytes.extend_from_slice(&column[row]);
                }
                keys.bytes.push(b']');
            }
        }
        keys.ends.push(keys.bytes.len());
    }
    keys
}

impl KeyColumn {
    /// The values as in JSON: what stands behind the name in an object of nothing else.
    fn values(&mut self, column: &ArrayRef) -> Vec<Vec<u8>> {
        let rows = column.len();
        let mut lines = Vec::new();
        self.encoder.encode(&record_batch(self.schema.arrow(), vec![column.clone()], rows), &mut lines);
        let name = serde_json::to_string(&self.schema.fields()[0].name).expect("text is JSON");
        let before = name.len() + "{:".len();
        let lines = lines.split(|b| *b == b'\n').take(rows);
        lines.map(|line| line[before..line.len() - "}".len()].to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use tidemill_flow::schema::Field;

    use super::*;

    /// The keys of two rows with `a` = `x"`, null and `n` = 1, 2, when the key is these columns.
    fn check(key: &[usize], expected: Option<[&str; 2]>) {
        let fields = vec![Field::nullable("a\"b", FieldType::Text), Field::new("n", FieldType::Integer)];
        let schema = Schema::new(fields).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("x\""), None])),
            Arc::new(Int64Array::from(vec![1, 2])),
        ];
        let batch = Batch {
            columns: record_batch(schema.arrow(), columns, 2),
            times: None,
            watermarks: None,
            positions: None,
            ids: None,
        };
        let mut lines = Lines::new(&Format::JsonLines, TimestampUnit::Auto, &schema, Some(key));
        let keys = lines.block(&batch).beside.unwrap().keys;
        let found = keys.map(|keys| [0, 1].map(|row| String::from_utf8(keys.get(row).to_vec()).unwrap()));
        assert_eq!(found, expected.map(|keys| keys.map(str::to_owned)));
    }

    #[test]
    fn a_key_is_written_as_text_or_as_json() {
        check(&[], None);
        check(&[0], Some(["x\"", "null"]));
        check(&[1], Some(["1", "2"]));
        check(&[1, 0], Some([r#"[1,"x\""]"#, "[2,null]"]));
    }
}
