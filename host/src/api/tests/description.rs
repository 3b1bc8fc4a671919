//! `openapi.json` says what there is: all of it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Host;
use crate::api::{OPENAPI, routes};
use crate::service::model::*;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn described() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// The path with something in the places for names.
fn filled(path: &str) -> String {
    path.replace("{pipeline}", "orders").replace("{replay}", "replay-1").replace("{operation}", "1")
}

#[test]
fn each_route_is_described_and_each_description_is_a_route() {
    let (host, document) = (Host::start(), described());
    let mut routed = BTreeSet::new();
    for (path, _) in routes::all() {
        for method in METHODS {
            let operation = &document["paths"][path][method.to_ascii_lowercase()];
            let reply = host.ask(method, &filled(path), "{}");
            assert_eq!(reply.status == 405, operation.is_null(), "{method} {path} answers {reply:?}");
            if reply.status != 405 {
                let status = &operation["responses"][reply.status.to_string()];
                assert!(
                    !status.is_null(),
                    "{method} {path} may answer {}, by its description never",
                    reply.status
                );
            }
        }
        routed.insert(path);
    }
    let described: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(described, routed);
}

#[test]
fn the_description_is_served_as_it_is() {
    let host = Host::start();
    assert_eq!(host.ask("GET", "/openapi.json", "").json(), described());
}

#[test]
fn all_that_is_referred_to_is_there_and_all_schemas_are_used() {
    let document = described();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for section in ["schemas", "responses", "parameters"] {
        for name in document["components"][section].as_object().unwrap().keys() {
            let reference = format!("#/components/{section}/{name}");
            assert!(references.contains(&reference), "{reference} isn't used");
        }
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => _ = references.insert(reference.clone()),
            _ => collect(value, references),
        }),
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

/// Compares a type with its schema: all fields of a sample that has all of them, and that those suffice that are
/// required.
fn check<T: Serialize + DeserializeOwned>(name: &str, sample: &T) {
    let schema = &described()["components"]["schemas"][name];
    let keys = |of: &Value| -> BTreeSet<String> { of.as_object().unwrap().keys().cloned().collect() };
    let sample = serde_json::to_value(sample).unwrap();
    assert_eq!(keys(&sample), keys(&schema["properties"]), "the fields of {name}");
    let required: BTreeSet<String> =
        schema["required"].as_array().unwrap().iter().map(|r| r.as_str().unwrap().to_owned()).collect();
    let mut least = sample.clone();
    least.as_object_mut().unwrap().retain(|key, _| required.contains(key));
    let read: Result<T, _> = serde_json::from_value(least.clone());
    assert!(read.is_ok(), "{name} without what isn't required: {:?}", read.err());
    for key in required {
        let mut less = least.clone();
        less.as_object_mut().unwrap().remove(&key);
        let read: Result<T, _> = serde_json::from_value(less);
        assert!(read.is_err() || LENIENT.contains(&(name, &key)), "{name}: `{key}` isn't required");
    }
    let strict = schema["additionalProperties"] == json!(false);
    let mut more = sample;
    more.as_object_mut().unwrap().insert("unknown".to_owned(), json!(1));
    assert_eq!(serde_json::from_value::<T>(more).is_err(), strict, "whether {name} refuses unknown fields");
}

/// What answers always have, though it is read without.
const LENIENT: [(&str, &str); 1] = [("HistoryEntry", "by")];

