//! Process operators as components: what crosses the border in each call, and what is refused there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray,
};
use tidemill::plugin::{
    Collections, Entry, Failure, Keyed, Limits, Process, Processed, TimerChange, World, due_columns,
};
use tidemill_flow::schema::FieldType;

use crate::kit::{component, runtime};

async fn start(package: &str, settings: &[(&str, &str)]) -> Process {
    let plugin = runtime().load(&component(package)).await.expect("it is an operator");
    assert_eq!(plugin.world(), World::Process);
    let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let limits = Limits { memory_bytes: 512 << 20, ..Limits::default() };
    plugin.process("o", &settings, limits).await.expect("it starts")
}

/// A call about these keys, with these values and rows.
fn keyed<'a>(key_of: &'a [u32], values: &'a [ArrayRef], columns: &'a [ArrayRef]) -> Keyed<'a> {
    let keys = key_of.iter().max().map_or(0, |key| *key as usize + 1);
    Keyed { key_of, keys, values, columns, watermark_ms: 0, processing_time_ms: 0 }
}

/// Collections of the keys of one call, by collection, key and entry.
#[derive(Debug, Default, PartialEq)]
struct Kept(BTreeMap<(u8, u32, Vec<u8>), Vec<u8>>);

impl Collections for Kept {
    fn read(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
    ) -> Result<Vec<Option<Vec<u8>>>, String> {
        let value = |(key, entry): (&u32, Option<&[u8]>)| {
            self.0.get(&(collection, *key, entry.expect("an entry").to_vec())).cloned()
        };
        Ok(keys.iter().zip(entries).map(value).collect())
    }

    fn write(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(), String> {
        for ((key, entry), value) in keys.iter().zip(entries).zip(values) {
            let at = (collection, *key, entry.expect("an entry").to_vec());
            match value {
                Some(value) => drop(self.0.insert(at, value.to_vec())),
                None => drop(self.0.remove(&at)),
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        _: u8,
        _: u32,
        _: Option<&[u8]>,
        _: Option<&[u8]>,
        _: usize,
    ) -> Result<Vec<Entry>, String> {
        Err("the storage is gone".into())
    }
}

fn integers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn timestamps(values: &[i64]) -> ArrayRef {
    let values = TimestampMillisecondArray::from(values.to_vec());
    Arc::new(values.with_data_type(FieldType::Timestamp.arrow()))
}

fn changes(processed: &Processed) -> Vec<(u32, &str, Option<i64>)> {
    processed.timers.iter().map(|TimerChange { key, name, at_ms, .. }| (key, name, at_ms)).collect()
}

#[tokio::test]
async fn values_go_in_and_come_back() {
    let mut guest = start("count-by-key", &[]).await;
    let counts = [integers(&[None, Some(41)])];
    let (_, processed) = guest.process(&keyed(&[0, 1, 0], &counts, &[]), ()).await;
    let processed = processed.unwrap();
    assert_eq!(&processed.emission.columns, &[integers(&[Some(1), Some(42), Some(2)])]);
    assert_eq!(processed.emission.origins, None);
    assert_eq!(processed.values, [Some(integers(&[Some(2), Some(42)]))]);
    assert!(processed.timers.is_empty());
}

#[tokio::test]
async fn timers_are_set_and_fire() {
    let mut guest = start("deduplicate", &[("forget_after_hours", "1")]).await;
    let seen: [ArrayRef; 1] = [Arc::new(BooleanArray::from(vec![None, Some(true)]))];
    let columns: [ArrayRef; 2] = [Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0])), timestamps(&[5, 6, 7])];
    let (_, processed) = guest.process(&keyed(&[0, 1, 0], &seen, &columns), ()).await;
    let processed = processed.unwrap();
    assert_eq!(processed.emission.origins, Some(vec![0]));
    assert_eq!(processed.emission.columns[0].as_primitive::<Float64Type>().values(), &[1.0]);
    assert_eq!(changes(&processed), [(0, "forget", Some(3_600_007)), (1, "forget", Some(3_600_006))]);
    assert_eq!(processed.values[0].as_ref().unwrap().null_count(), 0);

