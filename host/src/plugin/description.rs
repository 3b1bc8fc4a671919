//! What an operator says of itself, checked.

use tidemill_flow::schema::{Field, FieldType, Schema};

use super::bindings::aggregate::exports::tidemill::operator::lifecycle as aggregate;
use super::bindings::transform::exports::tidemill::operator::lifecycle as transform;
use super::bindings::transform::tidemill::operator::types::{self, DataType};
use super::failure::LoadError;
use super::guest::readable;

/// The name under which an operator reads its rows' event time.
pub const TIME_FIELD: &str = "$time";

const AN_INPUT: &str = "an input";

/// What an operator says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The operator's own name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The fields that it reads, for each of its inputs.
    pub inputs: Vec<Schema>,
    /// What it makes of a row.
    pub output: Output,
    /// The fields of its state, or of its accumulator.
    pub state: Schema,
}

/// What an operator makes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The row itself, or nothing.
    Same,
    /// The row with these fields added or replaced.
    Extended(Schema),
    /// These fields alone.
    Replaced(Schema),
}

impl Output {
    /// The fields of which the operator returns columns.
    pub fn returned(&self) -> Schema {
        match self {
            Self::Same => Schema::default(),
            Self::Extended(schema) | Self::Replaced(schema) => schema.clone(),
        }
    }
}

/// The two generated forms of a description differ in their module only.
macro_rules! convert {
    ($name:ident, $module:ident) => {
        pub(super) fn $name(d: $module::Description) -> Result<Description, LoadError> {
            let inputs =
                d.inputs.into_iter().map(|fields| schema(AN_INPUT, fields)).collect::<Result<_, _>>()?;
            let output = match d.output {
                $module::Output::Same => Output::Same,
                $module::Output::Extended(fields) => Output::Extended(schema("its output", fields)?),
                $module::Output::Replaced(fields) => Output::Replaced(schema("its output", fields)?),
            };
            Ok(Description {
                name: readable(&d.name),
                version: readable(&d.version),
                inputs,
                output,
                state: schema("its state", d.state)?,
            })
        }
    };
}
convert!(of_transform, transform);
convert!(of_aggregate, aggregate);

fn schema(what: &str, fields: Vec<types::Field>) -> Result<Schema, LoadError> {
    let field = |f: types::Field| Field {
        name: readable(&f.name),
        field_type: match f.data_type {
            DataType::Boolean => FieldType::Boolean,
            DataType::Integer => FieldType::Integer,
            DataType::Float => FieldType::Float,
            DataType::Text => FieldType::Text,
            DataType::Bytes => FieldType::Bytes,
            DataType::Timestamp => FieldType::Timestamp,
        },
        nullable: f.nullable,
    };
    let schema = Schema::new(fields.into_iter().map(field).collect())
        .map_err(|name| LoadError::new(format!("it describes the field `{name}` of {what} twice")))?;
    let reserved = |f: &&Field| f.name.starts_with('$') && !(what == AN_INPUT && f.name == TIME_FIELD);
    if let Some(field) = schema.fields().iter().find(reserved) {
        return Err(LoadError::new(format!(
            "it describes a field `{}` of {what}; names that begin with `$` are the host's: rename it",
            field.name
        )));
    }
    match schema.field(TIME_FIELD) {
        Some(time) if time.field_type != FieldType::Timestamp => Err(LoadError::new(format!(
            "it describes `{TIME_FIELD}` as {}; a row's event time is a timestamp",
            time.field_type
        ))),
        _ => Ok(schema),
    }
}
