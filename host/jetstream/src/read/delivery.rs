//! What the server says of a message beside its content: the subject of the acknowledgement it would take.
//!
//! ADR-15 has two forms, `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer's sequence>.<time>.<pending>`
//! and `$JS.ACK.<domain>.<account>.<stream>.…`, the latter with any number of tokens behind. None of the names can
//! have a dot in it.

/// Where a message is in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Its number in the stream.
    pub(super) sequence: u64,
    /// Its number among those that the consumer has sent, from 1 on.
    pub(super) consumer_sequence: u64,
    /// When the server has stored it.
    pub(super) time_ms: i64,
    /// How many the stream had behind it.
    pub(super) pending: u64,
}

impl Delivery {
    /// Reads it from the reply subject of a message; none: it isn't one.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        let reply = reply.as_bytes();
        let dots = reply.iter().filter(|byte| **byte == b'.').count();
        let behind = match dots {
            8 | 10 => 0,
            11.. => dots - 10,
            _ => return None,
        };
        let mut rest = reply.strip_prefix(b"$JS.ACK.")?;
        for _ in 0..behind {
            last_token(&mut rest)?;
        }
        let pending = number(last_token(&mut rest)?)?;
        let time_ns = number(last_token(&mut rest)?)?;
        let consumer_sequence = number(last_token(&mut rest)?)?;
        let sequence = number(last_token(&mut rest)?)?;
        let time_ms = i64::try_from(time_ns / 1_000_000).ok()?;
        Some(Self { sequence, consumer_sequence, time_ms, pending })
    }
}

/// Takes the last token off, with the dot before it.
fn last_token<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let dot = rest.iter().rposition(|byte| *byte == b'.')?;
    let token = rest.get(dot + 1..)?;
    *rest = rest.get(..dot)?;
    Some(token)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXPECTED: Delivery =
        Delivery { sequence: 42, consumer_sequence: 7, time_ms: 1_700_000_000_123, pending: 9 };

    fn check(reply: &str, expected: Option<Delivery>) {
        assert_eq!(Delivery::parse(reply), expected, "{reply}");
    }

    #[test]
    fn both_forms_are_read() {
        check("$JS.ACK.orders.Xy12.1.42.7.1700000000123456789.9", Some(EXPECTED));
        check("$JS.ACK._.AcHash.orders.Xy12.1.42.7.1700000000123456789.9", Some(EXPECTED));
        check("$JS.ACK.hub.AcHash.orders.Xy12.1.42.7.1700000000123456789.9.Rnd1", Some(EXPECTED));
        check("$JS.ACK.hub.AcHash.orders.Xy12.1.42.7.1700000000123456789.9.Rnd1.more", Some(EXPECTED));
    }

    #[test]
    fn what_is_no_delivery_is_none() {
        check("", None);
        check("_INBOX.abc.1", None);
        check("$JS.ACK.orders.Xy12.1.42.7.1700000000123456789", None);
        check("$JS.ACK.hub.orders.Xy12.1.42.7.1700000000123456789.9", None);
        check("$JS.API.orders.Xy12.1.42.7.1700000000123456789.9", None);
        check("$JS.ACK.orders.Xy12.1.42.7.1700000000123456789.", None);
        check("$JS.ACK.orders.Xy12.1.+42.7.1700000000123456789.9", None);
        check("$JS.ACK.orders.Xy12.1.42.7.1700000000123456789.18446744073709551616", None);
        check("...........", None);
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(sequence: u64, consumer_sequence: u64, ns in 0..i64::MAX as u64, pending: u64) {
            let expected = Delivery { sequence, consumer_sequence, time_ms: (ns / 1_000_000) as i64, pending };
            let numbers = format!("1.{sequence}.{consumer_sequence}.{ns}.{pending}");
            prop_assert_eq!(Delivery::parse(&format!("$JS.ACK.s.c.{numbers}")), Some(expected));
            prop_assert_eq!(Delivery::parse(&format!("$JS.ACK.d.a.s.c.{numbers}.x")), Some(expected));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "(\\$JS\\.ACK\\.)?[a-z0-9.]{0,60}") {
            Delivery::parse(&text);
        }
    }
}
