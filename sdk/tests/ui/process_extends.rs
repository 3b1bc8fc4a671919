use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Count {
    count: i64,
}

#[derive(Default)]
struct Counts;

#[operator(extend)]
impl Process for Counts {
    type Input<'a> = ();
    type State = ();
    type Output = Count;

    fn process(&self, _: &mut (), _: (), _: &mut Timers) -> Count {
        Count { count: 1 }
    }
}

fn main() {}
