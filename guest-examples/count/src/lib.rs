//! How many rows a group has. Reads no field.

use tidemill_sdk::prelude::*;

/// What is remembered, and what comes out.
#[derive(Record, Default)]
struct Group {
    count: i64,
}

#[derive(Default)]
struct Count;

#[operator]
impl Aggregate for Count {
    type Input<'a> = ();
    type Accumulator = Group;
    type Output = Group;

    fn add(&self, group: &mut Group, _row: ()) -> Result<(), Reject> {
        group.count += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Group, right: Group) {
        left.count += right.count;
    }

    fn finish(&self, group: Group) -> Group {
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_counts_once() {
        let mut group = Group::default();
        for _ in 0..3 {
            Count.add(&mut group, ()).unwrap();
        }
        Count.merge(&mut group, Group { count: 4 });
        assert_eq!(Count.finish(group).count, 7);
    }
}
