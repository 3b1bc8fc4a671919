//! Subjects with fields.

use super::is_reserved;
use super::pieces::{Piece, Pieces, RefusedValue};

/// How long a value may be; whoever needs more to tell messages apart puts it into the message.
const VALUE_BYTES_MAX: usize = 256;
/// How long a subject may be. A server takes lines of 4,096 bytes, on which there is more.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// A subject with fields of a row in it, as in `orders.{country}.{id}`.
///
/// ```
/// use tidemill_jetstream::Template;
/// let template = Template::parse("orders.{country}.v{version}")?;
/// assert_eq!(template.fields().collect::<Vec<_>>(), ["country", "version"]);
/// let mut subject = String::new();
/// template.fill(&["ch", "2"], &mut subject).unwrap();
/// assert_eq!(subject, "orders.ch.v2");
/// assert!(template.fill(&["ch.zh", "2"], &mut subject).is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Pieces,
    /// The first token has a field, so that a value can make it one that is reserved.
    begins_with_field: bool,
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// When a subject that is made of it would be none to publish to; the message says why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pieces = Pieces::parse(text)?;
        // With a letter for each field it is a subject like any that comes out.
        let example = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Field(_) => "x",
        });
        let example: String = example.collect();
        if example.split('.').any(str::is_empty) {
            return Err(format!(
                "the subject `{text}` has an empty token; tokens are separated by single dots"
            ));
        }
        if example.contains(['*', '>']) {
            return Err(format!(
                "the subject `{text}` has a wildcard, and nothing can be published to those"
            ));
        }
        if example.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("the subject `{}` has spaces or control characters", text.escape_debug()));
        }
        if is_reserved(text) {
            return Err(format!(
                "the subject `{text}` is reserved: what begins with `$`, `_INBOX` or `tidemill` belongs to the server \
                 and to us"
            ));
        }
        if text.len() > SUBJECT_BYTES_MAX {
            return Err(format!(
                "the subject has {} bytes; at most {SUBJECT_BYTES_MAX} are taken",
                text.len()
            ));
        }
        let begins_with_field = pieces
            .iter()
            .take_while(|piece| !matches!(piece, Piece::Text(text) if text.contains('.')))
            .any(|piece| matches!(piece, Piece::Field(_)));
        Ok(Self { pieces, begins_with_field })
    }

    /// The fields, in the order in which [`Self::fill`] takes their values; one that is named twice comes twice.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.pieces.fields()
    }

    /// The subject with `*` for each token that has a field: what a stream has to take.
    pub fn pattern(&self) -> String {
        /// What no text of a template has.
        const FIELD: char = '*';
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(_) => FIELD.to_string(),
        });
        let marked: String = pieces.collect();
        let tokens = marked.split('.').map(|token| if token.contains(FIELD) { "*" } else { token });
        tokens.collect::<Vec<_>>().join(".")
    }

    /// Appends the subject with these values to `into`.
    ///
    /// # Errors
    /// When a value can't be a token, or the subject would be too long or reserved; nothing is appended then.
    ///
    /// # Panics
    /// When there isn't a value for each field.
    pub fn fill(&self, values: &[&str], into: &mut String) -> Result<(), RefusedValue> {
        let before = into.len();
        self.pieces.fill(values, into, check)?;
        let wrong = match into.get(before..) {
            Some(subject) if self.begins_with_field && is_reserved(subject) => {
                "makes a subject that is reserved"
            }
            Some(subject) if subject.len() > SUBJECT_BYTES_MAX => "makes a subject of more than 1,024 bytes",
            _ => return Ok(()),
        };
        into.truncate(before);
        let field = self.fields().next().unwrap_or_default();
        Err(RefusedValue::new(field, values.first().copied().unwrap_or_default(), wrong))
    }
}

