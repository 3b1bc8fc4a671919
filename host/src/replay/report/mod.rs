//! What a replay has found, for programs (JSON) and people (text, a page of HTML).

mod html;
mod text;

use serde::{Deserialize, Serialize};

/// The version of the written form.
pub(super) const FORMAT: u32 = 1;

/// What a replay has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the written form.
    pub format: u32,
    /// The pipeline.
    pub pipeline: String,
    /// Where the replay began, as in `savepoint:before-lunch`.
    pub from: String,
    /// Where it ended, as in `checkpoint:41`.
    pub to: String,
    /// When the report was made, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Rows that the replay has read.
    pub rows_read: u64,
    /// For how long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Whether all rows of all sinks that could be compared are equal; false, if none could be.
    pub equal: bool,
    /// The components of both.
    pub operators: Vec<OperatorVersions>,
    /// The sinks.
    pub sinks: Vec<SinkReport>,
    /// What both have counted.
    pub counts: Vec<Count>,
    /// What else was found, as that an operator isn't deterministic.
    pub findings: Vec<String>,
    /// What whoever reads this should know.
    pub notes: Vec<String>,
}

/// The components of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorVersions {
    /// Its id.
    pub id: String,
    /// In the live pipeline; none: it hasn't this operator.
    pub live: Option<Version>,
    /// In the replay.
    pub shadow: Option<Version>,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The SHA-256 of its file.
    pub digest: String,
    /// What it calls itself.
    pub name: String,
    /// Its version, by its own word.
    pub version: String,
}

/// What was found of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkReport {
    /// Its id.
    pub id: String,
    /// The fields by which two rows are known to be the same result; none: all of them.
    pub identity: Vec<String>,
    /// Why its rows couldn't be compared; none: they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// The rows of the live pipeline in the stretch.
    pub live: u64,
    /// The rows of the replay.
    pub shadow: u64,
    /// Rows that both have.
    pub equal: u64,
    /// Rows that the live pipeline showed only behind the stretch, as they were under way at its end.
    pub later: u64,
    /// Rows of both that weren't compared, as the replay can't know all of what they are made of.
    pub left_out: u64,
    /// Rows that only the replay has.
    pub added: u64,
    /// Rows that only the live pipeline has.
    pub missing: u64,
    /// Pairs of rows that are known by the same and have different values.
    pub different: u64,
    /// Some of the rows that aren't equal.
    pub samples: Vec<Sample>,
}

/// A row, or two that are known by the same, as an example of what isn't equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The row of the live pipeline; none: it was added.
    pub live: Option<Vec<Cell>>,
    /// The row of the replay; none: it is missing.
    pub shadow: Option<Vec<Cell>>,
    /// The fields in which two rows differ.
    pub differing: Vec<String>,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The field.
    pub field: String,
    /// The value as it was written, or the beginning of a long one.
    pub value: String,
}

/// What both have counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// What, as in `operator totals: late`.
    pub what: String,
    /// By the live pipeline in the stretch.
    pub live: u64,
    /// By the replay.
    pub shadow: u64,
}

impl SinkReport {
    /// Of a sink whose rows can't be compared.
    pub(super) fn not_compared(id: &str, why: &str) -> Self {
        Self { id: id.to_owned(), not_compared: Some(why.to_owned()), ..Self::default() }
    }

    /// Whether nothing differs of what was compared.
    pub fn is_equal(&self) -> bool {
        (self.added, self.missing, self.different) == (0, 0, 0)
    }
}

impl Sample {
    /// What both rows have in a field.
    fn values(&self, field: &str) -> [Option<&str>; 2] {
        [&self.live, &self.shadow].map(|row| {
            let cell = row.iter().flatten().find(|cell| cell.field == field);
            cell.map(|cell| cell.value.as_str())
        })
    }
}

/// The fields of samples, in their order.
fn fields(samples: &[Sample]) -> Vec<&str> {
    let mut fields: Vec<&str> = Vec::new();
    for cell in samples.iter().flat_map(|s| s.live.iter().chain(&s.shadow)).flatten() {
        if !fields.contains(&cell.field.as_str()) {
            fields.push(&cell.field);
        }
    }
    fields
}

/// A report that was written as JSON.
///
/// # Errors
/// When it is none, or of another version.
fn read(json: &str) -> Result<Report, String> {
    let report: Report =
        serde_json::from_str(json).map_err(|e| format!("this is no report of a replay: {e}"))?;
    if report.format != FORMAT {
        return Err(format!("the report has format {}, and this version knows {FORMAT}", report.format));
    }
    Ok(report)
}