/// The words of an enum, against its schema.
fn check_words<T: Serialize>(name: &str, all: &[T]) {
    let said: Vec<Value> = all.iter().map(|word| serde_json::to_value(word).unwrap()).collect();
    assert_eq!(described()["components"]["schemas"][name]["enum"], Value::Array(said), "the words of {name}");
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn one<T>(key: &str, value: T) -> BTreeMap<String, T> {
    BTreeMap::from([(text(key), value)])
}

#[test]
fn what_is_asked_is_described_field_by_field() {
    let specification = Specification {
        file: text("orders.toml"),
        text: text("name = \"orders\""),
        base: "/srv".into(),
        components: one("count", "0".repeat(64)),
        parallelism: Some(2),
    };
    check("Specification", &specification);
    let probation = ProbationSettings::default();
    check("ProbationSettings", &probation);
    let apply = Apply {
        specification,
        plan: Some(text("1")),
        drop_state: vec![text("count")],
        probation,
        by: text("ada"),
    };
    check("Apply", &apply);
    check("Swap", &Swap { components: one("count", "0".repeat(64)), probation, by: text("ada") });
    check("Stop", &Stop { drain: true, savepoint: Some(text("noon")), by: text("ada") });
    check("Savepoint", &Savepoint { name: Some(text("noon")), by: text("ada") });
    check("Asked", &Asked { by: text("ada") });
    check("Promote", &Promote { replay: text("replay-3"), by: text("ada") });
    check("ReplayOrder", &order());
}

fn order() -> ReplayOrder {
    ReplayOrder {
        from: text("beginning"),
        to: Some(text("checkpoint:3")),
        components: one("count", "0".repeat(64)),
        rows_per_second_max: Some(1000),
        verify: true,
        by: text("ada"),
    }
}

#[test]
fn what_is_answered_is_described_field_by_field() {
    let summary = Summary {
        name: text("orders"),
        state: State::Running,
        desired: Desired::Running,
        generation: 1,
        since_ms: 1,
        rows_read: 1,
    };
    check("Summary", &summary);
    let operation = Operation {
        id: 1,
        pipeline: text("orders"),
        kind: text("swap"),
        state: OperationState::Running,
        message: text("waits"),
        begun_ms: 1,
        ended_ms: Some(2),
    };
    check("Operation", &operation);
    let operator = OperatorStatus {
        component: "0".repeat(64),
        name: text("count"),
        version: text("0.1.0"),
        counts: one("rows", 1),
    };
    check("OperatorStatus", &operator);
    check(
        "Status",
        &Status {
            summary,
            message: Some(text("m")),
            checkpoint: Some(1),
            sources: one("events", one("rows", 1)),
            operators: one("count", operator),
            sinks: one("out", one("rows", 1)),
            operation: Some(operation),
        },
    );
    let upload = Upload { at_ms: 1, by: text("ada"), file: text("count.wasm") };
    check("Upload", &upload);
    check(
        "ComponentInfo",
        &ComponentInfo {
            digest: "0".repeat(64),
            bytes: 1,
            world: text("aggregate-operator"),
            name: text("count"),
            version: text("0.1.0"),
            imports: vec![text("i")],
            uploads: vec![upload],
        },
    );
    check(
        "ReplaySummary",
        &ReplaySummary {
            id: text("replay-3"),
            order: order(),
            at_ms: 1,
            state: text("done"),
            message: Some(text("m")),
        },
    );
    check(
        "HistoryEntry",
        &HistoryEntry {
            at_ms: 1,
            by: text("ada"),
            event: text("swapped"),
            generation: 1,
            message: text("m"),
        },
    );
    check(
        "LogLine",
        &LogLine {
            number: 1,
            at_ms: 1,
            level: text("info"),
            operator: Some(text("count")),
            message: text("m"),
        },
    );
    check(
        "SavepointInfo",
        &SavepointInfo { name: text("noon"), checkpoint: 1, created_ms: 1, state_bytes: 1 },
    );
    let change = OperatorChange {
        id: text("count"),
        change: text("changed"),
        component: Some((text("a"), text("b"))),
        version: Some((text("a"), text("b"))),
        state: StateChange::Evolved { fields: vec![text("new field n: integer")] },
        differences: vec![text("d")],
    };
    check("OperatorChange", &change);
    check(
        "Plan",
        &Plan {
            hash: text("1"),
            pipeline: text("orders"),
            how: How::InPlace,
            restart_because: vec![text("r")],
            changes: vec![text("c")],
            operators: vec![change],
            drops: vec![text("count")],
            refusals: vec![text("r")],
        },
    );
}

#[test]
fn the_words_of_enums_are_described() {
    check_words("Desired", &[Desired::Running, Desired::Paused, Desired::Stopped]);
    check_words(
        "State",
        &[
            State::Starting,
            State::Running,
            State::Probation,
            State::Restarting,
            State::Stopping,
            State::Paused,
            State::Stopped,
            State::Finished,
            State::Failed,
        ],
    );
    check_words("OperationState", &[OperationState::Running, OperationState::Done, OperationState::Failed]);
    check_words("How", &[How::Nothing, How::Create, How::InPlace, How::Restart]);
    let fields = vec![text("f")];
    let changes = [
        StateChange::None,
        StateChange::New,
        StateChange::Kept,
        StateChange::Evolved { fields: fields.clone() },
        StateChange::Migrated { fields },
        StateChange::Dropped,
    ];
    let said: Vec<Value> =
        changes.iter().map(|c| serde_json::to_value(c).unwrap()["state"].clone()).collect();
    let schema = &described()["components"]["schemas"]["StateChange"]["properties"];
    assert_eq!(schema["state"]["enum"], Value::Array(said));
    assert!(schema["fields"].is_object());
}
