//! What came out beside what was expected.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tidemill::pipeline::declaration::script::{Compared, Expected, Row};
use tidemill::pipeline::plan::SinkPlan;
use tidemill::sink::Captured;
use tidemill_flow::schema::{Field, FieldType};

use super::rows::{AT, TIME, value};

/// Why a row was rejected, in the rows that are shown and compared.
const REASON: &str = "$reason";

/// What the host can say of the window of a row.
const OF_WINDOWS: [&str; 4] = ["window_start", "window_end", "window_firing", "window_timing"];

/// Text of a row that couldn't be decoded.
const RAW: &str = "$raw";

/// Rows that were expected and rows that came, beside each other.
#[derive(Debug)]
pub(super) struct Difference {
    /// The sink, or what else the rows are.
    pub(super) of: String,
    /// The columns that are shown.
    pub(super) columns: Vec<String>,
    /// Those among them that are instants.
    pub(super) instants: BTreeSet<String>,
    /// Each expected row and the one that came for it.
    pub(super) pairs: Vec<Pair>,
}

/// A line of a difference.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) expected: Option<Fields>,
    pub(super) actual: Option<Fields>,
    /// Whether one is what the other should be.
    pub(super) same: bool,
}

/// The values of a row that has them.
pub(super) type Fields = BTreeMap<String, Value>;

/// What is different at a sink, if anything is.
pub(super) fn sink(
    sink: &SinkPlan,
    expected: Option<&Expected>,
    captured: &[Captured],
    compared: &Compared,
) -> Option<Difference> {
    let fields = sink.schema.fields();
    // A field of the rows goes before the event time, which then is `$time` alone.
    let time = if fields.iter().any(|f| f.name == AT) { TIME } else { AT };
    let of_row = |row: &Row| expected_fields(row, fields, time);
    let wanted: Vec<Fields> = expected.map_or_else(Vec::new, |e| e.rows.iter().map(of_row).collect());
    let given: BTreeSet<String> = wanted.iter().flat_map(|row| row.keys().cloned()).collect();
    let came: Vec<Fields> = captured.iter().map(|row| captured_fields(row, time)).collect();
    let asked = |name: &str| compared.fields.as_ref().is_none_or(|f| f.iter().any(|f| f.value == name));
    // The host's own fields count where they are given.
    let is_own = |name: &str| name == time || OF_WINDOWS.contains(&name);
    let matches = |expected: &Fields, actual: &Fields| {
        let mut names = fields.iter().map(|f| f.name.as_str()).chain([time]);
        names.all(|name| {
            let counts = if is_own(name) { expected.contains_key(name) } else { asked(name) };
            !counts || is_equal(expected.get(name), actual.get(name), compared.tolerance)
        })
    };
    let in_order = expected.is_some_and(|e| e.in_order);
    let pairs = pair(wanted, came, in_order, matches);
    let columns = fields.iter().map(|f| f.name.as_str()).chain([time]);
    let columns = columns.filter(|name| if is_own(name) { given.contains(*name) } else { asked(name) });
    let columns = columns.map(str::to_owned).collect();
    let instants = fields.iter().filter(|f| f.field_type == FieldType::Timestamp).map(|f| f.name.clone());
    difference(&sink.id, columns, instants.chain([time.to_owned()]).collect(), pairs)
}

/// What is different among late or rejected rows, if anything is. Which fields such a row has depends on who would have
/// read it; those count that the script gives.
pub(super) fn letters(
    of: &str,
    expected: &Expected,
    captured: &[Captured],
    compared: &Compared,
) -> Option<Difference> {
    let wanted: Vec<Fields> = expected.rows.iter().map(|row| expected_fields(row, &[], AT)).collect();
    let came: Vec<Fields> = captured.iter().map(letter_fields).collect();
    let matches = |expected: &Fields, actual: &Fields| {
        expected.iter().all(|(name, wanted)| match (wanted, actual.get(name)) {
            // Reasons are for people, and a part of one is enough to tell which it is.
            (Value::String(part), Some(Value::String(reason))) if name == REASON => reason.contains(part),
            (wanted, actual) => is_equal(Some(wanted), actual, compared.tolerance),
        })
    };
    let mut columns: Vec<String> = wanted.iter().chain(&came).flat_map(|row| row.keys().cloned()).collect();
    columns.sort_by_key(|name| (name.starts_with('$'), name.clone()));
    columns.dedup();
    let instants = BTreeSet::from([AT.to_owned()]);
    difference(of, columns, instants, pair(wanted, came, expected.in_order, matches))
}

