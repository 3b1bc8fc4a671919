//! Places in the file: a [`Span`] is a range of its bytes, a [`Place`] is what people call it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A pipeline file's name and text; cheap to clone.
#[derive(Clone)]
pub struct File {
    name: Arc<str>,
    text: Arc<str>,
}

impl File {
    /// A file with this name, for messages, and this text.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: Arc::from(name), text: Arc::from(text) }
    }

    /// The name that messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line and column at which something begins.
    pub fn place(&self, at: impl Into<Span>) -> Place {
        let start = self.clamp(at.into()).start;
        let line_start = self.line_start(start);
        Place {
            file: Arc::clone(&self.name),
            line: 1 + self.text[..line_start].bytes().filter(|&byte| byte == b'\n').count(),
            column: 1 + self.text[line_start..start].chars().count(),
        }
    }

    /// The line in which something begins, without its end, and the part of it that the span covers, in
    /// bytes of that line.
    pub(super) fn line(&self, at: Span) -> (&str, Range<usize>) {
        let span = self.clamp(at);
        let line_start = self.line_start(span.start);
        let rest = &self.text[line_start..];
        let line = rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r');
        let within = |at: usize| (at - line_start).min(line.len());
        (line, within(span.start)..within(span.end))
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |end| end + 1)
    }

    /// The parser may point past the end, or between the bytes of a character.
    fn clamp(&self, span: Span) -> Span {
        let start = self.text.floor_char_boundary(span.start);
        Span { start, end: self.text.floor_char_boundary(span.end).max(start) }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("File").field(&self.name).finish()
    }
}

/// A range of bytes in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A value and where the file says it.
///
/// Two are equal when their values are, wherever they stand: moving a line doesn't change a pipeline.
#[derive(Clone, Copy)]
pub struct Spanned<T> {
    /// What the file says.
    pub value: T,
    /// Where it says so; for a default, the key that the default is derived from.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// This value, said here.
    pub fn new(value: T, span: impl Into<Span>) -> Self {
        Self { value, span: span.into() }
    }

    /// Another value, said in the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), span: self.span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> From<&Spanned<T>> for Span {
    fn from(spanned: &Spanned<T>) -> Self {
        spanned.span
    }
}

/// A place as people and editors write it: `pipeline.toml:14:9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: Arc<str>,
    /// The line; the first is 1.
    pub line: usize,
    /// The column, in characters; the first is 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
