//! A text with fields in braces, as in `orders.{country}`.

use std::fmt;

/// A text with fields in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pieces(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Field(String),
}

impl Pieces {
    /// Cuts a text into its pieces.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let closed = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            match closed {
                Some((field, after)) if !field.trim().is_empty() && !field.contains('{') => {
                    pieces.push(Piece::Field(field.trim().to_owned()));
                    rest = after;
                }
                Some((field, _)) if field.trim().is_empty() => {
                    return Err(format!("`{text}` has braces without a field's name in them"));
                }
                _ => return Err(format!("`{text}` has a brace without its counterpart")),
            }
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Piece> {
        self.0.iter()
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(field.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Appends the text with a value for each field, in their order; nothing if `check` has something against one.
    pub(super) fn fill(
        &self,
        values: &[&str],
        into: &mut String,
        check: impl Fn(&str) -> Result<(), &'static str>,
    ) -> Result<(), RefusedValue> {
        assert_eq!(values.len(), self.fields().count(), "a value for each field");
        let before = into.len();
        let mut values = values.iter();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => into.push_str(text),
                Piece::Field(field) => {
                    let value = values.next().copied().unwrap_or_default();
                    if let Err(reason) = check(value) {
                        into.truncate(before);
                        return Err(RefusedValue::new(field, value, reason));
                    }
                    into.push_str(value);
                }
            }
        }
        Ok(())
    }
}

/// A value that can't stand where its field does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedValue {
    /// The field.
    pub field: String,
    /// What is wrong with its value.
    pub reason: &'static str,
    /// The beginning of the value, printable.
    pub value: String,
}

impl RefusedValue {
    pub(super) fn new(field: &str, value: &str, reason: &'static str) -> Self {
        /// Enough to recognize it by.
        const CHARS_MAX: usize = 64;
        let value = value.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
        Self { field: field.to_owned(), reason, value }
    }
}

impl fmt::Display for RefusedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the field `{}` is \"{}\", which {}", self.field, self.value, self.reason)
    }
}

impl std::error::Error for RefusedValue {}