    let seen: [ArrayRef; 1] = [Arc::new(BooleanArray::from(vec![true]))];
    let due =
        due_columns(vec![3_600_007], StringArray::from(vec!["forget"]), BooleanArray::from(vec![false]));
    let (_, processed) = guest.on_timer(&keyed(&[0], &seen, &due), ()).await;
    let processed = processed.unwrap();
    assert_eq!((processed.emission.rows, processed.timers.len()), (0, 0));
    assert!(processed.values[0].as_ref().unwrap().is_null(0));
}

#[tokio::test]
async fn collections_are_read_and_written_in_a_call() {
    let mut guest = start("latest-by-item", &[]).await;
    let items: ArrayRef = Arc::new(StringArray::from(vec!["rye", "rye", "rye", "oats"]));
    let prices: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.0), Some(1.0), Some(4.5), None]));
    let mut kept = Kept::default();
    kept.0.insert((0, 1, b"rye".to_vec()), 3.0_f64.to_le_bytes().to_vec());
    let values = [integers(&[None, Some(1)])];
    let (kept, processed) = guest.process(&keyed(&[0, 1, 0, 0], &values, &[items, prices]), kept).await;
    let processed = processed.unwrap();
    let changes = processed.emission.columns[2].as_primitive::<Float64Type>();
    assert_eq!(changes.iter().collect::<Vec<_>>(), [None, Some(-2.0), Some(2.5)]);
    assert_eq!(processed.emission.rejected[0].reason, "oats isn't sold here");
    assert_eq!(processed.values, [Some(integers(&[Some(1), Some(1)]))]);
    let price = |key, price: f64| ((0, key, b"rye".to_vec()), price.to_le_bytes().to_vec());
    assert_eq!(kept, Kept(BTreeMap::from([price(0, 4.5), price(1, 1.0)])));
}

/// Checks that a call fails with this message, and that what was lent comes back nevertheless.
async fn check(misbehaviour: &str, message: &str) {
    let mut guest = start("hostile-keyed", &[("do", misbehaviour)]).await;
    let counts = [integers(&[None])];
    let mut lent = Kept::default();
    lent.0.insert((0, 0, vec![]), vec![]);
    let (kept, processed) = guest.process(&keyed(&[0], &counts, &[]), lent).await;
    let failure = processed.expect_err("too much").to_string();
    assert!(failure.contains(message), "{message:?} is not in {failure:?}");
    assert_eq!(kept.0.len(), 1, "{misbehaviour}");
}

#[tokio::test]
async fn what_a_key_may_have_is_limited() {
    check("large-entry", "an entry of the collection `hoard` has 5000 bytes; 4096 are the most").await;
    check("flood-entries", "trapped: it wrote more than 64 MiB into collections in one call").await;
    check("long-name", "timers: the name `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…` has 300 bytes; 255 are")
        .await;
    check("beyond-time", "timers: one at 9223372036854775807, which is no time within 285,000 years").await;
    check("many-timers", "timers: 300000 set or cancelled in one call; 262144 are the most").await;
}

#[tokio::test]
async fn a_panic_in_a_timer_is_told() {
    let mut guest = start("hostile-keyed", &[("do", "panic-in-timer")]).await;
    let counts = [integers(&[Some(1)])];
    let due = due_columns(vec![0], StringArray::from(vec!["panic"]), BooleanArray::from(vec![false]));
    let (_, processed) = guest.on_timer(&keyed(&[0], &counts, &due), Kept::default()).await;
    let Err(Failure::Trapped(reason)) = processed else { panic!("it fails") };
    assert!(reason.contains("no more of `panic`"), "{reason}");
}

#[tokio::test]
async fn a_storage_that_fails_is_the_reason() {
    let mut guest = start("latest-by-item", &[]).await;
    let items: ArrayRef = Arc::new(StringArray::from(vec!["rye"]));
    let prices: ArrayRef = Arc::new(Float64Array::from(vec![2.0]));
    let values = [integers(&[None])];
    let (_, processed) = guest.process(&keyed(&[0], &values, &[items, prices]), ()).await;
    let Err(Failure::Trapped(reason)) = processed else { panic!("it fails") };
    assert!(reason.starts_with("there are no collections"), "{reason}");
}
