//! Rows of scripts as records of a source, and as what sinks give.

use serde_json::Value;
use tidemill::formats::Demand;
use tidemill::pipeline::declaration::script::{Cell, Row};
use tidemill_flow::schema::FieldType;

/// The name under which a script has the event time of a row.
pub(super) const AT: &str = "at";

/// The same, where rows have a field of that name.
pub(super) const TIME: &str = "$time";

/// Rows as lines of JSON. What a table has as text becomes what the field's type asks for.
pub(super) fn as_lines(rows: &[Row], demands: &[Demand]) -> Vec<u8> {
    let mut lines = Vec::new();
    for row in rows {
        let value = |(name, cell): &(String, Cell)| {
            let demand = demands.iter().find(|d| d.path.first() == Some(name));
            (name.clone(), value(cell, demand.map(|d| d.field.field_type)))
        };
        let record: serde_json::Map<String, Value> = row.cells.iter().map(value).collect();
        lines.extend_from_slice(Value::Object(record).to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// The value of a cell in a field of this type; without a type it is what it looks like.
pub(super) fn value(cell: &Cell, field_type: Option<FieldType>) -> Value {
    match (cell, field_type) {
        (Cell::Value(value), _) => value.clone(),
        (Cell::Text(text), _) if text.is_empty() => Value::Null,
        (Cell::Text(text), Some(FieldType::Text | FieldType::Bytes)) => Value::String(text.clone()),
        (Cell::Text(text), _) => match serde_json::from_str(text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
            _ => Value::String(text.clone()),
        },
    }
}
