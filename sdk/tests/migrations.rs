//! Whole batches of old state through the functions that `#[operator(migrate(..))]` names.

use tidemill_sdk::{Batch, prelude::*, testing};

#[derive(Record)]
struct Names<'a> {
    name: Option<&'a str>,
}

#[derive(Record)]
struct Sum {
    sum: Option<i64>,
}

#[derive(Record, Debug, PartialEq)]
struct Values {
    words: Option<String>,
}

mod words {
    use super::*;

    #[derive(State, Default)]
    pub(super) struct Words {
        words: Option<String>,
        seen: Entries<i64, i64>,
    }

    #[derive(Default)]
    struct Keep;

    #[operator(migrate(of_names, super::words::of_sums))]
    impl Process for Keep {
        type Input<'a> = ();
        type State = Words;
        type Output = Option<Values>;

        fn process(&self, _: &mut Words, (): (), _: &mut Timers) -> Option<Values> {
            None
        }
    }

    /// Borrows from the row that it takes.
    fn of_names(names: Names<'_>) -> Words {
        Words { words: names.name.map(str::to_uppercase), ..Words::default() }
    }

    pub(super) fn of_sums(Sum { sum }: Sum) -> Result<Words, Reject> {
        let mut words = Words::default();
        match sum {
            Some(-1) => return Err("no words for a debt".into()),
            Some(0) => words.seen.insert(1, 1),
            sum => words.words = sum.map(|sum| format!("{sum}")),
        }
        Ok(words)
    }
}

fn migrate<R: Record>(which: usize, rows: Vec<R>) -> Result<Vec<Option<String>>, String> {
    let count = rows.len();
    let columns = testing::columns(rows);
    let columns = testing::borrow(&columns);
    let migrated = words::migrate(which, Batch { rows: count, columns: &columns })?;
    Ok(testing::rows::<Values>(&migrated, count)?.into_iter().map(|values| values.words).collect())
}

#[test]
fn each_row_of_an_earlier_state_becomes_one_of_this_version() {
    let named = |name| Names { name };
    // More rows than a block of eight.
    let rows = (0..21).map(|at| named((at % 3 > 0).then_some("tide"))).collect();
    let migrated = migrate(0, rows).unwrap();
    let expected: Vec<Option<String>> = (0..21).map(|at| (at % 3 > 0).then(|| "TIDE".to_owned())).collect();
    assert_eq!(migrated, expected);
    assert_eq!(migrate(1, vec![Sum { sum: Some(7) }, Sum { sum: None }]).unwrap(), [Some("7".into()), None]);
    let fields: Vec<&str> = words::earlier().iter().map(|fields| fields[0].name).collect();
    assert_eq!(fields, ["name", "sum"]);
}

#[test]
fn a_migration_that_cannot_says_why() {
    let refused = |sum| migrate(1, vec![Sum { sum: Some(1) }, Sum { sum: Some(sum) }]).unwrap_err();
    assert_eq!(refused(-1), "no words for a debt");
    assert_eq!(refused(0), "a migration can't change collections: they stay as they are");
    assert_eq!(migrate(2, vec![Sum { sum: None }]).unwrap_err(), "there is no migration of number 2");
    let columns = migrate(0, vec![Sum { sum: Some(1) }]).unwrap_err();
    assert!(columns.contains("column `name`"), "{columns}");
}
