//! `[[step]]`: what is done, and what is expected to come of it.

use std::num::NonZeroUsize;

use toml::de::DeValue;

use super::super::PARALLELISM_MAX;
use super::super::file::{Span, Spanned};
use super::super::keys;
use super::super::table::Table;
use super::super::value::Value;
use super::rows::{self, Row};

/// A step: what is done in the order of the fields, and after the rows have come what is expected.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it stands.
    pub span: Span,
    /// What it is about, for people.
    pub note: Option<String>,
    /// First of all the pipeline goes back to what it was.
    pub restore: Option<Restore>,
    /// Which input the rows, the watermark and the end are for.
    pub input: Option<Spanned<String>>,
    /// Which of its partitions.
    pub partition: Option<Spanned<usize>>,
    /// Rows that come.
    pub rows: Vec<Row>,
    /// Then event time has come this far, in milliseconds since the Unix epoch.
    pub watermark: Option<i64>,
    /// Then nobody waits for it any more.
    pub idle: bool,
    /// Then it counts again.
    pub active: bool,
    /// Then so much processing time passes, in milliseconds.
    pub advance_ms: Option<i64>,
    /// Then there is nothing more.
    pub end: bool,
    /// What comes out.
    pub expect: Expect,
    /// What comes out of late rows that no sink reads.
    pub late: Expected,
    /// What is rejected.
    pub rejected: Expected,
    /// How rows are compared.
    pub compared: Compared,
    /// At last the pipeline as it is then gets this name.
    pub snapshot: Option<Spanned<String>>,
}

/// Where a pipeline goes on.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The snapshot of this name; none: where the step before ended.
    pub snapshot: Option<Spanned<String>>,
    /// Tasks per stage from then on, if they change.
    pub parallelism: Option<NonZeroUsize>,
    /// Where the file says so.
    pub span: Span,
}

/// What comes out of a step.
#[derive(Clone, Debug)]
pub enum Expect {
    /// Anything.
    Any,
    /// These rows of these sinks, and none of others; without a name, of the only one.
    Rows(Vec<(Option<Spanned<String>>, Expected)>),
}

/// Rows that are expected.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether they come in this order.
    pub in_order: bool,
}

/// How rows are compared.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// The fields that count; `None`: all.
    pub fields: Option<Vec<Spanned<String>>>,
    /// How much floats may differ.
    pub tolerance: f64,
}

/// An instant: milliseconds since the Unix epoch, or a date and time.
pub(super) fn instant_ms(value: Value<'_>) -> Option<i64> {
    let text = match value.node.get_ref() {
        DeValue::Integer(_) => return value.integer(i64::MIN, i64::MAX),
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        _ => return value.mismatch("milliseconds since 1970 or a date and time"),
    };
    match text.parse::<jiff::Timestamp>() {
        Ok(instant) => Some(instant.as_millisecond()),
        Err(_) => value.refuse(format!("\"{text}\" is no instant such as 2026-01-05T08:00:00Z")),
    }
}

/// The keys `fields` and `tolerance`, where a table has them.
pub(super) fn read_compared(table: &Table<'_>, default: &Compared) -> Option<Compared> {
    let fields = table.optional("fields", |v| v.distinct(v.array(|v| v.name())?));
    let tolerance = table.or("tolerance", default.tolerance, read_tolerance);
    Some(Compared { fields: fields?.or_else(|| default.fields.clone()), tolerance: tolerance? })
}

fn read_tolerance(value: Value<'_>) -> Option<f64> {
    let tolerance = match value.node.get_ref() {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().unwrap_or(f64::NAN),
        DeValue::Integer(integer) => integer.as_str().parse().unwrap_or(f64::NAN),
        _ => return value.mismatch("a number such as 1e-9"),
    };
    if tolerance >= 0.0 { Some(tolerance) } else { value.refuse("must be a number from 0") }
}

/// All steps.
pub(super) fn read_all(value: &Value<'_>, compared: &Compared) -> Option<Vec<Step>> {
    let steps = value.array(|v| read(v, compared))?;
    let last = steps.len() - 1;
    for step in steps[..last].iter().filter(|s| s.end && s.input.is_none()) {
        value.problems().report(step.span, "the input ends in this step, so it must be the last");
    }
    Some(steps)
}

