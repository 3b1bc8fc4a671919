//! Subjects with wildcards: `*` stands for one token, `>` at the end for one or more.

use crate::fitness::covers;

/// Whether everything that is sent to `subject` is taken in by one of these patterns.
pub(super) fn covered(subject: &str, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| covers(pattern, subject))
}

/// Whether something can be sent to both.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_when_something_fits_both() {
        for (one, other, expected) in [
            ("a.*", "*.b", true),
            ("a.*", "b.*", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a", "a", true),
            ("a.b", "a.*.c", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
