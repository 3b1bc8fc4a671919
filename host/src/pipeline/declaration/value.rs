//! A value of the file becomes what its reader expects, or is reported.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use toml::de::DeValue;

use super::errors::Problems;
use super::file::{Span, Spanned};
use super::ids;
use super::keys::Keys;
use super::suggest::hint;
use super::table::Table;
use super::units::{self, DURATION_EXAMPLE, SIZE_EXAMPLE};

/// A value of the file, with the key that it stands under.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) table: &'a Table<'a>,
    pub(super) key: &'a str,
    pub(super) key_span: Span,
    pub(super) node: &'a toml::Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// The key, as something that the file says.
    pub(super) fn key(&self) -> Spanned<String> {
        Spanned::new(self.key.to_owned(), self.key_span)
    }

    pub(super) fn problems(&self) -> &'a Problems {
        self.table.problems()
    }

    /// Reports what is wrong with the value: the message goes on from "`key` in [section]".
    pub(super) fn refuse<T>(&self, message: impl AsRef<str>) -> Option<T> {
        let message = format!("`{}` {}: {}", self.key, self.table.place(), message.as_ref());
        self.problems().report(self.span(), message);
        None
    }

    pub(super) fn span(&self) -> Span {
        match self.node.get_ref() {
            // A table's own span is its header's, or where its first dotted key stands.
            DeValue::Table(_) => self.key_span,
            _ => self.node.span().into(),
        }
    }

    pub(super) fn at<T>(&self, value: T) -> Spanned<T> {
        Spanned::new(value, self.span())
    }

    /// Reports that the value is of another type than expected.
    pub(super) fn mismatch<T>(&self, expected: &str) -> Option<T> {
        self.refuse(format!("expected {expected}, found {}", self.kind()))
    }

    fn kind(&self) -> &'static str {
        match self.node.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "integer",
            DeValue::Float(_) => "float",
            DeValue::Boolean(_) => "boolean",
            DeValue::Datetime(_) => "date or time",
            DeValue::Array(_) => "array",
            DeValue::Table(_) => "table",
        }
    }

    pub(super) fn is_text(&self) -> bool {
        self.node.get_ref().is_str()
    }

    pub(super) fn is_array(&self) -> bool {
        self.node.get_ref().is_array()
    }

    pub(super) fn is_table(&self) -> bool {
        self.node.get_ref().is_table()
    }

    pub(super) fn is_empty_table(&self) -> bool {
        self.node.get_ref().as_table().is_some_and(|table| table.is_empty())
    }

    pub(super) fn text(&self) -> Option<Spanned<String>> {
        self.text_as("text")
    }

    fn text_as(&self, expected: &str) -> Option<Spanned<String>> {
        match self.node.get_ref() {
            DeValue::String(text) => Some(self.at(text.clone().into_owned())),
            _ => self.mismatch(expected),
        }
    }

    /// Text that isn't empty.
    pub(super) fn name(&self) -> Option<Spanned<String>> {
        let text = self.text()?;
        if text.is_empty() { self.refuse("must not be empty") } else { Some(text) }
    }

    pub(super) fn path(&self) -> Option<Spanned<PathBuf>> {
        Some(self.name()?.map(PathBuf::from))
    }

    /// Text that is a valid id.
    pub(super) fn id(&self) -> Option<Spanned<String>> {
        let id = self.text()?;
        ids::check(self.problems(), &id).then_some(id)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.node.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.mismatch("true or false"),
        }
    }

    /// A whole number between these bounds, both included.
    pub(super) fn integer(&self, min: i64, max: i64) -> Option<i64> {
        let DeValue::Integer(written) = self.node.get_ref() else { return self.mismatch("integer") };
        match i64::from_str_radix(written.as_str(), written.radix()) {
            Ok(value) if (min..=max).contains(&value) => Some(value),
            _ if max == i64::MAX => {
                self.refuse(format!("must be at least {min}, and fit into 64 bits; found {written}"))
            }
            _ => self.refuse(format!("must be from {min} to {max}; found {written}")),
        }
    }

    /// A whole number from 1.
    pub(super) fn count(&self, max: i64) -> Option<NonZeroUsize> {
        let count = self.integer(1, max)?;
        usize::try_from(count).ok().and_then(NonZeroUsize::new)
    }

    /// Milliseconds, written as text with units.
    pub(super) fn duration_ms(&self) -> Option<i64> {
        let text = self.text_as(&format!("a duration {DURATION_EXAMPLE}"))?;
        units::duration_ms(&text).map_or_else(|wrong| self.refuse(wrong), Some)
    }

    /// Milliseconds, written as text with units, with a `-` before them for as many before.
    pub(super) fn signed_duration_ms(&self) -> Option<i64> {
        let text = self.text_as(&format!("a duration {DURATION_EXAMPLE}, or \"-10s\""))?;
        units::signed_duration_ms(&text).map_or_else(|wrong| self.refuse(wrong), Some)
    }

    /// Milliseconds, and more than none.
    pub(super) fn positive_duration_ms(&self) -> Option<i64> {
        match self.duration_ms()? {
            0 => self.refuse("must be longer than 0"),
            duration_ms => Some(duration_ms),
        }
    }

    /// Milliseconds since the Unix epoch, written as a date and time with its offset.
    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        let text = match self.node.get_ref() {
            DeValue::Datetime(time) => time.to_string(),
            _ => self.text_as("a time, as in \"2026-11-21T08:00:00Z\"")?.value,
        };
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Some(time.as_millisecond()),
            Err(_) => self.refuse(format!(
                "\"{text}\" is no time: expected a date and a time with its offset, as in 2026-11-21T08:00:00Z"
            )),
        }
    }

    /// Bytes, written as text with a unit.
    pub(super) fn size_bytes(&self) -> Option<i64> {
        let text = self.text_as(&format!("a size {SIZE_EXAMPLE}"))?;
        units::size_bytes(&text).map_or_else(|wrong| self.refuse(wrong), Some)
    }

    /// One of these texts.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<(&'static str, T)> {
        let text = self.text()?;
        if let Some(choice) = choices.iter().find(|(name, _)| *name == text.value) {
            return Some(*choice);
        }
        let hint = hint(&text, choices.iter().map(|(name, _)| *name), '"');
        self.refuse(format!("unknown value \"{}\"; {hint}", text.value))
    }

    /// What the elements of an array mean; there must be one at least. A value that isn't an array stands
    /// for an array of itself.
    pub(super) fn one_or_more<T>(&self, read: impl Fn(Value<'_>) -> Option<T>) -> Option<Vec<T>> {
        match self.node.get_ref() {
            DeValue::Array(_) => self.array(read),
            _ => read(*self).map(|only| vec![only]),
        }
    }

    /// What the elements of an array mean; there must be one at least.
    pub(super) fn array<T>(&self, read: impl Fn(Value<'_>) -> Option<T>) -> Option<Vec<T>> {
        let DeValue::Array(array) = self.node.get_ref() else { return self.mismatch("array") };
        if array.is_empty() {
            return self.refuse("must have at least one element");
        }
        // Each is read before any is judged: all their errors count.
        let elements: Vec<_> = array.iter().map(|node| read(Value { node, ..*self })).collect();
        elements.into_iter().collect()
    }

    /// An array of names, all different.
    pub(super) fn distinct(&self, names: Vec<Spanned<String>>) -> Option<Vec<Spanned<String>>> {
        let repeated = |at: usize| names[..at].contains(&names[at]);
        match (1..names.len()).find(|&at| repeated(at)) {
            Some(at) => {
                let place = self.table.place();
                let message = format!("`{}` {place}: \"{}\" stands there twice", self.key, names[at].value);
                self.problems().report(&names[at], message);
                None
            }
            None => Some(names),
        }
    }

    /// Text, a number or a boolean, as text.
    pub(super) fn scalar(&self) -> Option<Spanned<String>> {
        Some(self.at(match self.node.get_ref() {
            DeValue::String(text) => text.clone().into_owned(),
            DeValue::Integer(_) => self.integer(i64::MIN, i64::MAX)?.to_string(),
            DeValue::Float(float) => float.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return self.mismatch("text, integer, float or boolean");
            }
        }))
    }

    /// A table with these keys.
    pub(super) fn table(&self, keys: &'static Keys) -> Option<Table<'a>> {
        self.table_with(Some(keys))
    }

    /// A table whose keys are the author's names for things.
    pub(super) fn table_of_names(&self) -> Option<Table<'a>> {
        self.table_with(None)
    }

    fn table_with(&self, keys: Option<&'static Keys>) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.node.get_ref() else { return self.mismatch("table") };
        Some(self.table.below(self.key, self.key_span, keys, entries))
    }
}
