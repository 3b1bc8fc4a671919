use std::collections::BTreeMap;
use std::path::PathBuf;

use tidemill_checkpoint::{FORMAT, Kind, State as StateFiles};

use super::super::model::{OperatorChange, StateChange};
use super::*;
use crate::pipeline::small::plan;
use crate::plugin::small::{description, fields};
use crate::plugin::{Description, Output, World};

const PIPELINE: &str = r#"
name = "p"
[checkpoints]
[sources.s]
type = "files"
path = "a.csv"
[sources.s.fields]
k = "integer"
n = "integer"
currency = "text"
[operators.clean]
component = "clean.wasm"
input = "s"
[operators.totals]
component = "totals.wasm"
input = "clean"
key = "k"
[sinks.out]
type = "files"
input = "totals"
path = "out-*.jsonl"
"#;

/// A pipeline as it is or shall be.
struct Pipeline {
    specification: Specification,
    declaration: Declaration,
    plan: Plan,
}

impl Pipeline {
    /// Of this text, with these operators in its order.
    fn new(text: &str, operators: &[(World, Description)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "k,n,currency\n").unwrap();
        let (declaration, mut plan) = plan(folder.path(), text, operators);
        // The same for all, though the folder of each is its own: the files that it names are left alone.
        let base = PathBuf::from("/p");
        let moved = |path: &std::path::Path| base.join(path.strip_prefix(&plan.base).unwrap_or(path));
        let (dead_letters, late) = (moved(&plan.dead_letters), moved(&plan.late));
        for source in &mut plan.sources {
            if let crate::pipeline::plan::SourceInput::Files { paths, .. } = &mut source.input {
                *paths = vec![base.join("a.csv")];
            }
        }
        for sink in &mut plan.sinks {
            sink.output = crate::pipeline::plan::SinkOutput::Stdout;
        }
        if let Some(checkpoints) = &mut plan.checkpoints {
            checkpoints.work = base.join("work");
            let place = declaration.checkpoints.as_ref().unwrap().path.value.clone();
            checkpoints.path = place.within(&base);
        }
        plan.state.path = None;
        (plan.base, plan.dead_letters, plan.late) = (base.clone(), dead_letters, late);
        let digests = plan.operators.iter().map(|o| (o.id.clone(), o.plugin.digest().to_owned()));
        let components: BTreeMap<String, String> = digests.collect();
        let (file, text) = ("p.toml".to_owned(), text.to_owned());
        let specification = Specification { file, text, base, components, parallelism: Some(2) };
        Self { specification, declaration, plan }
    }

    fn may_drop(mut self, operator: &str) -> Self {
        self.plan.drop_state.push(operator.to_owned());
        self
    }

    fn wanted(&self) -> Wanted<'_> {
        let Self { specification, declaration, plan } = self;
        Wanted { specification, declaration, plan }
    }

    fn deployed<'a>(&'a self, manifest: Option<&'a Manifest>) -> Deployed<'a> {
        let Self { specification, declaration, plan } = self;
        Deployed { specification, declaration, plan, manifest, generation: 3 }
    }

    /// A checkpoint of it in which nothing was read yet.
    fn manifest(&self) -> Manifest {
        let states = self.plan.operators.iter().filter_map(worker::state_of);
        Manifest {
            format: FORMAT,
            pipeline: "p".to_owned(),
            checkpoint: 7,
            run: 1,
            kind: Kind::Checkpoint,
            savepoint: None,
            created_ms: 0,
            duration_ms: 0,
            key_hash: "xxh3-64, seed 0".to_owned(),
            key_groups: 720,
            sources: Vec::new(),
            operators: (0..)
                .zip(states)
                .map(|(number, state)| tidemill_checkpoint::Operator { number, ..state })
                .collect(),
            state: StateFiles { backend: "rocksdb".to_owned(), files: Vec::new() },
            generation: 0,
            components: std::collections::BTreeMap::new(),
            sinks: Vec::new(),
            counters: tidemill_checkpoint::Counters::default(),
            warnings: Vec::new(),
        }
    }
}

fn clean(version: &str) -> (World, Description) {
    (World::Transform, description(version, fields("n: integer?"), Output::Same, fields("")))
}

/// An aggregate that reads these fields and keeps those.
fn totals(version: &str, reads: &str, state: &str) -> (World, Description) {
    let output = Output::Replaced(fields("total: integer"));
    (World::Aggregate, description(version, fields(reads), output, fields(state)))
}

fn first() -> Pipeline {
    Pipeline::new(PIPELINE, &[clean("1"), totals("1", "n: integer?", "total: integer")])
}

/// What it would do to make of the first pipeline, which has a checkpoint, this one.
fn changed(after: &Pipeline) -> model::Plan {
    let before = first();
    change(Some(&before.deployed(Some(&before.manifest()))), &after.wanted())
}

