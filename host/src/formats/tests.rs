//! What formats promise, with small helpers; the cases are tables.

mod blocks;
mod csv;
mod encoder;
mod json;
mod messages;
mod properties;
mod timestamps;

use arrow_array::RecordBatch;
use tidemill_flow::schema::{Field, FieldType, Schema};

use super::*;

/// A nullable demand; dots separate the keys of its path.
fn demand(path: &str, field_type: FieldType) -> Demand {
    let field = Field::nullable(path, field_type);
    Demand { field, path: path.split('.').map(str::to_owned).collect(), unit: TimestampUnit::Auto }
}

fn demands(fields: &[(&str, FieldType)]) -> Vec<Demand> {
    fields.iter().map(|(path, field_type)| demand(path, *field_type)).collect()
}

fn decode(format: &Format, demands: &[Demand], input: &[u8]) -> Decoded {
    let mut decoder = Decoder::new(format, demands.to_vec()).unwrap();
    assert_eq!(decoder.decode(input, true, usize::MAX), Ok(input.len()));
    decoder.take()
}

fn schema(demands: &[Demand]) -> Schema {
    Schema::new(demands.iter().map(|demand| demand.field.clone()).collect()).unwrap()
}

fn batch(demands: &[Demand], decoded: &Decoded) -> RecordBatch {
    RecordBatch::try_new(schema(demands).arrow(), decoded.columns.clone()).unwrap()
}

fn encode(format: &Format, schema: &Schema, batch: &RecordBatch) -> String {
    let mut encoder = Encoder::new(format, schema).unwrap();
    let mut out = encoder.header();
    encoder.encode(batch, &mut out);
    String::from_utf8(out).unwrap()
}

/// The rows as JSON lines, which show each value and null.
fn rows(demands: &[Demand], decoded: &Decoded) -> Vec<String> {
    if demands.is_empty() {
        return vec!["{}".to_owned(); decoded.rows];
    }
    let text = encode(&Format::JsonLines, &schema(demands), &batch(demands, decoded));
    text.lines().map(str::to_owned).collect()
}

/// Rows in their lines, and `line: reason` of malformed records, in the order of lines.
fn outcome(format: &Format, demands: &[Demand], input: &[u8]) -> Vec<String> {
    let decoded = decode(format, demands, input);
    summary(demands, &decoded)
}

fn summary(demands: &[Demand], decoded: &Decoded) -> Vec<String> {
    let rows = rows(demands, decoded).into_iter().zip(&decoded.lines).map(|(row, line)| (*line, row));
    let malformed = decoded.malformed.iter().map(|m| (m.line, m.reason.clone()));
    let mut all: Vec<_> = rows.chain(malformed).collect();
    all.sort_by_key(|(line, _)| *line);
    all.into_iter().map(|(line, text)| format!("{line}: {text}")).collect()
}
