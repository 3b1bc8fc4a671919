//! Window operators as components.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray};
use tidemill::plugin::{Emission, Failure, Limits, Window, WindowRows, World};

use crate::handmade::{About, Answer, window_operator};
use crate::kit::{component, runtime};

async fn start(component: &[u8], settings: &[(&str, &str)]) -> Window {
    let plugin = runtime().load(component).await.expect("it is an operator");
    assert_eq!(plugin.world(), World::Window);
    let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    plugin.window("o", &settings, Limits::default()).await.expect("it starts")
}

fn ending_at<const N: usize>(rows_ends: [usize; N]) -> [WindowRows; N] {
    rows_ends.map(|rows_end| WindowRows { start: 0, end: 3_600_000, rows_end })
}

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

#[tokio::test]
async fn each_window_has_its_own_rows() {
    let mut guest = start(&component("median"), &[]).await;
    let rows = floats(&[1.0, 3.0, 2.0, 7.5, 4.0, 8.0]);
    let emission = guest.evaluate(&ending_at([3, 4, 6]), &[rows], 6).await.unwrap();
    assert_eq!(emission.columns[0].as_primitive::<Int64Type>().values(), &[3, 1, 2]);
    assert_eq!(emission.columns[1].as_primitive::<Float64Type>().values(), &[2.0, 7.5, 6.0]);
    assert_eq!((emission.rows, emission.origins, emission.rejected), (3, None, vec![]));
}

#[tokio::test]
async fn refused_rows_are_numbered_by_the_batch_and_results_by_the_window() {
    let mut guest = start(&component("median"), &[]).await;
    let rows = floats(&[f64::NAN, 1.0, f64::NAN, 5.0]);
    let emission = guest.evaluate(&ending_at([1, 2, 4]), &[rows], 4).await.unwrap();
    assert_eq!(emission.columns[1].as_primitive::<Float64Type>().values(), &[1.0, 5.0]);
    assert_eq!(emission.origins, Some(vec![1, 2]), "nothing is left of the first");
    assert_eq!(emission.rejected.iter().map(|r| r.row).collect::<Vec<_>>(), [0, 2]);
}

#[tokio::test]
async fn a_window_may_give_several_rows() {
    let mut guest = start(&component("top-n"), &[("n", "2")]).await;
    let items: ArrayRef = Arc::new(StringArray::from(vec!["rye", "oats", "bran", "malt"]));
    let prices: ArrayRef = Arc::new(Int64Array::from(vec![4, 9, 5, 1]));
    let emission = guest.evaluate(&ending_at([3, 4]), &[items, prices], 4).await.unwrap();
    let found: Vec<_> = emission.columns[1].as_string::<i32>().iter().flatten().collect();
    assert_eq!(found, ["oats", "bran", "malt"]);
    assert_eq!(emission.columns[0].as_primitive::<Int64Type>().values(), &[1, 2, 1]);
    assert_eq!(emission.origins, Some(vec![0, 0, 1]));
}

#[tokio::test]
async fn settings_can_be_refused() {
    let plugin = runtime().load(&component("top-n")).await.unwrap();
    let failure = plugin.window("o", &[("n".into(), "0".into())], Limits::default()).await.err();
    let Some(Failure::Refused(reason)) = failure else { panic!("{failure:?}") };
    assert_eq!(reason, "`n` is 0, but somebody has to be first: set at least 1");
}

#[tokio::test]
#[should_panic = "a window from row 2 up to row 2"]
async fn a_window_has_rows() {
    let mut guest = start(&component("median"), &[]).await;
    let _never = guest.evaluate(&ending_at([2, 2]), &[floats(&[1.0, 2.0])], 2).await;
}

#[tokio::test]
#[should_panic = "the rows of 1 windows"]
async fn rows_are_of_a_window() {
    let mut guest = start(&component("median"), &[]).await;
    let _never = guest.evaluate(&ending_at([1]), &[floats(&[1.0, 2.0])], 2).await;
}

fn about() -> About {
    About { inputs: vec![vec![]], output: Some(vec!["n"]), state: vec![] }
}

/// What comes of such an answer, when it was asked about two windows, the first of one row, the second of two.
async fn answered(answer: &Answer) -> Result<Emission, Failure> {
    let mut guest = start(&window_operator(&about(), answer), &[]).await;
    guest.evaluate(&ending_at([1, 3]), &[], 3).await
}

async fn check(answer: Answer, message: &str) {
    let failure = answered(&answer).await.expect_err("it is malformed").to_string();
    assert_eq!(failure, format!("returned a malformed batch: {message}"));
}

#[tokio::test]
async fn an_answer_fits_its_windows() {
    let answer = Answer { origins: None, integers: vec![5, 6], rejected: vec![2, 0] };
    let emission = answered(&answer).await.unwrap();
    assert_eq!(emission.rows, 2, "a window goes on without the rows that were refused");
    assert_eq!(emission.rejected.iter().map(|r| r.row).collect::<Vec<_>>(), [0, 2]);

    let answer = Answer { integers: vec![1, 2, 3], ..Answer::default() };
    check(answer, "3 rows without origins for 2 windows of input").await;
    let answer = Answer { origins: Some(vec![0, 2]), integers: vec![1, 2], ..Answer::default() };
    check(answer, "origins name window 2, but there are 2 windows").await;
    let answer = Answer { origins: Some(vec![1]), integers: vec![1, 2], ..Answer::default() };
    check(answer, "2 rows with 1 origins").await;
    let answer = Answer { integers: vec![1, 2], rejected: vec![3], ..Answer::default() };
    check(answer, "row 3 rejected, but there are 3 rows").await;
}

async fn refused(about: About) -> String {
    let loaded = runtime().load(&window_operator(&about, &Answer::default())).await;
    loaded.err().expect("it is refused").to_string()
}

#[tokio::test]
async fn a_window_operator_has_one_input_fields_of_its_own_and_no_state() {
    assert_eq!(
        refused(About { inputs: vec![vec![], vec![]], ..about() }).await,
        "it describes 2 inputs; a window-operator has one, whatever number of streams are united in it"
    );
    assert_eq!(
        refused(About { output: None, ..about() }).await,
        "its output is described as the input's rows, but what a window operator makes of all the rows of a window has \
         fields of its own: describe them as `replaced`"
    );
    assert_eq!(
        refused(About { state: vec!["n"], ..about() }).await,
        "it describes state, but a window-operator has none"
    );
}
