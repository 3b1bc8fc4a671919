//! `time_zone = "Europe/Berlin"`: local time as the IANA time zone database has it. The database is part of the program,
//! so that a pipeline's windows are the same on every machine.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tidemill_flow::windowing::Zone;

use super::value::Value;

/// Transitions up to here are known; after it local time stays as far ahead as it is then.
const LAST: &str = "2200-01-01T00:00:00Z";

/// The time zone of a name.
pub(super) fn read(value: Value<'_>) -> Option<Zone> {
    let name = value.name()?;
    let Ok(zone) = TimeZone::get(&name.value) else {
        return value.refuse(format!(
            "unknown time zone \"{}\"; expected a name of the IANA database such as \"Europe/Berlin\" or \"UTC\"",
            name.value
        ));
    };
    let last: Timestamp = LAST.parse().expect("a timestamp");
    let offset_ms = |offset: jiff::tz::Offset| i64::from(offset.seconds()) * 1000;
    let transitions = zone.following(Timestamp::MIN).take_while(|t| t.timestamp() < last);
    Some(Zone {
        name: zone.iana_name().unwrap_or(&name.value).to_owned(),
        first_offset_ms: offset_ms(zone.to_offset(Timestamp::MIN)),
        transitions: transitions.map(|t| (t.timestamp().as_millisecond(), offset_ms(t.offset()))).collect(),
    })
}
