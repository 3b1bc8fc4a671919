//! Numbers the rows of each key: the first is 1.

use tidemill_sdk::prelude::*;

/// What is kept of a key.
#[derive(State, Default)]
struct Counted {
    count: Option<i64>,
}

#[derive(Record, Debug, PartialEq)]
struct Numbered {
    count: i64,
}

#[derive(Default)]
struct CountByKey;

#[operator]
impl Process for CountByKey {
    type Input<'a> = ();
    type State = Counted;
    type Output = Numbered;

    fn process(&self, counted: &mut Counted, (): (), _: &mut Timers) -> Numbered {
        let count = counted.count.unwrap_or(0) + 1;
        counted.count = Some(count);
        Numbered { count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered() {
        let (mut counted, mut timers) = (Counted::default(), Timers::default());
        let numbers = [(); 3].map(|row| CountByKey.process(&mut counted, row, &mut timers).count);
        assert_eq!(numbers, [1, 2, 3]);
    }
}
