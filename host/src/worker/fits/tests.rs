use tidemill_checkpoint::{Counters, FORMAT, FORMAT_IN_FLIGHT, InFlight, Kind, State as StateFiles};
use tidemill_flow::storage::{Addresses, InMemory, Storage, Write, Writes};

use super::super::restored::KEY_HASH;
use super::*;
use crate::pipeline::small::plan;
use crate::plugin::small::{description, fields};
use crate::plugin::{Description, Output, World};

fn counting(state: &str) -> (World, Description) {
    let output = Output::Replaced(fields("total: integer"));
    (World::Aggregate, description("1", fields("n: integer?"), output, fields(state)))
}

/// A pipeline with these aggregates, each of which keeps such fields by `k`.
fn pipeline(operators: &[(&str, &str)]) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "k,n\n").unwrap();
    let mut text = String::from(
        "name = \"p\"\n[checkpoints]\n[sources.s]\ntype = \"files\"\npath = \"a.csv\"\n\
         [sources.s.fields]\nk = \"integer\"\nn = \"integer\"\n",
    );
    for (id, _) in operators {
        text += &format!(
            "[operators.{id}]\ncomponent = \"{id}.wasm\"\ninput = \"s\"\nkey = \"k\"\n\
             [sinks.{id}-out]\ntype = \"stdout\"\ninput = \"{id}\"\n"
        );
    }
    let components: Vec<_> = operators.iter().map(|(_, state)| counting(state)).collect();
    plan(folder.path(), &text, &components).1
}

/// A checkpoint of these states: their number, operator and schemas.
fn checkpoint(states: &[(u16, &str, &[&str])]) -> Manifest {
    let operator = |&(number, id, schemas): &(u16, &str, &[&str])| {
        let plan = pipeline(&[(id, "total: integer")]);
        let fields_of = |schema: &&str| fields(schema).fields().iter().map(manifest_field).collect();
        let state = (0..).zip(schemas.iter().map(fields_of));
        let state = state.map(|(version, fields)| StateSchema { version, fields }).collect();
        filed(&plan.operators[0], number, 1, state)
    };
    Manifest {
        format: FORMAT,
        pipeline: "p".to_owned(),
        checkpoint: 7,
        run: 1,
        kind: Kind::Last,
        savepoint: None,
        created_ms: 0,
        duration_ms: 0,
        key_hash: KEY_HASH.to_owned(),
        key_groups: 720,
        sources: Vec::new(),
        operators: states.iter().map(operator).collect(),
        state: StateFiles { backend: "memory".to_owned(), files: Vec::new() },
        generation: 0,
        components: std::collections::BTreeMap::new(),
        sinks: Vec::new(),
        counters: Counters::default(),
        warnings: Vec::new(),
    }
}

const TOTAL: &[&str] = &["total: integer"];

fn may_drop(mut plan: Plan, operator: &str) -> Plan {
    plan.drop_state.push(operator.to_owned());
    plan
}

#[test]
fn state_of_an_operator_that_is_gone_is_dropped_only_by_name() {
    let manifest = checkpoint(&[(0, "a", TOTAL), (4, "b", TOTAL)]);
    let without_b = || pipeline(&[("a", TOTAL[0]), ("c", TOTAL[0])]);
    let refusal = fits(&without_b(), &manifest).unwrap_err();
    assert_eq!(
        refusal,
        "it has state of the operator `b`, which the pipeline no longer has; put back what was, or begin anew with another \
         `checkpoints.path`; to go on without the state of `b`: `tidemill apply --drop-state b`"
    );
    assert!(fits(&may_drop(without_b(), "a"), &manifest).is_err(), "another name is no yes");
    let restored = Restored::new(&may_drop(without_b(), "b"), Some(manifest)).unwrap();
    assert_eq!(
        (restored.number("a"), restored.number("c")),
        (0, 5),
        "nobody gets the number of what is dropped"
    );
    let left: Vec<&str> =
        restored.manifest.iter().flat_map(|m| &m.operators).map(|o| o.id.as_str()).collect();
    assert_eq!(left, ["a"]);
}

