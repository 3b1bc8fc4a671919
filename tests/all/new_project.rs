//! `tidemill new` makes a project that is tested, built, inspected and run as it stands.

use std::path::Path;
use std::process::Command;

use tidemill_tests::{Ended, Folder, command, component, sorted, target, tidemill_in, workspace_file};

/// Makes a project in which everything works, and runs it.
fn ran(name: &str, kind: &str) -> (Folder, Ended) {
    let folder = Folder::new();
    let parent = folder.path("");
    let made = tidemill_in(&parent, ["new", name, "--kind", kind]).well();
    let expected = format!(
        "made {name}; now: cd {name} && cargo test && tidemill build && tidemill test tests && tidemill run pipeline.toml\n"
    );
    assert_eq!(made.stdout, expected);
    let project = folder.path(name);
    // The versions and the target folder of the workspace: needs no network, and little is compiled twice.
    folder.write(&format!("{name}/Cargo.lock"), workspace_file("Cargo.lock"));
    std::os::unix::fs::symlink(target(), project.join("target")).unwrap();

    succeeds(cargo(&project).args(["test", "--quiet"]));
    succeeds(command(&project).args(["build", "--quiet"]).env_remove("CARGO_TARGET_DIR"));
    let tested = tidemill_in(&project, ["test", "tests", "--restore-everywhere"]).well();
    assert!(tested.stdout.ends_with("1 script: 1 passed\n"), "{}", tested.stdout);
    let ran = tidemill_in(&project, ["run", "pipeline.toml", "--quiet"]).well();
    (folder, ran)
}

fn cargo(project: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(project).env_remove("CARGO_TARGET_DIR");
    cargo
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().expect("it can be started");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&said));
}

#[test]
fn a_transform_is_made_tested_built_inspected_and_run() {
    let (folder, ran) = ran("order-worth", "transform");
    let rows: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        rows,
        [
            r#"{"item":"flour","quantity":3,"price":1.5,"worth":4.5}"#,
            r#"{"item":"rye","quantity":10,"price":1.25,"worth":12.5}"#,
            r#"{"item":"rye","quantity":2,"price":1.25,"worth":2.5}"#,
        ]
    );
    let rejected = folder.json_lines("order-worth/order-worth.dead-letters.jsonl");
    assert_eq!(rejected.len(), 1);
    assert_eq!((&rejected[0]["reason"], &rejected[0]["record"]), (&"flour has no price".into(), &4.into()));
    let built = "target/operators/order_worth.wasm";
    let inspected = tidemill_in(&folder.path("order-worth"), ["inspect", built]).well();
    assert!(inspected.stdout.starts_with("operator order-worth 0.1.0\nworld    transform-operator\n"));
    let inspected = tidemill_in(&folder.path("order-worth"), ["inspect", "--json", built]).well();
    assert_eq!(inspected.json()["world"], "transform-operator");
    operators_that_disagree_are_refused(&folder);
}

/// Its `price` has a fraction, that of the auctions hasn't: no other two operators read a field differently.
fn operators_that_disagree_are_refused(folder: &Folder) {
    folder.write("orders.csv", "item,quantity,price,event_type\n");
    let ended = folder.run(&format!(
        r#"
        name = "p"
        [sources.orders]
        type = "files"
        path = "orders.csv"
        [operators.euros]
        component = {:?}
        input = "orders"
        [operators.worth]
        component = "order-worth/target/operators/order_worth.wasm"
        input = "orders"
        [sinks.one]
        type = "stdout"
        input = "euros"
        [sinks.other]
        type = "files"
        path = "other.csv"
        input = "worth"
        "#,
        component("nexmark-currency")
    ));
    let expected = "`worth` reads the field `price` of source `orders` as float, but operator `euros` reads it as \
        integer; make them agree\n";
    let ended = ended.with(2);
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    assert!(!folder.has("other.csv"));
}

#[test]
fn an_aggregate_is_made_tested_built_inspected_and_run() {
    let (folder, ran) = ran("add-up", "aggregate");
    let row = |item: &str, hour: u32, orders: u32, quantity: u32, large: bool| {
        format!(
            r#"{{"item":"{item}","window_start":"2026-01-05T{hour:02}:00:00Z","window_end":"2026-01-05T{:02}:00:00Z","orders":{orders},"quantity":{quantity},"large":{large}}}"#,
            hour + 1
        )
    };
    let rows = sorted(ran.stdout.lines());
    assert_eq!(rows, [row("flour", 8, 2, 11, true), row("rye", 8, 1, 10, true), row("rye", 9, 1, 2, false)]);
    let built = "target/operators/add_up.wasm";
    let inspected = tidemill_in(&folder.path("add-up"), ["inspect", built]).well();
    assert!(
        inspected.stdout.contains("\nstate    orders: integer, quantity: integer\n"),
        "{}",
        inspected.stdout
    );
    let inspected = tidemill_in(&folder.path("add-up"), ["inspect", "--json", built]).well();
    assert_eq!(inspected.json()["world"], "aggregate-operator");
}

#[test]
fn a_window_operator_is_made_tested_built_inspected_and_run() {
    let (folder, ran) = ran("median-quantity", "window");
    let expected = r#"{"item":"flour","window_start":"2026-01-05T08:00:00Z","window_end":"2026-01-05T09:00:00Z","orders":2,"median_quantity":3}"#;
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), [expected]);
    let built = "target/operators/median_quantity.wasm";
    let inspected = tidemill_in(&folder.path("median-quantity"), ["inspect", built]).well();
    let about = "world    window-operator\nreads    quantity: integer\n";
    assert!(inspected.stdout.contains(about), "{}", inspected.stdout);
}

#[test]
fn a_join_is_made_tested_built_inspected_and_run() {
    let (folder, ran) = ran("orders-deliveries", "join");
    let row = |item: &str, quantity: u32, carrier: &str| {
        format!(r#"{{"item":"{item}","quantity":{quantity},"carrier":{carrier}}}"#)
    };
    let expected = [
        row("flour", 3, "\"north\""),
        row("flour", 8, "null"),
        row("rye", 10, "\"south\""),
        row("rye", 2, "null"),
    ];
    assert_eq!(sorted(ran.stdout.lines()), sorted(expected.iter().map(String::as_str)));
    let built = "target/operators/orders_deliveries.wasm";
    let inspected = tidemill_in(&folder.path("orders-deliveries"), ["inspect", built]).well();
    let about = "left     item: text, quantity: integer\nright    carrier: text; may be absent\n";
    assert!(inspected.stdout.contains(about), "{}", inspected.stdout);
}

#[test]
fn a_bad_name_and_a_folder_that_exists_are_refused() {
    let folder = Folder::with(&[("taken/precious.txt", "mine")]);
    let refused = |name: &str| tidemill_in(&folder.path(""), ["new", "--", name]).with(2).stderr;
    for name in ["My-op", "my_op", "2op", "fn", "../op", ""] {
        let expected = format!("tidemill: `{name}` cannot be an operator's name; write 1 to 63 of ");
        assert!(refused(name).starts_with(&expected), "{}", refused(name));
    }
    assert_eq!(refused("taken"), "tidemill: taken exists already; choose another name, or remove it\n");
    let left: Vec<_> = std::fs::read_dir(folder.path("")).unwrap().flatten().map(|f| f.file_name()).collect();
    assert_eq!(left, ["taken"]);
    assert_eq!(folder.read("taken/precious.txt"), "mine");
}
