//! Where a replay begins.

use std::fmt;
use std::str::FromStr;

use tidemill_checkpoint::SavepointName;

/// Where a replay begins. Written as `beginning`, `sequence:N`, `time:2026-11-20T00:00:00Z`, `checkpoint:N` or
/// `savepoint:NAME`.
///
/// ```
/// use tidemill::replay::Origin;
///
/// let origin: Origin = "time:2026-11-20T00:00:00Z".parse()?;
/// assert_eq!(origin, Origin::Time(1_795_132_800_000));
/// assert_eq!(origin.to_string(), "time:2026-11-20T00:00:00Z");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Where the sources begin, without state.
    Beginning,
    /// At the record of this number in each partition of a log or stream, without state.
    Sequence(u64),
    /// At the first record of this time or later, in milliseconds since the Unix epoch, in each partition of a log or
    /// stream, without state. It is the time beside the record, and not one of its fields.
    Time(i64),
    /// At a checkpoint of the live pipeline, with its state.
    Checkpoint(u64),
    /// At a savepoint of the live pipeline, with its state.
    Savepoint(SavepointName),
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse::<u64>().map_err(|_| format!("`{}` isn't a number", text.escape_debug()));
        match text.split_once(':') {
            None if text == "beginning" => Ok(Self::Beginning),
            Some(("sequence", of)) => number(of).map(Self::Sequence),
            Some(("checkpoint", of)) => number(of).map(Self::Checkpoint),
            Some(("savepoint", name)) => name.parse().map(Self::Savepoint),
            Some(("time", time)) => match time.parse::<jiff::Timestamp>() {
                Ok(time) => Ok(Self::Time(time.as_millisecond())),
                Err(why) => {
                    Err(format!("`{}` isn't a time as in 2026-11-20T00:00:00Z: {why}", time.escape_debug()))
                }
            },
            _ => Err(format!(
                "`{}` is no place to begin at; there are `beginning`, `sequence:N`, `time:2026-11-20T00:00:00Z`, \
                 `checkpoint:N` and `savepoint:NAME`",
                text.escape_debug()
            )),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => f.write_str("beginning"),
            Self::Sequence(sequence) => write!(f, "sequence:{sequence}"),
            Self::Time(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => write!(f, "time:{time}"),
                Err(_) => write!(f, "time:{ms} ms"),
            },
            Self::Checkpoint(number) => write!(f, "checkpoint:{number}"),
            Self::Savepoint(name) => write!(f, "savepoint:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_it_is_written() {
        for text in [
            "beginning",
            "sequence:0",
            "sequence:18446744073709551615",
            "time:2026-11-20T00:00:00Z",
            "time:1969-12-31T23:59:59.999Z",
            "checkpoint:41",
            "savepoint:before-lunch",
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        assert_eq!("time:2026-11-20T01:00:00+01:00".parse(), Ok(Origin::Time(1_795_132_800_000)));
    }

    #[test]
    fn what_is_no_origin_is_refused_with_what_is() {
        for (text, why) in [
            ("", "is no place to begin at"),
            ("end", "is no place to begin at"),
            ("beginning:1", "is no place to begin at"),
            ("sequence:-1", "isn't a number"),
            ("checkpoint:", "isn't a number"),
            ("savepoint:../x", "can't be the name of a savepoint"),
            ("time:yesterday", "isn't a time"),
            ("offset:4", "`sequence:N`"),
        ] {
            let refused = text.parse::<Origin>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
