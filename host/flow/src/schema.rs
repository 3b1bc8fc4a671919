//! Fields and schemas: the types in which rows are described to people, to operators and to Arrow.
//!
//! There are six types, all 64 bits wide or of variable width. Each maps to exactly one Arrow type,
//! so that two edges that agree on a [`Schema`] agree on the buffers too.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};

/// The type of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// True or false.
    Boolean,
    /// A signed 64-bit integer.
    Integer,
    /// A 64-bit IEEE 754 number.
    Float,
    /// UTF-8 text.
    Text,
    /// Arbitrary bytes.
    Bytes,
    /// Milliseconds since the Unix epoch, UTC.
    Timestamp,
}

impl FieldType {
    /// Every type, in the order of the contract's `data-type`.
    pub const ALL: [FieldType; 6] =
        [Self::Boolean, Self::Integer, Self::Float, Self::Text, Self::Bytes, Self::Timestamp];

    /// The name that pipeline files, the contract and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
        }
    }

    /// The type with this [`name`](Self::name), if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }

    /// The Arrow type that holds a column of this type.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::from("UTC"))),
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A named, typed column of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The name, unique in its schema.
    pub name: String,
    /// The type of the values.
    pub field_type: FieldType,
    /// Whether a value may be absent.
    pub nullable: bool,
}

impl Field {
    /// A field that always has a value.
    pub fn new(name: impl Into<String>, field_type: FieldType) -> Self {
        Self { name: name.into(), field_type, nullable: false }
    }

    /// A field whose value may be absent.
    pub fn nullable(name: impl Into<String>, field_type: FieldType) -> Self {
        Self { name: name.into(), field_type, nullable: true }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}{}", self.name, self.field_type, if self.nullable { "?" } else { "" })
    }
}

/// Fields in order, with unique names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    fields: Vec<Field>,
}

impl Schema {
    /// A schema of these fields.
    ///
    /// # Errors
    /// The name that two of them share.
    pub fn new(fields: Vec<Field>) -> Result<Self, String> {
        for (at, field) in fields.iter().enumerate() {
            if fields[..at].iter().any(|f| f.name == field.name) {
                return Err(field.name.clone());
            }
        }
        Ok(Self { fields })
    }

    /// The fields, in column order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The column of the field with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// The field with this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// Adds a field, or replaces the one that has its name, in its place.
    pub fn set(&mut self, field: Field) {
        match self.index_of(&field.name) {
            Some(at) => self.fields[at] = field,
            None => self.fields.push(field),
        }
    }

    /// The same schema as Arrow writes it.
    pub fn arrow(&self) -> arrow_schema::SchemaRef {
        let fields =
            self.fields.iter().map(|f| arrow_schema::Field::new(&f.name, f.field_type.arrow(), f.nullable));
        Arc::new(arrow_schema::Schema::new(fields.collect::<Vec<_>>()))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, field) in self.fields.iter().enumerate() {
            write!(f, "{}{field}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}
