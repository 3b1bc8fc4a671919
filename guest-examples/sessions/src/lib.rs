//! Sums up visits. A visit is over when its key was silent for `gap_minutes`; then comes one row: from when to
//! when, and how many pages.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Page {
    #[record(time)]
    at: Timestamp,
}

/// The visit that is under way, if one is.
#[derive(State, Default)]
struct Open {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    pages: Option<i64>,
}

#[derive(Record, Debug, PartialEq)]
struct Visit {
    start: Timestamp,
    end: Timestamp,
    pages: i64,
}

struct Sessions {
    gap_ms: i64,
}

#[operator]
impl Process for Sessions {
    type Input<'a> = Page;
    type State = Open;
    type Output = Option<Visit>;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        Ok(Self { gap_ms: i64::from(settings.required::<u32>("gap_minutes")?) * 60_000 })
    }

    fn process(&self, open: &mut Open, page: Page, timers: &mut Timers) -> Option<Visit> {
        // The watermark is behind the rows, so that a visit may be over before its timer says so.
        let is_over = open.end.is_some_and(|end| page.at > end.plus_ms(self.gap_ms));
        let over = is_over.then(|| std::mem::take(open)).and_then(visit);
        // A row may be older than the one before it: it joins the visit that is under way.
        let end = open.end.map_or(page.at, |end| end.max(page.at));
        open.start = Some(open.start.map_or(page.at, |start| start.min(page.at)));
        open.end = Some(end);
        open.pages = Some(open.pages.unwrap_or(0) + 1);
        timers.set("silent", end.plus_ms(self.gap_ms));
        over
    }

    fn on_timer(&self, open: &mut Open, _silent: Timer<'_>, _timers: &mut Timers) -> Option<Visit> {
        visit(std::mem::take(open))
    }
}

fn visit(Open { start, end, pages }: Open) -> Option<Visit> {
    Some(Visit { start: start?, end: end?, pages: pages? })
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::Keyed;

    use super::*;

    const MINUTE_MS: i64 = 60_000;

    fn minute(minute: i64) -> Timestamp {
        Timestamp(minute * MINUTE_MS)
    }

    #[test]
    fn a_visit_ends_with_a_silence() {
        let mut keyed = Keyed::new(&describe(), open(&[("gap_minutes".into(), "30".into())]).unwrap());
        let pages = [("ann", 2), ("bob", 3), ("ann", 0), ("ann", 20)];
        let rows = pages.map(|(visitor, at)| (visitor, Page { at: minute(at) }));
        assert_eq!(keyed.process::<_, Visit>(rows).unwrap().rows, []);
        let visit = |start, end, pages| Visit { start: minute(start), end: minute(end), pages };
        let over = keyed.advance_watermark(minute(33)).unwrap();
        assert_eq!(over.rows, [("bob", visit(3, 3, 1))]);
        assert_eq!(keyed.process::<_, Visit>([("bob", Page { at: minute(34) })]).unwrap().rows, []);
        let rows = [("ann", Page { at: minute(51) })];
        assert_eq!(
            keyed.process(rows).unwrap().rows,
            [("ann", visit(0, 20, 3))],
            "over before the watermark is there"
        );
        let over = keyed.advance_watermark(Timestamp(i64::MAX)).unwrap();
        assert_eq!(over.rows, [("bob", visit(34, 34, 1)), ("ann", visit(51, 51, 1))]);
    }
}
