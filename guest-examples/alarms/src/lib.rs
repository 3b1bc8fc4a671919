//! An alarm clock for each key: a row sets the alarm that it names, or cancels it if it says no time. What comes out
//! are the alarms that ring. One with `every_ms` rings again so much later, until it has rung `times`.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Wish<'a> {
    alarm: &'a str,
    due: Option<Timestamp>,
    /// By the clock on the wall, and not by the rows' own time.
    by_clock: Option<bool>,
    every_ms: Option<i64>,
    times: Option<i64>,
}

/// How the alarms that ring again do so, by their name.
#[derive(State, Default)]
struct Alarms {
    every_ms: Entries<String, i64>,
    times: Entries<String, i64>,
}

#[derive(Record, Debug, PartialEq)]
struct Ring {
    alarm: String,
    rings: Timestamp,
    by_clock: bool,
}

#[derive(Default)]
struct AlarmClock;

#[operator]
impl Process for AlarmClock {
    type Input<'a> = Wish<'a>;
    type State = Alarms;
    type Output = Option<Ring>;

    fn process(&self, alarms: &mut Alarms, wish: Wish<'_>, timers: &mut Timers) -> Option<Ring> {
        let clock = if wish.by_clock == Some(true) { Clock::Processing } else { Clock::Event };
        let alarm = wish.alarm.to_owned();
        match wish.due {
            Some(due) => timers.set_on(clock, alarm.clone(), due),
            None => timers.cancel_on(clock, alarm.clone()),
        }
        if let (Some(every_ms), Some(times)) = (wish.every_ms, wish.times) {
            alarms.every_ms.insert(alarm.clone(), every_ms);
            alarms.times.insert(alarm, times);
        }
        None
    }

    fn on_timer(&self, alarms: &mut Alarms, timer: Timer<'_>, timers: &mut Timers) -> Option<Ring> {
        let alarm = timer.name.to_owned();
        let left = alarms.times.get(timer.name).unwrap_or(1) - 1;
        if let Some(every_ms) = alarms.every_ms.get(timer.name).filter(|_| left > 0) {
            alarms.times.insert(alarm.clone(), left);
            timers.set_on(timer.clock, alarm.clone(), timer.at.plus_ms(every_ms));
        }
        Some(Ring { alarm, rings: timer.at, by_clock: timer.clock == Clock::Processing })
    }
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::Keyed;

    use super::*;

    #[test]
    fn an_alarm_rings_when_it_is_due_and_again() {
        let mut keyed = Keyed::new(&describe(), open(&[]).unwrap());
        let wish = |alarm, due: Option<i64>| Wish {
            alarm,
            due: due.map(Timestamp),
            by_clock: None,
            every_ms: Some(5),
            times: Some(2),
        };
        let rows =
            [("ann", wish("tea", Some(10))), ("bob", wish("tea", Some(10))), ("bob", wish("tea", None))];
        assert_eq!(keyed.process::<_, Ring>(rows).unwrap().rows, []);
        let ring =
            |rings| ("ann", Ring { alarm: "tea".to_owned(), rings: Timestamp(rings), by_clock: false });
        assert_eq!(keyed.advance_watermark(Timestamp(10)).unwrap().rows, [ring(10)]);
        assert_eq!(keyed.advance_watermark(Timestamp(99)).unwrap().rows, [ring(15)]);
    }
}
