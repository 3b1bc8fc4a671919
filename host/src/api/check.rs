//! Names, digests and texts that come from outside: what isn't as it should be goes no further. Names become parts of
//! paths and of log lines, digests the names of files.

use std::collections::BTreeMap;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::middleware::Next;
use axum::response::Response;

use super::answer::Problem;
use crate::service::model::{Apply, Asked, Promote, ReplayOrder, Savepoint, Stop, Swap};

const NAME_CHARS_MAX: usize = 63;

/// Of what people and files are called.
const TEXT_CHARS_MAX: usize = 200;

/// What can say whether it is proper, beyond its form.
pub(super) trait Checked {
    fn check(&self) -> Result<(), Problem>;
}

/// Refuses a path with something else than names, and numbers of operations, in the places for them.
pub(super) async fn names_of_path(
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let parameters = parameters.map_err(|e| Problem::invalid(e.body_text()))?;
    for (what, given) in &parameters {
        match what {
            "operation" => {
                let number = given.parse::<u64>();
                number
                    .map_err(|_| Problem::invalid(format!("{given:?} isn't the number of an operation")))?;
            }
            _ => name(what, given)?,
        }
    }
    Ok(next.run(request).await)
}

/// A name: `^[a-z0-9][a-z0-9-]{0,62}$`.
fn name(what: &str, given: &str) -> Result<(), Problem> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let proper =
        (1..=NAME_CHARS_MAX).contains(&given.len()) && !given.starts_with('-') && given.bytes().all(plain);
    if proper {
        return Ok(());
    }
    let shown: String = given.chars().take(NAME_CHARS_MAX).collect();
    Err(Problem::invalid(format!(
        "{shown:?} can't be the name of a {what}: 1 to {NAME_CHARS_MAX} of a-z, 0-9 and -, and no - at the start"
    )))
}

/// SHA-256 digests of components, by operator.
fn components(components: &BTreeMap<String, String>) -> Result<(), Problem> {
    for (operator, digest) in components {
        name("operator", operator)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digest.len() != 64 || !digest.bytes().all(hex) {
            let problem =
                "isn't a SHA-256: 64 of 0-9 and a-f; upload the component and use the digest of the answer";
            return Err(Problem::invalid(format!("the component of `{operator}` {problem}")));
        }
    }
    Ok(())
}

/// Who asks, or what a file is called: a line for people.
pub(super) fn text(what: &str, given: &str) -> Result<(), Problem> {
    if given.chars().count() > TEXT_CHARS_MAX || given.chars().any(char::is_control) {
        let rule = format!("at most {TEXT_CHARS_MAX} characters on one line");
        return Err(Problem::invalid(format!("`{what}` isn't proper: {rule}")));
    }
    Ok(())
}

fn share(what: &str, given: f64, least: f64, most: f64) -> Result<(), Problem> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(Problem::invalid(format!("`{what}` is {given}; it has to be from {least} to {most}")))
}

impl Checked for crate::service::model::ProbationSettings {
    fn check(&self) -> Result<(), Problem> {
        share("rejected_share_max", self.rejected_share_max, 0.0, 1.0)?;
        share("slowdown_max", self.slowdown_max, 1.0, 1e6)
    }
}

impl Checked for Apply {
    fn check(&self) -> Result<(), Problem> {
        text("by", &self.by)?;
        text("file", &self.specification.file)?;
        components(&self.specification.components)?;
        self.drop_state.iter().try_for_each(|operator| name("operator", operator))?;
        if !self.specification.base.is_absolute() {
            return Err(Problem::invalid("`base` has to be an absolute path: paths in the file begin there"));
        }
        self.probation.check()
    }
}

impl Checked for Swap {
    fn check(&self) -> Result<(), Problem> {
        text("by", &self.by)?;
        components(&self.components)?;
        self.probation.check()
    }
}

impl Checked for Asked {
    fn check(&self) -> Result<(), Problem> {
        text("by", &self.by)
    }
}

impl Checked for Stop {
    fn check(&self) -> Result<(), Problem> {
        text("by", &self.by)?;
        self.savepoint.iter().try_for_each(|savepoint| name("savepoint", savepoint))
    }
}

impl Checked for Savepoint {
    fn check(&self) -> Result<(), Problem> {
        text("by", &self.by)?;
        self.name.iter().try_for_each(|savepoint| name("savepoint", savepoint))
    }
}

impl Checked for ReplayOrder {
    fn check(&self) -> Result<(), Problem> {
        text("by", &self.by)?;
        text("from", &self.from)?;
        self.to.iter().try_for_each(|to| text("to", to))?;
        components(&self.components)
    }
}

impl Checked for Promote {
    fn check(&self) -> Result<(), Problem> {
        text("by", &self.by)?;
        name("replay", &self.replay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_fits_into_paths_and_labels() {
        let longest = "a".repeat(63);
        for proper in ["a", "0", "a-b", "replay-3", &longest] {
            assert!(name("pipeline", proper).is_ok(), "{proper}");
        }
        let too_long = "a".repeat(64);
        for wrong in ["", "-a", "A", "a_b", "a.b", "..", "a/b", "a\0", "ä", "a b", "a\n", &too_long] {
            assert!(name("pipeline", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_component_is_named_by_its_digest_and_nothing_else() {
        let one = |operator: &str, digest: &str| {
            components(&BTreeMap::from([(operator.to_owned(), digest.to_owned())]))
        };
        let digest = "0123456789abcdef".repeat(4);
        assert!(one("count", &digest).is_ok());
        assert!(one("../count", &digest).is_err());
        for wrong in ["", "../../etc/passwd", &digest.to_uppercase(), &digest[1..], &format!("{digest}0")] {
            assert!(one("count", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn probation_has_limits_that_mean_something() {
        use crate::service::model::ProbationSettings;
        let settings = ProbationSettings::default();
        assert!(settings.check().is_ok());
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(ProbationSettings { rejected_share_max: share, ..settings }.check().is_err(), "{share}");
        }
        assert!(ProbationSettings { slowdown_max: 0.5, ..settings }.check().is_err());
    }
}
