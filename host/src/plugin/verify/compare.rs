//! Two answers to the same call: whether they are the same, bit for bit, and where they first differ. The host has checked
//! both and written every not-a-number alike.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use tidemill_flow::schema::Field;

use super::super::aggregate::Folded;
use super::super::instance::{Emission, Rejection};
use super::super::process::{Keyed, Processed, TimerChange};

/// How two answers differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plugin) struct Differs {
    /// What of the call it is about: a kind of thing, and its number.
    pub(super) about: Option<(&'static str, usize)>,
    /// What it is.
    pub(super) what: String,
}

/// Longer texts are cut.
const TOLD_CHARS: usize = 60;

/// How two emissions differ whose origins name one `thing` each, of which the call had `things`; their rejections name
/// rows, or the same things where the call had no others.
pub(in crate::plugin) fn emission(
    fields: &[Field],
    thing: &'static str,
    things: usize,
    rejected: &'static str,
    first: &Emission,
    again: &Emission,
) -> Option<Differs> {
    let rejections = rejections(rejected, &first.rejected, &again.rejected);
    let counts = || {
        let (before, after) = (counts(first, things), counts(again, things));
        let at = (0..things).find(|&at| before[at] != after[at])?;
        let (before, after) = (before[at], after[at]);
        Some(differs(thing, at, format!("{before} rows come of it on one instance, {after} on a fresh one")))
    };
    let order = || {
        let row = (0..first.rows).find(|&row| origin(first, row) != origin(again, row))?;
        let (before, after) = (origin(first, row), origin(again, row));
        let what =
            format!("output row {row} comes of {thing} {before} on one instance, of {after} on a fresh one");
        Some(differs(thing, before, what))
    };
    let columns = || {
        let (row, what) = columns(fields, &first.columns, &again.columns)?;
        Some(differs(thing, origin(first, row), what))
    };
    rejections.or_else(counts).or_else(order).or_else(columns)
}

/// How accumulators differ.
pub(in crate::plugin) fn accumulators(
    fields: &[Field],
    first: &[ArrayRef],
    again: &[ArrayRef],
) -> Option<Differs> {
    columns(fields, first, again).map(|(group, what)| differs("group", group, what))
}

/// How what two instances made of a batch differs.
pub(in crate::plugin) fn folded(fields: &[Field], first: &Folded, again: &Folded) -> Option<Differs> {
    let rejections = rejections("row", &first.rejected, &again.rejected);
    rejections.or_else(|| accumulators(fields, &first.accumulators, &again.accumulators))
}

/// How two answers of a process operator differ to `input`, whose rows are each a `thing`. `state` are the fields of its
/// values.
pub(in crate::plugin) fn processed(
    fields: &[Field],
    state: &[Field],
    thing: &'static str,
    input: &Keyed<'_>,
    first: &Processed,
    again: &Processed,
) -> Option<Differs> {
    let values = |of: &Processed| -> Vec<ArrayRef> {
        let new = of.values.iter().zip(input.values);
        new.map(|(new, before)| new.as_ref().unwrap_or(before).clone()).collect()
    };
    let values = || {
        let (key, what) = columns(state, &values(first), &values(again))?;
        Some(differs("key", key, format!("value {what}")))
    };
    let timers = || {
        let (mut before, mut after) = (first.timers.iter(), again.timers.iter());
        loop {
            let (before, after) = (before.next(), after.next());
            let key = before.as_ref().or(after.as_ref())?.key as usize;
            if before != after {
                let told = |change: Option<TimerChange<'_>>| change.map_or("no more".to_owned(), timer);
                let what =
                    format!("timers: {} on one instance, {} on a fresh one", told(before), told(after));
                break Some(differs("key", key, what));
            }
        }
    };
    let rows = input.key_of.len();
    let emission = emission(fields, thing, rows, thing, &first.emission, &again.emission);
    emission.or_else(values).or_else(timers)
}

fn timer(change: TimerChange<'_>) -> String {
    let clock = if change.processing_time { "processing time" } else { "event time" };
    match change.at_ms {
        Some(at) => format!("`{}` at {at} ms of {clock}", cut(change.name)),
        None => format!("`{}` of {clock} cancelled", cut(change.name)),
    }
}

fn differs(thing: &'static str, number: usize, what: String) -> Differs {
    Differs { about: Some((thing, number)), what }
}

fn rejections(thing: &'static str, first: &[Rejection], again: &[Rejection]) -> Option<Differs> {
    let at = (0..first.len().max(again.len())).find(|&at| first.get(at) != again.get(at))?;
    let row = [first.get(at), again.get(at)].into_iter().flatten().map(|r| r.row).min()?;
    let told = |of: &[Rejection]| match of.get(at).filter(|r| r.row == row) {
        Some(rejection) => format!("refused ({})", cut(&rejection.reason)),
        None => "taken".to_owned(),
    };
    Some(differs(
        thing,
        row as usize,
        format!("{} on one instance, {} on a fresh one", told(first), told(again)),
    ))
}

