//! Rows as scripts write them: an array of tables, or for many of them text with a row on each line.

use serde_json::{Map, Number};
use toml::de::DeValue;

use super::super::file::Span;
use super::super::value::Value;

/// A row of a script.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its values by name, in the order of the script.
    pub cells: Vec<(String, Cell)>,
    /// Where it stands.
    pub span: Span,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A value that says of which type it is.
    Value(serde_json::Value),
    /// Text of a table, which is read as the type of its field; empty: no value.
    Text(String),
}

/// Rows, perhaps none.
pub(super) fn read(value: Value<'_>) -> Option<Vec<Row>> {
    match value.node.get_ref() {
        DeValue::Array(rows) => {
            let rows: Vec<_> = rows.iter().map(|node| read_row(Value { node, ..value })).collect();
            rows.into_iter().collect()
        }
        DeValue::String(text) => read_table(value, text),
        _ => value
            .mismatch("an array of tables such as [ { user = \"ann\" } ], or text with a row on each line"),
    }
}

fn read_row(value: Value<'_>) -> Option<Row> {
    let DeValue::Table(entries) = value.node.get_ref() else {
        return value.mismatch("a table such as { user = \"ann\", amount = 1 }");
    };
    let mut cells: Vec<(Span, String, Cell)> = Vec::new();
    for (key, node) in entries {
        let json = json(Value { node, ..value })?;
        cells.push((key.span().into(), key.get_ref().clone().into_owned(), Cell::Value(json)));
    }
    cells.sort_by_key(|(span, ..)| *span);
    let cells = cells.into_iter().map(|(_, name, cell)| (name, cell)).collect();
    Some(Row { cells, span: value.node.span().into() })
}

/// A value as a record of a source would have it.
fn json(value: Value<'_>) -> Option<serde_json::Value> {
    Some(match value.node.get_ref() {
        DeValue::String(text) => text.clone().into_owned().into(),
        DeValue::Integer(_) => value.integer(i64::MIN, i64::MAX)?.into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Datetime(datetime) => datetime.to_string().into(),
        DeValue::Float(float) => {
            let number = float.as_str().replace('_', "").parse().ok().and_then(Number::from_f64);
            match number {
                Some(number) => number.into(),
                None => return value.refuse(format!("{float} is no number that a record of JSON can have")),
            }
        }
        DeValue::Array(values) => {
            let values: Option<Vec<_>> = values.iter().map(|node| json(Value { node, ..value })).collect();
            values?.into()
        }
        DeValue::Table(entries) => {
            let entry = |(key, node): (&toml::Spanned<_>, _)| {
                Some((AsRef::<str>::as_ref(key.get_ref()).to_owned(), json(Value { node, ..value })?))
            };
            entries.iter().map(entry).collect::<Option<Map<_, _>>>()?.into()
        }
    })
}

/// The first line has the names. Values are separated by `|` if that stands there, else by commas.
fn read_table(value: Value<'_>, text: &str) -> Option<Vec<Row>> {
    let span: Span = value.node.span().into();
    // Of what was typed, so that each row has its place; the lines are the same unless they have escapes.
    let typed = value.problems().file().text().get(span.start..span.end).unwrap_or_default();
    let mut from = 0;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
        let at = typed[from..].find(line).map(|at| from + at);
        from = at.map_or(from, |at| at + line.len());
        (line, at.map_or(span, |at| Span { start: span.start + at, end: span.start + at + line.len() }))
    });
    let Some((header, _)) = lines.next() else {
        return value.refuse("is empty; the first line of a table has the names of the fields");
    };
    let separator = if header.contains('|') { '|' } else { ',' };
    let names: Vec<&str> = header.split(separator).map(str::trim).collect();
    if names.iter().any(|name| name.is_empty()) {
        return value.refuse("its first line has an empty name");
    }
    let mut rows = Vec::new();
    for (line, span) in lines {
        let cells: Vec<&str> = line.split(separator).map(str::trim).collect();
        if cells.len() != names.len() {
            let message = format!(
                "`{}` {}: the row has {} values, and the first line names {} fields",
                value.key,
                value.table.place(),
                cells.len(),
                names.len()
            );
            value.problems().report(span, message);
            return None;
        }
        let cell = |(name, cell): (&&str, &str)| ((*name).to_owned(), Cell::Text(cell.to_owned()));
        rows.push(Row { cells: names.iter().zip(cells).map(cell).collect(), span });
    }
    Some(rows)
}
