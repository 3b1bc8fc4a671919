//! What is wrong with a pipeline file: [`Problems`] while somebody is still looking, [`Errors`] after.

use std::cell::RefCell;
use std::fmt;

use super::file::{File, Place, Span};

/// Whoever has a hundred errors to mend doesn't read on; and as each shows its line, a file that is one
/// long line could otherwise make a message of its length squared.
const ERRORS_SHOWN_MAX: usize = 100;

/// How much of a line is shown, for the same reason, and where in that the error then begins.
const LINE_CHARS_MAX: usize = 160;
const LINE_CHARS_BEFORE: usize = 40;

/// The problems found in one file so far.
///
/// Reported through a shared reference, because everything that walks the tree of the file adds to the
/// one list while its callers hold their part of the tree.
#[derive(Debug)]
pub struct Problems {
    file: File,
    found: RefCell<Vec<Problem>>,
}

#[derive(Clone, Debug)]
struct Problem {
    span: Span,
    message: String,
}

impl Problems {
    /// No problem yet in this file.
    pub fn new(file: File) -> Self {
        Self { file, found: RefCell::default() }
    }

    /// The file in which the problems are.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Adds a problem: lowercase, without a period, with what to do about it.
    pub fn report(&self, at: impl Into<Span>, message: impl Into<String>) {
        let message = message.into().chars().map(visible).collect();
        self.found.borrow_mut().push(Problem { span: at.into(), message });
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// What was made of the file, if nothing is wrong with it.
    ///
    /// # Errors
    /// Everything that was reported, in the order of the file.
    ///
    /// # Panics
    /// When there is no result and nobody said why.
    pub fn settle<T>(self, result: Option<T>) -> Result<T, Errors> {
        let mut found = self.found.into_inner();
        match result {
            Some(result) if found.is_empty() => Ok(result),
            _ => {
                assert!(!found.is_empty(), "{} was refused without a reason", self.file.name());
                found.sort_by_key(|problem| problem.span);
                Err(Errors { file: self.file, found })
            }
        }
    }
}

/// Everything that is wrong with a file, in its order; at least one thing is.
///
/// Displayed, each error shows its place, what is wrong, and the line:
///
/// ```text
/// pipeline.toml:14:1: unknown key `windwo` in [operators.by-origin]; did you mean `window`?
///    14 | windwo = { type = "tumbling", size = "1h" }
///       | ^^^^^^
/// ```
#[derive(Clone, Debug)]
pub struct Errors {
    file: File,
    found: Vec<Problem>,
}

impl Errors {
    /// Each error's place and message, apart, for those who show them in their own way.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &str)> {
        self.found.iter().map(|problem| (self.file.place(problem.span), problem.message.as_str()))
    }
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.found.iter().take(ERRORS_SHOWN_MAX).enumerate() {
            f.write_str(if at == 0 { "" } else { "\n" })?;
            write_problem(f, &self.file, problem)?;
        }
        match self.found.len().saturating_sub(ERRORS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, file: &File, problem: &Problem) -> fmt::Result {
    let place = file.place(problem.span);
    write!(f, "{place}: {}", problem.message)?;
    let (line, marked) = file.line(problem.span);
    if line.trim().is_empty() {
        return Ok(());
    }
    let skipped = match line[..marked.start].chars().count() {
        before if before > LINE_CHARS_MAX - LINE_CHARS_BEFORE => before - LINE_CHARS_BEFORE,
        _ => 0,
    };
    let shown: String = line.chars().skip(skipped).take(LINE_CHARS_MAX).map(visible).collect();
    // Tabs stay tabs, so that the marks stand under what they mark, however wide a tab is.
    let before = line[..marked.start].chars().skip(skipped).map(|c| if c == '\t' { '\t' } else { ' ' });
    let left = shown.chars().count().saturating_sub(before.clone().count());
    let marks = line[marked].chars().count().min(left).max(1);
    write!(f, "\n{:>5} | {shown}\n      | {}{}", place.line, before.collect::<String>(), "^".repeat(marks))
}

/// A file may come from anybody, and what it says must not steer the terminal of whoever reads it.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}