/// A report for a terminal.
///
/// # Errors
/// When the text isn't a report as JSON.
pub fn report_text(json: &str) -> Result<String, String> {
    read(json).map(|report| text::of(&report))
}

/// A report as a page for a browser, which needs nothing else.
///
/// # Errors
/// When the text isn't a report as JSON.
pub fn report_html(json: &str) -> Result<String, String> {
    read(json).map(|report| html::of(&report))
}

/// A value for people: text without the quotes of JSON, but never empty.
fn plain(value: &str) -> String {
    match serde_json::from_str::<String>(value) {
        Ok(text) if !text.is_empty() && text != "null" => text,
        _ => value.to_owned(),
    }
}

/// A number with separators.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// What a report says first.
fn verdict(report: &Report) -> String {
    let compared: Vec<_> = report.sinks.iter().filter(|s| s.not_compared.is_none()).collect();
    if compared.is_empty() {
        return "nothing could be compared".to_owned();
    }
    let rows: u64 = compared.iter().map(|s| s.equal + s.later).sum();
    if report.equal {
        return format!("equal: {} rows are the same", grouped(rows));
    }
    let sum = |of: fn(&SinkReport) -> u64| grouped(compared.iter().map(|s| of(s)).sum());
    format!(
        "different: {} different, {} missing, {} added; {} rows are the same",
        sum(|s| s.different),
        sum(|s| s.missing),
        sum(|s| s.added),
        grouped(rows)
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn cells(pairs: &[(&str, &str)]) -> Option<Vec<Cell>> {
        let cell =
            |(field, value): &(&str, &str)| Cell { field: (*field).to_owned(), value: (*value).to_owned() };
        Some(pairs.iter().map(cell).collect())
    }

    /// A report in which every text that a stranger can choose tries to be more than text.
    pub(in crate::replay) fn hostile() -> Report {
        let evil = "<script>alert('x')</script>\u{1b}[31m\u{7}\"&'";
        let version = |digest: &str| Version {
            digest: digest.repeat(32),
            name: evil.to_owned(),
            version: "1.0.0\r\nX: y".to_owned(),
        };
        let different = Sample {
            live: cells(&[("key", "\"EWR\""), (evil, "1"), ("window_start", "\"2026-11-20T00:00:00Z\"")]),
            shadow: cells(&[("key", "\"EWR\""), (evil, "2"), ("window_start", "\"2026-11-20T00:00:00Z\"")]),
            differing: vec![evil.to_owned()],
        };
        let missing = Sample {
            live: cells(&[("key", &format!("\"{}\"", evil.escape_default()))]),
            shadow: None,
            differing: vec![],
        };
        let added = Sample { live: None, shadow: cells(&[("key", "null"), (evil, "3")]), differing: vec![] };
        let samples: Vec<Sample> = [vec![different; 20], vec![missing; 20], vec![added; 20]].concat();
        Report {
            format: FORMAT,
            pipeline: evil.to_owned(),
            from: "savepoint:before".to_owned(),
            to: "checkpoint:41".to_owned(),
            created_ms: 1_795_132_800_000,
            rows_read: 1_234_567,
            duration_ms: 61_250,
            equal: false,
            operators: vec![
                OperatorVersions {
                    id: "totals".to_owned(),
                    live: Some(version("ab")),
                    shadow: Some(version("cd")),
                },
                OperatorVersions {
                    id: "same".to_owned(),
                    live: Some(version("ab")),
                    shadow: Some(version("ab")),
                },
                OperatorVersions { id: "new".to_owned(), live: None, shadow: Some(version("ef")) },
            ],
            sinks: vec![
                SinkReport {
                    id: "out".to_owned(),
                    identity: vec!["key".to_owned(), "window_start".to_owned()],
                    live: 1_000_020,
                    shadow: 1_000_020,
                    equal: 1_000_000,
                    later: 3,
                    left_out: 7,
                    added: 20,
                    missing: 20,
                    different: 20,
                    samples,
                    ..SinkReport::default()
                },
                SinkReport::not_compared("other", evil),
            ],
            counts: vec![
                Count { what: "operator totals: late".to_owned(), live: 3, shadow: 4 },
                Count { what: format!("source {evil}: rows"), live: 0, shadow: 0 },
            ],
            findings: vec![format!("operator totals: {evil}")],
            notes: vec![evil.to_owned()],
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = hostile();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(read(&json), Ok(report));
        assert!(read(&json.replace("\"format\":1", "\"format\":2")).unwrap_err().contains("format 2"));
        assert!(report_text("{}").unwrap_err().contains("no report"));
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(
            verdict(&hostile()),
            "different: 20 different, 20 missing, 20 added; 1,000,003 rows are the same"
        );
    }
}
