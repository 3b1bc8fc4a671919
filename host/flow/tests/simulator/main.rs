//! Deterministic simulation of the whole protocol: the flow's alignment, coordinator, commit and recovery decisions in
//! a world of model processes on a model disk. All chance comes from a seed, so a world that goes wrong goes wrong
//! again: `TIDEMILL_SEED=17 cargo test -p tidemill-flow --test simulator one_seed -- --nocapture` shows what happened.
//!
//! What is promised of each world: however often it crashes, also while it starts, whatever is delayed, doubled, lost,
//! torn or flipped, it comes to an end, and what it has published is what an uninterrupted run publishes, row for row;
//! nothing that was published changes or goes; no file is removed that a kept checkpoint needs; and a start is refused
//! only if a checkpoint whose commit was begun is broken in both copies.
//!
//! What it isn't: a test of the host, of RocksDB or of a file system. What those may do is what [`disk`] says they may.

mod bugs;
mod context;
mod data;
mod disk;
mod host;
mod inbox;
mod manifest;
mod process;
mod random;
mod sink;
mod source;
mod start;
mod task;
mod world;

use std::ops::Range;

use bugs::Bug;
use context::Counts;

fn check(seed: u64, bug: Option<Bug>) -> Result<Counts, String> {
    let outcome = world::run(seed, bug, false);
    outcome.result.map(|()| outcome.counts)
}

fn check_all(seeds: Range<u64>) -> Counts {
    let mut counts = Counts::default();
    for seed in seeds {
        match check(seed, None) {
            Ok(of_seed) => counts.add(&of_seed),
            Err(_) => explain(seed),
        }
    }
    counts
}

/// Runs a world that goes wrong once more and shows how.
fn explain(seed: u64) -> ! {
    let outcome = world::run(seed, None, true);
    let error = outcome.result.expect_err("a seed gives the same run again");
    let from = outcome.trace.len().saturating_sub(150);
    panic!(
        "seed {seed}: {error}\n...\n{}\nfor all of it: TIDEMILL_SEED={seed} cargo test -p tidemill-flow --test simulator \
         one_seed -- --nocapture",
        outcome.trace[from..].join("\n")
    );
}

// 20,000 fixed seeds, in four tests so that they share the cores.

#[test]
fn worlds_0_to_5000_are_as_if_nothing_had_happened() {
    check_all(0..5_000);
}

#[test]
fn worlds_5000_to_10000_are_as_if_nothing_had_happened() {
    check_all(5_000..10_000);
}

#[test]
fn worlds_10000_to_15000_are_as_if_nothing_had_happened() {
    check_all(10_000..15_000);
}

#[test]
fn worlds_15000_to_20000_are_as_if_nothing_had_happened() {
    check_all(15_000..20_000);
}

#[test]
fn fresh_worlds_are_as_if_nothing_had_happened() {
    #[expect(clippy::disallowed_methods, reason = "where new seeds come from; they are printed")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let first = now.as_secs() * 1_000_000;
    println!("seeds {first} to {}", first + 1_000);
    check_all(first..first + 1_000);
}

/// `TIDEMILL_SEED` says which, `TIDEMILL_BUG` perhaps with which planted error; all that happens is printed.
#[test]
fn one_seed() {
    let seed = std::env::var("TIDEMILL_SEED").ok().map_or(0, |seed| seed.parse().expect("a number"));
    let bug = std::env::var("TIDEMILL_BUG").ok();
    let bug = bug.map(|bug| *Bug::ALL.iter().find(|b| format!("{b:?}") == bug).expect("a planted error"));
    let outcome = world::run(seed, bug, true);
    println!("{}", outcome.trace.join("\n"));
    assert_eq!(outcome.result, Ok(()), "seed {seed}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| world::run(seed, None, true));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert!(!first.trace.is_empty());
    }
}

/// Else the worlds above would prove nothing.
#[test]
fn everything_that_can_happen_does() {
    let counts = check_all(20_000..22_000);
    for (what, count) in counts.all() {
        println!("{count:>9} {what}");
    }
    for (what, count) in counts.all() {
        assert!(count >= 20, "only {count} {what}");
    }
}

/// In so many worlds a planted error has to be caught.
/// Most need less than a hundred.
const SEEDS_PER_BUG: u64 = 10_000;

fn is_caught(bug: Bug) {
    let caught = (0..SEEDS_PER_BUG).find_map(|seed| check(seed, Some(bug)).err().map(|error| (seed, error)));
    match caught {
        Some((seed, error)) => println!("{bug:?} is caught by seed {seed}: {error}"),
        None => panic!("{SEEDS_PER_BUG} seeds don't catch {bug:?}"),
    }
}

/// A test for each planted error, and a list of them.
macro_rules! caught {
    ($($test:ident: $bug:ident,)*) => {
        $(
            #[test]
            fn $test() {
                is_caught(Bug::$bug);
            }
        )*

        #[test]
        fn every_planted_error_has_its_test() {
            let tested = [$(Bug::$bug),*];
            Bug::ALL.iter().for_each(|bug| assert!(tested.contains(bug), "{bug:?}"));
        }
    };
}

caught! {
    no_alignment_is_caught: NoAlignment,
    barrier_that_overtakes_rows_is_caught: BarrierOvertakesRows,
    position_too_far_is_caught: PositionTooFar,
    position_too_short_is_caught: PositionTooShort,
    acknowledgement_before_the_drain_is_caught: AcknowledgedBeforeDrain,
    missing_copy_on_write_is_caught: NoCopyOnWrite,
    eviction_of_the_next_epoch_is_caught: EvictedWhileOpen,
    writing_before_the_files_are_taken_is_caught: WrittenBeforeFilesAreTaken,
    commit_before_the_manifest_is_durable_is_caught: CommitBeforeDurable,
    missing_intent_is_caught: NoIntent,
    missing_intent_at_a_start_is_caught: NoIntentAtStart,
    fallback_behind_a_commit_is_caught: FallbackBehindCommit,
    passed_over_manifests_that_stay_are_caught: NothingSetAside,
    single_copy_that_is_not_healed_is_caught: NotHealed,
    forgotten_parts_of_aborted_checkpoints_are_caught: AbortedPartsForgotten,
    commit_that_appends_is_caught: CommitAppends,
    commit_that_is_not_synced_is_caught: CommitUnsynced,
    pending_parts_forgotten_at_a_start_are_caught: PendingPartsForgotten,
    staged_parts_kept_at_a_start_are_caught: StagedPartsKept,
    torn_manifest_that_is_believed_is_caught: ManifestNotAtomic,
    unsynced_file_is_caught: FilesUnsynced,
    unsynced_part_is_caught: PartsUnsynced,
    file_believed_by_its_name_is_caught: FileBelieved,
    file_removed_too_early_is_caught: CollectedTooEarly,
    collecting_blindly_is_caught: CollectedBlindly,
    missing_fence_is_caught: NoFence,
    timers_restored_twice_are_caught: TimersTwice,
    groups_moved_wrongly_are_caught: GroupsMovedWrongly,
    rows_recorded_behind_the_barrier_are_caught: RecordedBehindBarrier,
    acknowledgement_before_all_is_recorded_is_caught: AcknowledgedBeforeRecorded,
    rows_in_flight_that_are_forgotten_are_caught: InFlightForgotten,
    rows_in_flight_that_stay_are_caught: InFlightNotRemoved,
    last_checkpoint_that_does_not_wait_is_caught: LastOvertaken,
    rows_in_flight_behind_new_signals_are_caught: InFlightProcessedLate,
}
