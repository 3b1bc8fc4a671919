//! Looking at the state in a checkpoint: rows, entries of collections and timers, as JSON, without the operator.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMillisecondArray};
use serde_json::{Map, Value};
use tidemill_checkpoint::{Contents, Field as ManifestField, Manifest, Operator};
use tidemill_flow::batch::record_batch;
use tidemill_flow::join::{Form, Kept, Side, side_of};
use tidemill_flow::key::read_keys;
use tidemill_flow::rows::Codec;
use tidemill_flow::schema::{Field, FieldType, Schema};
use tidemill_flow::storage::{Addresses, Storage};
use tidemill_flow::windowing::{is_pane, read_row_key, told_timer};

use super::restored::schema_of;
use crate::formats::{Encoder, Format};
use crate::pipeline::plan::{StateBackend, StatePlan};
use crate::plugin::World;

/// Addresses that are read at once.
const AT_ONCE: usize = 1024;
/// For RocksDB's caches while it is looked at.
const MEMORY_BYTES: u64 = 64 << 20;

/// The state of an operator in a checkpoint.
pub struct View {
    storage: Arc<dyn Storage>,
    operator: Operator,
    key: Vec<Field>,
    codec: Codec,
    join: Option<JoinView>,
}

/// How the rows of a join are read.
struct JoinView {
    form: Form,
    codecs: [Codec; 2],
}

impl View {
    /// The state of the operator of this id. The checkpoint's files are verified, and linked into `folder`, which is the
    /// caller's to remove afterwards.
    ///
    /// # Errors
    /// When the checkpoint is damaged or can't be read, or has no such operator.
    pub fn open(
        contents: &Contents,
        manifest: &Manifest,
        operator: &str,
        folder: &Path,
    ) -> Result<Self, String> {
        let Some(operator) = manifest.operators.iter().find(|o| o.id == operator) else {
            let ids: Vec<&str> = manifest.operators.iter().map(|o| o.id.as_str()).collect();
            let ids = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
            return Err(format!(
                "checkpoint {} has no state of `{operator}`; it has of: {ids}",
                manifest.checkpoint
            ));
        };
        contents.verify(manifest, &|_| ()).map_err(|problems| super::recovery::told(&problems))?;
        let backend =
            if manifest.state.backend == "memory" { StateBackend::Memory } else { StateBackend::RocksDb };
        let plan = StatePlan { backend, memory_bytes: MEMORY_BYTES, path: None };
        let state =
            super::recovery::restore_state(&plan, manifest, folder, |into| contents.restore(manifest, into));
        let state = state.map_err(|e| e.to_string())?;
        let mut schemas = Vec::new();
        for schema in &operator.state {
            let schema_read = schema_of(&schema.fields)?;
            let nullable = |f: &Field| Field { nullable: true, ..f.clone() };
            let fields = schema_read.fields().iter().map(nullable).collect();
            schemas.push((schema.version, Schema::new(fields)?));
        }
        // The one that is written now stands last.
        let (version, current) = schemas.pop().unwrap_or((0, Schema::default()));
        let form =
            operator.windows.as_deref().filter(|_| operator.world == World::Join.name()).and_then(Form::of);
        let codec_of = |side: Side| {
            let older: Vec<(u8, Schema)> = schemas.iter().map(|(v, s)| (*v, side_of(s, side))).collect();
            Codec::new(version, &side_of(&current, side), &older, None)
        };
        let join = match form {
            Some(form) => Some(JoinView { form, codecs: [codec_of(Side::Left)?, codec_of(Side::Right)?] }),
            None => None,
        };
        Ok(Self {
            storage: state.storage(),
            operator: operator.clone(),
            key: operator.key.iter().map(field).collect::<Result<_, _>>()?,
            codec: Codec::new(version, &current, &schemas, None)?,
            join,
        })
    }

