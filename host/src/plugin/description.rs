//! What an operator says of itself, checked.

use tidemill_flow::schema::{Field, FieldType, Schema};

use super::bindings::aggregate::exports::tidemill::operator::lifecycle as aggregate;
use super::bindings::join::exports::tidemill::operator::{join as pairs, lifecycle as join};
use super::bindings::process::exports::tidemill::operator::{keyed_process, lifecycle as process};
use super::bindings::transform::exports::tidemill::operator::lifecycle as transform;
use super::bindings::transform::tidemill::operator::types::{self, DataType};
use super::bindings::window::exports::tidemill::operator::lifecycle as window;
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
    /// The collections of a process operator's keys; of no other.
    pub collections: Vec<Collection>,
    /// The sides that a join can do without; no other operator has any.
    pub absent: Sides,
}

/// Some of the sides of a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The first input.
    pub left: bool,
    /// The second input.
    pub right: bool,
}

impl Sides {
    pub(super) fn of(sides: pairs::Sides) -> Self {
        Self { left: sides.left, right: sides.right }
    }
}

/// Sorted entries, for each key its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// The name, unique in its operator.
    pub name: String,
    /// What the entries are; their bytes sort as their values do.
    pub entry: FieldType,
    /// What stands at an entry.
    pub value: FieldType,
}

/// Collections of an operator: their numbers are one byte of the addresses at which entries are kept.
const COLLECTIONS_MAX: usize = 255;

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

/// The generated forms of a description differ in their module only.
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
                collections: Vec::new(),
                absent: Sides::default(),
            })
        }
    };
}
convert!(of_transform, transform);
convert!(of_aggregate, aggregate);
convert!(of_window, window);
convert!(of_join, join);
convert!(of_process, process);

/// The collections that a process operator described, checked.
pub(super) fn collections(described: Vec<keyed_process::Collection>) -> Result<Vec<Collection>, LoadError> {
    if described.len() > COLLECTIONS_MAX {
        let count = described.len();
        return Err(LoadError::new(format!(
            "it describes {count} collections; {COLLECTIONS_MAX} are the most"
        )));
    }
    let mut collections = Vec::<Collection>::with_capacity(described.len());
    for collection in described {
        let (name, entry) = (readable(&collection.name), field_type(collection.entry));
        if collections.iter().any(|earlier| earlier.name == name) {
            return Err(LoadError::new(format!("it describes the collection `{name}` twice")));
        }
        if entry == FieldType::Float {
            return Err(LoadError::new(format!(
                "the entries of its collection `{name}` are floats, which have no order to rely on: two zeros and many \
                 not-a-numbers; use integers"
            )));
        }
        collections.push(Collection { name, entry, value: field_type(collection.value) });
    }
    Ok(collections)
}

pub(super) fn schema(what: &str, fields: Vec<types::Field>) -> Result<Schema, LoadError> {
    let field = |f: types::Field| Field {
        name: readable(&f.name),
        field_type: field_type(f.data_type),
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

fn field_type(data_type: DataType) -> FieldType {
    match data_type {
        DataType::Boolean => FieldType::Boolean,
        DataType::Integer => FieldType::Integer,
        DataType::Float => FieldType::Float,
        DataType::Text => FieldType::Text,
        DataType::Bytes => FieldType::Bytes,
        DataType::Timestamp => FieldType::Timestamp,
    }
}
