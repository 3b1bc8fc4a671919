//! "Did you mean": the nearest of the names that would have been right.

/// More names than any person has typed by hand; a file made by a machine must not cost a comparison of
/// everything with everything.
const CANDIDATES_MAX: usize = 1000;

/// The nearest candidate, if it is near enough to be meant: one slip in three characters.
pub(super) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|&(slips, _)| slips <= allowed)
        .min_by_key(|&(slips, _)| slips)
        .map(|(_, candidate)| candidate)
}

/// The end of a message about a name that isn't known: the nearest, or else all that are.
pub fn hint<'a>(written: &str, candidates: impl Iterator<Item = &'a str> + Clone, quote: char) -> String {
    match nearest(written, candidates.clone()) {
        Some(near) => format!("did you mean {quote}{near}{quote}?"),
        None => format!("expected {}", any_of(candidates, quote)),
    }
}

/// `a`, `b` or `c`.
pub(super) fn any_of<'a>(names: impl Iterator<Item = &'a str>, quote: char) -> String {
    let quoted: Vec<_> = names.map(|name| format!("{quote}{name}{quote}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}
