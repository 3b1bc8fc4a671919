//! A pipeline that can't be right is refused before the first row, with a message that says what to do, and with
//! everything that an earlier run wrote left as it is.

use tidemill_tests::{Folder, workspace_file};

const FLIGHTS: &str = "carrier,origin,dep_delay,time\nUA,EWR,3,2013-01-01T10:00:00Z\n";

const SOURCE: &str = "[sources.flights]\ntype = \"files\"\npath = \"flights.csv\"";
/// The source, with fields beside those that operators ask for.
const DECLARED: &str = "[sources.flights]\ntype = \"files\"\npath = \"flights.csv\"\nfields = { carrier = \"text\", \
    origin = \"text\", dep_delay = \"integer\", time = \"timestamp\" }";

/// Checks that an operator `last` with these keys is refused with these words.
#[track_caller]
fn check(source: &str, operators: &str, expected: &[&str]) {
    let sink = "[sinks.out]\ntype = \"files\"\ninput = \"last\"\npath = \"out.csv\"";
    check_pipeline(&Folder::new(), &format!("{source}\n{operators}\n{sink}"), expected);
}

/// Checks a whole pipeline, without its name, in a folder that has `flights.csv` and results of an earlier run.
#[track_caller]
fn check_pipeline(folder: &Folder, pipeline: &str, expected: &[&str]) {
    folder.write("flights.csv", FLIGHTS);
    let before = ["out.csv", "p.dead-letters.jsonl", "p.late.jsonl"];
    before.iter().for_each(|file| folder.write(file, "from an earlier run\n"));
    let ended = folder.run(&format!("name = \"p\"\n{pipeline}")).with(2);
    for words in expected {
        assert!(ended.stderr.contains(words), "{words:?} is not in:\n{}", ended.stderr);
    }
    assert_eq!(ended.stdout, "");
    for file in before {
        assert_eq!(folder.read(file), "from an earlier run\n", "{file}");
    }
}

#[test]
fn a_typing_mistake_in_the_file() {
    check(
        SOURCE,
        "[operators.last]\ncomponent = \"x.wasm\"\ninput = \"flights\"\nwindwo = { type = \"global\" }",
        &[
            "pipeline.toml:8:1: unknown key `windwo` in [operators.last]; did you mean `window`?\n",
            "    8 | windwo = { type = \"global\" }\n      | ^^^^^^\n",
        ],
    );
}

#[test]
fn a_field_of_another_type_between_operators() {
    check(
        "[sources.flights]\ntype = \"files\"\npath = \"flights.csv\"\nfields = { auction = \"text\" }",
        "[operators.count]\ncomponent = \"@count\"\ninput = \"flights\"\nkey = \"auction\"\n\
         [operators.last]\ncomponent = \"@nexmark-hot-auctions\"\ninput = \"count\"",
        &[
            "pipeline.toml:11:13: `count` → `last`: the field `auction` is text, but `last` reads it as integer; change \
             the field's type in the operator, or what comes before it\n",
        ],
    );
}

#[test]
fn a_missing_field() {
    check(
        "[sources.flights]\ntype = \"files\"\npath = \"flights.csv\"\n\
         fields = { carrier = \"text\", origin = \"text\", dep_dellay = \"integer\" }",
        "[operators.last]\ncomponent = \"@flights-clean\"\ninput = \"flights\"",
        &[
            "pipeline.toml:7:13: `last` needs a field `dep_delay`, which its input doesn't have; did you mean \
             `dep_dellay`?\n",
        ],
    );
}

#[test]
fn a_field_that_may_lack_a_value_between_operators() {
    // The text `line` may be absent at the source; as a key it stays so, and is nobody's fault but the pipeline's.
    check(
        "[sources.flights]\ntype = \"files\"\npath = \"flights.csv\"\nfields = { line = \"text\" }",
        "[operators.count]\ncomponent = \"@count\"\ninput = \"flights\"\nkey = \"line\"\n\
         [operators.last]\ncomponent = \"@split-words\"\ninput = \"count\"",
        &[
            "pipeline.toml:11:13: `count` → `last`: the field `line` may lack a value, but `last` reads it as always \
             there; make it nullable in the operator (in Rust an `Option`), or never absent before it\n",
        ],
    );
}

