//! When rows happened, by their own word: records become rows with times, words about time, or neither.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, TimestampMillisecondArray, UInt32Array};
use tidemill_flow::batch::{EVENT_TIME_LIMIT_MS, Position, record_batch, take};
use tidemill_flow::schema::{Field, Schema};
use tidemill_flow::watermark::WATERMARK_MIN;

use super::partition::Rows;
use crate::formats::{Encoder, Format, Malformed};

/// What a record is.
enum Record {
    /// A row.
    Row,
    /// No row, but it says how far time has come.
    Word,
    /// Nothing that can be used: why.
    Malformed(String),
}

impl Rows {
    /// Takes the times from a column, and from another one, where there is one, how far time has come. Sets aside what
    /// has no time, and what has one that no calendar knows; almost always there is nothing.
    pub(super) fn timed(mut self, column: usize, watermark: Option<usize>, schema: &Schema) -> Self {
        let times = timestamps(&self.columns[column]);
        if watermark.is_none() && times.null_count() == 0 && !times.values().iter().any(|&t| is_impossible(t))
        {
            self.times = Some(times.values().to_vec());
            return self;
        }
        let said = watermark.map(|column| timestamps(&self.columns[column]));
        let names = (&schema.fields()[column].name, watermark.map(|column| &schema.fields()[column].name));
        let record = |row: usize| record(value(&times, row), said.as_ref().map(|s| value(s, row)), names);
        let records: Vec<Record> = (0..self.count).map(record).collect();
        let (mut rows, mut malformed, mut words) = (Vec::new(), Vec::new(), vec![WATERMARK_MIN]);
        for (row, record) in (0_u32..).zip(records) {
            let word = said.as_ref().and_then(|s| value(s, row as usize)).unwrap_or(WATERMARK_MIN);
            match record {
                Record::Row => {
                    rows.push(row);
                    words.push(word);
                }
                // It holds from here on: behind the row before it.
                Record::Word => *words.last_mut().expect("one before the rows") = word.max(words[rows.len()]),
                Record::Malformed(reason) => malformed.push((row, reason)),
            }
        }
        self.set_aside(malformed, schema);
        if rows.len() < self.count {
            let which = UInt32Array::from(rows.clone());
            self.columns = self.columns.iter().map(|c| take(c, &which)).collect();
            self.positions = rows.iter().map(|&r| self.positions[r as usize]).collect();
            self.count = rows.len();
        }
        self.times = Some(rows.iter().map(|&r| times.value(r as usize)).collect());
        self.said = said.map(|_| words);
        self
    }

    fn set_aside(&mut self, rows: Vec<(u32, String)>, schema: &Schema) {
        if rows.is_empty() {
            return;
        }
        let which: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
        let raw = json_lines(&self.columns, &which, schema);
        for ((row, reason), raw) in rows.into_iter().zip(raw) {
            let line = Position::unpack(self.positions[row as usize]).record;
            self.malformed.push(Malformed { line, reason, raw });
        }
    }
}

fn timestamps(column: &ArrayRef) -> TimestampMillisecondArray {
    column.as_primitive::<TimestampMillisecondType>().clone()
}

