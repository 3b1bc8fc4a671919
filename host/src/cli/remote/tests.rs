//! What people type, as commands.

use clap::Parser;

use super::super::{Arguments, Command};
use super::{RemoteCommand, name, whoami};

fn parse(line: &str) -> Result<RemoteCommand, String> {
    let words = std::iter::once("tidemill").chain(line.split(' '));
    match Arguments::try_parse_from(words).map_err(|e| e.to_string())?.command {
        Command::Remote(command) => Ok(command),
        other => Err(format!("{other:?} asks no host")),
    }
}

#[test]
fn each_verb_is_understood() {
    for line in [
        "plan orders.toml --parallelism 4 --json",
        "apply orders.toml --plan 4be1 --drop-state count --drop-state sum --probation 30s --wait --by ada",
        "list --json",
        "status orders",
        "pause orders --wait",
        "resume orders",
        "stop orders --drain",
        "stop orders --savepoint noon --wait --json",
        "delete orders",
        "logs orders --follow --lines 10",
        "savepoint orders",
        "savepoint orders noon --wait",
        "savepoints orders",
        "swap orders count=count.wasm sum=sum.wasm --probation 30s --rejected-share 0.1 --slowdown 2.5",
        "replay orders --from beginning --to savepoint:noon --with count=count.wasm --rows-per-second 1000 --html a.html",
        "replays orders",
        "report orders replay-3 --html a.html",
        "verify orders --from checkpoint:3 --to checkpoint:4",
        "promote orders replay-3 --wait",
        "rollback orders",
        "history orders",
        "components",
        "upload count.wasm --by ada",
        "operation 3 --wait",
        "list --host https://mill.example.org --data /srv/data",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_it_is_sent() {
    for line in [
        "status",
        "status Orders",
        "status ..",
        "stop orders --drain --savepoint noon",
        "swap orders",
        "swap orders count",
        "swap orders count=count.wasm --probation 30",
        "swap orders count=count.wasm --slowdown fast",
        "replay orders",
        "replay orders --from beginning --rows-per-second 0",
        "report orders",
        "logs orders --lines 1001",
        "apply orders.toml --parallelism 0",
        "promote orders a/b",
        "operation three",
    ] {
        assert!(parse(line).is_err(), "{line} is understood");
    }
}

#[test]
fn settings_of_probation_that_are_not_given_are_the_defaults() {
    let Ok(RemoteCommand::Swap(swap)) = parse("swap orders count=count.wasm --probation 1m30s") else {
        panic!("it is a swap")
    };
    let settings = swap.probation.settings();
    assert_eq!((settings.for_ms, settings.rejected_share_max, settings.slowdown_max), (90_000, 0.05, 10.0));
}

#[test]
fn names_are_those_of_the_host() {
    assert_eq!(name("orders-2"), Ok("orders-2".to_owned()));
    for wrong in ["", "-a", "A", "a_b", "..", "a/b", &"a".repeat(64)] {
        assert!(name(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn whoever_asks_is_named_on_one_line() {
    let who = whoami();
    assert!(!who.is_empty() && !who.contains(char::is_control), "{who:?}");
}