fn read(value: Value<'_>, compared: &Compared) -> Option<Step> {
    let DeValue::Table(entries) = value.node.get_ref() else {
        return value.mismatch("sections [[step]]");
    };
    let span: Span = value.node.span().into();
    let table = value.table.below("step", span, Some(&keys::STEP), entries);
    table.check_keys(None);
    let note = table.optional("note", |v| Some(v.text()?.value));
    let restore = table.optional("restore", read_restore);
    let input = table.optional("input", |v| v.id());
    let partition = table.optional("partition", |v| {
        let number = v.integer(0, PARALLELISM_MAX)?;
        Some(v.at(usize::try_from(number).ok()?))
    });
    let rows = table.or("rows", Vec::new(), rows::read);
    let watermark = table.optional("watermark", instant_ms);
    let idle = table.or("idle", false, |v| v.boolean());
    let active = table.or("active", false, |v| v.boolean());
    let advance_ms = table.optional("advance", |v| v.duration_ms());
    let end = table.or("end", false, |v| v.boolean());
    let expect = read_expect(&table);
    let late = table.or("expect_late", Vec::new(), rows::read);
    let rejected = table.or("expect_rejected", Vec::new(), rows::read);
    let compared = read_compared(&table, compared);
    let snapshot = table.optional("snapshot", |v| v.name());
    if let (Some(partition), None) = (table.get("partition"), table.get("input")) {
        partition.refuse::<()>("says nothing without `input`");
    }
    if let (Some(end), Some(Some(_)), None) = (table.get("end"), &snapshot, table.get("input")) {
        end.refuse::<()>("nothing goes on behind the end, so a `snapshot` of it is of no use");
    }
    Some(Step {
        span,
        note: note?,
        restore: restore?,
        input: input?,
        partition: partition?,
        rows: rows?,
        watermark: watermark?,
        idle: idle?,
        active: active?,
        advance_ms: advance_ms?,
        end: end?,
        expect: expect?,
        late: Expected { rows: late?, in_order: false },
        rejected: Expected { rows: rejected?, in_order: false },
        compared: compared?,
        snapshot: snapshot?,
    })
}

/// `true`, the name of a snapshot, or a table that says more.
fn read_restore(value: Value<'_>) -> Option<Restore> {
    let span = value.span();
    match value.node.get_ref() {
        DeValue::Boolean(true) => Some(Restore { snapshot: None, parallelism: None, span }),
        DeValue::String(_) => Some(Restore { snapshot: Some(value.name()?), parallelism: None, span }),
        DeValue::Table(_) => {
            let table = value.table(&keys::STEP_RESTORE)?;
            table.check_keys(None);
            let snapshot = table.optional("snapshot", |v| v.name());
            let parallelism = table.optional("parallelism", |v| v.count(PARALLELISM_MAX));
            Some(Restore { snapshot: snapshot?, parallelism: parallelism?, span })
        }
        _ => value.mismatch("true, the name of a snapshot, or a table"),
    }
}

fn read_expect(table: &Table<'_>) -> Option<Expect> {
    let (value, in_order) = match (table.get("expect"), table.get("expect_in_order")) {
        (None, None) => return Some(Expect::Rows(Vec::new())),
        (Some(_), Some(value)) => return value.refuse("stands beside `expect`; write one of them"),
        (Some(value), None) => (value, false),
        (None, Some(value)) => (value, true),
    };
    match value.node.get_ref() {
        DeValue::String(any) if any == "any" => Some(Expect::Any),
        DeValue::Table(_) => {
            let sinks = value.table_of_names()?;
            let of_sink = |v: &Value<'_>| Some((Some(v.key()), Expected { rows: rows::read(*v)?, in_order }));
            let sinks: Vec<_> = sinks.values().iter().map(of_sink).collect();
            Some(Expect::Rows(sinks.into_iter().collect::<Option<_>>()?))
        }
        _ => Some(Expect::Rows(vec![(None, Expected { rows: rows::read(value)?, in_order })])),
    }
}
