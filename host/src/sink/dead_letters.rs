//! Dead letters and late rows: JSON lines with a reason, a place, and the row itself, so that nothing is lost
//! and everything can be sent through again.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use tidemill_flow::batch::{Batch, Position, record_batch};
use tidemill_flow::schema::{Field, FieldType, Schema};

use super::{Block, Closed, Outlet};
use crate::formats::{Encoder, Format};

/// The way to the file for dead letters or late rows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    outlet: Outlet,
    partitions: Arc<[String]>,
}

/// A row that went no further.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Who rejected it: the id of a source or an operator.
    pub by: Place<'a>,
    /// Why.
    pub reason: &'a str,
    /// Where it stands in its source, packed; `None` for a row that was made from several.
    pub position: Option<u64>,
    /// Its event time, if it has one.
    pub time: Option<i64>,
}

/// Where a row was rejected.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// At a source of this id.
    Source(&'a str),
    /// At an operator of this id, running the component with this digest.
    Operator {
        /// The operator's id.
        id: &'a str,
        /// The SHA-256 of its component, in hexadecimal.
        digest: &'a str,
    },
    /// At a sink of this id.
    Sink(&'a str),
}

impl DeadLetters {
    /// Dead letters through this outlet; `partitions` are the names of the pipeline's partitions, by number.
    pub fn new(outlet: Outlet, partitions: Arc<[String]>) -> Self {
        Self { outlet, partitions }
    }

    /// Writes records that couldn't be decoded, as they stood.
    ///
    /// # Errors
    /// When the writer has failed.
    pub async fn write_raw(&self, letters: &[(DeadLetter<'_>, &[u8])]) -> Result<(), Closed> {
        let text = letters.iter().map(|(_, raw)| std::str::from_utf8(raw).ok());
        let bytes = letters.iter().map(|(_, raw)| std::str::from_utf8(raw).is_err().then_some(*raw));
        let of_letters: Vec<DeadLetter<'_>> = letters.iter().map(|(letter, _)| *letter).collect();
        let mut columns = self.columns(&of_letters);
        columns.push((Field::nullable("raw", FieldType::Text), Arc::new(StringArray::from_iter(text))));
        columns
            .push((Field::nullable("raw_base64", FieldType::Bytes), Arc::new(BinaryArray::from_iter(bytes))));
        let (bytes, rows) = (lines(columns, letters.len()), letters.len() as u64);
        let block = Block { bytes, rows, ..Block::default() };
        self.outlet.write(block).await
    }

    /// Writes rows with their fields, each with its reason.
    ///
    /// # Errors
    /// When the writer has failed.
    ///
    /// # Panics
    /// When there isn't a reason for each row.
    pub async fn write_rows(
        &self,
        by: Place<'_>,
        reasons: &[&str],
        batch: &Batch,
        schema: &Schema,
    ) -> Result<(), Closed> {
        assert_eq!(reasons.len(), batch.rows(), "a reason for each row");
        let mut letters = Vec::with_capacity(reasons.len());
        for (row, reason) in reasons.iter().enumerate() {
            let position = batch.positions.as_ref().map(|p| p[row]);
            let time = batch.times.as_ref().map(|t| t[row]);
            letters.push(DeadLetter { by, reason, position, time });
        }
        let rows = json_lines(&batch.columns, schema);
        let about = lines(self.columns(&letters), letters.len());
        let bytes = Vec::with_capacity(rows.len() + about.len());
        let mut block = Block { bytes, rows: letters.len() as u64, ..Block::default() };
        for (about, row) in about.split_inclusive(|b| *b == b'\n').zip(rows.split(|b| *b == b'\n')) {
            // In place of the brace and line break that end what is about the row.
            block.bytes.extend_from_slice(&about[..about.len() - 2]);
            block.bytes.extend_from_slice(b",\"row\":");
            block.bytes.extend_from_slice(row);
            block.bytes.extend_from_slice(b"}\n");
        }
        self.outlet.write(block).await
    }

    /// What is said of each row, in columns.
    fn columns(&self, letters: &[DeadLetter<'_>]) -> Vec<(Field, ArrayRef)> {
        let text = |name: &str, of: &dyn Fn(&DeadLetter<'_>) -> Option<String>| -> (Field, ArrayRef) {
            (Field::nullable(name, FieldType::Text), Arc::new(StringArray::from_iter(letters.iter().map(of))))
        };
        let mut columns = match letters.first().map(|l| l.by) {
            Some(Place::Operator { id, digest }) => {
                vec![text("operator", &|_| Some(id.to_owned())), text("digest", &|_| Some(digest.to_owned()))]
            }
            Some(Place::Source(id)) => vec![text("source", &|_| Some(id.to_owned()))],
            Some(Place::Sink(id)) => vec![text("sink", &|_| Some(id.to_owned()))],
            None => Vec::new(),
        };
        let position = |letter: &DeadLetter<'_>| letter.position.map(Position::unpack);
        columns.push(text("reason", &|l| Some(l.reason.to_owned())));
        columns.push(text("from", &|l| position(l).map(|p| self.partitions[p.partition as usize].clone())));
        let record = letters.iter().map(|l| position(l).map(|p| p.record.cast_signed()));
        columns
            .push((Field::nullable("record", FieldType::Integer), Arc::new(Int64Array::from_iter(record))));
        let time = TimestampMillisecondArray::from_iter(letters.iter().map(|l| l.time));
        let time = time.with_data_type(FieldType::Timestamp.arrow());
        columns.push((Field::nullable("event_time", FieldType::Timestamp), Arc::new(time)));
        columns
    }
}

fn lines(columns: Vec<(Field, ArrayRef)>, rows: usize) -> Vec<u8> {
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let schema = Schema::new(fields).expect("different names");
    json_lines(&record_batch(schema.arrow(), columns, rows), &schema)
}

fn json_lines(rows: &RecordBatch, schema: &Schema) -> Vec<u8> {
    let mut encoder = Encoder::new(&Format::JsonLines, schema).expect("JSON has every type");
    let mut lines = Vec::new();
    encoder.encode(rows, &mut lines);
    lines
}
