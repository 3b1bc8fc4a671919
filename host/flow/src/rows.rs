//! Rows of state as bytes, and how rows of an earlier schema are read under the present one.
//!
//! A row is written as
//!
//! * the version of its schema: 1 byte;
//! * which of its values are there: a bit for each field, the first field in the lowest bit of the first byte;
//! * those values, in the order of the fields: 1 byte (boolean), 8 bytes little-endian (integer, timestamp, the bits of
//!   a float), or the length in 4 bytes little-endian and the bytes themselves (text, bytes).
//!
//! A row of an earlier version is read field by field, by name; [`compatible`] says which schemas allow that. Bytes
//! come from a disk, so nothing about them is believed.

use std::fmt;

use arrow_array::{ArrayRef, new_null_array};

use crate::accumulators::{Accumulators, Cell};
use crate::schema::{Field, FieldType, Schema};

/// Bytes that can't be read as a row; the message says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError(String);

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RowError {}

/// Writes rows of a schema, and reads those of it and of earlier ones.
#[derive(Debug)]
pub struct Codec {
    version: u8,
    schema: Schema,
    /// The values of a row that was never stored, and of fields that an earlier schema lacks: one row.
    initial: Vec<ArrayRef>,
    initial_row: Accumulators,
    versions: Vec<(u8, Vec<Source>)>,
}

/// A field of a stored row, and where its value goes.
#[derive(Debug)]
struct Source {
    field: Field,
    target: Option<Target>,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    column: usize,
    /// The value was an integer and is now a float.
    widen: bool,
}

impl Codec {
    /// Writes rows of the schema `current` under the number `version`, and reads rows of `older` schemas under
    /// theirs. `initial` is the row of a key that has none yet, in columns of the schema; `None`: all its values
    /// are absent.
    ///
    /// # Errors
    /// When two schemas have the same number, an older one isn't [`compatible`], or `initial` is missing though a
    /// value can't be absent; the message is for the author of the operator.
    pub fn new(
        version: u8,
        current: &Schema,
        older: &[(u8, Schema)],
        initial: Option<Vec<ArrayRef>>,
    ) -> Result<Self, String> {
        let has_initial = initial.is_some();
        if let Some(field) = current.fields().iter().find(|f| !f.nullable).filter(|_| !has_initial) {
            return Err(format!("{} can't be absent, and there is no initial value for it", field.name));
        }
        let mut versions = vec![(version, sources(current, current))];
        for (number, old) in older {
            if versions.iter().any(|(known, _)| known == number) {
                return Err(format!("two schemas of the state have the version {number}"));
            }
            compatible(old, current, has_initial)?;
            versions.push((*number, sources(old, current)));
        }
        let initial = initial.unwrap_or_else(|| {
            current.fields().iter().map(|f| new_null_array(&f.field_type.arrow(), 1)).collect()
        });
        let mut initial_row = Accumulators::new(current);
        initial_row.extend(1, &initial);
        Ok(Self { version, schema: current.clone(), initial, initial_row, versions })
    }

    /// Writes and reads rows of one schema that are all stored: none has to be made up for a key that is new.
    pub(crate) fn of_stored(version: u8, schema: &Schema) -> Self {
        let initial: Vec<ArrayRef> =
            schema.fields().iter().map(|f| new_null_array(&f.field_type.arrow(), 1)).collect();
        let mut initial_row = Accumulators::new(schema);
        initial_row.extend(1, &initial);
        let versions = vec![(version, sources(schema, schema))];
        Self { version, schema: schema.clone(), initial, initial_row, versions }
    }

    /// The schema that rows are written under.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The row of a key that has none yet.
    pub fn initial(&self) -> &[ArrayRef] {
        &self.initial
    }

    /// Row `row` of these columns, written.
    ///
    /// # Panics
    /// When the columns aren't of the schema's types, or have no such row.
    pub fn encode(&self, columns: &[ArrayRef], row: usize) -> Vec<u8> {
        assert_eq!(columns.len(), self.schema.len(), "a row of the schema {}", self.schema);
        let fields = self.schema.fields().iter();
        self.write(fields.zip(columns).map(|(field, column)| Cell::of(field.field_type, column, row)))
    }