fn value(column: &TimestampMillisecondArray, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

fn is_impossible(time: i64) -> bool {
    time.unsigned_abs() > EVENT_TIME_LIMIT_MS.unsigned_abs()
}

/// What a record is, by its time and what it says of time; `said` is none where no field is for that.
fn record(time: Option<i64>, said: Option<Option<i64>>, names: (&String, Option<&String>)) -> Record {
    if let Some(time) = time.filter(|&t| is_impossible(t)) {
        return Record::Malformed(format!(
            "the event time {time} ms is impossibly far from 1970; is the field's `unit` right?"
        ));
    }
    // Only the end of the input may bring time to its end.
    if let Some(said) = said.flatten().filter(|&t| is_impossible(t)) {
        return Record::Malformed(format!(
            "the watermark {said} ms is impossibly far from 1970; is the field's `unit` right?"
        ));
    }
    match (time, said) {
        (Some(_), _) => Record::Row,
        (None, Some(Some(_))) => Record::Word,
        (None, _) => {
            let (time, watermark) = (names.0, names.1.map_or("", String::as_str));
            Record::Malformed(format!(
                "it has neither an event time in `{time}` nor a watermark in `{watermark}`"
            ))
        }
    }
}

/// Rows as JSON, of the fields that were read.
fn json_lines(columns: &[ArrayRef], rows: &[u32], schema: &Schema) -> Vec<Vec<u8>> {
    let which = UInt32Array::from(rows.to_vec());
    let columns = columns.iter().map(|c| take(c, &which)).collect();
    // What is no row may lack what rows have.
    let fields = schema.fields().iter().map(|f| Field { nullable: true, ..f.clone() });
    let schema = Schema::new(fields.collect()).expect("the names of a schema");
    let mut encoder = Encoder::new(&Format::JsonLines, &schema).expect("JSON has every type");
    let mut lines = Vec::new();
    encoder.encode(&record_batch(schema.arrow(), columns, rows.len()), &mut lines);
    lines.split(|b| *b == b'\n').take(rows.len()).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidemill_flow::schema::FieldType;

    use super::*;

    const MIN: i64 = WATERMARK_MIN;

    fn rows(records: &[(Option<i64>, Option<i64>)]) -> Rows {
        let column = |values: Vec<Option<i64>>| {
            let column = TimestampMillisecondArray::from(values);
            Arc::new(column.with_data_type(FieldType::Timestamp.arrow())) as ArrayRef
        };
        Rows {
            columns: vec![
                column(records.iter().map(|r| r.0).collect()),
                column(records.iter().map(|r| r.1).collect()),
            ],
            count: records.len(),
            times: None,
            said: None,
            positions: (1..=records.len() as u64).collect(),
            malformed: Vec::new(),
            mark: None,
        }
    }

    fn schema() -> Schema {
        let fields = ["at", "complete"].map(|name| Field::nullable(name, FieldType::Timestamp));
        Schema::new(fields.to_vec()).unwrap()
    }

    #[test]
    fn a_word_holds_from_where_it_stands() {
        let read = rows(&[
            (None, Some(3)),
            (None, Some(2)),
            (Some(10), None),
            (Some(11), Some(8)),
            (None, Some(9)),
            (None, Some(7)),
            (Some(12), None),
        ]);
        let read = read.timed(0, Some(1), &schema());
        assert_eq!(read.count, 3);
        assert_eq!(read.times, Some(vec![10, 11, 12]));
        assert_eq!(read.said, Some(vec![3, MIN, 9, MIN]));
        assert_eq!(read.positions, [3, 4, 7]);
        assert_eq!(read.columns[0].len(), 3);
        assert!(read.malformed.is_empty());
    }

    #[test]
    fn a_batch_of_words_has_no_rows() {
        let read = rows(&[(None, Some(3)), (None, Some(5))]).timed(0, Some(1), &schema());
        assert_eq!((read.count, read.said), (0, Some(vec![5])));
    }

    #[test]
    fn what_no_calendar_knows_is_set_aside_and_says_nothing() {
        let far = EVENT_TIME_LIMIT_MS + 1;
        let records = [
            (Some(far), None),
            (Some(1), Some(far)),
            (None, None),
            (None, Some(-far)),
            (Some(EVENT_TIME_LIMIT_MS), Some(-EVENT_TIME_LIMIT_MS)),
        ];
        let read = rows(&records).timed(0, Some(1), &schema());
        assert_eq!(read.times, Some(vec![EVENT_TIME_LIMIT_MS]));
        assert_eq!(read.said, Some(vec![MIN, -EVENT_TIME_LIMIT_MS]));
        let reasons: Vec<(u64, &str)> =
            read.malformed.iter().map(|m| (m.line, m.reason.split(" ms").next().unwrap())).collect();
        let neither = "it has neither an event time in `at` nor a watermark in `complete`";
        assert_eq!(
            reasons,
            [
                (1, "the event time 9007199254740993"),
                (2, "the watermark 9007199254740993"),
                (3, neither),
                (4, "the watermark -9007199254740993"),
            ]
        );
    }
}
