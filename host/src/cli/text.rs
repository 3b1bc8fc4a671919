//! Sizes, times and tables as people read them, and text from elsewhere made fit for a terminal.

use super::summary::grouped;

/// Text that comes from a file or a host doesn't get to steer the terminal.
pub(super) fn fit_to_print(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// A number of bytes, as people say it.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        // One digit behind the point; rounding down never shows more than there is.
        Some((unit, name)) => format!("{}.{} {name}", grouped(bytes / unit), bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// A time, to the second.
pub(super) fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.0}"),
        Err(_) => format!("{ms} ms"),
    }
}

/// The largest unit of which at least two have passed.
pub(super) fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    match units.into_iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, name)) => format!("{} {name}", grouped((seconds / unit).unsigned_abs())),
        None => format!("{seconds} s"),
    }
}

/// Rows of cells under one another; those columns to the right whose numbers are in `right`.
pub(super) fn lay_out<R: AsRef<[String]>>(rows: &[R], right: &[usize]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        let cells = row.as_ref();
        widths.resize(widths.len().max(cells.len()), 0);
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.as_ref().iter().zip(&widths).enumerate() {
            line +=
                &if right.contains(&at) { format!("{cell:>width$}  ") } else { format!("{cell:width$}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_as_people_say_them() {
        let sizes = [0, 999, 1_000, 1_550, 4_096, 2_999_999, 7_000_000_000, 1_234_000_000_000_000].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.5 kB", "4.0 kB", "2.9 MB", "7.0 GB", "1,234.0 TB"]);
        assert_eq!(size(u64::MAX), "18,446,744.0 TB");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20Z");
        assert_eq!(time(i64::MAX), format!("{} ms", i64::MAX));
    }

    #[test]
    fn ages_are_as_people_say_them() {
        let ages = [-5, 0, 119_000, 120_000, 7_199_000, 7_200_000, 172_800_000].map(age);
        assert_eq!(ages, ["0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }

    #[test]
    fn text_from_elsewhere_does_not_steer_the_terminal() {
        assert_eq!(fit_to_print("a\x1b[2Jb\n\u{9b}c\r"), "a\u{fffd}[2Jb\n\u{fffd}c\u{fffd}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["name", "rows"], vec!["a", "1,000"], vec!["änderung"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(lay_out(&rows, &[1]), "name       rows\na         1,000\nänderung\n");
    }
}
