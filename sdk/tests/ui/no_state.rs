use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Count {
    count: i64,
}

#[derive(Default)]
struct Counts;

#[operator]
impl Process for Counts {
    type Input<'a> = ();
    type State = i64;
    type Output = Count;

    fn process(&self, _: &mut i64, _: (), _: &mut Timers) -> Count {
        Count { count: 1 }
    }
}

fn main() {}