    /// Rows as columns of the present schema.
    ///
    /// # Errors
    /// When bytes aren't a row of a schema that is known.
    pub fn decode(&self, rows: &[&[u8]]) -> Result<Vec<ArrayRef>, RowError> {
        let mut decoded = Accumulators::new(&self.schema);
        for row in rows {
            decoded.push(&self.read(row)?);
        }
        let all: Vec<u32> = (0u32..).take(rows.len()).collect();
        Ok(decoded.gather(&all))
    }

    /// A row of accumulators, written.
    pub(crate) fn encode_row(&self, rows: &Accumulators, row: u32) -> Vec<u8> {
        self.write(rows.cells(row))
    }

    /// Adds a written row to accumulators.
    pub(crate) fn decode_onto(&self, row: &[u8], rows: &mut Accumulators) -> Result<(), RowError> {
        rows.push(&self.read(row)?);
        Ok(())
    }

    /// Replaces a row of accumulators by a written one.
    pub(crate) fn decode_at(&self, row: &[u8], rows: &mut Accumulators, at: u32) -> Result<(), RowError> {
        rows.set(at, &self.read(row)?);
        Ok(())
    }

    fn write<'a>(&self, cells: impl Iterator<Item = Option<Cell<'a>>>) -> Vec<u8> {
        let bitmap = bitmap_bytes(self.schema.len());
        let mut row = Vec::with_capacity(1 + bitmap + 8 * self.schema.len());
        row.push(self.version);
        row.resize(1 + bitmap, 0);
        for (at, cell) in cells.enumerate() {
            let Some(cell) = cell else { continue };
            row[1 + at / 8] |= 1 << (at % 8);
            match cell {
                Cell::Boolean(value) => row.push(value.into()),
                Cell::Fixed(value) => row.extend_from_slice(&value.to_le_bytes()),
                Cell::Variable(value) => {
                    let length = u32::try_from(value.len()).expect("a value of a batch fits 4 GiB");
                    row.extend_from_slice(&length.to_le_bytes());
                    row.extend_from_slice(value);
                }
            }
        }
        row
    }

    fn read<'a>(&'a self, row: &'a [u8]) -> Result<Vec<Option<Cell<'a>>>, RowError> {
        let (version, rest) = row.split_first().ok_or_else(|| RowError("it is empty".into()))?;
        let (_, sources) = self.versions.iter().find(|(v, _)| v == version).ok_or_else(|| {
            let known: Vec<String> = self.versions.iter().map(|(v, _)| v.to_string()).collect();
            RowError(format!("its schema has the version {version}, and only {} are known", known.join(", ")))
        })?;
        let (bitmap, mut rest) = rest
            .split_at_checked(bitmap_bytes(sources.len()))
            .ok_or_else(|| RowError(format!("it ends within its first {} bytes", row.len())))?;
        let mut cells: Vec<Option<Cell<'a>>> = self.initial_row.cells(0).collect();
        for (at, source) in sources.iter().enumerate() {
            let present = bitmap[at / 8] & (1 << (at % 8)) != 0;
            let cell = present.then(|| read_cell(&source.field, &mut rest)).transpose()?;
            if cell.is_none() && !source.field.nullable {
                return Err(RowError(format!("{} is absent, and can't be", source.field)));
            }
            if let Some(Target { column, widen }) = source.target {
                cells[column] = if widen { cell.map(widened) } else { cell };
            }
        }
        if !rest.is_empty() {
            return Err(RowError(format!("{} bytes are left over of {}", rest.len(), row.len())));
        }
        Ok(cells)
    }
}

/// The version of a written row's schema; none of what is no row.
pub(crate) fn version_of(row: &[u8]) -> Option<u8> {
    row.first().copied()
}

fn bitmap_bytes(fields: usize) -> usize {
    fields.div_ceil(8)
}

fn read_cell<'a>(field: &Field, rest: &mut &'a [u8]) -> Result<Cell<'a>, RowError> {
    let ends = || RowError(format!("it ends within the value of {field}"));
    let mut split = |length: usize| -> Result<&'a [u8], RowError> {
        let (head, tail) = rest.split_at_checked(length).ok_or_else(ends)?;
        *rest = tail;
        Ok(head)
    };
    match field.field_type {
        FieldType::Boolean => match split(1)? {
            [0] => Ok(Cell::Boolean(false)),
            [1] => Ok(Cell::Boolean(true)),
            other => Err(RowError(format!("{other:02x?} is no value of {field}"))),
        },
        FieldType::Integer | FieldType::Float | FieldType::Timestamp => {
            let bytes: [u8; 8] = split(8)?.try_into().map_err(|_| ends())?;
            Ok(Cell::Fixed(i64::from_le_bytes(bytes)))
        }
        FieldType::Text | FieldType::Bytes => {
            let length: [u8; 4] = split(4)?.try_into().map_err(|_| ends())?;
            let value = split(usize::try_from(u32::from_le_bytes(length)).map_err(|_| ends())?)?;
            if field.field_type == FieldType::Text && std::str::from_utf8(value).is_err() {
                return Err(RowError(format!("the value of {field} isn't UTF-8")));
            }
            Ok(Cell::Variable(value))
        }
    }
}

