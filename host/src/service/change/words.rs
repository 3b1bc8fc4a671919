//! Lists and values as people read them.

use std::fmt::Display;

/// "`a`, `b` and `c`".
pub(super) fn quoted<T: Display>(names: &[T]) -> String {
    listed(&names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>())
}

/// "a, b and c".
pub(super) fn listed<T: Display>(names: &[T]) -> String {
    let (last, rest) = match names {
        [] => return String::new(),
        [one] => return one.to_string(),
        [rest @ .., last] => (last, rest),
    };
    let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
    format!("{} and {last}", rest.join(", "))
}

/// The labels of what differs.
pub(super) fn differing(parts: &[(&'static str, bool)]) -> Vec<&'static str> {
    parts.iter().filter(|(_, differs)| *differs).map(|(label, _)| *label).collect()
}

/// What is in `after` and not in `before`, and the other way round.
pub(super) fn new_and_gone<'a>(
    before: impl Iterator<Item = &'a str> + Clone,
    after: impl Iterator<Item = &'a str> + Clone,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let new = after.clone().filter(|id| !before.clone().any(|b| b == *id)).collect();
    let gone = before.filter(|id| !after.clone().any(|a| a == *id)).collect();
    (new, gone)
}

/// A size in the largest unit that divides it.
pub(super) fn size(bytes: usize) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}
