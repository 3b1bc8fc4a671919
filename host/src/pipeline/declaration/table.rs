//! The tree of the file, walked: a [`Table`] knows its keys and gives out [`Value`]s, and where each stands
//! goes along.
//!
//! Every reader returns `None` for what it has reported, so that the next one is asked all the same and
//! one run finds every error.

use std::ops::Range;

use toml::de::DeTable;

use super::errors::Problems;
use super::file::Span;
use super::keys::{self, Keys};
use super::suggest::{any_of, hint, nearest};
use super::value::Value;

/// The tree of a TOML text; what is wrong with its syntax is reported.
pub(super) fn tree<'a>(text: &'a str, problems: &Problems) -> Option<toml::Spanned<DeTable<'a>>> {
    let (tree, mut errors) = DeTable::parse_recoverable(text);
    let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
    let report = |at: Range<usize>, error: &toml::de::Error| {
        let message = unquoted(&text[at.clone()], error).unwrap_or_else(|| error.message().to_owned());
        problems.report(at, format!("not valid TOML: {message}"));
    };
    errors.sort_by_key(start);
    let Some(first) = errors.first() else { return Some(tree) };
    report(first.span().unwrap_or_default(), first);
    // The parser goes on after an error, but much of what it then finds is an echo of the first: the lines
    // after an array that isn't closed, say. An error further down counts if its section has it alone too.
    for section in sections(text).filter(|section| section.start > start(first)) {
        if let Err(error) = DeTable::parse(&text[section.clone()]) {
            let at = error.span().unwrap_or_default();
            let at = section.start + at.start..section.start + at.end;
            if errors.iter().any(|echo| start(echo) == at.start) {
                report(at, &error);
            }
        }
    }
    None
}

/// The parser takes `nexmark` for the beginning of `nan`; people have forgotten the quotes.
fn unquoted(word: &str, error: &toml::de::Error) -> Option<String> {
    let is_word = word.starts_with(char::is_alphanumeric) && !word.contains(char::is_whitespace);
    let is_boolean = word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false");
    let is_value =
        ["invalid ", "string values must be quoted"].iter().any(|m| error.message().starts_with(m));
    let is_key = error.message().contains("key");
    (is_word && is_value && !is_key && !is_boolean).then(|| format!("text needs quotes: \"{word}\""))
}

/// The parts of the text that begin with a line like `[section]`.
fn sections(text: &str) -> impl Iterator<Item = Range<usize>> {
    let heads = text.match_indices("\n[").map(|(at, _)| at + 1);
    let ends = heads.clone().skip(1).chain([text.len()]);
    heads.zip(ends).map(|(start, end)| start..end)
}

/// A table of the file, and what messages call it.
pub(super) struct Table<'a> {
    /// `operators.clean`; empty for the top level.
    path: String,
    /// The key that names the table: where errors about all of it point.
    span: Span,
    /// The keys that it may have; `None`: any, they are the author's names for things.
    keys: Option<&'static Keys>,
    entries: &'a DeTable<'a>,
    problems: &'a Problems,
}

impl<'a> Table<'a> {
    pub(super) fn root(keys: &'static Keys, entries: &'a DeTable<'a>, problems: &'a Problems) -> Self {
        Self { path: String::new(), span: Span::default(), keys: Some(keys), entries, problems }
    }

    /// The table that stands under one of this one's keys.
    pub(super) fn below(
        &self,
        key: &str,
        span: Span,
        keys: Option<&'static Keys>,
        entries: &'a DeTable<'a>,
    ) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { path, span, keys, entries, problems: self.problems }
    }

    pub(super) fn problems(&self) -> &'a Problems {
        self.problems
    }

    pub(super) fn span(&self) -> Span {
        self.span
    }

    /// Reports something about the table as a whole.
    pub(super) fn report<T>(&self, message: impl Into<String>) -> Option<T> {
        self.problems.report(self.span, message);
        None
    }

    /// The value of a key, if the table has it.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'_>> {
        let keys = self.keys.unwrap_or(&keys::PIPELINE);
        assert!(keys.find(key).is_some(), "add `{key}` to keys.rs and to the page, under {}", keys.heading);
        let (key, node) = self.entries.get_key_value(key)?;
        Some(Value { table: self, key: key.get_ref(), key_span: key.span().into(), node })
    }

    /// All values, in the order of the file.
    pub(super) fn values(&self) -> Vec<Value<'_>> {
        let mut values: Vec<_> = self
            .entries
            .iter()
            .map(|(key, node)| Value { table: self, key: key.get_ref(), key_span: key.span().into(), node })
            .collect();
        values.sort_by_key(|value| value.key_span);
        values
    }

    /// What a key means; that the table lacks it is an error.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(Value<'_>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(value),
            None => self.report(format!("missing key `{key}` {}", self.place())),
        }
    }

    /// What a key means, if the table has it.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(Value<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.get(key).map_or(Some(None), |value| read(value).map(Some))
    }

    /// What a key means, or its default.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Value<'_>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).map_or(Some(default), read)
    }

    /// Reports every key that doesn't belong here, or not in this case (the value of the deciding key;
    /// none if that is unknown itself).
    pub(super) fn check_keys(&self, case: Option<&str>) {
        let Some(keys) = self.keys else { return };
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            let span = Span::from(key.span());
            match keys.find(name) {
                None => self.problems.report(span, self.unknown_key(name, keys)),
                Some(known) => {
                    let case = case.filter(|case| !known.cases.is_empty() && !known.cases.contains(case));
                    if let Some(case) = case {
                        self.misplaced(span, name, keys.decided_by, known.cases, case);
                    }
                }
            }
        }
    }

    /// Reports a key that belongs to other cases of the table than the one at hand.
    pub(super) fn misplaced(&self, span: Span, key: &str, decided_by: &str, cases: &[&str], case: &str) {
        let cases = any_of(cases.iter().copied(), '"');
        let place = self.place();
        self.problems
            .report(span, format!("key `{key}` {place} belongs to {decided_by} {cases}, not to \"{case}\""));
    }

    fn unknown_key(&self, name: &str, keys: &Keys) -> String {
        let hint = match nearest(name, keys.names()) {
            // A key of the top level that was written below a [section] has become that section's.
            None if keys::PIPELINE.find(name).is_some() => {
                format!("`{name}` belongs above the first [section]")
            }
            _ => hint(name, keys.names(), '`'),
        };
        format!("unknown key `{name}` {}; {hint}", self.place())
    }

    /// `in [operators.clean]`, for messages.
    pub(super) fn place(&self) -> String {
        match self.path.as_str() {
            "" => "at the top level".to_owned(),
            path => format!("in [{path}]"),
        }
    }
}