/// What it does to an operator.
fn of<'a>(plan: &'a model::Plan, operator: &str) -> &'a OperatorChange {
    plan.operators.iter().find(|o| o.id == operator).unwrap_or_else(|| panic!("no {operator} in {plan:#?}"))
}

#[test]
fn what_is_new_is_created() {
    let plan = change(None, &first().wanted());
    assert_eq!((plan.how, plan.pipeline.as_str()), (How::Create, "p"));
    assert_eq!(plan.changes, ["new source `s`", "new sink `out`"]);
    let states: Vec<_> = plan.operators.iter().map(|o| (o.change.as_str(), &o.state)).collect();
    assert_eq!(states, [("added", &StateChange::None), ("added", &StateChange::New)]);
}

#[test]
fn the_same_again_is_nothing() {
    let plan = changed(&first());
    assert_eq!((plan.how, plan.operators.len()), (How::Nothing, 0), "{plan:#?}");
}

#[test]
fn a_hash_names_what_is_there_and_what_is_wanted() {
    let (before, after) = (first(), first().may_drop("totals"));
    let of = |before: Option<&Deployed<'_>>, after: &Pipeline| change(before, &after.wanted()).hash;
    let there = before.deployed(None);
    let hash = of(Some(&there), &after);
    assert_eq!((hash.len(), &hash), (16, &of(Some(&there), &before)), "a yes to dropping is no other plan");
    let later = Deployed { generation: 4, ..there };
    let mut other = first();
    other.specification.text.push('\n');
    let others = [
        of(Some(&later), &after),
        of(None, &after),
        of(Some(&there), &other),
        of(Some(&other.deployed(None)), &after),
    ];
    for (at, other) in others.iter().enumerate() {
        assert!(*other != hash && !others[..at].contains(other), "{at}");
    }
}

#[test]
fn a_new_version_with_the_same_fields_takes_over_in_place() {
    let after = Pipeline::new(PIPELINE, &[clean("2"), totals("1", "n: integer?", "total: integer")]);
    let plan = changed(&after);
    assert_eq!(
        (plan.how, &plan.restart_because, plan.operators.len()),
        (How::InPlace, &vec![], 1),
        "{plan:#?}"
    );
    let clean = of(&plan, "clean");
    assert_eq!(clean.version, Some(("small 1".to_owned(), "small 2".to_owned())));
    let digests = [&first(), &after].map(|p| p.plan.operators[0].plugin.digest().to_owned());
    assert_eq!(clean.component, Some(digests.into()));
    assert_eq!((&clean.state, &clean.differences), (&StateChange::None, &vec![]));
    assert_eq!(in_place(&first().plan, &after.plan), Ok(vec![0]));
}

#[test]
fn settings_and_limits_change_in_place() {
    let keys = "key = \"k\"\nmemory = \"1GiB\"\nsettings = { unit = \"cents\" }\ncall_timeout = \"1s\"";
    let text = PIPELINE.replace("key = \"k\"", keys);
    let after = Pipeline::new(&text, &[clean("1"), totals("1", "n: integer?", "total: integer")]);
    let plan = changed(&after);
    assert_eq!(plan.how, How::InPlace, "{plan:#?}");
    let totals = of(&plan, "totals");
    assert_eq!((&totals.component, &totals.state), (&None, &StateChange::Kept));
    assert_eq!(
        totals.differences,
        [
            "new setting unit = \"cents\"",
            "memory of 1 GiB instead of 64 MiB",
            "calls of 1000 ms at most instead of 10000 ms"
        ]
    );
}

#[test]
fn state_that_can_be_read_by_field_is_evolved_in_place() {
    let plan = changed(&Pipeline::new(
        PIPELINE,
        &[clean("1"), totals("2", "n: integer?", "total: float, count: integer")],
    ));
    assert_eq!((plan.how, plan.refusals.len()), (How::InPlace, 0), "{plan:#?}");
    let fields = ["field total: integer becomes float", "new field count: integer"].map(str::to_owned);
    assert_eq!(of(&plan, "totals").state, StateChange::Evolved { fields: fields.into() });
}

#[test]
fn a_field_that_nobody_carries_yet_needs_a_restart() {
    let after =
        Pipeline::new(PIPELINE, &[clean("1"), totals("2", "n: integer?, currency: text?", "total: integer")]);
    let plan = changed(&after);
    assert_eq!(plan.how, How::Restart);
    assert_eq!(
        plan.restart_because,
        ["`totals` of the new version reads the field `currency`, which its input doesn't carry now"]
    );
    let totals = of(&plan, "totals");
    assert_eq!(
        (&totals.state, &totals.differences),
        (&StateChange::Kept, &vec!["input: new field currency: text?".to_owned()])
    );
    let back = in_place(&after.plan, &first().plan);
    let expected =
        "`totals` of the new version doesn't read the field `currency`, which its input carries now";
    assert_eq!(back, Err(vec![expected.to_owned()]));
}

