//! A report for a terminal: no more than about sixty lines, aligned, and without anything that would steer the terminal.

use std::fmt::Write;

use super::{
    OperatorVersions, Report, Sample, SinkReport, Version, fields, grouped, plain, seconds, verdict,
};

/// So many samples of a sink, and of all sinks, are shown: the rest is in the other forms.
const SAMPLES_OF_SINK: usize = 8;
const SAMPLES_OF_ALL: usize = 24;
/// So many lines of each list.
const LINES_OF_LIST: usize = 8;
const CELL_CHARS_MAX: usize = 28;
/// Of a note or finding.
const LINE_CHARS_MAX: usize = 300;

pub(super) fn of(report: &Report) -> String {
    let mut out = String::new();
    let Report { pipeline, from, to, .. } = report;
    line(&mut out, &format!("{pipeline}: {}", verdict(report)));
    line(
        &mut out,
        &format!(
            "  from {from} to {to}, {} rows read in {}",
            grouped(report.rows_read),
            seconds(report.duration_ms)
        ),
    );
    list(&mut out, "", report.operators.iter().filter_map(versions));
    let mut samples_left = SAMPLES_OF_ALL;
    for sink in &report.sinks {
        of_sink(&mut out, sink, &mut samples_left);
    }
    let differing = report.counts.iter().filter(|c| c.live != c.shadow);
    let counts =
        differing.map(|c| format!("{}: live {}, replay {}", c.what, grouped(c.live), grouped(c.shadow)));
    list(&mut out, "counted differently", counts);
    list(&mut out, "found", report.findings.iter().cloned());
    list(&mut out, "note", report.notes.iter().cloned());
    out
}

/// What is different about an operator, if anything is.
fn versions(operator: &OperatorVersions) -> Option<String> {
    let told =
        |v: &Version| format!("{} {} ({})", v.name, v.version, v.digest.get(..12).unwrap_or(&v.digest));
    let OperatorVersions { id, live, shadow } = operator;
    match (live, shadow) {
        (Some(live), Some(shadow)) if live == shadow => None,
        (Some(live), Some(shadow)) => Some(format!("{id}: live {}, replay {}", told(live), told(shadow))),
        (Some(_), None) => Some(format!("{id}: only in the live pipeline")),
        (None, Some(shadow)) => Some(format!("{id}: only in the replay, {}", told(shadow))),
        (None, None) => None,
    }
}

fn of_sink(out: &mut String, sink: &SinkReport, samples_left: &mut usize) {
    if let Some(why) = &sink.not_compared {
        return line(out, &format!("\n{}: not compared: {why}", sink.id));
    }
    line(
        out,
        &format!(
            "\n{}: {} equal, {} different, {} missing, {} added",
            sink.id,
            grouped(sink.equal + sink.later),
            grouped(sink.different),
            grouped(sink.missing),
            grouped(sink.added)
        ),
    );
    if sink.later > 0 {
        line(
            out,
            &format!(
                "  {} of the equal ones the live pipeline showed behind the stretch",
                grouped(sink.later)
            ),
        );
    }
    if sink.left_out > 0 {
        line(
            out,
            &format!("  {} rows weren't compared: they begin before the replay does", grouped(sink.left_out)),
        );
    }
    let count = sink.samples.len().min(SAMPLES_OF_SINK).min(*samples_left);
    *samples_left -= count;
    table(out, &chosen(&sink.samples, count), sink);
}

/// So many samples, of each kind some.
fn chosen(samples: &[Sample], count: usize) -> Vec<Sample> {
    let kind = |s: &Sample| (s.live.is_some(), s.shadow.is_some());
    let share = |of: (bool, bool)| samples.iter().filter(move |s| kind(s) == of);
    let mut kinds =
        [share((true, true)).peekable(), share((true, false)).peekable(), share((false, true)).peekable()];
    let mut counts = [0_usize; 3];
    let mut left = count;
    while left > 0 && kinds.iter_mut().any(|k| k.peek().is_some()) {
        for (kind, count) in kinds.iter_mut().zip(&mut counts) {
            if left > 0 && kind.next().is_some() {
                *count += 1;
                left -= 1;
            }
        }
    }
    let kinds = [(true, true), (true, false), (false, true)];
    kinds.iter().zip(counts).flat_map(|(of, count)| share(*of).take(count)).cloned().collect()
}

/// The rows of samples: a value in which two differ is shown with both.
fn table(out: &mut String, samples: &[Sample], sink: &SinkReport) {
    if samples.is_empty() {
        return;
    }
    let fields = fields(samples);
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(fields.iter().map(|field| cut(field)));
    for sample in samples {
        let kind = match (&sample.live, &sample.shadow) {
            (Some(_), Some(_)) => "different",
            (Some(_), None) => "missing",
            (None, _) => "added",
        };
        let mut row = vec![kind.to_owned()];
        for field in &fields {
            let shown = |value: Option<&str>| cut(&value.map(plain).unwrap_or_default());
            let [live, shadow] = sample.values(field);
            row.push(match sample.differing.iter().any(|f| f == field) {
                true => format!("{} → {}", shown(live), shown(shadow)),
                false => shown(live.or(shadow)),
            });
        }
        rows.push(row);
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=fields.len()).map(width).collect();
    for row in &rows {
        let mut text = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, " {cell:width$} ");
        }
        line(out, text.trim_end());
    }
    let all = sink.different + sink.missing + sink.added;
    if all > samples.len() as u64 {
        line(out, &format!("  … and {} more", grouped(all - samples.len() as u64)));
    }
}

fn list(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    let title = if title.is_empty() { String::new() } else { format!("{title}: ") };
    for text in lines.iter().take(LINES_OF_LIST) {
        let text: String = text.chars().take(LINE_CHARS_MAX).collect();
        line(out, &format!("  {title}{text}"));
    }
    if lines.len() > LINES_OF_LIST {
        line(out, &format!("  {title}… and {} more", lines.len() - LINES_OF_LIST));
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Adds a line, in which nothing but a line break at its beginning steers a terminal.
fn line(out: &mut String, text: &str) {
    let rest = text.strip_prefix('\n').inspect(|_| out.push('\n')).unwrap_or(text);
    out.extend(rest.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::tests::hostile;
    use super::*;

    #[test]
    fn a_report_fits_on_a_screen_and_steers_no_terminal() {
        let text = of(&hostile());
        assert!(text.lines().count() <= 60, "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        for expected in [
            "from savepoint:before to checkpoint:41, 1,234,567 rows read in 61.2 s",
            "out: 1,000,003 equal, 20 different, 20 missing, 20 added",
            "1 → 2",
            "… and 52 more",
            "counted differently: operator totals: late: live 3, replay 4",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        let kinds = ["different", "missing", "added"];
        let shown = kinds.map(|kind| text.lines().filter(|l| l.trim_start().starts_with(kind)).count());
        assert_eq!(shown, [3, 3, 2], "{text}");
        assert!(!text.contains("same:"), "an operator that is the same is no difference:\n{text}");
    }

    #[test]
    fn columns_are_aligned() {
        let text = of(&hostile());
        let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("  different")).collect();
        let place = |row: &&str| row.chars().collect::<String>().find("EWR");
        assert!(rows.iter().map(place).all(|at| at == Some(13)), "{rows:#?}");
    }
}
