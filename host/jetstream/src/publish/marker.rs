//! The marker: the last message on a producer's own subject in the stream that it writes, which says what of its output
//! is committed, and who writes it.
//!
//! It is a register that changes only by compare-and-set on its sequence, in one atomic step with the output that it
//! tells of. So it is the fence too: whoever writes it anew makes every batch void that was sent before, also one that
//! still lies in a client that lost its connection, as that batch expects the marker at another sequence. A fence on a
//! subject of its own would be a second record that can be evicted: the output itself pushes it out of a stream with a
//! limit, while the marker moves on with every batch.

use serde::{Deserialize, Serialize};

/// The version of the written form.
const FORMAT: u32 = 1;

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    format: u32,
    /// The newest epoch of which messages are committed.
    pub(super) epoch: Option<u64>,
    /// How many of its messages are.
    pub(super) messages: u64,
    /// How many it has.
    pub(super) of: u64,
    /// The newest epoch before it.
    pub(super) before: Option<u64>,
    /// The run that wrote the marker.
    pub(super) run: u64,
    /// Who wrote it: another for each that was opened, whatever the run.
    pub(super) owner: String,
}

/// An epoch that isn't committed whole: its run ended between two batches of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Which.
    pub epoch: u64,
    /// How many of its messages are committed: the first ones.
    pub messages: u64,
    /// How many it has.
    pub of: u64,
}

/// What is to be done for an epoch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    /// Its messages from this index on.
    From(u64),
}

impl Marker {
    /// Nothing is committed.
    pub(super) fn new(run: u64, owner: String) -> Self {
        Self { format: FORMAT, epoch: None, messages: 0, of: 0, before: None, run, owner }
    }

    /// The same, written by somebody else.
    pub(super) fn owned(self, run: u64, owner: String) -> Self {
        Self { run, owner, ..self }
    }

    pub(super) fn last_epoch(&self) -> Option<u64> {
        if self.messages == self.of { self.epoch } else { self.before }
    }

    pub(super) fn partial(&self) -> Option<Partial> {
        let epoch = self.epoch.filter(|_| self.messages < self.of)?;
        Some(Partial { epoch, messages: self.messages, of: self.of })
    }

    /// What is to be done for an epoch of so many messages; why it can't be, if it can't.
    pub(super) fn rest_of(&self, epoch: u64, count: u64) -> Result<Rest, String> {
        match self.partial() {
            Some(partial) if partial.epoch == epoch && partial.of == count => {
                Ok(Rest::From(partial.messages))
            }
            Some(Partial { epoch: begun, messages, of }) if begun <= epoch => Err(format!(
                "{messages} of the {of} messages of epoch {begun} are published; the rest of them comes first, and \
                 this has {count}"
            )),
            _ if self.epoch.is_some_and(|last| epoch <= last) => Ok(Rest::Nothing),
            _ => Ok(Rest::From(0)),
        }
    }

    /// As it is when so many messages of an epoch are committed.
    pub(super) fn with(&self, epoch: u64, messages: u64, of: u64) -> Self {
        let before = if self.epoch == Some(epoch) { self.before } else { self.last_epoch() };
        Self { epoch: Some(epoch), messages, of, before, ..self.clone() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and a text are JSON")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let marker: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if marker.format != FORMAT {
            return Err(format!("it has format {}, and this program knows {FORMAT}", marker.format));
        }
        if marker.messages > marker.of || marker.before.is_some_and(|before| Some(before) >= marker.epoch) {
            return Err("its numbers contradict each other".to_owned());
        }
        Ok(marker)
    }
}

/// The subject of a producer's marker.
pub(super) fn subject(stream: &str, producer: &str) -> String {
    format!("tidemill.{stream}.{}.marker", token(producer))
}

/// The subjects of all markers in a stream.
pub(crate) fn subjects(stream: &str) -> String {
    format!("tidemill.{stream}.>")
}

/// A producer as one token of a subject: `/` becomes `_`, anything else that isn't plain `=` and its bytes in
/// hexadecimal, so that no two are the same.
fn token(producer: &str) -> String {
    let mut token = String::with_capacity(producer.len());
    for byte in producer.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => token.push(byte as char),
            b'/' => token.push('_'),
            byte => token.push_str(&format!("={byte:02X}")),
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_epoch_is_counted_when_it_is_whole() {
        let none = Marker::new(1, "a".to_owned());
        assert_eq!((none.last_epoch(), none.partial()), (None, None));
        let begun = none.with(7, 2, 3);
        assert_eq!(
            (begun.last_epoch(), begun.partial()),
            (None, Some(Partial { epoch: 7, messages: 2, of: 3 }))
        );
        let whole = begun.with(7, 3, 3);
        assert_eq!((whole.last_epoch(), whole.partial()), (Some(7), None));
        let next = whole.with(9, 1, 2).with(9, 2, 2).with(10, 1, 5);
        assert_eq!((next.last_epoch(), next.before), (Some(9), Some(9)));
    }

    #[test]
    fn only_what_is_missing_is_published() {
        let marker = Marker::new(1, "a".to_owned()).with(6, 5, 5).with(7, 2, 3);
        assert_eq!(marker.rest_of(6, 5), Ok(Rest::Nothing));
        assert_eq!(marker.rest_of(7, 3), Ok(Rest::From(2)));
        assert!(marker.rest_of(7, 4).unwrap_err().contains("2 of the 3 messages of epoch 7"));
        assert!(marker.rest_of(8, 3).is_err());
        let whole = marker.with(7, 3, 3);
        assert_eq!(whole.rest_of(7, 4), Ok(Rest::Nothing));
        assert_eq!(whole.rest_of(8, 4), Ok(Rest::From(0)));
    }

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        let marker = Marker::new(3, "x".to_owned()).with(6, 5, 5).with(7, 2, 3);
        let written = br#"{"format":1,"epoch":7,"messages":2,"of":3,"before":6,"run":3,"owner":"x"}"#;
        assert_eq!(marker.encode(), written);
        assert_eq!(Marker::decode(written), Ok(marker));
        for wrong in [
            r#"{"format":2,"epoch":7,"messages":2,"of":3,"before":6,"run":3,"owner":"x"}"#,
            r#"{"format":1,"epoch":7,"messages":4,"of":3,"before":6,"run":3,"owner":"x"}"#,
            r#"{"format":1,"epoch":7,"messages":2,"of":3,"before":7,"run":3,"owner":"x"}"#,
            r#"{"epoch":7}"#,
            "7",
            "",
        ] {
            assert!(Marker::decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_producer_is_one_token() {
        assert_eq!(subject("orders", "shop/out"), "tidemill.orders.shop_out.marker");
        assert_eq!(token("a_b/c.d é"), "a=5Fb_c=2Ed=20=C3=A9");
    }

    proptest! {
        #[test]
        fn no_two_producers_share_a_token(one in "[a-b_/=.F5]{0,6}", other in "[a-b_/=.F5]{0,6}") {
            prop_assert_eq!(one == other, token(&one) == token(&other));
            prop_assert!(!token(&one).contains(['.', '*', '>', ' ']));
        }

        #[test]
        fn no_bytes_make_reading_a_marker_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Marker::decode(&bytes);
        }
    }
}
