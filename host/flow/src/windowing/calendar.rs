//! Windows of whole days in a time zone: from local midnight to local midnight, so that a day has 23 or 25 hours when
//! clocks are changed.
//!
//! The zone is data: from which instant on local time is how far ahead. So a result depends on nothing but its rows
//! and the definition.

use std::fmt;
use std::sync::Arc;

use crate::window::Bounds;

const DAY_MS: i64 = 86_400_000;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// By how much local time is ahead of UTC before the first transition, in milliseconds.
    pub first_offset_ms: i64,
    /// From which instant on, in milliseconds since the Unix epoch, local time is how far ahead, in milliseconds;
    /// ascending.
    pub transitions: Vec<(i64, i64)>,
}

impl Zone {
    /// By how much local time is ahead of UTC at an instant.
    fn offset_at(&self, utc: i64) -> i64 {
        match self.transitions.partition_point(|(from, _)| *from <= utc) {
            0 => self.first_offset_ms,
            behind => self.transitions[behind - 1].1,
        }
    }

    /// The first instant at which local clocks show this time, or, if they skip it, at which they skip.
    fn first_instant(&self, local: i64) -> i64 {
        // Between two transitions local time runs with UTC. Local times differ from UTC by some hours, so only the
        // transitions around the time can matter.
        let around = |ms: i64| self.transitions.partition_point(|(from, _)| *from <= ms);
        let (first, last) = (around(local - 2 * DAY_MS), around(local + 2 * DAY_MS));
        for at in first..=last {
            let begins = if at == 0 { i64::MIN } else { self.transitions[at - 1].0 };
            let ends = self.transitions.get(at).map_or(i64::MAX, |(from, _)| *from);
            let offset = if at == 0 { self.first_offset_ms } else { self.transitions[at - 1].1 };
            let utc = local - offset;
            if utc < begins {
                // The clocks went past it when this stretch began.
                return begins;
            }
            if utc < ends {
                return utc;
            }
        }
        unreachable!("the stretch around a time has an end or shows it")
    }
}

/// Windows of whole days of a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Days {
    /// The length of a window, in days.
    pub size: i64,
    /// How many days apart windows start; at most `size`.
    pub slide: i64,
    /// Where a window starts, in milliseconds of local time since 1970-01-01T00:00.
    pub offset_ms: i64,
    /// The time zone.
    pub zone: Arc<Zone>,
}

impl Days {
    /// The number of the local day, as the offset moves it, that an instant is in.
    fn day_of(&self, utc: i64) -> i64 {
        let within = self.offset_ms.rem_euclid(DAY_MS);
        let mut day = (utc + self.zone.offset_at(utc) - within).div_euclid(DAY_MS);
        // Where clocks are changed at midnight, the time that they show may belong to the day before or after.
        while utc < self.begin(day) {
            day -= 1;
        }
        while utc >= self.begin(day + 1) {
            day += 1;
        }
        day
    }

    /// The first instant of a day.
    fn begin(&self, day: i64) -> i64 {
        self.zone.first_instant(day * DAY_MS + self.offset_ms.rem_euclid(DAY_MS))
    }

    /// The first day of the last window that has a day.
    fn last_first_day(&self, day: i64) -> i64 {
        day - (day - self.offset_ms.div_euclid(DAY_MS)).rem_euclid(self.slide)
    }

    pub(super) fn windows(&self, time: i64, windows: &mut Vec<Bounds>) {
        let day = self.day_of(time);
        let last = self.last_first_day(day);
        let count = (self.size - (day - last) + self.slide - 1) / self.slide;
        windows.extend((0..count).filter_map(|at| {
            let first = last - (count - 1 - at) * self.slide;
            let start = self.begin(first);
            // Where a place has skipped whole days, several windows would start at once; the last stands for them.
            let is_there = start < self.begin(first + self.slide);
            is_there.then(|| Bounds { start, end: self.begin(first + self.size) })
        }));
    }

    #[cfg(test)]
    fn next_start(&self, start: i64) -> i64 {
        self.begin(self.last_first_day(self.day_of(start)) + self.slide)
    }