/// Whether a value stays within its token.
fn check(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Err("is empty, and a token of a subject isn't");
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err("has more than 256 bytes, the most that a subject takes of a value");
    }
    // Nearly all values are letters and digits.
    if value.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(());
    }
    if value.contains(['.', '*', '>']) {
        return Err("has a dot, `*` or `>`, which mean something else in a subject");
    }
    if value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("has spaces or control characters, which a subject can't have");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_are_read() {
        for (text, fields, pattern) in [
            ("orders", "", "orders"),
            ("orders.{id}", "id", "orders.*"),
            ("{a}.{b}.c", "a b", "*.*.c"),
            ("a{b}c{d}.e", "b d", "*.e"),
            ("orders.{ user.name }.{user.name}", "user.name user.name", "orders.*.*"),
        ] {
            let template = Template::parse(text).unwrap();
            let found: Vec<&str> = template.fields().collect();
            assert_eq!((found.join(" ").as_str(), template.pattern().as_str()), (fields, pattern), "{text}");
        }
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for (text, reason) in [
            ("", "empty token"),
            ("a..b", "empty token"),
            (".a", "empty token"),
            ("a.", "empty token"),
            ("a.*", "wildcard"),
            ("a.>", "wildcard"),
            ("a b", "spaces"),
            ("a\u{a0}b", "spaces"),
            ("a\r\n", "control"),
            ("{}", "without a field's name"),
            ("a.{ }", "without a field's name"),
            ("a.{b", "counterpart"),
            ("a.b}", "counterpart"),
            ("a.{{b}}", "counterpart"),
            ("$JS.API.x", "reserved"),
            ("_INBOX.a", "reserved"),
            ("_INBOX_tenant.a", "reserved"),
            ("tidemill.a", "reserved"),
        ] {
            let refused = Template::parse(text).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
        assert!(Template::parse("tidemills.a").is_ok());
    }

    #[test]
    fn no_value_leads_to_a_reserved_subject() {
        for (template, value) in
            [("{a}.b", "tidemill"), ("{a}.b", "$JS"), ("tide{a}.b", "mill"), ("_{a}", "INBOX")]
        {
            let mut subject = "before".to_owned();
            let refused = Template::parse(template).unwrap().fill(&[value], &mut subject).unwrap_err();
            assert!(refused.to_string().contains("reserved") && subject == "before", "{refused}");
        }
        let mut subject = String::new();
        Template::parse("a.{b}").unwrap().fill(&["tidemill"], &mut subject).unwrap();
        assert_eq!(subject, "a.tidemill");
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let template = Template::parse("orders.{country}").unwrap();
        let long = "x".repeat(257);
        for (value, reason) in [
            ("", "is empty"),
            ("a.b", "a dot"),
            ("*", "a dot"),
            (">", "a dot"),
            ("a b", "spaces"),
            (&long, "256"),
        ] {
            let refused = template.fill(&[value], &mut String::new()).unwrap_err().to_string();
            assert!(refused.contains("`country`") && refused.contains(reason), "{refused}");
        }
        let many = Template::parse("{a}.".repeat(5).trim_end_matches('.')).unwrap();
        let value = "x".repeat(256);
        assert!(many.fill(&[value.as_str(); 5], &mut String::new()).is_err());
    }

    proptest! {
        #[test]
        fn a_subject_has_the_tokens_of_its_template(
            text in "[a-z]{0,3}(\\.?(\\{[ab]\\}|[a-c]{1,2})){0,4}",
            values in proptest::collection::vec("(.|[a-z.*> $\\r\\n\\t]|tidemill|_INBOX|\\u{2003}){0,4}", 8),
        ) {
            let Ok(template) = Template::parse(&text) else { return Ok(()) };
            let values: Vec<&str> = values.iter().map(String::as_str).take(template.fields().count()).collect();
            let mut subject = String::new();
            if template.fill(&values, &mut subject).is_ok() {
                prop_assert_eq!(subject.split('.').count(), template.pattern().split('.').count());
                prop_assert!(!subject.contains(['*', '>']) && !subject.split('.').any(str::is_empty), "{}", subject);
                prop_assert!(!subject.contains(|c: char| c.is_whitespace() || c.is_control()), "{}", subject);
                prop_assert!(!is_reserved(&subject), "{}", subject);
                prop_assert!(crate::covers(&template.pattern(), &subject));
            } else {
                prop_assert!(subject.is_empty());
            }
        }
    }
}
