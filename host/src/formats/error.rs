//! What makes a format as a whole unusable, in contrast to one malformed record.

use std::fmt;

/// Why a decoder or an encoder can't work at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// A demanded column isn't in the header of a CSV file.
    MissingColumn {
        /// The name that was demanded.
        name: String,
        /// The names that are there.
        found: Vec<String>,
    },
    /// A demanded column is in the header twice.
    AmbiguousColumn(String),
    /// The header itself can't be read.
    Header(String),
    /// A demand that this format can't meet.
    Demand {
        /// The demanded path, joined with dots.
        path: String,
        /// What the format has instead.
        instead: &'static str,
    },
    /// A delimiter that couldn't be told from what it delimits.
    Delimiter(char),
    /// A schema that can't be written as lines of text.
    TextSchema(String),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingColumn { name, found } => {
                write!(f, "there is no column {name:?}, but {}", found.join(", "))
            }
            Self::AmbiguousColumn(name) => write!(f, "the header has more than one column {name:?}"),
            Self::Header(reason) => write!(f, "cannot read the header: {reason}"),
            Self::Demand { path, instead } => write!(f, "cannot decode field {path:?}: {instead}"),
            Self::Delimiter(c) => {
                write!(f, "{c:?} cannot delimit fields; use a character other than a quote or a line break")
            }
            Self::TextSchema(schema) => {
                write!(f, "lines of text hold exactly one text field, but the schema is {schema}")
            }
        }
    }
}

impl std::error::Error for FormatError {}
