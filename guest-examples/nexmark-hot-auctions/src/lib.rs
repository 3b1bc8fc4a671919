//! Nexmark query 5, second stage: of the counts of one period, all auctions that share the largest.
//! The first stage, the operator `count`, makes the counts.

use std::cmp::Ordering;

use tidemill_sdk::prelude::*;

/// How many bids an auction had in the period.
#[derive(Record)]
struct Counted {
    auction: Option<i64>,
    count: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Hot {
    auction: i64,
    count: i64,
}

/// The largest count so far, and who has it.
#[derive(Record, Default)]
struct Hottest {
    count: i64,
    auctions: Vec<i64>,
}

#[derive(Default)]
struct HotAuctions;

#[operator]
impl Aggregate for HotAuctions {
    type Input<'a> = Counted;
    type Accumulator = Hottest;
    type Output = Vec<Hot>;

    fn add(&self, hottest: &mut Hottest, counted: Counted) -> Result<(), Reject> {
        let auction = counted.auction.ok_or("bids for no auction")?;
        self.merge(hottest, Hottest { count: counted.count, auctions: vec![auction] });
        Ok(())
    }

    fn merge(&self, left: &mut Hottest, right: Hottest) {
        match right.count.cmp(&left.count) {
            Ordering::Greater => *left = right,
            Ordering::Equal => left.auctions.extend(right.auctions),
            Ordering::Less => {}
        }
    }

    /// In the order of their numbers, whatever order they were merged in.
    fn finish(&self, Hottest { count, mut auctions }: Hottest) -> Vec<Hot> {
        auctions.sort_unstable();
        auctions.into_iter().map(|auction| Hot { auction, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_auctions_with_the_largest_count_are_hot() {
        let mut hottest = Hottest::default();
        for (auction, count) in [(8, 2), (7, 3), (9, 1), (5, 3)] {
            HotAuctions.add(&mut hottest, Counted { auction: Some(auction), count }).unwrap();
        }
        let hot = [Hot { auction: 5, count: 3 }, Hot { auction: 7, count: 3 }];
        assert_eq!(HotAuctions.finish(hottest), hot);
    }
}