#[test]
fn what_stands_around_operators_needs_a_restart() {
    let cases: [(&str, &str, &[&str], &[&str]); 8] = [
        ("key = \"k\"", "key = \"k\"\nparallelism = 1", &["`totals` would run in 1 tasks instead of 2"], &[]),
        (
            "[checkpoints]",
            "[checkpoints]\ninterval = \"1s\"\nretain = 9",
            &["the pipeline's section [checkpoints] is another"],
            &["[checkpoints] has another `interval` and `retain`"],
        ),
        (
            "[checkpoints]",
            "[checkpoints]\n[restart]\nstrategy = \"fixed\"\nattempts = 3\ndelay = \"1s\"",
            &["the pipeline's section [restart] is another"],
            &["[restart] is another"],
        ),
        (
            "path = \"a.csv\"",
            "path = \"a.csv\"\ncsv = { delimiter = \";\" }",
            &["the source `s` reads from elsewhere, or otherwise"],
            &["the source `s` changes: format"],
        ),
        (
            "path = \"out-*.jsonl\"",
            "path = \"out-*.csv\"\nformat = \"csv\"",
            &["the sink `out` writes elsewhere, or otherwise"],
            &["the sink `out` changes: what it writes to and format"],
        ),
        (
            "path = \"out-*.jsonl\"",
            "path = \"out-*.jsonl\"\nfields = [\"total\"]",
            &[
                "what goes on from `totals` has other fields: no field k: integer? any more",
                "what the sink `out` writes has other fields: no field k: integer? any more",
            ],
            &["the sink `out` changes: fields"],
        ),
        (
            "[sinks.out]",
            "[sinks.second]\ntype = \"stdout\"\ninput = \"clean\"\n[sinks.out]",
            &["the pipeline goes on with the sink `second`"],
            &["new sink `second`"],
        ),
        (
            "[sources.s]",
            "dead_letters = \"bad-*.jsonl\"\n[sources.s]",
            &["the pipeline's place of its dead letters is another"],
            &["dead letters go to /p/bad-*.jsonl instead of /p/p.dead-letters-*.jsonl"],
        ),
    ];
    for (old, new, because, changes) in cases {
        // The first table of TOML comes behind all that is of no table.
        let text = match new.strip_suffix("\n[sources.s]") {
            Some(key) => PIPELINE.replace("[checkpoints]", &format!("{key}\n[checkpoints]")),
            None => PIPELINE.replacen(old, new, 1),
        };
        let after = Pipeline::new(&text, &[clean("1"), totals("1", "n: integer?", "total: integer")]);
        let plan = changed(&after);
        assert_eq!(plan.how, How::Restart, "{new}: {plan:#?}");
        assert_eq!(plan.restart_because, because, "{new}");
        assert_eq!(plan.changes, changes, "{new}");
        assert_eq!((plan.refusals, plan.drops), (vec![], vec![]), "{new}");
    }
}

/// The first pipeline with another text or other operators, and its state.
fn totals_with(text: &str, reads: &str, state: &str) -> Pipeline {
    Pipeline::new(text, &[clean("1"), totals("2", reads, state)])
}

#[test]
fn state_that_cannot_be_read_is_refused_or_dropped_by_name() {
    let unreadable = || totals_with(PIPELINE, "n: integer?", "total: text");
    let plan = changed(&unreadable());
    assert_eq!((plan.refusals.len(), &plan.drops), (1, &vec![]), "{plan:#?}");
    for words in ["stored", "total: integer  total: text", "`tidemill apply --drop-state totals`"] {
        assert!(plan.refusals[0].contains(words), "{words:?} is not in:\n{}", plan.refusals[0]);
    }
    let plan = changed(&unreadable().may_drop("totals"));
    assert_eq!((plan.refusals.len(), &*plan.drops), (0, &["totals".to_owned()][..]), "{plan:#?}");
    assert_eq!(of(&plan, "totals").state, StateChange::Dropped);
    assert_eq!(
        (plan.how, &*plan.restart_because),
        (How::Restart, &["the state of `totals` is dropped".to_owned()][..])
    );
}

#[test]
fn state_is_kept_for_a_key() {
    let text = PIPELINE.replace("key = \"k\"", "key = [\"k\", \"currency\"]");
    let plan = changed(&totals_with(&text, "n: integer?", "total: integer"));
    assert_eq!(plan.how, How::Restart);
    let why = "the state of `totals` was kept for aggregate-operator by [k (integer)], windows global, and the pipeline now says \
               aggregate-operator by [k (integer), currency (text)], windows global";
    assert!(plan.refusals.len() == 1 && plan.refusals[0].starts_with(why), "{plan:#?}");
    let differences = &of(&plan, "totals").differences;
    let used = "works by [k, currency] and in windows global instead of by [k] and in windows global";
    assert!(differences.contains(&used.to_owned()), "{differences:?}");
}