#[test]
fn operators_that_disagree_about_a_field_of_a_source() {
    let source =
        "[sources.flights]\ntype = \"files\"\npath = \"flights.csv\"\nevent_time = { field = \"price\" }";
    check(
        source,
        "[operators.last]\ncomponent = \"@nexmark-currency\"\ninput = \"flights\"",
        &[
            "pipeline.toml:7:13: `last` reads the field `price` of source `flights` as integer, but the source's \
             event_time reads it as timestamp; make them agree\n",
        ],
    );
}

#[test]
fn windows_without_event_time() {
    check(
        DECLARED,
        "[operators.last]\ncomponent = \"@count\"\ninput = \"flights\"\nkey = \"origin\"\n\
         window = { type = \"tumbling\", size = \"1h\" }",
        &[
            "pipeline.toml:10:1: windows of event time, but the rows of `flights` have none; give the source an \
             `event_time`, or the window `time = \"processing\"`\n",
        ],
    );
}

#[test]
fn a_key_for_a_transform() {
    check(
        SOURCE,
        "[operators.last]\ncomponent = \"@flights-clean\"\ninput = \"flights\"\nkey = \"origin\"",
        &["pipeline.toml:8:7: `last` is a transform-operator, which takes each row by itself; only an \
             aggregate-operator, a window-operator, a process-operator or a join-operator has a `key`\n"],
    );
}

#[test]
fn a_key_that_cannot_be_compared() {
    check(
        "[sources.flights]\ntype = \"files\"\npath = \"flights.csv\"\nfields = { dep_delay = \"float\" }",
        "[operators.last]\ncomponent = \"@count\"\ninput = \"flights\"\nkey = \"dep_delay\"",
        &[
            "pipeline.toml:9:7: the key field `dep_delay` is a float, which can't be compared for equality; use integer \
             or text\n",
        ],
    );
}

#[test]
fn one_group_shared_by_several_tasks() {
    check(
        DECLARED,
        "[operators.last]\ncomponent = \"@count\"\ninput = \"flights\"\nparallelism = 2",
        &[
            "pipeline.toml:6:12: `last` has no `key`, so all rows are one group and 2 tasks can't share it; remove \
             `parallelism` or add a `key`\n",
        ],
    );
}

#[test]
fn an_unknown_setting() {
    check(
        &format!("{SOURCE}\nformat = \"text\""),
        "[operators.last]\ncomponent = \"@hostile\"\ninput = \"flights\"\nsettings = { do = \"panic\", od = 1 }",
        &["operator `last` (component ", "): unknown setting `od`; this operator knows `do`\n"],
    );
}

#[test]
fn a_missing_component() {
    check(
        SOURCE,
        "[operators.last]\ncomponent = \"no/such.wasm\"\ninput = \"flights\"",
        &["pipeline.toml:6:13: cannot read the component no/such.wasm: No such file or directory"],
    );
}

#[test]
fn a_source_without_files() {
    check(
        "[sources.flights]\ntype = \"files\"\npath = \"flihgts-*.csv\"",
        "[operators.last]\ncomponent = \"@flights-clean\"\ninput = \"flights\"",
        &["pipeline.toml:4:8: no file matches `flihgts-*.csv` (looked for "],
    );
}

#[test]
fn a_column_that_the_file_lacks() {
    check(
        SOURCE,
        "[operators.last]\ncomponent = \"@split-words\"\ninput = \"flights\"",
        &["flights.csv: there is no column \"line\", but carrier, origin, dep_delay, time\n"],
    );
}

