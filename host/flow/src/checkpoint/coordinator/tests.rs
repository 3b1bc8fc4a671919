use super::*;

const SETTINGS: Settings =
    Settings { interval_ms: 100, min_pause_ms: 20, timeout_ms: 50, tolerated_failures: 1 };

fn trigger(checkpoint: u64) -> Action {
    Action::Trigger { checkpoint, last: false, asked: false }
}

fn last(checkpoint: u64) -> Action {
    Action::Trigger { checkpoint, last: true, asked: false }
}

fn acknowledged(checkpoint: u64, participant: u32) -> Event {
    Event::Acknowledged { checkpoint, participant }
}

fn declined(checkpoint: u64) -> Event {
    Event::Declined { checkpoint, reason: "no space".into() }
}

fn not_durable(checkpoint: u64) -> Event {
    Event::NotDurable { checkpoint, reason: "no space".into() }
}

fn aborted(checkpoint: u64) -> Action {
    Action::Abort { checkpoint, reason: "no space".into() }
}

fn given_up(failures: u32) -> Action {
    Action::GiveUp { reason: format!("{failures} checkpoints in a row have failed: no space") }
}

/// Drives a coordinator of two participants whose first checkpoint is 7: at this time, this happens, and this follows.
fn check(settings: Settings, steps: &[(u64, Event, &[Action])]) -> Coordinator {
    let mut coordinator = Coordinator::new(settings, 2, 7, 0);
    for (at, (now_ms, event, expected)) in steps.iter().enumerate() {
        assert_eq!(coordinator.on(event.clone(), *now_ms), *expected, "step {at}");
    }
    coordinator
}

#[test]
fn a_checkpoint_goes_from_trigger_to_commit_and_the_next_waits_for_it() {
    use Action::{Commit, Persist};
    let coordinator = check(
        SETTINGS,
        &[
            (99, Event::Tick, &[]),
            (100, Event::Tick, &[trigger(7)]),
            (101, acknowledged(7, 1), &[]),
            (102, acknowledged(7, 0), &[Persist { checkpoint: 7 }]),
            // However long persisting and committing take, nothing is given up and nothing triggered.
            (300, Event::Tick, &[]),
            (310, Event::Durable { checkpoint: 7 }, &[Commit { checkpoint: 7 }]),
            (500, Event::Tick, &[]),
            (510, Event::Committed { checkpoint: 7 }, &[]),
            (529, Event::Tick, &[]),
            (530, Event::Tick, &[trigger(8)]),
        ],
    );
    assert_eq!(coordinator.last_committed(), Some(7));
    assert_eq!(coordinator.wake_at_ms(), Some(580));
    assert_eq!(coordinator.state(), State::Collecting { checkpoint: 8, missing: vec![0, 1] });
}

#[test]
fn late_repeated_and_foreign_words_are_harmless() {
    let persist = [Action::Persist { checkpoint: 8 }];
    check(
        SETTINGS,
        &[
            (0, acknowledged(7, 0), &[]),
            (0, Event::Durable { checkpoint: 7 }, &[]),
            (100, Event::Tick, &[trigger(7)]),
            (100, acknowledged(7, 0), &[]),
            (100, acknowledged(7, 0), &[]),
            (100, acknowledged(7, 2), &[]),
            (100, acknowledged(8, 1), &[]),
            (100, Event::Durable { checkpoint: 7 }, &[]),
            (100, Event::Committed { checkpoint: 7 }, &[]),
            (100, not_durable(7), &[]),
            (100, declined(6), &[]),
            (110, declined(7), &[aborted(7)]),
            (110, acknowledged(7, 1), &[]),
            (110, declined(7), &[]),
            (200, Event::Tick, &[trigger(8)]),
            (200, acknowledged(7, 1), &[]),
            (200, acknowledged(8, 0), &[]),
            (200, acknowledged(8, 1), &persist),
            (200, acknowledged(8, 1), &[]),
            (200, declined(8), &[]),
            (200, not_durable(7), &[]),
            (200, Event::Durable { checkpoint: 8 }, &[Action::Commit { checkpoint: 8 }]),
            (200, Event::Durable { checkpoint: 8 }, &[]),
            (200, not_durable(8), &[]),
            (200, Event::Committed { checkpoint: 7 }, &[]),
            (200, Event::Committed { checkpoint: 8 }, &[]),
            (200, Event::Committed { checkpoint: 8 }, &[]),
        ],
    );
}

