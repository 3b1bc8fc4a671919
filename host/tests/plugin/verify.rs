//! Calls that are made twice: what remembers is found, with the thing it is about; what doesn't has nothing to fear.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where and why")]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray};
use tidemill::plugin::{Aggregate, Collections, Entry, Findings, Keyed, Limits, Plugin, Process, Transform};

use crate::kit::{component, runtime};

async fn load(package: &str) -> Plugin {
    runtime().load(&component(package)).await.unwrap()
}

fn settings(misbehaviour: &str) -> Vec<(String, String)> {
    vec![("do".to_owned(), misbehaviour.to_owned())]
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn integers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

async fn transform(misbehaviour: &str, findings: &Findings) -> Transform {
    let (plugin, settings) = (load("hostile").await, settings(misbehaviour));
    let twin = plugin.twin("o", &settings, Limits::default(), findings);
    plugin.transform("o", &settings, Limits::default()).await.unwrap().compared(Some(twin))
}

async fn aggregate(settings: &[(String, String)], findings: &Findings) -> Aggregate {
    let plugin = load("hostile-aggregate").await;
    let twin = plugin.twin("o", settings, Limits::default(), findings);
    plugin.aggregate("o", settings, Limits::default()).await.unwrap().compared(Some(twin))
}

async fn process(misbehaviour: &str, findings: &Findings) -> Process {
    let (plugin, settings) = (load("hostile-keyed").await, settings(misbehaviour));
    let twin = plugin.twin("o", &settings, Limits::default(), findings);
    plugin.process("o", &settings, Limits::default()).await.unwrap().compared(Some(twin))
}

#[tokio::test]
async fn a_transform_that_remembers_is_found() {
    let findings = Findings::default();
    let mut guest = transform("remember", &findings).await;
    guest.process(&[texts(&["a", "now"])], 2).await.unwrap();
    assert!(guest.difference().is_none(), "it has nothing to remember yet");
    guest.process(&[texts(&["now", "b", "now"])], 3).await.unwrap();
    let difference = guest.difference().unwrap();
    assert_eq!(difference.about(), Some(("row", 0)));
    difference.file(Some("at lines:3"));
    let expected = "operator `o`, row at lines:3 (row 0 of the call of `process`), column `answer`: \"1\" on one instance, \
                    \"0\" on a fresh one";
    assert_eq!(findings.all(), [expected]);
    // One is enough of an operator.
    guest.process(&[texts(&["now"])], 1).await.unwrap();
    assert!(guest.difference().is_none());
}

#[tokio::test]
async fn the_order_of_a_hash_map_is_found() {
    let findings = Findings::default();
    let mut guest = transform("hash-order", &findings).await;
    for _ in 0..3 {
        guest.process(&[texts(&["now"])], 1).await.unwrap();
        if let Some(difference) = guest.difference() {
            return difference.file(None);
        }
    }
    panic!("the second map of an instance is in the order of a first one");
}

#[tokio::test]
async fn aggregates_are_compared_and_not_a_number_is_one() {
    for (settings, expected) in [
        (vec![], None),
        (settings("not-a-number"), None),
        (settings("remember"), Some("column `visits`: 3 on one instance, 2 on a fresh one")),
    ] {
        let findings = Findings::default();
        let mut guest = aggregate(&settings, &findings).await;
        let initial = guest.initial().await.unwrap();
        let seconds: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.0]));
        let folded = guest.accumulate(1, &initial, &[0, 0], &[seconds]).await.unwrap();
        guest.merge(1, &folded.accumulators, &initial).await.unwrap();
        guest.finish(1, &folded.accumulators).await.unwrap();
        assert!(guest.difference().is_none());
        guest.finish(1, &folded.accumulators).await.unwrap();
        if let Some(difference) = guest.difference() {
            assert_eq!(difference.about(), Some(("group", 0)));
            difference.file(None);
        }
        let expected = expected.map(|what| format!("operator `o`, group 0 of a call of `finish`, {what}"));
        assert_eq!(findings.all(), Vec::from_iter(expected));
    }
}

/// The entries of one collection, and how often it was written to.
#[derive(Default)]
struct Kept {
    entries: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
    written: usize,
}

impl Collections for Kept {
    fn read(&mut self, _: u8, keys: &[u32], entries: &BinaryArray) -> Result<Vec<Option<Vec<u8>>>, String> {
        let wanted = keys.iter().zip(entries.iter().flatten());
        Ok(wanted.map(|(&key, entry)| self.entries.get(&(key, entry.to_vec())).cloned()).collect())
    }

    fn write(
        &mut self,
        _: u8,
        keys: &[u32],
        entries: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(), String> {
        self.written += keys.len();
        for ((&key, entry), value) in keys.iter().zip(entries.iter().flatten()).zip(values) {
            self.entries.insert((key, entry.to_vec()), value.unwrap_or_default().to_vec());
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
        Err("nobody asks for a range here".into())
    }
}

#[tokio::test]
async fn what_a_process_operator_remembers_shows_in_rows_entries_or_timers() {
    for (misbehaviour, about, what) in [
        ("remember", Some(("row", 0)), "column `count`: 3 on one instance, 2 on a fresh one"),
        (
            "remember-entries",
            Some(("key", 0)),
            "collections: wrote 1 entries of collection 0 on one instance, others on a fresh one",
        ),
        (
            "remember-timers",
            Some(("key", 0)),
            "timers: `later` at 1 ms of event time on one instance, `later` at 0 ms of event time on a fresh one",
        ),
        ("dawdle", None, ""),
    ] {
        let findings = Findings::default();
        let mut guest = process(misbehaviour, &findings).await;
        let mut kept = Kept::default();
        for count in [None, Some(1)] {
            let keyed = Keyed {
                key_of: &[0],
                keys: 1,
                values: &[integers(&[count])],
                columns: &[],
                watermark_ms: 0,
                processing_time_ms: 0,
            };
            let (given_back, processed) = guest.process(&keyed, kept).await;
            processed.unwrap();
            kept = given_back;
            let difference = guest.difference();
            match (count, about) {
                (Some(_), Some(_)) => {
                    let difference = difference.unwrap_or_else(|| panic!("{misbehaviour} isn't found"));
                    assert_eq!(difference.about(), about, "{misbehaviour}");
                    difference.file(None);
                }
                _ => assert!(difference.is_none(), "{misbehaviour}: {difference:?}"),
            }
        }
        assert!(findings.all().iter().all(|finding| finding.ends_with(what)), "{:?}", findings.all());
        // A second call writes nothing.
        assert_eq!(kept.written, if misbehaviour == "remember-entries" { 2 } else { 0 });
    }
}
