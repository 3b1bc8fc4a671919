//! Joins as components.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, Float64Array, StringArray};
use arrow_buffer::BooleanBuffer;
use tidemill::plugin::{Emission, Failure, Join, Limits, Sides, World};

use crate::handmade::{About, Answer, join_operator};
use crate::kit::{component, runtime};

async fn start(component: &[u8]) -> Join {
    let plugin = runtime().load(component).await.expect("it is an operator");
    assert_eq!(plugin.world(), World::Join);
    plugin.join("o", &[], Limits::default()).await.expect("it starts")
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn orders(amounts: &[f64]) -> [ArrayRef; 2] {
    let customers = vec![Some("ann"); amounts.len()];
    [texts(&customers), Arc::new(Float64Array::from(amounts.to_vec()))]
}

#[tokio::test]
async fn a_pair_becomes_a_row() {
    let mut guest = start(&component("join-orders-payments")).await;
    let methods = [texts(&[Some("card"), Some("cash")])];
    let emission = guest.process(&orders(&[2.0, 3.0]), &methods, 2, None, None).await.unwrap();
    assert_eq!(emission.columns[1].as_primitive::<Float64Type>().values(), &[2.0, 3.0]);
    assert_eq!(&emission.columns[2], &methods[0]);
    assert_eq!((emission.rows, emission.origins, emission.rejected), (2, None, vec![]));
}

/// Nine pairs, so that the bits of who is absent fill more than a byte. What stands where somebody is absent is null,
/// as whoever takes rows by number leaves it, though the operator reads `method` as always there.
#[tokio::test]
async fn what_is_absent_is_none() {
    let mut guest = start(&component("join-orders-payments")).await;
    let amounts = [1.0, 2.0, 3.0, -4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let methods: Vec<_> = (0..9).map(|at| (at % 4 != 0).then_some("card")).collect();
    let absent: BooleanBuffer = methods.iter().map(Option::is_none).collect();
    let columns = [texts(&methods)];
    let emission = guest.process(&orders(&amounts), &columns, 9, None, Some(&absent)).await.unwrap();
    assert_eq!(emission.origins, Some(vec![0, 1, 2, 4, 5, 6, 7, 8]));
    let came: Vec<_> = emission.columns[2].as_string::<i32>().iter().collect();
    assert_eq!(came[..4], [None, Some("card"), Some("card"), None]);
    assert_eq!(came[4..], [Some("card"), Some("card"), Some("card"), None]);
    assert_eq!((emission.rejected[0].row, emission.rejected[0].reason.as_str()), (3, "ann cannot owe -4"));

    // The same bits, from the middle of a byte on.
    let (methods, absent) = (columns[0].slice(3, 6), absent.slice(3, 6));
    let orders = orders(&amounts).map(|column| column.slice(3, 6));
    let emission = guest.process(&orders, &[methods], 6, None, Some(&absent)).await.unwrap();
    assert_eq!(emission.columns[2].as_string::<i32>().iter().collect::<Vec<_>>(), came[3..]);
}

#[tokio::test]
async fn it_says_which_side_it_can_do_without() {
    let plugin = runtime().load(&component("join-orders-payments")).await.unwrap();
    assert_eq!(plugin.description().absent, Sides { left: false, right: true });
    assert_eq!(plugin.description().inputs.len(), 2);
}

#[tokio::test]
#[should_panic = "the operator can't do without the left side"]
async fn what_it_needs_is_there() {
    let mut guest = start(&component("join-orders-payments")).await;
    let absent = BooleanBuffer::new_unset(1);
    let _never = guest.process(&orders(&[1.0]), &[texts(&[Some("card")])], 1, Some(&absent), None).await;
}

#[tokio::test]
#[should_panic = "pairs without either side"]
async fn a_pair_has_a_side() {
    let mut guest = start(&join_operator(&about(), &Answer::default())).await;
    let absent = BooleanBuffer::new_set(2);
    let _never = guest.process(&[], &[], 2, Some(&absent), Some(&absent)).await;
}

fn about() -> About {
    About { inputs: vec![vec![], vec![]], output: Some(vec!["n"]), state: vec![] }
}

/// What comes of such an answer, when it was asked about two pairs.
async fn answered(answer: &Answer) -> Result<Emission, Failure> {
    start(&join_operator(&about(), answer)).await.process(&[], &[], 2, None, None).await
}

async fn check(answer: Answer, message: &str) {
    let failure = answered(&answer).await.expect_err("it is malformed").to_string();
    assert_eq!(failure, format!("returned a malformed batch: {message}"));
}

#[tokio::test]
async fn an_answer_fits_its_pairs() {
    let answer = Answer { origins: Some(vec![1, 1]), integers: vec![5, 6], rejected: vec![0] };
    assert_eq!(answered(&answer).await.unwrap().columns[0].len(), 2);

    let answer = Answer { integers: vec![1, 2, 3], ..Answer::default() };
    check(answer, "3 rows without origins for 2 rows of input").await;
    let answer = Answer { origins: Some(vec![2]), integers: vec![1], ..Answer::default() };
    check(answer, "origins name row 2, but there are 2 rows").await;
    let answer = Answer { integers: vec![1, 2], rejected: vec![1], ..Answer::default() };
    check(answer, "row 1 both emitted and rejected").await;
}

async fn refused(about: About) -> String {
    let loaded = runtime().load(&join_operator(&about, &Answer::default())).await;
    loaded.err().expect("it is refused").to_string()
}

#[tokio::test]
async fn a_join_has_two_inputs_fields_of_its_own_and_no_state() {
    assert_eq!(
        refused(About { inputs: vec![vec![]], ..about() }).await,
        "it describes 1 inputs; a join-operator has two, the left one and the right one"
    );
    assert_eq!(
        refused(About { output: None, ..about() }).await,
        "its output is described as the input's rows, but what a join makes of a pair has fields of its own: describe \
         them as `replaced`"
    );
    assert_eq!(
        refused(About { state: vec!["n"], ..about() }).await,
        "it describes state, but a join-operator has none"
    );
}
