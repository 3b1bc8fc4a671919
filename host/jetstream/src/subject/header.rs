//! Headers with fields.

use super::pieces::{Pieces, RefusedValue};

/// How long a value may be. A server takes 64 KiB of headers with a message.
const VALUE_BYTES_MAX: usize = 4_096;

/// A header of which the value has fields of a row in it, as in `trace: {trace_id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    name: String,
    pieces: Pieces,
}

impl HeaderTemplate {
    /// Reads a header's name and its value, with fields in braces.
    ///
    /// # Errors
    /// When the name can't be a header's, or is the server's; when the value can't be read.
    pub fn parse(name: &str, value: &str) -> Result<Self, String> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(format!(
                "`{}` can't be a header's name: it has ASCII without spaces and colons",
                name.escape_debug()
            ));
        }
        if is_reserved(name) {
            return Err(format!("the header `{name}` is the server's; name it otherwise"));
        }
        if value.contains(char::is_control) {
            return Err(format!("the value of the header `{name}` has control characters"));
        }
        Ok(Self { name: name.to_owned(), pieces: Pieces::parse(value)? })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields, in the order in which [`Self::fill`] takes their values; one that is named twice comes twice.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.pieces.fields()
    }

    /// Appends the value with these values of fields to `into`. A reader gets it without spaces around it.
    ///
    /// # Errors
    /// When a value has control characters, among them line breaks, or is too long; nothing is appended then.
    ///
    /// # Panics
    /// When there isn't a value for each field.
    pub fn fill(&self, values: &[&str], into: &mut String) -> Result<(), RefusedValue> {
        self.pieces.fill(values, into, check)
    }
}

fn check(value: &str) -> Result<(), &'static str> {
    if value.len() > VALUE_BYTES_MAX {
        return Err("has more than 4,096 bytes, the most that a header takes of a value");
    }
    if value.contains(char::is_control) {
        return Err("has control characters, which a header can't have");
    }
    Ok(())
}

/// Whether a header is one that tells the server what to do, however it is spelled.
pub(crate) fn is_reserved(name: &str) -> bool {
    const PREFIX: &str = "nats-";
    name.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_filled() {
        let header = HeaderTemplate::parse("X-Trace", "{ trace }/{span}").unwrap();
        assert_eq!((header.name(), header.fields().collect::<Vec<_>>()), ("X-Trace", vec!["trace", "span"]));
        let mut value = String::new();
        header.fill(&["a: b, é", ""], &mut value).unwrap();
        assert_eq!(value, "a: b, é/");
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for name in ["", "a b", "a:", "é", "a\n", "Nats-Msg-Id", "nats-rollup", "NATS-X"] {
            assert!(HeaderTemplate::parse(name, "x").is_err(), "{name}");
        }
        assert!(HeaderTemplate::parse("x", "a\nb").is_err() && HeaderTemplate::parse("x", "{a").is_err());
        assert!(HeaderTemplate::parse("nats", "x").is_ok());
    }

    proptest! {
        #[test]
        fn no_value_adds_a_line(value in "(.|\\r|\\n|\\u{0}|[a-z: ]){0,8}") {
            let mut filled = String::new();
            let header = HeaderTemplate::parse("x", "<{a}>").unwrap();
            if header.fill(&[&value], &mut filled).is_ok() {
                prop_assert!(!filled.contains(['\r', '\n', '\0']));
                prop_assert_eq!(filled, format!("<{value}>"));
            } else {
                prop_assert!(filled.is_empty() && value.contains(char::is_control));
            }
        }
    }
}
