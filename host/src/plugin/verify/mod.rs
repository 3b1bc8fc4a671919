//! Whether an operator is deterministic: each call is made a second time, on a fresh instance that is given exactly the
//! same, and the answers are compared bit for bit. So whatever an operator remembers between calls shows, and whatever
//! depends on how rows were cut into batches before.
//!
//! [`Twin`] stands beside a running guest and makes the second calls. It costs an instance for each; nobody does that but
//! to verify. The first difference of an operator is enough: from then on it is compared no more.

mod compare;
mod recorded;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) use compare::{Differs, accumulators, emission, folded, processed};
pub(super) use recorded::{Recording, Replaying, Said};

use super::failure::Failure;
use super::guest::Limits;
use super::load::Plugin;

/// The operators of a run that aren't deterministic, and how that showed. Cheap to clone: copies share what is found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// By operator: held for as long as it takes to look something up or to add it.
    found: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Findings {
    /// What was found, a sentence for each operator, in the order of their ids.
    pub fn all(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn knows(&self, operator: &str) -> bool {
        self.lock().contains_key(operator)
    }

    fn add(&self, operator: &str, sentence: String) {
        self.lock().entry(operator.to_owned()).or_insert(sentence);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes each call of a guest once more.
pub struct Twin {
    pub(super) plugin: Plugin,
    pub(super) operator: String,
    pub(super) settings: Vec<(String, String)>,
    pub(super) limits: Limits,
    findings: Findings,
    difference: Option<Difference>,
}

/// A difference between two answers to the same call, not yet filed: where it is in the pipeline is known to whoever made
/// the call.
#[derive(Debug)]
#[must_use]
pub struct Difference {
    operator: String,
    call: &'static str,
    differs: Differs,
    findings: Findings,
}

impl Difference {
    /// What of the call it is about: a kind of thing (`row`, `group`, `window`, `pair`, `timer` or `key`) and its number.
    pub fn about(&self) -> Option<(&'static str, usize)> {
        self.differs.about
    }

    /// Adds it to what was found; `place` says where the thing is that it is [about](Self::about).
    pub fn file(self, place: Option<&str>) {
        let Self { operator, call, differs: Differs { about, what }, findings } = self;
        let mut sentence = format!("operator `{operator}`");
        match (about, place) {
            // A group is told by a row of it.
            (Some((thing, number)), Some(place)) => {
                sentence += &format!(", {thing} {place} ({thing} {number} of the call of `{call}`)");
            }
            (Some((thing, number)), None) => sentence += &format!(", {thing} {number} of a call of `{call}`"),
            (None, _) => sentence += &format!(", a call of `{call}`"),
        }
        sentence += &format!(", {what}");
        findings.add(&operator, sentence);
    }
}

impl Plugin {
    /// What makes each call of an instance of it once more, for the operator of this id with its settings.
    pub fn twin(
        &self,
        operator: &str,
        settings: &[(String, String)],
        limits: Limits,
        findings: &Findings,
    ) -> Twin {
        Twin {
            plugin: self.quiet(),
            operator: operator.to_owned(),
            settings: settings.to_vec(),
            limits,
            findings: findings.clone(),
            difference: None,
        }
    }
}

impl Twin {
    /// Whether calls are still to be made again.
    fn compares(&self) -> bool {
        self.difference.is_none() && !self.findings.knows(&self.operator)
    }

    /// Takes note of the answer of a fresh instance; `compare` says how it differs from the first one.
    pub(super) fn heard<T>(
        &mut self,
        call: &'static str,
        again: Result<T, Failure>,
        compare: impl FnOnce(&T) -> Option<Differs>,
    ) {
        let differs = match again {
            Ok(again) => compare(&again),
            Err(failure) => Some(Differs {
                about: None,
                what: format!("an answer on one instance, a failure on a fresh one: {failure}"),
            }),
        };
        self.difference = differs.map(|differs| Difference {
            operator: self.operator.clone(),
            call,
            differs,
            findings: self.findings.clone(),
        });
    }
}

/// The twin of a guest, if its calls are to be made again; what they find is taken from it after each call.
#[derive(Default)]
pub(super) struct Beside(Option<Box<Twin>>);

impl Beside {
    pub(super) fn new(twin: Option<Twin>) -> Self {
        Self(twin.map(Box::new))
    }

    /// The twin, if this call is to be made again.
    pub(super) fn comparing(&mut self) -> Option<&mut Twin> {
        self.0.as_deref_mut().filter(|twin| twin.compares())
    }

    pub(super) fn difference(&mut self) -> Option<Difference> {
        self.0.as_mut()?.difference.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_and_what() {
        let findings = Findings::default();
        let difference = |operator: &str, about| Difference {
            operator: operator.to_owned(),
            call: "process",
            differs: Differs {
                about,
                what: "column `c`: 1.5 on one instance, 1.25 on a fresh one".to_owned(),
            },
            findings: findings.clone(),
        };
        difference("b", Some(("row", 3))).file(Some("at in.csv:12"));
        difference("b", Some(("row", 4))).file(Some("at in.csv:13"));
        difference("a", Some(("group", 0))).file(None);
        difference("c", None).file(None);
        let what = "column `c`: 1.5 on one instance, 1.25 on a fresh one";
        assert_eq!(
            findings.all(),
            [
                format!("operator `a`, group 0 of a call of `process`, {what}"),
                format!("operator `b`, row at in.csv:12 (row 3 of the call of `process`), {what}"),
                format!("operator `c`, a call of `process`, {what}"),
            ]
        );
    }
}
