//! Whole batches through operators, natively: what the host and a component do, without the border.

use tidemill_sdk::testing::{borrow, columns, emitted, rows};
use tidemill_sdk::{
    Batch, Column, ColumnBuffer, DataType, Emission, Field, Output, TransformOperator, prelude::*,
};

/// One field of each type, there and perhaps not.
#[derive(Record, Clone, Debug, Default, PartialEq)]
struct Everything<'a> {
    integer: i64,
    float: f64,
    boolean: bool,
    text: &'a str,
    owned_text: String,
    bytes: &'a [u8],
    owned_bytes: Vec<u8>,
    list: Vec<i64>,
    timestamp: Timestamp,
    maybe_integer: Option<i64>,
    maybe_float: Option<f64>,
    maybe_boolean: Option<bool>,
    maybe_text: Option<&'a str>,
    maybe_bytes: Option<Vec<u8>>,
    maybe_list: Option<Vec<i64>>,
    maybe_timestamp: Option<Timestamp>,
}

const TEXTS: [&str; 5] = ["", "tide", "Gezeitenmühle", "潮汐", "🌊"];

/// Rows that differ from their neighbours in every field.
fn everything(row: usize) -> Everything<'static> {
    let text = TEXTS[row % TEXTS.len()];
    let number = row as i64 * 1_000_003 - 7;
    let present = !row.is_multiple_of(3);
    Everything {
        integer: number,
        float: number as f64 / 3.0,
        boolean: row % 5 < 2,
        text,
        owned_text: text.repeat(2),
        bytes: text.as_bytes(),
        owned_bytes: vec![row as u8; row % 4],
        list: (0..number % 4).collect(),
        timestamp: Timestamp(-number),
        maybe_integer: present.then_some(number),
        maybe_float: (!present).then_some(0.5),
        maybe_boolean: present.then_some(row.is_multiple_of(2)),
        maybe_text: present.then_some(text),
        maybe_bytes: (!present).then(|| vec![1, 2]),
        maybe_list: present.then(|| vec![number]),
        maybe_timestamp: (!present).then_some(Timestamp(number)),
    }
}

mod copy {
    use super::*;

    #[operator]
    fn copy(row: Everything<'_>) -> Everything<'_> {
        row
    }
}

mod every_second {
    use super::*;

    #[operator]
    fn every_second(row: Everything<'_>) -> Option<Everything<'_>> {
        (row.integer % 2 == 0).then_some(row)
    }
}

/// Batches without a full block, with only full blocks, and with both.
const SIZES: [usize; 9] = [0, 1, 7, 8, 9, 16, 63, 64, 1000];

#[test]
fn every_field_type_comes_back_as_it_went() {
    for size in SIZES {
        let sent: Vec<_> = (0..size).map(everything).collect();
        let input = columns(sent.clone());
        let emission = run(copy::open(&[]), size, &input);
        assert_eq!((emission.rows as usize, &emission.origins), (size, &None));
        assert_eq!(emission.columns, input, "written in blocks and one by one: {size} rows");
        assert_eq!(emitted::<Everything<'_>>(&emission).unwrap(), sent);
    }
}

#[test]
fn rows_that_are_left_out_leave_the_others_whole() {
    for size in SIZES {
        let sent: Vec<_> = (0..size).map(everything).collect();
        let emission = run(every_second::open(&[]), size, &columns(sent.clone()));
        let kept: Vec<_> = sent.into_iter().filter(|row| row.integer % 2 == 0).collect();
        assert_eq!(emitted::<Everything<'_>>(&emission).unwrap(), kept);
    }
}

// --- what an operator may return
// --------------------------------------------------------------------------------

#[derive(Record, Debug, Default, PartialEq)]
struct Number {
    n: i64,
}

#[derive(Record, Debug, PartialEq)]
struct Negative {
    negative: i64,
}

mod filter {
    use super::*;

    #[operator]
    fn even(row: Number) -> bool {
        row.n % 2 == 0
    }
}

mod strict_filter {
    use super::*;

    #[operator]
    fn even(row: Number) -> Result<bool, &'static str> {
        if row.n < 0 { Err("below zero") } else { Ok(row.n % 2 == 0) }
    }
}

mod strict {
    use super::*;

    #[operator(extend)]
    fn negate(row: Number) -> Result<Negative, Reject> {
        Ok(Negative { negative: row.n.checked_neg().ok_or("out of range")? })
    }
}

/// Settings, and rows that borrow from the batch.
mod longer {
    use super::*;

    #[derive(Record, Debug, PartialEq)]
    pub(super) struct Text<'a> {
        pub(super) text: &'a str,
    }

    struct Longer {
        than: u64,
    }

    #[operator]
    impl Transform for Longer {
        type Input<'a> = Text<'a>;
        type Output<'a> = Option<Text<'a>>;

        fn open(settings: &mut Settings) -> Result<Self, String> {
            Ok(Self { than: settings.required("than")? })
        }

        fn process<'a>(&self, row: Text<'a>) -> Option<Text<'a>> {
            (row.text.len() as u64 > self.than).then_some(row)
        }
    }
}

