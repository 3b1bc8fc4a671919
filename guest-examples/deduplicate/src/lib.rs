//! Lets the first order of each key pass. After `forget_after_hours` without another it is forgotten, so that what
//! is kept doesn't grow for ever.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Order {
    amount: f64,
    #[record(time)]
    at: Timestamp,
}

/// The order once more: the key comes with it.
#[derive(Record, Debug, PartialEq)]
struct First {
    amount: f64,
}

#[derive(State, Default)]
struct Seen {
    seen: Option<bool>,
}

struct Deduplicate {
    forget_after_ms: i64,
}

const HOUR_MS: i64 = 60 * 60 * 1_000;

#[operator]
impl Process for Deduplicate {
    type Input<'a> = Order;
    type State = Seen;
    type Output = Option<First>;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        let hours = settings.optional("forget_after_hours")?.unwrap_or(24_u32);
        Ok(Self { forget_after_ms: i64::from(hours) * HOUR_MS })
    }

    fn process(&self, seen: &mut Seen, order: Order, timers: &mut Timers) -> Option<First> {
        timers.set("forget", order.at.plus_ms(self.forget_after_ms));
        let first = seen.seen.replace(true).is_none();
        first.then_some(First { amount: order.amount })
    }

    fn on_timer(&self, seen: &mut Seen, _forget: Timer<'_>, _timers: &mut Timers) -> Option<First> {
        seen.seen = None;
        None
    }
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::Keyed;

    use super::*;

    #[test]
    fn an_order_passes_once_until_it_is_forgotten() {
        let hour = |hour: i64| Timestamp(hour * HOUR_MS);
        let mut keyed = Keyed::new(&describe(), open(&[("forget_after_hours".into(), "2".into())]).unwrap());
        let mut passed = |orders: &[(&'static str, i64)], watermark: i64| {
            let rows = orders.iter().map(|(key, at)| (*key, Order { amount: 1.5, at: hour(*at) }));
            let came = keyed.process::<_, First>(rows).unwrap();
            keyed.advance_watermark::<First>(hour(watermark)).unwrap();
            came.rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(passed(&[("a", 0), ("b", 0), ("a", 1)], 1), ["a", "b"]);
        // `b` was last seen two hours ago, `a` one.
        assert_eq!(passed(&[], 2), [""; 0]);
        assert_eq!(passed(&[("a", 2), ("b", 2)], 3), ["b"]);
    }
}
