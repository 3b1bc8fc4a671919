//! Whole batches through window operators and joins, natively.

use tidemill_sdk::testing::{Came, borrow, columns, emitted, evaluate, join};
use tidemill_sdk::{Batch, Output, Pairs, Sides, WindowRows, prelude::*};

#[derive(Record, Clone, Debug, PartialEq)]
struct Number {
    n: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Word<'a> {
    word: &'a str,
    times: Option<i64>,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Owned {
    word: String,
}

mod sums {
    use super::*;

    /// Adds up numbers up to 99, refuses negative ones by themselves, and a sum above 99 with all that is in it.
    #[derive(Default)]
    struct Sums;

    #[operator]
    impl Window for Sums {
        type Input<'a> = Number;
        type Output<'a> = Result<Number, Reject>;

        fn accept(&self, number: &Number) -> Result<(), Reject> {
            if number.n < 0 { Err("below zero".into()) } else { Ok(()) }
        }

        fn evaluate(&self, window: Bounds, numbers: Vec<Number>) -> Result<Number, Reject> {
            let n = numbers.iter().map(|number| number.n).sum::<i64>() + window.start.0;
            if n > 99 { Err("too much".into()) } else { Ok(Number { n }) }
        }
    }
}

mod longest {
    use super::*;

    /// The longest words, borrowed from the rows.
    #[derive(Default)]
    struct Longest;

    #[operator]
    impl Window for Longest {
        type Input<'a> = Word<'a>;
        type Output<'a> = Vec<Word<'a>>;

        fn evaluate<'a>(&self, _: Bounds, mut words: Vec<Word<'a>>) -> Vec<Word<'a>> {
            let longest = words.iter().map(|word| word.word.len()).max();
            words.retain(|word| Some(word.word.len()) == longest);
            words
        }
    }
}

mod full {
    use super::*;

    /// Says which sides a pair has.
    #[derive(Default)]
    struct Full;

    #[operator]
    impl Join for Full {
        type Left<'a> = Option<Number>;
        type Right<'a> = Option<Word<'a>>;
        type Output<'a> = Result<Owned, Reject>;

        fn join(&self, number: Option<Number>, word: Option<Word<'_>>) -> Result<Owned, Reject> {
            match (number, word) {
                (Some(number), Some(word)) => Ok(Owned { word: format!("{} {}", number.n, word.word) }),
                (Some(number), None) => Ok(Owned { word: number.n.to_string() }),
                (None, Some(word)) => Ok(Owned { word: word.word.to_owned() }),
                (None, None) => Err("nobody there".into()),
            }
        }
    }
}

mod inner {
    use super::*;

    /// Repeats the words of the left side as often as the right one says.
    #[derive(Default)]
    struct Repeat;

    #[operator]
    impl Join for Repeat {
        type Left<'a> = Word<'a>;
        type Right<'a> = Number;
        type Output<'a> = Vec<Word<'a>>;

        fn join<'a>(&self, word: Word<'a>, number: Number) -> Vec<Word<'a>> {
            (0..number.n).map(|_| word.clone()).collect()
        }
    }
}

fn bounds(start: i64) -> Bounds {
    Bounds { start: Timestamp(start), end: Timestamp(start + 10) }
}

fn numbers(numbers: &[i64]) -> Vec<Number> {
    numbers.iter().map(|&n| Number { n }).collect()
}

fn word(word: &str) -> Word<'_> {
    Word { word, times: (word.len() > 3).then_some(1) }
}

#[test]
fn they_describe_themselves() {
    let about = sums::describe();
    assert_eq!((about.inputs, about.state), (vec![Number::FIELDS], &[][..]));
    assert_eq!((about.output, about.absent), (Output::Replaced(Number::FIELDS), Sides::default()));
    let about = full::describe();
    assert_eq!(about.inputs, [Number::FIELDS, Word::FIELDS]);
    assert_eq!(about.absent, Sides { left: true, right: true });
    assert_eq!(inner::describe().absent, Sides::default());
}

#[test]
fn windows_may_end_anywhere() {
    let operator = sums::open(&[]).unwrap();
    for rows in [1, 7, 8, 9, 16, 23] {
        for first in 1..rows {
            let windows =
                [(bounds(0), numbers(&vec![1; first])), (bounds(10), numbers(&vec![1; rows - first]))];
            let came = evaluate(&*operator, windows).unwrap();
            let sums = numbers(&[first as i64, (rows - first + 10) as i64]);
            assert_eq!(came.rows, (0..).zip(sums).collect::<Vec<_>>(), "{first} of {rows}");
        }
    }
}

#[test]
fn rows_are_refused_by_themselves_or_with_their_window() {
    let windows = [
        (bounds(0), numbers(&[1, -1, 2])),
        (bounds(0), numbers(&[-1])),
        (bounds(0), numbers(&[60, -2, 40])),
        (bounds(0), numbers(&[5])),
    ];
    let came: Came<usize, Number> = evaluate(&*sums::open(&[]).unwrap(), windows).unwrap();
    assert_eq!(came.rows, [(0, Number { n: 3 }), (3, Number { n: 5 })]);
    let rejected: Vec<_> = came.rejected.iter().map(|(row, why)| (*row, why.as_str())).collect();
    let (below, much) = ("below zero", "too much");
    assert_eq!(rejected, [(1, below), (3, below), (4, much), (5, below), (6, much)]);
}