    /// Calls `see` with each row, entry and timer, but not with rows in flight, until it says that this is enough. Each is
    /// an object with `key`; a row also has `state`, and, if there are windows, `slice` or `window`, where that begins; an
    /// entry has `collection`, `entry` and `value`; a timer has `timer`, `clock` and `at`.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn each(&self, mut see: impl FnMut(Map<String, Value>) -> bool) -> Result<(), String> {
        let addresses = Addresses { operator: self.operator.number };
        // What is in flight stands last, and is no state.
        let (mut from, end) = (addresses.all().0, addresses.in_flight_of_group(0));
        loop {
            let found = self.storage.scan(&from, &end, AT_ONCE).map_err(|e| e.to_string())?;
            let Some((last, _)) = found.last() else { return Ok(()) };
            from = [last.as_slice(), &[0]].concat();
            for (address, value) in &found {
                let shown = self.shown(address, value)?;
                // When rows of a join are due is said by their times.
                if !shown.is_empty() && !see(shown) {
                    return Ok(());
                }
            }
        }
    }

    fn shown(&self, address: &[u8], value: &[u8]) -> Result<Map<String, Value>, String> {
        let addresses = Addresses { operator: self.operator.number };
        let mut shown = Map::new();
        if let Ok((slice, _, key)) = addresses.read_row(address) {
            let pane = if is_pane(self.codec.schema()) { read_row_key(key) } else { None };
            shown.insert("key".to_owned(), self.key(pane.map_or(key, |(key, _)| key))?);
            if let Some((_, start)) = pane.filter(|(_, start)| *start != i64::MIN) {
                shown.insert("window".to_owned(), time(start)?);
            } else if pane.is_none() && self.operator.windows.as_deref().is_some_and(|w| w != "global") {
                shown.insert("slice".to_owned(), time(slice)?);
            }
            let row = self.codec.decode(&[value]).map_err(|e| e.to_string())?;
            shown.insert("state".to_owned(), object(self.codec.schema(), row)?);
        } else if let (Some(join), Ok((number, _, key, entry))) = (&self.join, addresses.read_entry(address))
        {
            let kept = join.form.read(number, key, entry, value).map_err(|e| e.to_string())?;
            let Some(Kept { side, key, time: at, window_last, row }) = kept else { return Ok(Map::new()) };
            shown.insert("key".to_owned(), self.key(key)?);
            shown.insert("side".to_owned(), side.to_string().into());
            shown.insert("time".to_owned(), time(at)?);
            if let Some(last) = window_last {
                shown.insert("window_end".to_owned(), time(last.saturating_add(1))?);
            }
            let codec = &join.codecs[side as usize];
            let row = codec.decode(&[row]).map_err(|e| e.to_string())?;
            shown.insert("row".to_owned(), object(codec.schema(), row)?);
        } else if let Ok((number, _, key, entry)) = addresses.read_entry(address) {
            shown.insert("key".to_owned(), self.key(key)?);
            let of = self.operator.collections.iter().find(|c| c.number == number);
            let of = of
                .ok_or_else(|| format!("an entry of collection {number}, which the manifest doesn't have"))?;
            // What expires has the time of its last write before it.
            let value = if of.expires_by.is_some() { value.get(8..).unwrap_or_default() } else { value };
            shown.insert("collection".to_owned(), of.name.clone().into());
            shown.insert("entry".to_owned(), part(&of.entry, entry, true)?);
            shown.insert("value".to_owned(), part(&of.value, value, false)?);
        } else {
            let (clock, _, key, name) = addresses.read_timer(address).map_err(|e| e.to_string())?;
            shown.insert("key".to_owned(), self.key(key)?);
            let name = String::from_utf8_lossy(name);
            let of_pane = if is_pane(self.codec.schema()) { told_timer(&name) } else { None };
            if let Some((_, start)) = of_pane.filter(|(_, start)| *start != i64::MIN) {
                shown.insert("window".to_owned(), time(start)?);
            }
            shown.insert("timer".to_owned(), of_pane.map_or(name.as_ref(), |(told, _)| told).into());
            let clock = if clock == 0 { "event-time" } else { "processing-time" };
            shown.insert("clock".to_owned(), clock.into());
            let at = <[u8; 8]>::try_from(value).map_err(|_| format!("a timer at {value:02x?}"))?;
            shown.insert("at".to_owned(), time(i64::from_be_bytes(at))?);
        }
        Ok(shown)
    }

    fn key(&self, key: &[u8]) -> Result<Value, String> {
        let types: Vec<FieldType> = self.key.iter().map(|f| f.field_type).collect();
        let columns = read_keys(std::iter::once(key), &types);
        object(&Schema::new(self.key.clone())?, columns)
    }
}

fn field(field: &ManifestField) -> Result<Field, String> {
    let field_type = FieldType::from_name(&field.r#type);
    let field_type = field_type.ok_or_else(|| format!("there is no type `{}`", field.r#type))?;
    Ok(Field { name: field.name.clone(), field_type, nullable: true })
}

/// One row as it would be written into a file of JSON lines.
pub(super) fn object(schema: &Schema, columns: Vec<ArrayRef>) -> Result<Value, String> {
    let mut encoder = Encoder::new(&Format::JsonLines, schema).map_err(|e| e.to_string())?;
    let mut line = Vec::new();
    encoder.encode(&record_batch(schema.arrow(), columns, 1), &mut line);
    serde_json::from_slice(&line).map_err(|e| e.to_string())
}

fn one(field_type: FieldType, column: ArrayRef) -> Result<Value, String> {
    let schema = Schema::new(vec![Field::nullable("value", field_type)])?;
    let shown = object(&schema, vec![column])?;
    Ok(shown.get("value").cloned().unwrap_or(Value::Null))
}

pub(super) fn time(ms: i64) -> Result<Value, String> {
    let column = TimestampMillisecondArray::from(vec![ms]).with_data_type(FieldType::Timestamp.arrow());
    one(FieldType::Timestamp, Arc::new(column))
}

/// An entry or value of a collection, as `wit/operator.wit` has them: of an entry the integers are big-endian, their
/// sign bit flipped, so that they sort.
fn part(type_name: &str, bytes: &[u8], is_entry: bool) -> Result<Value, String> {
    let field_type =
        FieldType::from_name(type_name).ok_or_else(|| format!("there is no type `{type_name}`"))?;
    let integer = || -> Result<i64, String> {
        let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| format!("{type_name} in {bytes:02x?}"))?;
        Ok(if is_entry {
            (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed()
        } else {
            i64::from_le_bytes(bytes)
        })
    };
    match field_type {
        FieldType::Boolean => Ok(Value::Bool(bytes == [1])),
        FieldType::Integer => one(field_type, Arc::new(Int64Array::from(vec![integer()?]))),
        FieldType::Timestamp => time(integer()?),
        FieldType::Float => {
            let float = f64::from_bits(integer()?.cast_unsigned());
            one(field_type, Arc::new(arrow_array::Float64Array::from(vec![float])))
        }
        FieldType::Text => {
            one(field_type, Arc::new(StringArray::from(vec![String::from_utf8_lossy(bytes).into_owned()])))
        }
        FieldType::Bytes => one(field_type, Arc::new(BinaryArray::from(vec![bytes]))),
    }
}