/// The thing that an output row comes of.
fn origin(emission: &Emission, row: usize) -> usize {
    emission.origins.as_deref().map_or(row, |origins| origins[row] as usize)
}

/// How many output rows come of each thing.
fn counts(emission: &Emission, things: usize) -> Vec<usize> {
    let mut counts = vec![0; things];
    (0..emission.rows).for_each(|row| counts[origin(emission, row)] += 1);
    counts
}

/// The first row, of as many in both, in which columns of these fields differ, and what stands there.
fn columns(fields: &[Field], first: &[ArrayRef], again: &[ArrayRef]) -> Option<(usize, String)> {
    let unequal = (0..fields.len()).filter(|&column| *first[column] != *again[column]);
    let row_of = |column: usize| {
        let (first, again) = (&first[column], &again[column]);
        (0..first.len()).find(|&row| *first.slice(row, 1) != *again.slice(row, 1)).map(|row| (row, column))
    };
    let (row, column) = unequal.filter_map(row_of).min()?;
    let (before, after) = (told(&first[column], row), told(&again[column], row));
    let name = &fields[column].name;
    Some((row, format!("column `{name}`: {before} on one instance, {after} on a fresh one")))
}

fn told(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "no value".to_owned();
    }
    match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => {
            format!("{} ms", column.as_primitive::<TimestampMillisecondType>().value(row))
        }
        DataType::Utf8 => format!("{:?}", cut(column.as_string::<i32>().value(row))),
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            let shown = &bytes[..bytes.len().min(TOLD_CHARS / 2)];
            let hex: String = shown.iter().map(|b| format!("{b:02x}")).collect();
            format!("{hex}{}", if shown.len() < bytes.len() { "…" } else { "" })
        }
        other => panic!("a column of {other} in a batch"),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TOLD_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow_array::{Float64Array, StringArray};
    use tidemill_flow::schema::FieldType;

    fn fields() -> [Field; 2] {
        [Field::new("f", FieldType::Float), Field::nullable("t", FieldType::Text)]
    }

    fn answer(rows: &[(f64, Option<&str>)], origins: Option<Vec<u32>>, rejected: &[(u32, &str)]) -> Emission {
        let floats: Float64Array = rows.iter().map(|(f, _)| Some(*f)).collect();
        let texts: StringArray = rows.iter().map(|(_, t)| *t).collect();
        let rejection = |(row, reason): &(u32, &str)| Rejection { row: *row, reason: (*reason).to_owned() };
        Emission {
            origins,
            columns: vec![Arc::new(floats), Arc::new(texts)],
            rows: rows.len(),
            rejected: rejected.iter().map(rejection).collect(),
        }
    }

    fn check(first: &Emission, again: &Emission, expected: Option<(usize, &str)>) {
        let found = emission(&fields(), "row", 4, "row", first, again);
        assert_eq!(found, expected.map(|(row, what)| differs("row", row, what.to_owned())));
    }

    #[test]
    fn the_first_difference_is_told_with_its_row() {
        let rows = [(1.5, Some("a")), (0.0, None), (f64::NAN, Some("b")), (2.0, Some("c"))];
        let all = || answer(&rows, None, &[]);
        check(&all(), &all(), None);
        // The same origins, said otherwise.
        check(&all(), &answer(&rows, Some(vec![0, 1, 2, 3]), &[]), None);
        let mut other = rows;
        (other[1].0, other[2].1) = (-0.0, Some("x"));
        let zeros = "column `f`: 0.0 on one instance, -0.0 on a fresh one";
        check(&all(), &answer(&other, None, &[]), Some((1, zeros)));
        other[1] = (0.0, Some(""));
        let absent = "column `t`: no value on one instance, \"\" on a fresh one";
        check(&all(), &answer(&other, None, &[]), Some((1, absent)));
    }

    #[test]
    fn rows_that_come_and_go_are_told_by_what_they_come_of() {
        let one = [(1.0, None)];
        let of = |row: u32, rejected: &[(u32, &str)]| answer(&one, Some(vec![row]), rejected);
        check(&of(2, &[]), &of(3, &[]), Some((2, "1 rows come of it on one instance, 0 on a fresh one")));
        let refused = "refused (why) on one instance, taken on a fresh one";
        check(&of(2, &[(1, "why")]), &of(2, &[]), Some((1, refused)));
        check(&of(2, &[(1, "why"), (3, "y")]), &of(2, &[(3, "y")]), Some((1, refused)));
        let reasons = "refused (why) on one instance, refused (so) on a fresh one";
        check(&of(2, &[(1, "why")]), &of(2, &[(1, "so")]), Some((1, reasons)));
        let two = [(1.0, None), (1.0, None)];
        let swapped = |origins: [u32; 2]| answer(&two, Some(origins.to_vec()), &[]);
        let order = "output row 0 comes of row 2 on one instance, of 3 on a fresh one";
        check(&swapped([2, 3]), &swapped([3, 2]), Some((2, order)));
    }
}
