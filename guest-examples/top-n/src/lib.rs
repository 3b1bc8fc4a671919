//! The highest sales of a window, one row each with its rank. Of equal prices the earlier sale comes first.

use std::cmp::Reverse;

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Sale<'a> {
    item: &'a str,
    price: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Ranked<'a> {
    rank: i64,
    item: &'a str,
    price: i64,
}

struct TopN {
    n: usize,
}

#[operator]
impl Window for TopN {
    type Input<'a> = Sale<'a>;
    type Output<'a> = Vec<Ranked<'a>>;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        match settings.required::<u32>("n")? {
            0 => Err("`n` is 0, but somebody has to be first: set at least 1".into()),
            n => Ok(Self { n: n as usize }),
        }
    }

    fn evaluate<'a>(&self, _window: Bounds, mut sales: Vec<Sale<'a>>) -> Vec<Ranked<'a>> {
        // Sales come in order of event time, and this sort keeps it among equals.
        sales.sort_by_key(|sale| Reverse(sale.price));
        let ranked = |(rank, Sale { item, price })| Ranked { rank, item, price };
        (1..).zip(sales).take(self.n).map(ranked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_come_first_and_equals_in_order() {
        let sales = [("rye", 4), ("oats", 9), ("flour", 2), ("bran", 4), ("malt", 4)];
        let sales = sales.map(|(item, price)| Sale { item, price });
        let window = Bounds { start: Timestamp(0), end: Timestamp(1_000) };
        let highest = TopN { n: 3 }.evaluate(window, sales.into());
        let ranked = |rank, item, price| Ranked { rank, item, price };
        assert_eq!(highest, [ranked(1, "oats", 9), ranked(2, "rye", 4), ranked(3, "bran", 4)]);
    }

    #[test]
    fn the_first_of_nobody_is_refused() {
        let opened = open(&[("n".into(), "0".into())]);
        assert!(opened.is_err_and(|why| why.contains("set at least 1")));
    }
}