#[test]
fn time_runs_out_before_all_have_acknowledged_but_not_afterwards() {
    let reason = "1 of 2 participants haven't acknowledged within 50 ms".to_string();
    let coordinator = check(
        SETTINGS,
        &[
            (100, Event::Tick, &[trigger(7)]),
            (149, acknowledged(7, 0), &[]),
            (149, Event::Tick, &[]),
            (195, Event::Tick, &[Action::Abort { checkpoint: 7, reason }]),
            // The interval is over at 200, the pause at 215.
            (214, Event::Tick, &[]),
            (215, Event::Tick, &[trigger(8)]),
        ],
    );
    assert_eq!(coordinator.failures_in_a_row(), 1);
}

#[test]
fn failures_in_a_row_end_it_and_a_success_starts_the_count_again() {
    use Action::{Commit, Persist};
    let coordinator = check(
        SETTINGS,
        &[
            (100, Event::Tick, &[trigger(7)]),
            (100, declined(7), &[aborted(7)]),
            (200, Event::Tick, &[trigger(8)]),
            (200, acknowledged(8, 0), &[]),
            (200, acknowledged(8, 1), &[Persist { checkpoint: 8 }]),
            (200, Event::Durable { checkpoint: 8 }, &[Commit { checkpoint: 8 }]),
            (200, Event::Committed { checkpoint: 8 }, &[]),
            (300, Event::Tick, &[trigger(9)]),
            (300, acknowledged(9, 0), &[]),
            (300, acknowledged(9, 1), &[Persist { checkpoint: 9 }]),
            (300, not_durable(9), &[aborted(9)]),
            (400, Event::Tick, &[trigger(10)]),
            (400, declined(10), &[aborted(10), given_up(2)]),
            (900, Event::Tick, &[]),
            (900, Event::Stop, &[]),
        ],
    );
    assert_eq!((coordinator.state(), coordinator.wake_at_ms()), (State::GivenUp, None));
}

#[test]
fn the_last_checkpoint_comes_at_once_is_tried_again_and_ends_it() {
    use Action::{Commit, Finished, Persist};
    let coordinator = check(
        SETTINGS,
        &[
            (10, Event::InputEnded, &[last(7)]),
            (10, Event::Stop, &[]),
            (15, declined(7), &[aborted(7)]),
            (34, Event::Tick, &[]),
            (35, Event::Tick, &[last(8)]),
            (35, acknowledged(8, 0), &[]),
            (35, acknowledged(8, 1), &[Persist { checkpoint: 8 }]),
            (36, Event::Durable { checkpoint: 8 }, &[Commit { checkpoint: 8 }]),
            (37, Event::Committed { checkpoint: 8 }, &[Finished]),
            (900, Event::Tick, &[]),
            (900, Event::Asked, &[]),
        ],
    );
    assert_eq!((coordinator.state(), coordinator.wake_at_ms()), (State::Finished, None));
}

/// Rows may have come between the barrier of the checkpoint in flight and the end.
#[test]
fn a_checkpoint_in_flight_at_the_end_is_not_the_last() {
    use Action::{Commit, Persist};
    check(
        SETTINGS,
        &[
            (100, Event::Tick, &[trigger(7)]),
            (101, Event::InputEnded, &[]),
            (102, acknowledged(7, 0), &[]),
            (102, acknowledged(7, 1), &[Persist { checkpoint: 7 }]),
            (103, Event::Durable { checkpoint: 7 }, &[Commit { checkpoint: 7 }]),
            (104, Event::Committed { checkpoint: 7 }, &[last(8)]),
        ],
    );
}

#[test]
fn a_savepoint_comes_at_once_and_is_asked_for_again_when_it_fails() {
    let asked = |checkpoint| Action::Trigger { checkpoint, last: false, asked: true };
    check(
        SETTINGS,
        &[
            (10, Event::Asked, &[asked(7)]),
            (10, declined(7), &[aborted(7)]),
            (29, Event::Tick, &[]),
            (30, Event::Tick, &[asked(8)]),
            // One that is in flight began before it was asked for.
            (31, Event::Asked, &[]),
            (32, acknowledged(8, 0), &[]),
            (32, acknowledged(8, 1), &[Action::Persist { checkpoint: 8 }]),
            (32, Event::Durable { checkpoint: 8 }, &[Action::Commit { checkpoint: 8 }]),
            (32, Event::Committed { checkpoint: 8 }, &[asked(9)]),
        ],
    );
}

#[test]
fn nothing_overflows_at_the_end_of_time() {
    let settings = Settings { interval_ms: u64::MAX, timeout_ms: u64::MAX, ..SETTINGS };
    let coordinator = check(settings, &[(10, Event::Tick, &[]), (10, Event::Stop, &[last(7)])]);
    assert_eq!(coordinator.wake_at_ms(), Some(u64::MAX));
}