#[test]
fn an_operator_whose_state_is_dropped_begins_anew_and_nothing_of_it_is_left() {
    let manifest = checkpoint(&[(0, "a", TOTAL), (1, "b", TOTAL)]);
    let changed = || pipeline(&[("a", TOTAL[0]), ("b", "total: text")]);
    let refusal = fits(&changed(), &manifest).unwrap_err();
    for words in [
        "the new component of `b` can't go on from the state of the old one",
        "total: integer  total: text",
        "\nto go on without the state of `b`: `tidemill apply --drop-state b`",
    ] {
        assert!(refusal.contains(words), "{words:?} is not in:\n{refusal}");
    }
    let restored = Restored::new(&may_drop(changed(), "b"), Some(manifest)).unwrap();
    assert_eq!((restored.number("a"), restored.number("b")), (0, 2));
    assert!(restored.versions("b").older.is_empty());
    assert_eq!(restored.watermark("b", &(0..720)), None);
    let storage = InMemory::default();
    let of = |operator: u16| {
        let addresses = Addresses { operator };
        [
            addresses.row(i64::MIN, 0, b""),
            addresses.row(i64::MAX, 719, &[255; 9]),
            addresses.in_flight(719, u64::MAX),
        ]
    };
    let put = |address: &Vec<u8>| Write::Put(address.clone(), vec![1]);
    let all = [of(0), of(1), of(2)].concat();
    storage.write(Writes { list: all.iter().map(put).collect() }).unwrap();
    restored.drop_state(&storage).unwrap();
    let left: Vec<Vec<u8>> =
        storage.scan(&[], &[255; 4], 100).unwrap().into_iter().map(|(address, _)| address).collect();
    assert_eq!(left, [of(0), of(2)].concat());
}

#[test]
fn a_yes_to_dropping_drops_nothing_that_can_be_read() {
    let manifest = checkpoint(&[(3, "a", TOTAL)]);
    let plan = may_drop(pipeline(&[("a", "total: float")]), "a");
    assert_eq!(Restored::new(&plan, Some(manifest)).unwrap().number("a"), 3);
}

#[test]
fn rows_in_flight_are_not_dropped_with_the_state() {
    let mut manifest = checkpoint(&[(0, "a", TOTAL)]);
    manifest.format = FORMAT_IN_FLIGHT;
    manifest.operators[0].in_flight = Some(InFlight { rows: 9, fields: Vec::new() });
    let plan = may_drop(pipeline(&[("b", TOTAL[0])]), "a");
    let refusal = fits(&plan, &manifest).unwrap_err();
    assert!(refusal.starts_with("9 rows are in flight to `a`"), "{refusal}");
    manifest.operators[0].in_flight = Some(InFlight { rows: 0, fields: Vec::new() });
    assert_eq!(fits(&plan, &manifest), Ok(()));
}

#[test]
fn what_becomes_of_state_is_told_by_field() {
    let told = |now: &str, before: &[&str]| {
        let manifest = checkpoint(&[(0, "a", before)]);
        carried(&pipeline(&[("a", now)]).operators[0], &manifest.operators[0])
    };
    assert_eq!(told(TOTAL[0], TOTAL), Ok(Carried::AsItIs));
    let by_field = |words: &[&str]| Ok(Carried::ByField(words.iter().map(|w| (*w).to_owned()).collect()));
    assert_eq!(
        told("total: float, n: text", &["total: integer, gone: text"]),
        by_field(&[
            "no field gone: text any more",
            "field total: integer becomes float",
            "new field n: text"
        ])
    );
    assert_eq!(told("b: text, a: text", &["a: text, b: text"]), by_field(&["the fields in the order b, a"]));
    // What counts is what was written last.
    assert_eq!(told("a: float", &["a: integer", "a: float"]), Ok(Carried::AsItIs));
}

#[test]
fn a_version_that_comes_back_must_read_what_the_next_one_wrote() {
    let manifest = checkpoint(&[(0, "a", &["a: integer", "a: float"])]);
    let refusal = fits(&pipeline(&[("a", "a: integer")]), &manifest).unwrap_err();
    assert!(refusal.contains("no integer can be made of float"), "{refusal}");
    let manifest = checkpoint(&[(0, "a", &["a: integer", "a: integer, b: integer"])]);
    assert_eq!(fits(&pipeline(&[("a", "a: integer")]), &manifest), Ok(()));
}