#[test]
fn results_may_borrow_from_rows() {
    let words = columns(["tide", "mill", "sea", "rye"].map(word));
    let windows = [3, 4].map(|rows_end| WindowRows { bounds: bounds(0), rows_end });
    let batch = Batch { rows: 4, columns: &borrow(&words) };
    let emission = longest::open(&[]).unwrap().evaluate(&windows, batch).unwrap();
    assert_eq!(emitted::<Word<'_>>(&emission).unwrap(), [word("tide"), word("mill"), word("rye")]);
    assert_eq!(emission.origins, Some([0_u32, 0, 1].map(u32::to_le_bytes).concat()));
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let check = |rows_ends: &[usize], message: &str| {
        let of = |&rows_end: &usize| WindowRows { bounds: bounds(0), rows_end };
        let windows: Vec<WindowRows> = rows_ends.iter().map(of).collect();
        let (rows, numbers) = (3, columns(numbers(&[1, 2, 3])));
        let batch = Batch { rows, columns: &borrow(&numbers) };
        let refused = sums::open(&[]).unwrap().evaluate(&windows, batch);
        assert_eq!(refused.unwrap_err(), message);
    };
    check(&[1, 2], "the windows have 2 rows, but the batch 3");
    check(&[], "the windows have 0 rows, but the batch 3");
    check(&[2, 2, 3], "window 1 has the rows from 2 up to 2");
    check(&[2, 1], "window 1 has the rows from 2 up to 1");
}

#[test]
fn every_pair_has_its_sides() {
    let sides = |pair: i64| match pair % 3 {
        0 => (Some(Number { n: pair }), Some(word("mill"))),
        1 => (Some(Number { n: pair }), None),
        _ => (None, Some(word("sea"))),
    };
    let came: Came<usize, Owned> = join(&*full::open(&[]).unwrap(), (0..21).map(sides)).unwrap();
    let expected = |pair: i64| match pair % 3 {
        0 => format!("{pair} mill"),
        1 => pair.to_string(),
        _ => "sea".to_owned(),
    };
    let expected: Vec<_> = (0..21).map(|pair| (pair as usize, Owned { word: expected(pair) })).collect();
    assert_eq!(came, Came { rows: expected, rejected: vec![] });
}

#[test]
fn a_refused_pair_is_numbered() {
    let pairs = [(Some(Number { n: 1 }), None), (None, None::<Word<'_>>)];
    let came: Came<usize, Owned> = join(&*full::open(&[]).unwrap(), pairs).unwrap();
    assert_eq!(came.rows, [(0, Owned { word: "1".into() })]);
    assert_eq!(came.rejected, [(1, "nobody there".into())]);
}

#[test]
fn a_pair_may_give_several_rows() {
    let (words, times) = (columns(["tide", "mill", "sea"].map(word)), columns(numbers(&[2, 0, 1])));
    let pairs = Pairs {
        left: Batch { rows: 3, columns: &borrow(&words) },
        right: Batch { rows: 3, columns: &borrow(&times) },
        left_absent: None,
        right_absent: None,
    };
    let emission = inner::open(&[]).unwrap().process(pairs).unwrap();
    assert_eq!(emitted::<Word<'_>>(&emission).unwrap(), [word("tide"), word("tide"), word("sea")]);
    assert_eq!(emission.origins, Some([0_u32, 0, 2].map(u32::to_le_bytes).concat()));
}

#[test]
fn pairs_that_do_not_fit_are_refused() {
    let (words, times) = (columns([word("tide")]), columns(numbers(&[2])));
    let (left, right) = (borrow(&words), borrow(&times));
    let (left, right) = (Batch { rows: 1, columns: &left }, Batch { rows: 1, columns: &right });
    let whole = Pairs { left, right, left_absent: None, right_absent: None };
    let check = |pairs: Pairs<'_>, message: &str| {
        assert_eq!(inner::open(&[]).unwrap().process(pairs).unwrap_err(), message);
    };
    check(
        Pairs { left_absent: Some(&[1]), ..whole },
        "there are pairs without a left row, but the operator needs it",
    );
    check(
        Pairs { right_absent: Some(&[0]), ..whole },
        "there are pairs without a right row, but the operator needs it",
    );
    check(
        Pairs { left: Batch { rows: 2, ..left }, ..whole },
        "2 left rows cannot be paired with 1 right ones",
    );
    check(
        Pairs { right: Batch { rows: 1, columns: &[] }, ..whole },
        "right: the batch has 0 columns; the operator described 1",
    );
    let lacking = Pairs { left: right, right: left, left_absent: Some(&[]), right_absent: None };
    let refused = full::open(&[]).unwrap().process(lacking).unwrap_err();
    assert_eq!(refused, "0 bytes say which left rows are absent of 1");
}