#[test]
fn an_output_that_cannot_be_written() {
    let folder = Folder::with(&[("taken", "a file, not a folder")]);
    let sink = |id: &str, path: &str| {
        format!("[sinks.{id}]\ntype = \"files\"\ninput = \"flights\"\npath = \"{path}\"\n")
    };
    let pipeline = format!("{DECLARED}\n{}{}", sink("one", "out.csv"), sink("two", "taken/two.csv"));
    check_pipeline(&folder, &pipeline, &["cannot write taken/two.csv: "]);
}

#[test]
fn an_output_that_is_also_read() {
    let folder = Folder::new();
    let pipeline = format!(
        "{}\n[sinks.one]\ntype = \"files\"\ninput = \"flights\"\npath = \"flights.csv\"\n",
        DECLARED.replace("flights.csv", "fl*.csv")
    );
    check_pipeline(&folder, &pipeline, &["writes flights.csv, which source `flights` reads"]);
    assert_eq!(folder.read("flights.csv"), FLIGHTS);
}

/// Checks that a file is refused as a component.
#[track_caller]
fn check_component(component: impl AsRef<[u8]>, expected: &[&str]) {
    let folder = Folder::new();
    folder.write("operator.wasm", component);
    let operator = "[operators.last]\ncomponent = \"operator.wasm\"\ninput = \"flights\"";
    let sink = "[sinks.out]\ntype = \"files\"\ninput = \"last\"\npath = \"out.csv\"";
    let place = "pipeline.toml:6:13: operator.wasm can't be used as an operator: ";
    check_pipeline(&folder, &format!("{SOURCE}\n{operator}\n{sink}"), &[&[place], expected].concat());
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text of a component")
}

#[test]
fn what_is_not_webassembly() {
    check_component("#!/bin/sh\n", &["operator: it isn't a WebAssembly file\n"]);
    check_component("", &["operator: it isn't a WebAssembly file\n"]);
}

#[test]
fn a_core_module() {
    check_component(
        wasm("(module)"),
        &["it is a core module, not a component; `tidemill build` makes the component"],
    );
}

#[test]
fn half_a_component() {
    let whole = wasm(&workspace_file("tests/fixtures/components/window-operator.wat"));
    check_component(&whole[..whole.len() / 2], &["it isn't a valid component: "]);
}

#[test]
fn a_component_that_exports_nothing() {
    check_component(
        wasm("(component)"),
        &["it exports nothing, but an operator exports `tidemill:operator/lifecycle@0.1.0` and one of \
           `tidemill:operator/transform@0.1.0`, "],
    );
}

#[test]
fn another_version_of_the_contract() {
    check_component(
        wasm(r#"(component (instance $i) (export "tidemill:operator/transform@0.2.0" (instance $i)))"#),
        &[
            "it exports `tidemill:operator/transform@0.2.0`, which isn't an operator of tidemill:operator@0.1.0, the \
           contract of this host; rebuild it with the SDK of the host's version\n",
        ],
    );
}

#[test]
fn the_right_name_with_other_functions() {
    check_component(
        wasm(r#"(component (instance $i) (export "tidemill:operator/transform@0.1.0" (instance $i)))"#),
        &[
            "it exports `tidemill:operator/transform@0.1.0`, but not with the contract's functions and types (",
        ],
    );
}

#[test]
fn a_needless_import() {
    check_component(
        wasm(
            r#"(component
                (import "wasi:cli/environment@0.2.0" (instance))
                (instance $i)
                (export "tidemill:operator/transform@0.1.0" (instance $i)))"#,
        ),
        &[
            "it imports `wasi:cli/environment@0.2.0`, but a transform-operator is given nothing except ",
            "; it was built with WASI, of which operators have no need: build it for `wasm32-unknown-unknown`",
        ],
    );
}

#[test]
fn a_component_that_fails_to_describe_itself() {
    check_component(
        wasm(&workspace_file("tests/fixtures/components/window-operator.wat")),
        &["it failed to describe itself: trapped: wasm trap: wasm `unreachable` instruction executed"],
    );
}
