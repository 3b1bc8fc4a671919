//! Numbers the rows of each key, and goes on where `count-by-key` was, whose number had another name in the state.

use tidemill_sdk::prelude::*;

/// What is kept of a key.
#[derive(State, Default)]
struct Numbers {
    number: Option<i64>,
}

/// What `count-by-key` kept.
#[derive(Record)]
struct Counted {
    count: Option<i64>,
}

#[derive(Record, Debug, PartialEq)]
struct Numbered {
    count: i64,
}

#[derive(Default)]
struct NumberByKey;

#[operator(migrate(of_counts))]
impl Process for NumberByKey {
    type Input<'a> = ();
    type State = Numbers;
    type Output = Numbered;

    fn process(&self, numbers: &mut Numbers, (): (), _: &mut Timers) -> Numbered {
        let count = numbers.number.unwrap_or(0) + 1;
        numbers.number = Some(count);
        Numbered { count }
    }
}

fn of_counts(counted: Counted) -> Numbers {
    Numbers { number: counted.count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_where_the_count_was() {
        let mut numbers = of_counts(Counted { count: Some(7) });
        let next = NumberByKey.process(&mut numbers, (), &mut Timers::default());
        assert_eq!(next, Numbered { count: 8 });
    }
}