#[test]
fn the_state_of_an_operator_that_goes_is_dropped() {
    let text = PIPELINE
        .replace("[operators.totals]", "[operators.sums]")
        .replace("input = \"totals\"", "input = \"sums\"");
    let after = Pipeline::new(&text, &[clean("1"), totals("1", "n: integer?", "total: integer")]);
    let plan = changed(&after);
    assert_eq!((plan.how, &*plan.drops, plan.refusals.len()), (How::Restart, &["totals".to_owned()][..], 0));
    assert_eq!(
        plan.restart_because,
        ["the pipeline goes on with the operator `sums` and without the operator `totals`"]
    );
    assert_eq!(plan.changes, ["the sink `out` changes: its input"]);
    let told: Vec<_> = plan.operators.iter().map(|o| (o.id.as_str(), o.change.as_str(), &o.state)).collect();
    assert_eq!(told, [("sums", "added", &StateChange::New), ("totals", "removed", &StateChange::Dropped)]);
}

#[test]
fn without_checkpoints_a_restart_drops_all_state() {
    let without = PIPELINE.replace("[checkpoints]\n", "").replace("out-*", "out");
    let elsewhere = PIPELINE.replace("[checkpoints]", "[checkpoints]\npath = \"elsewhere\"");
    for (text, why) in
        [(&without, "as it has checkpoints no longer"), (&elsewhere, "as its checkpoints are elsewhere")]
    {
        let after = Pipeline::new(text, &[clean("1"), totals("1", "n: integer?", "total: integer")]);
        let plan = changed(&after);
        assert_eq!(
            (plan.how, &*plan.drops, plan.refusals.len()),
            (How::Restart, &["totals".to_owned()][..], 0)
        );
        assert!(plan.changes.last().unwrap().ends_with(why), "{:?}", plan.changes);
        assert_eq!(of(&plan, "totals").state, StateChange::Dropped);
    }
    let operators = [clean("1"), totals("1", "n: integer?", "total: integer")];
    let before = Pipeline::new(&without, &operators);
    let after = Pipeline::new(&without.replace("key = \"k\"", "key = \"k\"\nparallelism = 1"), &operators);
    let plan = change(Some(&before.deployed(None)), &after.wanted());
    assert_eq!((plan.how, plan.drops), (How::Restart, vec!["totals".to_owned()]));
    assert_eq!(plan.changes, ["it begins again at the first row, as it has had no checkpoints"]);
}

#[test]
fn a_source_whose_positions_are_known_stays() {
    let before = first();
    let mut manifest = before.manifest();
    manifest.sources.push(tidemill_checkpoint::Source { id: "gone".to_owned(), partitions: Vec::new() });
    let after = totals_with(
        &PIPELINE.replace("key = \"k\"", "key = \"k\"\nparallelism = 1"),
        "n: integer?",
        "total: integer",
    );
    let plan = change(Some(&before.deployed(Some(&manifest))), &after.wanted());
    assert!(
        plan.refusals.len() == 1 && plan.refusals[0].starts_with("the source `gone` is in it"),
        "{plan:#?}"
    );
}

#[test]
fn a_checkpoint_knows_more_of_the_state_than_the_old_version() {
    let before = first();
    let mut manifest = before.manifest();
    let text =
        tidemill_checkpoint::Field { name: "total".to_owned(), r#type: "text".to_owned(), nullable: false };
    manifest.operators[0].state[0].fields[0] = text;
    let after = totals_with(PIPELINE, "n: integer?", "total: float");
    let told = |manifest: Option<&Manifest>| {
        change(Some(&before.deployed(manifest)), &after.wanted()).refusals.len()
    };
    assert_eq!((told(None), told(Some(&manifest))), (0, 1));
}

#[test]
fn what_a_component_says_of_itself_is_compared() {
    let output = Output::Replaced(fields("k: integer?, n: integer?, currency: text?"));
    let clean = (World::Transform, description("2", fields("n: integer?, k: integer"), output, fields("")));
    let after = Pipeline::new(PIPELINE, &[clean, totals("1", "n: integer?", "total: integer")]);
    let plan = changed(&after);
    assert_eq!(
        of(&plan, "clean").differences,
        [
            "input: new field k: integer",
            "output: rows of its own instead of rows as they came",
            "output: new field k: integer?",
            "output: new field n: integer?",
            "output: new field currency: text?",
        ]
    );
    assert_eq!(plan.how, How::Restart);
    assert_eq!(
        plan.restart_because,
        [
            "what others read of the output of `clean` changes: new field k: integer? and new field n: integer?"
        ]
    );
}