    pub(super) fn overlaps(&self) -> bool {
        self.slide < self.size
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, slide, offset_ms, zone } = self;
        write!(f, "of {size} days every {slide} days of {} from {offset_ms} ms on", zone.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;

    /// Europe/Berlin around 2026: clocks go forward on March 29 and back on October 25, both at 01:00 UTC.
    fn berlin() -> Zone {
        let transitions = vec![(1_774_746_000_000, 2 * HOUR_MS), (1_792_890_000_000, HOUR_MS)];
        Zone { name: "Europe/Berlin".into(), first_offset_ms: HOUR_MS, transitions }
    }

    fn days(zone: Zone, size: i64, slide: i64, offset_ms: i64) -> Days {
        Days { size, slide, offset_ms, zone: Arc::new(zone) }
    }

    #[test]
    fn a_day_has_the_hours_between_two_midnights() {
        let daily = days(berlin(), 1, 1, 0);
        let check = |time: i64, start: i64, hours: i64| {
            let mut windows = Vec::new();
            daily.windows(time, &mut windows);
            assert_eq!(windows, [Bounds { start, end: start + hours * HOUR_MS }]);
        };
        // 2026-03-28T23:00Z is midnight in winter; the day has 23 hours.
        check(1_774_746_000_000, 1_774_738_800_000, 23);
        check(1_774_738_800_000, 1_774_738_800_000, 23);
        check(1_774_738_800_000 + 23 * HOUR_MS, 1_774_738_800_000 + 23 * HOUR_MS, 24);
        // 2026-10-24T22:00Z is midnight in summer; the day has 25 hours.
        check(1_792_890_000_000, 1_792_879_200_000, 25);
        check(1_792_879_200_000 + 25 * HOUR_MS - 1, 1_792_879_200_000, 25);
    }

    #[test]
    fn weeks_begin_where_the_offset_says() {
        // 1970-01-05 was a Monday. So was 2026-03-23, and clocks change on its Sunday.
        let weekly = days(berlin(), 7, 7, 4 * DAY_MS);
        let mut windows = Vec::new();
        weekly.windows(1_774_746_000_000, &mut windows);
        let start = 1_774_220_400_000; // 2026-03-22T23:00Z
        assert_eq!(windows, [Bounds { start, end: start + 7 * DAY_MS - HOUR_MS }]);
        assert_eq!(weekly.next_start(start), windows[0].end);
    }

    /// Transitions anywhere, also at midnight, over midnight, and by a whole day.
    fn zones() -> impl Strategy<Value = Zone> {
        let transition =
            (1i64..40, -14i64..15).prop_map(|(after, hours)| (after * 7 * HOUR_MS, hours * HOUR_MS));
        (-12i64..15, prop::collection::vec(transition, 0..6)).prop_map(|(first, steps)| {
            let mut at = -5 * DAY_MS;
            let transitions = steps.into_iter().map(|(after, offset)| {
                at += after + 2 * DAY_MS;
                (at, offset)
            });
            Zone {
                name: "Nowhere".into(),
                first_offset_ms: first * HOUR_MS,
                transitions: transitions.collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn windows_share_time_out(
            zone in zones(), hour in -300i64..900, offset_hours in 0i64..48, slide in 1i64..4, longer in 0i64..4,
        ) {
            let days = days(zone, slide + longer, slide, offset_hours * HOUR_MS);
            let time = hour * HOUR_MS;
            let mut windows = Vec::new();
            days.windows(time, &mut windows);
            prop_assert!(windows.is_sorted());
            prop_assert!(windows.iter().all(|w| w.start <= time && time < w.end), "{windows:?}");
            // Each instant of a window finds it, so all agree on what windows there are.
            let mut others = Vec::new();
            for window in &windows {
                for at in [window.start, window.end - 1] {
                    others.clear();
                    days.windows(at, &mut others);
                    prop_assert!(others.contains(window), "{window:?} isn't in {others:?}");
                }
                others.clear();
                days.windows(days.next_start(window.start) - 1, &mut others);
                prop_assert_eq!(others.last(), Some(window));
            }
        }
    }
}
