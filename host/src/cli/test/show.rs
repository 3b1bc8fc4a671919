//! What came of scripts, for people and for programs.

use serde_json::{Value, json};

use super::Tested;
use super::compare::{Difference, Fields, Pair};
use super::play::{Failure, Why};

/// Instants up to here, in milliseconds either way of 1970, are shown as numbers: scripts have small ones.
const SMALL_MS: u64 = 100_000_000_000;

/// A script's line, and of each step that failed expected and actual beside each other.
pub(super) fn as_text(tested: &Tested) -> String {
    let path = tested.path.display();
    match &tested.played {
        Err(wrong) => format!("{path}: can't be played\n{}\n", indented(wrong)),
        Ok(played) if played.failures.is_empty() => {
            format!("{path}: passed, {}\n", count(played.steps, "step"))
        }
        Ok(played) => {
            let failures = played.failures.iter().map(|failure| told(&path.to_string(), failure));
            format!("{path}: FAILED\n{}", failures.collect::<String>())
        }
    }
}

/// How many scripts there were.
pub(super) fn summary(tested: &[Tested]) -> String {
    let passed = tested.iter().filter(|t| t.played.as_ref().is_ok_and(|p| p.failures.is_empty())).count();
    let wrong = tested.iter().filter(|t| t.played.is_err()).count();
    let failed = tested.len() - passed - wrong;
    let mut parts = vec![format!("{passed} passed")];
    parts.extend((failed > 0).then(|| format!("{failed} failed")));
    parts.extend((wrong > 0).then(|| format!("{wrong} can't be played")));
    format!("{}: {}\n", count(tested.len(), "script"), parts.join(", "))
}

/// All of it.
pub(super) fn as_json(tested: &[Tested]) -> Value {
    let one = |tested: &Tested| match &tested.played {
        Err(wrong) => json!({"script": tested.path.display().to_string(), "result": "wrong", "error": wrong}),
        Ok(played) => json!({
            "script": tested.path.display().to_string(),
            "result": if played.failures.is_empty() { "passed" } else { "failed" },
            "steps": played.steps,
            "failures": played.failures.iter().map(failure_as_json).collect::<Vec<_>>(),
        }),
    };
    tested.iter().map(one).collect()
}

fn failure_as_json(failure: &Failure) -> Value {
    let mut json = json!({"step": failure.step, "line": failure.line});
    if let Some(note) = &failure.note {
        json["note"] = note.as_str().into();
    }
    match &failure.why {
        Why::Failed(error) => json["error"] = error.as_str().into(),
        Why::Differs(difference) => {
            let rows = |of: fn(&Pair) -> Option<&Fields>| {
                let wrong = difference.pairs.iter().filter(|pair| !pair.same);
                wrong.filter_map(of).map(|row| json!(row)).collect::<Vec<_>>()
            };
            json["of"] = difference.of.as_str().into();
            json["missing"] = rows(|pair| pair.expected.as_ref()).into();
            json["unexpected"] = rows(|pair| pair.actual.as_ref()).into();
        }
    }
    json
}

/// `1 step`, `2 steps`.
pub(super) fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn told(path: &str, failure: &Failure) -> String {
    let note = failure.note.as_ref().map_or(String::new(), |note| format!(", {note}"));
    let place = format!("  step {} at {path}:{}{note}", failure.step, failure.line);
    match &failure.why {
        Why::Failed(error) => format!("{place}: the pipeline failed\n{}\n", indented(error)),
        Why::Differs(difference) => {
            let wrong = |of: fn(&Pair) -> bool| difference.pairs.iter().filter(|p| !p.same && of(p)).count();
            let missing = wrong(|pair| pair.expected.is_some());
            let unexpected = wrong(|pair| pair.actual.is_some());
            let mut parts = Vec::new();
            parts.extend((missing > 0).then(|| format!("{} missing", count(missing, "row"))));
            parts.extend((unexpected > 0).then(|| format!("{} unexpected", count(unexpected, "row"))));
            let of = match difference.of.as_str() {
                of @ ("late" | "rejected") => format!("{of} rows"),
                of => format!("`{of}`"),
            };
            format!("{place}: {of}: {}\n{}", parts.join(", "), beside_each_other(difference))
        }
    }
}

/// Two tables of the same columns, `-` before what is missing, `+` before what is unexpected.
fn beside_each_other(difference: &Difference) -> String {
    let columns = &difference.columns;
    let cells = |row: &Option<Fields>| {
        row.as_ref().map(|row| {
            columns
                .iter()
                .map(|name| cell(difference.instants.contains(name), row.get(name)))
                .collect::<Vec<_>>()
        })
    };
    let rows: Vec<_> =
        difference.pairs.iter().map(|p| (cells(&p.expected), cells(&p.actual), p.same)).collect();
    let width = |at: usize| {
        let all = rows.iter().flat_map(|(expected, actual, _)| [expected, actual]).flatten();
        all.map(|row| row[at].chars().count()).chain([columns[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        cells.join("  ")
    };
    let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    // The heading may be wider than a narrow table.
    let total = total.max("expected".len());
    let row = |marks: [char; 2], left: &str, right: &str| {
        let text = format!("    {} {left:total$}  {} {right}", marks[0], marks[1]);
        format!("{}\n", text.trim_end())
    };
    let mut text = row([' ', ' '], "expected", "actual");
    text += &row([' ', ' '], &line(columns), &line(columns));
    for (expected, actual, same) in &rows {
        let mark = |row: &Option<Vec<String>>, mark| if *same || row.is_none() { ' ' } else { mark };
        let side = |row: &Option<Vec<String>>| row.as_ref().map_or(String::new(), |row| line(row));
        text += &row([mark(expected, '-'), mark(actual, '+')], &side(expected), &side(actual));
    }
    text
}

fn cell(is_instant: bool, value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => {
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
        }
        Some(Value::Number(number)) if is_instant => match number.as_i64() {
            Some(ms) if ms.unsigned_abs() > SMALL_MS => {
                jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string())
            }
            _ => number.to_string(),
        },
        Some(value) => value.to_string(),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
