//! How the rows of a join are written: one schema for both sides, so that they have one version.

use std::sync::Arc;

use arrow_array::ArrayRef;

use crate::rows::{Codec, compatible};
use crate::schema::{Field, FieldType, Schema};

use super::Side;

/// What a row of a join has beside its fields.
const MATCHED: &str = "@matched";
const DELETED: &str = "@deleted";

/// The rows of both sides.
///
/// A checkpoint knows one schema of an operator's state, of which there are several versions over time. That of a join
/// has the fields of both sides under the names `left.…` and `right.…`, with what the join notes of each row: `@matched`,
/// or `@deleted`. A row is written in the part of it that is its side's.
#[derive(Debug)]
pub struct Layout {
    schema: Schema,
    pub(super) codecs: [Arc<Codec>; 2],
    /// The number of each side's own fields.
    fields: [usize; 2],
}

impl Layout {
    /// For sides with these fields. Rows are written under the number `version`; `older` are numbers and
    /// [`schema`](Self::schema)s of rows that a storage may still have.
    ///
    /// # Errors
    /// When rows of an older schema can't be read under this one; the message is for the author of the pipeline.
    pub fn new(version: u8, sides: [&Schema; 2], older: &[(u8, Schema)]) -> Result<Self, String> {
        let mut fields = Vec::new();
        for side in Side::BOTH {
            let own = sides[side as usize].fields().iter();
            let own = own.map(|f| Field { name: named(side, &f.name), ..f.clone() });
            fields.extend(own);
            let note = if side == Side::Left { MATCHED } else { DELETED };
            fields.push(Field::nullable(named(side, note), FieldType::Boolean));
            if side == Side::Right {
                fields.push(Field::nullable(named(side, MATCHED), FieldType::Boolean));
            }
        }
        let schema = Schema::new(fields).map_err(|name| format!("two fields are named {name}"))?;
        for (_, old) in older {
            compatible(old, &schema, false)?;
        }
        let codec = |side: Side| {
            let older: Vec<(u8, Schema)> = older.iter().map(|(v, s)| (*v, side_of(s, side))).collect();
            Codec::new(version, &side_of(&schema, side), &older, None).map(Arc::new)
        };
        let codecs = [codec(Side::Left)?, codec(Side::Right)?];
        Ok(Self { schema, codecs, fields: sides.map(Schema::len) })
    }

    /// The schema that rows are written under, to be kept with the checkpoints that have such rows.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The number of a side's own fields.
    pub(super) fn fields(&self, side: Side) -> usize {
        self.fields[side as usize]
    }

    /// The columns of a side's own fields with those of what is noted of each row.
    pub(super) fn with_notes(&self, side: Side, fields: &[ArrayRef], notes: [ArrayRef; 2]) -> Vec<ArrayRef> {
        let [matched, deleted] = notes;
        let mut columns = fields.to_vec();
        if side == Side::Right {
            columns.push(deleted);
        }
        columns.push(matched);
        columns
    }
}

/// The fields of a side in a [`Layout::schema`], under their own names, as they are written: each may be absent.
///
/// # Panics
/// Never: fields that are different with the side before them are without it.
pub fn side_of(schema: &Schema, side: Side) -> Schema {
    let prefix = named(side, "");
    let of_side = schema.fields().iter().filter_map(|f| {
        let name = f.name.strip_prefix(&prefix)?.to_owned();
        Some(Field::nullable(name, f.field_type))
    });
    Schema::new(of_side.collect()).expect("names of a schema are unique")
}

fn named(side: Side, field: &str) -> String {
    format!("{side}.{field}")
}
