//! The names of things, and references to them: an `input` is resolved while it is read.

use super::errors::Problems;
use super::file::{Span, Spanned};
use super::suggest::{any_of, nearest};
use super::value::Value;

/// As long as a label of a host name: ids become parts of file names, subjects and URLs.
const ID_CHARS_MAX: usize = 63;

/// Names listed in a message before it says no more.
pub(super) const NAMES_SHOWN_MAX: usize = 8;

/// What an operator or a sink reads; the number counts in the declaration's list of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// A source's rows.
    Source(usize),
    /// An operator's output.
    Operator(usize),
    /// The rows that came too late for an operator's windows. Only sinks read these, and only from operators
    /// with windows that end.
    Late(usize),
}

/// All ids of the file, of sections with errors too.
pub(super) struct Ids {
    pub(super) sources: Vec<Spanned<String>>,
    pub(super) operators: Vec<Spanned<String>>,
    pub(super) sinks: Vec<Spanned<String>>,
    /// Whether each stands for one thing only, so that it is certain what an input refers to.
    pub(super) unique: bool,
}

impl Ids {
    /// The keys of these sections, with what is wrong with them reported.
    pub(super) fn collect(sources: &[Value<'_>], operators: &[Value<'_>], sinks: &[Value<'_>]) -> Self {
        let keys = |sections: &[Value<'_>]| sections.iter().map(Value::key).collect();
        let mut ids =
            Self { sources: keys(sources), operators: keys(operators), sinks: keys(sinks), unique: true };
        if let Some(section) = [sources, operators, sinks].concat().first() {
            ids.unique = ids.check_all(section.problems());
        }
        ids
    }

    /// One namespace for all three kinds: in a metric or a log line an id stands alone.
    fn check_all(&self, problems: &Problems) -> bool {
        let kinds = [("a source", &self.sources), ("an operator", &self.operators), ("a sink", &self.sinks)];
        let mut all: Vec<_> =
            kinds.iter().flat_map(|(kind, ids)| ids.iter().map(move |id| (kind, id))).collect();
        all.iter().for_each(|(_, id)| _ = check(problems, id));
        all.sort_by_key(|(_, id)| (&id.value, id.span));
        let mut unique = true;
        for pair in all.windows(2) {
            if let [(kind, first), (_, second)] = pair
                && first == second
            {
                let (id, place) = (&second.value, problems.file().place(*first));
                problems.report(
                    *second,
                    format!("`{id}` is already the id of {kind}, at {place}; ids are unique"),
                );
                unique = false;
            }
        }
        unique
    }

    /// What an operator's `input` or one of its `inputs` refers to.
    pub(super) fn operator_input(&self, value: Value<'_>, own: &str) -> Option<Spanned<Upstream>> {
        let text = value.text()?;
        match text.split_once('.') {
            Some((id, "late")) if position(&self.operators, id).is_some() => {
                value.refuse("late rows can be read by a sink only")
            }
            _ => self.input(value, Some(own)),
        }
    }

    /// What a sink's `input` refers to.
    pub(super) fn sink_input(&self, value: Value<'_>) -> Option<Spanned<Upstream>> {
        self.input(value, None)
    }

    fn input(&self, value: Value<'_>, own: Option<&str>) -> Option<Spanned<Upstream>> {
        let text = value.text()?;
        let (id, output) =
            text.split_once('.').map_or((text.as_str(), None), |(id, after)| (id, Some(after)));
        let upstream = match (position(&self.sources, id), position(&self.operators, id), output) {
            (Some(at), _, None) => Upstream::Source(at),
            (_, Some(at), None) => Upstream::Operator(at),
            (_, Some(at), Some("late")) => Upstream::Late(at),
            (Some(_), _, Some(_)) => {
                return value.refuse(format!("`{id}` is a source and has no output but its rows, `{id}`"));
            }
            (_, Some(_), Some(_)) => {
                return value
                    .refuse(format!("`{id}` has no output `{}`; did you mean `{id}.late`?", text.value));
            }
            (None, None, _) => return value.refuse(self.unknown(id, own)),
        };
        Some(value.at(upstream))
    }

    fn unknown(&self, id: &str, own: Option<&str>) -> String {
        if position(&self.sinks, id).is_some() {
            return format!("`{id}` is a sink, and nothing can read from a sink");
        }
        let known = || {
            let ids = self.sources.iter().chain(&self.operators);
            ids.map(|id| id.value.as_str()).filter(|&id| Some(id) != own)
        };
        let hint = match nearest(id, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known().count() <= NAMES_SHOWN_MAX => format!("expected {}", any_of(known(), '`')),
            None => "expected the id of one of them".to_owned(),
        };
        format!("no source or operator is called `{id}`; {hint}")
    }
}

fn position(ids: &[Spanned<String>], id: &str) -> Option<usize> {
    ids.iter().position(|known| known.value == id)
}

/// Whether a name can be an id: `^[a-z0-9][a-z0-9-]{0,62}$`. Reports it if not.
pub(super) fn check(problems: &Problems, id: &Spanned<String>) -> bool {
    let valid = is_valid(id);
    if !valid {
        let tamed = id.to_lowercase().replace(['_', ' ', '.'], "-");
        let hint = if is_valid(&tamed) { format!("; did you mean `{tamed}`?") } else { String::new() };
        let rule = format!("1 to {ID_CHARS_MAX} of a-z, 0-9 and -, and no - at the start");
        problems.report(Span::from(id), format!("`{}` can't be an id: an id has {rule}{hint}", id.value));
    }
    valid
}

fn is_valid(id: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&id.len())
        && !id.starts_with('-')
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
