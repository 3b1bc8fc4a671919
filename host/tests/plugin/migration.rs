//! What a component says that it migrates, and rows of state that cross for it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where and why")]

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array};
use tidemill::plugin::{Failure, Limits, Migration};

use crate::kit::{component, runtime};

async fn migrations(package: &str) -> Vec<String> {
    let plugin = runtime().load(&component(package)).await.unwrap();
    plugin.migrations().iter().map(ToString::to_string).collect()
}

async fn start(package: &str) -> Migration {
    let plugin = runtime().load(&component(package)).await.unwrap();
    plugin.migration("o", &[], Limits::default()).await.unwrap()
}

fn state(visits: &[i64], time: &[f64]) -> [ArrayRef; 2] {
    [Arc::new(Int64Array::from(visits.to_vec())), Arc::new(Float64Array::from(time.to_vec()))]
}

#[tokio::test]
async fn a_component_says_what_it_migrates() {
    assert_eq!(migrations("visits-v2").await, ["{visits: integer, time: float}"]);
    assert_eq!(migrations("number-by-key").await, ["{count: integer?}"]);
    assert!(migrations("visits-v1").await.is_empty());
}

#[tokio::test]
async fn rows_of_the_old_state_become_rows_of_the_new_one() {
    let mut guest = start("visits-v2").await;
    let migrated = guest.migrate(0, &state(&[1, 2], &[0.25, 1e3]), 2).await.unwrap();
    let integers = |values: [i64; 2]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    assert_eq!(migrated, [integers([1, 2]), integers([250, 1_000_000])]);
}

#[tokio::test]
async fn a_migration_that_fails_says_how() {
    let mut guest = start("hostile-aggregate").await;
    let refused = guest.migrate(0, &state(&[17], &[1.0]), 1).await.unwrap_err();
    assert!(matches!(&refused, Failure::Refused(why) if why == "seventeen visits are too many"), "{refused}");
    let refused = guest.migrate(1, &state(&[1], &[1.0]), 1).await.unwrap_err();
    assert!(
        matches!(&refused, Failure::Refused(why) if why.contains("no migration of number 1")),
        "{refused}"
    );
    let trapped = guest.migrate(0, &state(&[13], &[1.0]), 1).await.unwrap_err();
    assert!(matches!(&trapped, Failure::Trapped(why) if why.contains("thirteen visits")), "{trapped}");
}