/// Several rows that are pieces of one; without settings.
mod pieces {
    use super::longer::Text;
    use super::*;

    #[derive(Default)]
    struct Pieces;

    #[operator]
    impl Transform for Pieces {
        type Input<'a> = Text<'a>;
        type Output<'a> = Rows<std::iter::Map<std::str::Split<'a, char>, fn(&'a str) -> Text<'a>>>;

        fn process<'a>(&self, row: Text<'a>) -> Self::Output<'a> {
            Rows(row.text.split(',').map(|text| Text { text }))
        }
    }
}

#[test]
fn rows_may_be_pieces_of_the_input() {
    use longer::Text;
    let input = columns(["a,b", "", "tide"].map(|text| Text { text }));
    let emission = run(longer::open(&[("than".into(), "3".into())]), 3, &input);
    assert_eq!(emitted::<Text<'_>>(&emission).unwrap(), [Text { text: "tide" }]);
    let emission = run(pieces::open(&[]), 3, &input);
    assert_eq!(emitted::<Text<'_>>(&emission).unwrap(), ["a", "b", "", "tide"].map(|text| Text { text }));
}

mod repeat {
    use super::*;

    #[operator]
    fn repeat(row: Number) -> Result<Vec<Number>, Reject> {
        let times = usize::try_from(row.n).map_err(|_| format!("cannot repeat {} times", row.n))?;
        Ok((0..times).map(|_| Number { n: row.n }).collect())
    }
}

mod odd {
    use super::*;

    #[operator]
    fn odd(row: Number) -> Option<Number> {
        (row.n % 2 != 0).then_some(row)
    }
}

mod countdown {
    use super::*;

    #[operator]
    fn countdown(row: Number) -> Rows<impl Iterator<Item = Number>> {
        Rows((0..row.n).rev().map(|n| Number { n }))
    }
}

/// What comes out of a batch of numbers: how many rows, from where if that is told, and which were refused.
type Came<'t> = (u32, Option<&'t [u32]>, &'t [u32]);

#[test]
fn origins_are_told_only_where_they_are_not_obvious() {
    check("filter, all", filter::open(&[]), &[2, 4], (2, None, &[]));
    check("filter, first", filter::open(&[]), &[2, 1], (1, Some(&[0]), &[]));
    check("filter, last two left out", filter::open(&[]), &[2, 4, 1, 3], (2, Some(&[0, 1]), &[]));
    check("filter, none", filter::open(&[]), &[1, 1], (0, Some(&[]), &[]));
    check("strict filter", strict_filter::open(&[]), &[-2, 1, 4], (1, Some(&[2]), &[0]));
    check("strict filter, all", strict_filter::open(&[]), &[2, 4], (2, None, &[]));
    check("strict filter, last left out", strict_filter::open(&[]), &[2, 4, 1], (2, Some(&[0, 1]), &[]));
    check("strict filter, last refused", strict_filter::open(&[]), &[2, 4, -1], (2, Some(&[0, 1]), &[2]));
    check("strict filter, all refused", strict_filter::open(&[]), &[-1, -1], (0, Some(&[]), &[0, 1]));
    check("map, all", strict::open(&[]), &[1, 2, 3], (3, None, &[]));
    check("map, one refused", strict::open(&[]), &[1, i64::MIN, 3], (2, Some(&[0, 2]), &[1]));
    check("map, last refused", strict::open(&[]), &[1, 2, i64::MIN], (2, Some(&[0, 1]), &[2]));
    check("map, all refused", strict::open(&[]), &[i64::MIN], (0, Some(&[]), &[0]));
    check("map, no row", strict::open(&[]), &[], (0, None, &[]));
    let in_block = [0, 1, 2, i64::MIN, 4, 5, 6, 7, 8];
    check(
        "map, refused in a block",
        strict::open(&[]),
        &in_block,
        (8, Some(&[0, 1, 2, 4, 5, 6, 7, 8]), &[3]),
    );
    check("repeat, once each", repeat::open(&[]), &[1, 1], (2, None, &[]));
    check("repeat, the last not at all", repeat::open(&[]), &[1, 1, 0], (2, Some(&[0, 1]), &[]));
    check("repeat", repeat::open(&[]), &[1, 2, 0, -1, 1], (4, Some(&[0, 1, 1, 4]), &[3]));
    check("repeat, last refused", repeat::open(&[]), &[1, 1, -1], (2, Some(&[0, 1]), &[2]));
    check("repeat, none", repeat::open(&[]), &[0, 0], (0, Some(&[]), &[]));
    check("repeat, as many as came in", repeat::open(&[]), &[2, 0], (2, Some(&[0, 0]), &[]));
    check("countdown, no last", countdown::open(&[]), &[1, 1, 0], (2, Some(&[0, 1]), &[]));
    check("countdown, none", countdown::open(&[]), &[0, 0], (0, Some(&[]), &[]));
    check("countdown, one each", countdown::open(&[]), &[1, 1], (2, None, &[]));
    check("option, all", odd::open(&[]), &[1, 3], (2, None, &[]));
    check("option, no last", odd::open(&[]), &[1, 3, 2], (2, Some(&[0, 1]), &[]));
    check("option, none", odd::open(&[]), &[2, 2], (0, Some(&[]), &[]));
}

/// A prefix that ends with a block, inside of one, and after one.
#[test]
fn rows_missing_at_the_end_are_told_wherever_blocks_end() {
    for size in SIZES {
        for kept in 0..=size {
            let input: Vec<_> = (0..size).map(|row| if row < kept { 1 } else { 2 }).collect();
            let first: Vec<_> = (0..kept as u32).collect();
            let origins = (kept < size).then_some(&first[..]);
            check(&format!("first {kept} of {size}"), odd::open(&[]), &input, (kept as u32, origins, &[]));
        }
    }
}

fn check(name: &str, operator: Opened, input: &[i64], (kept, origins, rejected): Came<'_>) {
    let emission = run(operator, input.len(), &columns(input.iter().map(|n| Number { n: *n })));
    let origins = origins.map(|origins| origins.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<_>>());
    assert_eq!(emission.origins, origins, "{name}");
    assert_eq!(emission.rows, kept, "{name}");
    let refused: Vec<_> = emission.rejected.iter().map(|rejection| rejection.row).collect();
    assert_eq!(refused, rejected, "{name}");
}

#[test]
fn a_description_says_what_is_read_and_what_becomes_of_it() {
    let description = every_second::describe();
    assert_eq!((description.name, description.version), ("tidemill-sdk", env!("CARGO_PKG_VERSION")));
    assert_eq!(description.inputs, [Everything::FIELDS]);
    assert_eq!(description.output, Output::Replaced(Everything::FIELDS));
    assert_eq!(strict::describe().output, Output::Extended(Negative::FIELDS));
    assert_eq!(strict_filter::describe().output, Output::Same);
    assert_eq!(sums::describe().state, Sum::FIELDS);
    let field = |at: usize| {
        (Everything::FIELDS[at].name, Everything::FIELDS[at].data_type, Everything::FIELDS[at].nullable)
    };
    assert_eq!(field(7), ("list", DataType::Bytes, false));
    assert_eq!(field(12), ("maybe_text", DataType::Text, true));
}

#[test]
fn a_name_in_any_letters_is_renamed() {
    #[derive(Record)]
    #[record(rename_all = "camelCase")]
    struct Camel {
        été: i64,
        dernier_été: i64,
        a_b: i64,
    }
    #[derive(Record)]
    #[record(rename_all = "PascalCase")]
    struct Pascal {
        été: i64,
        ßmall_tide: i64,
        潮_汐: i64,
    }
    let names = |fields: &'static [Field]| fields.iter().map(|field| field.name).collect::<Vec<_>>();
    assert_eq!(names(Camel::FIELDS), ["été", "dernierÉté", "aB"]);
    assert_eq!(names(Pascal::FIELDS), ["Été", "SSmallTide", "潮汐"]);
}

// --- batches that do not fit
// ------------------------------------------------------------------------------------

#[test]
fn a_column_that_does_not_fit_is_named_with_its_fault() {
    /// Text and a number that may be absent.
    #[derive(Record, Debug)]
    struct Row<'a> {
        text: &'a str,
        number: Option<i64>,
    }
    let good = columns([("tide", Some(1)), ("mühle", None)].map(|(text, number)| Row { text, number }));
    let spoil = |column: usize, spoil: &dyn Fn(&mut ColumnBuffer)| {
        let mut bad = good.clone();
        spoil(&mut bad[column]);
        rows::<Row<'_>>(&bad, 2).unwrap_err()
    };
    let cases = [
        (spoil(0, &|text| text.offsets = None), "column `text` has no offsets"),
        (spoil(0, &|text| text.offsets = Some(vec![0; 11])), "column `text` has a buffer of 11 bytes"),
        (spoil(0, &|text| text.data.truncate(3)), "column `text` has offsets that do not fit its 3 bytes"),
        (spoil(0, &|text| swap(text, 0, 4)), "column `text` has offsets that do not fit"),
        (spoil(0, &|text| text.data[0] = 0xff), "column `text` is not UTF-8"),
        (
            spoil(0, &|text| text.offsets.as_mut().unwrap()[4] = 6),
            "column `text` has an offset inside of a character",
        ),
        (spoil(0, &|text| text.validity = Some(vec![0b01])), "column `text` has no value in row 1"),
        (spoil(1, &|number| number.data.truncate(15)), "column `number` has a buffer of 15 bytes"),
        (spoil(1, &|number| number.validity = Some(vec![])), "column `number` has a buffer of 0 bytes"),
        (rows::<Row<'_>>(&good[..1], 2).unwrap_err(), "the batch has 1 columns; the operator described 2"),
    ];
    for (message, expected) in cases {
        assert!(message.starts_with(expected), "{message:?} should begin with {expected:?}");
    }
}

#[test]
fn offsets_need_not_begin_at_zero() {
    #[derive(Record, Debug, PartialEq)]
    struct Row<'a> {
        text: &'a str,
    }
    let offsets = [2_u32, 4, 7].into_iter().flat_map(u32::to_le_bytes).collect();
    let text = ColumnBuffer { offsets: Some(offsets), data: b"xxabcde".to_vec(), validity: None };
    assert_eq!(rows::<Row<'_>>(&[text], 2).unwrap(), [Row { text: "ab" }, Row { text: "cde" }]);
}

// --- aggregates
// -------------------------------------------------------------------------------------------------

/// An accumulator that owns memory, so that it can be spoiled half way.
#[derive(Record, Clone, Debug, Default, PartialEq)]
struct Sum {
    total: i64,
    seen: Vec<i64>,
}

mod sums {
    use super::*;

    /// Refuses numbers above `max`, but only after it has counted them.
    pub(super) struct Sums {
        max: i64,
    }

    #[operator]
    impl Aggregate for Sums {
        type Input<'a> = Number;
        type Accumulator = Sum;
        type Output = Vec<Number>;

        fn open(settings: &mut Settings) -> Result<Self, String> {
            Ok(Self { max: settings.required("max")? })
        }

        fn add(&self, sum: &mut Sum, row: Number) -> Result<(), Reject> {
            sum.total += row.n;
            sum.seen.push(row.n);
            if row.n > self.max { Err(Reject::new(format!("{} is too large", row.n))) } else { Ok(()) }
        }

        fn merge(&self, left: &mut Sum, right: Sum) {
            left.total += right.total;
            left.seen.extend(right.seen);
        }

        fn finish(&self, sum: Sum) -> Vec<Number> {
            sum.seen.into_iter().map(|n| Number { n }).collect()
        }
    }
}

mod fixed_sums {
    use super::*;

    #[derive(Default)]
    struct Sums;

    #[operator]
    impl Aggregate for Sums {
        type Input<'a> = Number;
        type Accumulator = Number;
        type Output = Number;

        fn add(&self, sum: &mut Number, row: Number) -> Result<(), Reject> {
            sum.n += row.n;
            if row.n > 9 { Err("too large".into()) } else { Ok(()) }
        }

        fn merge(&self, left: &mut Number, right: Number) {
            left.n += right.n;
        }

        fn finish(&self, sum: Number) -> Number {
            sum
        }
    }
}

/// Groups that may come to nothing.
mod odd_sums {
    use super::*;

    #[derive(Default)]
    struct OddSums;

    #[operator]
    impl Aggregate for OddSums {
        type Input<'a> = Number;
        type Accumulator = Number;
        type Output = Option<Number>;

        fn add(&self, sum: &mut Number, row: Number) -> Result<(), Reject> {
            sum.n += row.n;
            Ok(())
        }

        fn merge(&self, left: &mut Number, right: Number) {
            left.n += right.n;
        }

        fn finish(&self, sum: Number) -> Option<Number> {
            (sum.n % 2 != 0).then_some(sum)
        }
    }
}

/// Numbers, some above 9, and their groups.
fn numbers_in_groups() -> (Vec<i64>, Vec<u8>) {
    let numbers: Vec<_> = (0..100).map(|row| row * 7 % 12).collect();
    (numbers, (0..100_u32).flat_map(|row| (row % 3).to_le_bytes()).collect())
}

#[test]
fn a_refused_row_leaves_no_trace() {
    let (numbers, group_of) = numbers_in_groups();
    let input = columns(numbers.iter().map(|n| Number { n: *n }));
    let (input, expected_of) = (borrow(&input), |group: usize| {
        numbers.iter().copied().skip(group).step_by(3).filter(|n| *n <= 9).collect::<Vec<_>>()
    });
    let batch = Batch { rows: numbers.len(), columns: &input };

    let sums = sums::open(&[("max".into(), "9".into())]).unwrap();
    let empty = columns([Sum { total: 1000, seen: vec![1000] }, Sum::default(), Sum::default()]);
    let folded = sums.accumulate(3, &borrow(&empty), &group_of, batch).unwrap();
    assert_eq!(folded.rejected.len(), numbers.iter().filter(|n| **n > 9).count());
    let sums_after = rows::<Sum>(&folded.accumulators, 3).unwrap();
    let mut first = vec![1000];
    first.extend(expected_of(0));
    for (sum, expected) in sums_after.iter().zip([first, expected_of(1), expected_of(2)]) {
        assert_eq!((sum.total, &sum.seen), (expected.iter().sum(), &expected));
    }

    let fixed = fixed_sums::open(&[]).unwrap();
    let empty = columns([0, 0, 0].map(|n| Number { n }));
    let folded = fixed.accumulate(3, &borrow(&empty), &group_of, batch).unwrap();
    let totals: Vec<_> = rows::<Number>(&folded.accumulators, 3).unwrap().iter().map(|sum| sum.n).collect();
    assert_eq!(totals, [0, 1, 2].map(|group| expected_of(group).iter().sum::<i64>()));
}

#[test]
fn groups_merge_and_finish_row_for_row() {
    let sums = sums::open(&[("max".into(), "9".into())]).unwrap();
    assert_eq!(rows::<Sum>(&sums.initial(), 1).unwrap(), [Sum::default()]);
    let sum = |seen: &[i64]| Sum { total: seen.iter().sum(), seen: seen.into() };
    let (left, right) = (columns([sum(&[1]), sum(&[])]), columns([sum(&[2]), sum(&[])]));
    let merged = sums.merge(2, &borrow(&left), &borrow(&right)).unwrap();
    assert_eq!(rows::<Sum>(&merged, 2).unwrap(), [sum(&[1, 2]), sum(&[])]);
    let emission = sums.finish(2, &borrow(&merged)).unwrap();
    assert_eq!(emitted::<Number>(&emission).unwrap(), [Number { n: 1 }, Number { n: 2 }]);
    assert_eq!(emission.origins, Some(vec![0; 8]));
}

#[test]
fn groups_that_come_to_nothing_are_told_by_the_origins_of_the_others() {
    let sums = odd_sums::open(&[]).unwrap();
    let check = |finished: &[i64], origins: Option<&[u32]>| {
        let groups = columns(finished.iter().map(|n| Number { n: *n }));
        let emission = sums.finish(finished.len(), &borrow(&groups)).unwrap();
        let odd: Vec<_> = finished.iter().filter(|n| **n % 2 != 0).map(|n| Number { n: *n }).collect();
        assert_eq!(emitted::<Number>(&emission).unwrap(), odd);
        let origins = origins.map(|rows| rows.iter().flat_map(|row| row.to_le_bytes()).collect());
        assert_eq!(emission.origins, origins, "{finished:?}");
    };
    check(&[1, 3], None);
    check(&[2, 3], Some(&[1]));
    check(&[1, 3, 2], Some(&[0, 1]));
    check(&[2, 4], Some(&[]));
    check(&[], None);
}

#[test]
fn a_group_out_of_range_is_an_error() {
    let fixed = fixed_sums::open(&[]).unwrap();
    let (sum, input) = (columns([Number { n: 0 }]), columns([Number { n: 1 }, Number { n: 2 }]));
    let (sum, input) = (borrow(&sum), borrow(&input));
    let fold = |group_of: &[u8]| {
        fixed.accumulate(1, &sum, group_of, Batch { rows: 2, columns: &input }).unwrap_err()
    };
    assert_eq!(fold(&[0, 0, 0, 0, 1, 0, 0, 0]), "`group-of` names 1, but there are 1");
    assert_eq!(fold(&[0; 7]), "`group-of` has 7 bytes for 2 rows");
}

// --- settings
// ---------------------------------------------------------------------------------------------------

#[test]
fn a_setting_that_is_missing_wrong_or_unknown_is_said_at_open() {
    let open = |given: &[(&str, &str)]| {
        let given: Vec<_> = given.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        sums::open(&given).err()
    };
    assert_eq!(open(&[("max", "9")]), None);
    assert_eq!(open(&[]).unwrap(), "the setting `max` is missing; give it a whole number");
    assert_eq!(open(&[("max", "nine")]).unwrap(), "the setting `max` is `nine`; give it a whole number");
    assert_eq!(
        open(&[("max", "9"), ("min", "1")]).unwrap(),
        "unknown setting `min`; this operator knows `max`"
    );
    assert_eq!(open(&[("max", "9"), ("max", "9")]).unwrap(), "the setting `max` is given twice; keep one");
    let function = copy::open(&[("min".into(), "1".into())]).err().unwrap();
    assert_eq!(function, "unknown setting `min`; this operator has no settings");
}

// --- the driver
// -------------------------------------------------------------------------------------------------

type Opened = Result<Box<dyn TransformOperator>, String>;

fn run(operator: Opened, rows: usize, input: &[ColumnBuffer]) -> Emission {
    let input: Vec<Column<'_>> = borrow(input);
    operator
        .and_then(|operator| operator.process(Batch { rows, columns: &input }))
        .expect("a batch that fits")
}

/// Exchanges two bytes of a column's offsets.
fn swap(column: &mut ColumnBuffer, left: usize, right: usize) {
    column.offsets.as_mut().expect("a column of text").swap(left, right);
}
