//! `tidemill inspect` says what a component is before anybody runs it.

use serde_json::json;
use tidemill_tests::{Ended, component, tidemill};

fn inspect(package: &str, arguments: &[&str]) -> Ended {
    let component = component(package);
    tidemill([&["inspect", component.to_str().expect("UTF-8")], arguments].concat()).well()
}

#[test]
fn an_aggregate_is_shown_with_its_state() {
    let mut shown = inspect("mean-delay", &["--json"]).json();
    let size = std::fs::metadata(component("mean-delay")).unwrap().len();
    assert_eq!(shown["size_bytes"], size);
    let digest = shown["sha256"].take();
    assert!(
        digest.as_str().is_some_and(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit())),
        "{digest}"
    );
    shown["size_bytes"].take();
    let field = |name: &str, field_type: &str| json!({"name": name, "type": field_type, "nullable": false});
    assert_eq!(
        shown,
        json!({
            "name": "mean-delay",
            "version": "0.1.0",
            "world": "aggregate-operator",
            "inputs": [[field("delay_minutes", "integer")]],
            "output": {
                "rows": "rows of these fields",
                "fields": [field("departures", "integer"), field("mean_delay_minutes", "float")],
            },
            "state": [field("departures", "integer"), field("minutes", "integer")],
            "migrations": [],
            "collections": [],
            "absent": {"left": false, "right": false},
            "imports": ["tidemill:operator/telemetry@0.1.0", "tidemill:operator/types@0.1.0"],
            "size_bytes": null,
            "sha256": null,
        })
    );
}

#[test]
fn a_transform_is_shown_in_words() {
    let shown = inspect("flights-clean", &[]).stdout;
    let about = inspect("flights-clean", &["--json"]).json();
    let (size, digest) = (&about["size_bytes"], about["sha256"].as_str().unwrap());
    assert_eq!(
        shown,
        format!(
            "operator flights-clean 0.1.0\n\
             world    transform-operator\n\
             reads    origin: text, carrier: text, dep_delay: integer?\n\
             gives    the rows with these fields added or replaced: delay_minutes: integer\n\
             state    none\n\
             imports  tidemill:operator/telemetry@0.1.0, tidemill:operator/types@0.1.0\n\
             size     {size} bytes\n\
             digest   sha256:{digest}\n"
        )
    );
}

#[test]
fn a_process_operator_is_shown_with_its_collections() {
    let shown = inspect("latest-by-item", &[]).stdout;
    assert!(shown.contains("\nstate    items: integer?\nentries  prices: text to float\n"), "{shown}");
    let about = inspect("latest-by-item", &["--json"]).json();
    assert_eq!(about["collections"], json!([{"name": "prices", "entry": "text", "value": "float"}]));
}

#[test]
fn the_states_that_an_operator_migrates_are_shown() {
    let shown = inspect("visits-v2", &[]).stdout;
    let states = "\nstate    visits: integer, time: integer\nmigrates visits: integer, time: float\n";
    assert!(shown.contains(states), "{shown}");
    let about = inspect("visits-v2", &["--json"]).json();
    let field = |name: &str, field_type: &str| json!({"name": name, "type": field_type, "nullable": false});
    assert_eq!(about["migrations"], json!([[field("visits", "integer"), field("time", "float")]]));
}

#[test]
fn a_join_is_shown_with_its_sides() {
    let shown = inspect("join-orders-payments", &[]).stdout;
    let sides = "\nleft     customer: text, amount: float\nright    method: text; may be absent\n";
    assert!(shown.contains(sides), "{shown}");
    let about = inspect("join-orders-payments", &["--json"]).json();
    assert_eq!(about["inputs"][1], json!([{"name": "method", "type": "text", "nullable": false}]));
    assert_eq!(about["absent"], json!({"left": false, "right": true}));
}

#[test]
fn a_filter_gives_the_rows_themselves() {
    let shown = inspect("nexmark-bids", &[]).stdout;
    assert!(shown.contains("\ngives    some of the rows as they are\n"), "{shown}");
}

#[test]
fn what_is_no_operator_is_refused() {
    let folder = tidemill_tests::Folder::with(&[("op.wasm", "no")]);
    let path = folder.path("op.wasm");
    let ended = tidemill(["inspect".as_ref(), path.as_os_str()]).with(2);
    let expected =
        format!("tidemill: {} can't be used as an operator: it isn't a WebAssembly file\n", path.display());
    assert_eq!((ended.stderr, ended.stdout), (expected, String::new()));
}