fn difference(
    of: &str,
    columns: Vec<String>,
    instants: BTreeSet<String>,
    pairs: Vec<Pair>,
) -> Option<Difference> {
    let differs = pairs.iter().any(|pair| !pair.same);
    differs.then(|| Difference { of: of.to_owned(), columns, instants, pairs })
}

/// A row of a script, without values that aren't there; instants are in milliseconds since the Unix epoch.
fn expected_fields(row: &Row, fields: &[Field], time: &str) -> Fields {
    let of_cell = |(name, cell): &(String, _)| {
        let field = fields.iter().find(|f| f.name == *name);
        let is_time = field.is_none() && (name == AT || name == TIME);
        let field_type = if is_time { Some(FieldType::Timestamp) } else { field.map(|f| f.field_type) };
        let name = if is_time { time } else { name };
        let value = value(cell, field_type);
        let value = match (field_type, &value) {
            (Some(FieldType::Timestamp), Value::String(text)) => instant(text).unwrap_or(value),
            _ => value,
        };
        (!value.is_null()).then(|| (name.to_owned(), value))
    };
    row.cells.iter().filter_map(of_cell).collect()
}

fn captured_fields(row: &Captured, time: &str) -> Fields {
    let mut fields = object(&row.line);
    if let Some(at) = row.time {
        fields.insert(time.to_owned(), at.into());
    }
    fields
}

/// The row itself, its time and the reason.
fn letter_fields(letter: &Captured) -> Fields {
    let mut about = object(&letter.line);
    let mut fields = match (about.remove("row"), about.remove("raw")) {
        (Some(Value::Object(row)), _) => row.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        (_, Some(Value::String(raw))) => match serde_json::from_str::<serde_json::Map<String, Value>>(&raw) {
            Ok(record) => record.into_iter().collect(),
            Err(_) => Fields::from([(RAW.to_owned(), raw.into())]),
        },
        _ => Fields::new(),
    };
    fields.extend(about.remove("reason").map(|reason| (REASON.to_owned(), reason)));
    if let Some(Value::String(time)) = about.remove("event_time") {
        fields.entry(AT.to_owned()).or_insert_with(|| instant(&time).unwrap_or(Value::Null));
    }
    fields
}

fn object(line: &[u8]) -> Fields {
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(line).expect("the host writes a JSON object a line");
    object.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// Milliseconds since the Unix epoch.
fn instant(text: &str) -> Option<Value> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond().into())
}

fn is_equal(expected: Option<&Value>, actual: Option<&Value>, tolerance: f64) -> bool {
    match (expected, actual) {
        (Some(Value::Number(expected)), Some(Value::Number(actual))) => {
            if let (Some(expected), Some(actual)) = (expected.as_i64(), actual.as_i64()) {
                return expected == actual;
            }
            let (expected, actual) = (expected.as_f64(), actual.as_f64());
            expected.zip(actual).is_some_and(|(e, a)| e == a || (e - a).abs() <= tolerance)
        }
        // Of late and rejected rows nobody knows which texts are instants.
        (Some(expected @ Value::Number(_)), Some(Value::String(actual))) => {
            instant(actual).as_ref() == Some(expected)
        }
        (expected, actual) => expected == actual,
    }
}

/// Puts each expected row beside the one that came for it: in order the one in the same place, else any. What is left on
/// both sides stands beside each other at the end.
fn pair(
    expected: Vec<Fields>,
    actual: Vec<Fields>,
    in_order: bool,
    matches: impl Fn(&Fields, &Fields) -> bool,
) -> Vec<Pair> {
    let mut actual: Vec<Option<Fields>> = actual.into_iter().map(Some).collect();
    let mut pairs = Vec::new();
    if in_order {
        let count = expected.len().max(actual.len());
        let mut expected: Vec<Option<Fields>> = expected.into_iter().map(Some).collect();
        expected.resize(count, None);
        actual.resize(count, None);
        for (expected, actual) in expected.into_iter().zip(actual) {
            let same = expected.as_ref().zip(actual.as_ref()).is_some_and(|(e, a)| matches(e, a));
            pairs.push(Pair { expected, actual, same });
        }
        return pairs;
    }
    let mut missing = Vec::new();
    for expected in expected {
        let found = actual.iter_mut().find(|a| a.as_ref().is_some_and(|a| matches(&expected, a)));
        match found.and_then(Option::take) {
            Some(actual) => pairs.push(Pair { expected: Some(expected), actual: Some(actual), same: true }),
            None => missing.push(expected),
        }
    }
    let mut unexpected = actual.into_iter().flatten();
    pairs.extend(missing.into_iter().map(|expected| Pair {
        expected: Some(expected),
        actual: unexpected.next(),
        same: false,
    }));
    pairs.extend(unexpected.map(|actual| Pair { expected: None, actual: Some(actual), same: false }));
    pairs
}