/// An integer as the float nearest to it.
fn widened(cell: Cell<'_>) -> Cell<'_> {
    match cell {
        Cell::Fixed(value) => Cell::Fixed((value as f64).to_bits().cast_signed()),
        other => other,
    }
}

/// Where the values of `old` go in `new`; the schemas are compatible.
fn sources(old: &Schema, new: &Schema) -> Vec<Source> {
    let source = |field: &Field| {
        let target = new.index_of(&field.name).map(|column| Target {
            column,
            widen: field.field_type == FieldType::Integer
                && new.fields()[column].field_type == FieldType::Float,
        });
        Source { field: field.clone(), target }
    };
    old.fields().iter().map(source).collect()
}

/// Whether rows of the schema `old` can be read as rows of `new`. Fields are found by name: one that is new must be
/// nullable, unless there is an initial row to take its value from; one that is gone is forgotten; an integer may
/// become a float, and a field that always had a value may become nullable.
///
/// # Errors
/// A message over several lines: both schemas side by side, and at each field that can't be read what to do.
pub fn compatible(old: &Schema, new: &Schema, has_initial: bool) -> Result<(), String> {
    let mut lines: Vec<[String; 3]> = vec![["stored".into(), "now".into(), String::new()]];
    let mut refused = false;
    let mut line = |old: Option<&Field>, new: Option<&Field>, remedy: Option<String>| {
        refused |= remedy.is_some();
        let side = |field: Option<&Field>| field.map_or("-".into(), ToString::to_string);
        lines.push([side(old), side(new), remedy.map_or(String::new(), |r| format!("<- {r}"))]);
    };
    for field in old.fields() {
        let now = new.field(&field.name);
        line(Some(field), now, now.and_then(|now| change_refused(field, now)));
    }
    for field in new.fields().iter().filter(|f| old.field(&f.name).is_none()) {
        let remedy = (!field.nullable && !has_initial)
            .then(|| "new, and stored rows have no value for it: declare it nullable".into());
        line(None, Some(field), remedy);
    }
    if refused {
        Err(format!("stored rows can't be read as the operator's state now\n{}", table(&lines)))
    } else {
        Ok(())
    }
}

fn change_refused(old: &Field, new: &Field) -> Option<String> {
    let widens = old.field_type == FieldType::Integer && new.field_type == FieldType::Float;
    if old.field_type != new.field_type && !widens {
        return Some(format!(
            "no {} can be made of {}: keep the type, or give the new field another name",
            new.field_type, old.field_type
        ));
    }
    (old.nullable && !new.nullable).then(|| "may be absent in stored rows: declare it nullable".into())
}

fn table(lines: &[[String; 3]]) -> String {
    let width = |at: usize| lines.iter().map(|l| l[at].chars().count()).max().unwrap_or(0);
    let (left, right) = (width(0), width(1));
    let line = |[old, new, remedy]: &[String; 3]| {
        format!("  {old:left$}  {new:right$}  {remedy}").trim_end().to_string()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accumulators::tests::samples;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Float64Type;
    use arrow_array::{Array, Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn schema(fields: &[Field]) -> Schema {
        Schema::new(fields.to_vec()).unwrap()
    }

    /// State is kept in these bytes, so they may never change.
    #[test]
    fn rows_are_written_as_they_always_were() {
        let (schema, columns) = samples();
        let codec = Codec::new(4, &schema, &[], None).unwrap();
        let written = codec.encode(&columns, 0);
        let mut golden = vec![4, 0b11_1111, 1];
        golden.extend_from_slice(&[0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x80]);
        golden.extend_from_slice(b"\x04\0\0\0tide\x02\0\0\0\x00\xff\x09\0\0\0\0\0\0\0");
        assert_eq!(written, golden);
        let absent = codec.encode(&columns, 1);
        assert_eq!(absent, [4, 0]);
        assert_eq!(codec.decode(&[&written, &absent]).unwrap(), columns);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0usize..40) {
            let (schema, columns) = samples();
            let codec = Codec::new(4, &schema, &[], None).unwrap();
            let _ = codec.decode(&[&bytes]);
            let mut written = codec.encode(&columns, 0);
            written.truncate(cut);
            prop_assert!(cut >= 41 || codec.decode(&[&written]).is_err());
            if let Some(byte) = bytes.first() {
                let mut written = codec.encode(&columns, 0);
                let at = cut % written.len();
                written[at] = *byte;
                let _ = codec.decode(&[&written]);
            }
        }
    }

    #[test]
    fn a_damaged_row_says_what_is_wrong_with_it() {
        let fields = [Field::new("n", FieldType::Integer), Field::nullable("t", FieldType::Text)];
        let codec = Codec::new(1, &schema(&[fields[1].clone()]), &[], None).unwrap();
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(codec.decode(&[bytes]).unwrap_err().to_string(), expected);
        };
        check(&[], "it is empty");
        check(&[2, 0], "its schema has the version 2, and only 1 are known");
        check(&[1], "it ends within its first 1 bytes");
        check(&[1, 1, 9, 0, 0, 0, b'x'], "it ends within the value of t: text?");
        check(&[1, 1, 1, 0, 0, 0, 0xff], "the value of t: text? isn't UTF-8");
        check(&[1, 0, 5], "1 bytes are left over of 3");
        let initial: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![0])), Arc::new(StringArray::new_null(1))];
        let codec = Codec::new(1, &schema(&fields), &[], Some(initial)).unwrap();
        let error = codec.decode(&[&[1, 0]]).unwrap_err();
        assert_eq!(error.to_string(), "n: integer is absent, and can't be");
    }

    #[test]
    fn rows_of_an_earlier_schema_are_read_by_name() {
        let (int, float, text) = (FieldType::Integer, FieldType::Float, FieldType::Text);
        let old = schema(&[Field::new("gone", text), Field::new("sum", int), Field::new("count", int)]);
        let new = schema(&[
            Field::nullable("count", int),
            Field::new("limit", int),
            Field::new("sum", float),
            Field::nullable("note", text),
        ]);
        let written: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["x"])),
            Arc::new(Int64Array::from(vec![-3])),
            Arc::new(Int64Array::from(vec![8])),
        ];
        let written = Codec::new(0, &old, &[], Some(written.clone())).unwrap().encode(&written, 0);
        let of_new: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![0])),
            Arc::new(Int64Array::from(vec![100])),
            Arc::new(Float64Array::from(vec![0.0])),
            Arc::new(StringArray::new_null(1)),
        ];
        let codec = Codec::new(1, &new, &[(0, old.clone())], Some(of_new)).unwrap();
        let read = codec.decode(&[&written]).unwrap();
        assert_eq!(read[0].as_ref(), &Int64Array::from(vec![8]));
        assert_eq!(read[1].as_ref(), &Int64Array::from(vec![100]), "the initial value");
        assert_eq!(read[2].as_primitive::<Float64Type>().values(), &[-3.0]);
        assert!(read[3].is_null(0));
        let error = Codec::new(0, &new, &[(0, old)], Some(read)).unwrap_err();
        assert_eq!(error, "two schemas of the state have the version 0");
    }

    #[test]
    fn schemas_that_do_not_fit_are_shown_side_by_side() {
        let (int, text) = (FieldType::Integer, FieldType::Text);
        let old = schema(&[Field::new("sum", int), Field::nullable("note", text), Field::new("gone", text)]);
        let new = schema(&[Field::new("sum", text), Field::new("note", text), Field::new("total", int)]);
        let expected = "\
stored rows can't be read as the operator's state now
  stored        now
  sum: integer  sum: text       <- no text can be made of integer: keep the type, or give the new field another name
  note: text?   note: text      <- may be absent in stored rows: declare it nullable
  gone: text    -
  -             total: integer  <- new, and stored rows have no value for it: declare it nullable";
        assert_eq!(compatible(&old, &new, false).unwrap_err(), expected);
        let new = schema(&[Field::new("sum", FieldType::Float), Field::nullable("note", text)]);
        assert_eq!(compatible(&old, &new, false), Ok(()));
        let new = schema(&[Field::new("total", int)]);
        assert_eq!(compatible(&old, &new, true), Ok(()));
        assert!(compatible(&old, &new, false).is_err());
    }
}
