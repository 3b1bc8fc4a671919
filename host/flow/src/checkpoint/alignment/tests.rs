use super::*;
use Aligned::{GaveUp, Nothing, Recorded, Snapshot, Waiting};

enum Step {
    /// A barrier: checkpoint, channel.
    Barrier(u64, usize),
    End(usize),
    Cancel(u64),
}
use Step::{Barrier as B, Cancel as C, End as E};

/// Steps, what each leads to, and the channels that are held afterwards.
fn check(channels: usize, steps: &[(Step, Aligned, &[usize])]) {
    let mut alignment = Alignment::new(channels);
    for (at, (step, expected, held)) in steps.iter().enumerate() {
        let got = match *step {
            B(checkpoint, channel) => alignment.barrier(channel, checkpoint),
            E(channel) => alignment.ended(channel),
            C(checkpoint) => alignment.cancel(checkpoint),
        };
        assert_eq!(got, *expected, "step {at}");
        let now: Vec<_> = (0..channels).filter(|&c| alignment.is_held(c)).collect();
        assert_eq!(now, *held, "held after step {at}");
        assert_eq!(alignment.open().is_some(), !held.is_empty(), "open after step {at}");
    }
}

fn gave_up(checkpoint: u64) -> Aligned {
    GaveUp { checkpoint, snapshot: None }
}

/// Flink's `testMultiChannelWithBarriers` and its successors, with our rule for the end of a channel.
#[test]
fn a_newer_barrier_cancels_the_older_checkpoint_and_an_ended_channel_counts_as_aligned() {
    check(
        3,
        &[
            (B(1, 1), Waiting, &[1]),
            (B(1, 2), Waiting, &[1, 2]),
            (B(1, 0), Snapshot(1), &[]),
            (B(2, 1), Waiting, &[1]),
            (B(2, 0), Waiting, &[0, 1]),
            (B(3, 2), gave_up(2), &[2]),
            (B(3, 0), Waiting, &[0, 2]),
            (B(4, 1), gave_up(3), &[1]),
            (E(0), Nothing, &[1]),
            (B(4, 2), Snapshot(4), &[]),
        ],
    );
}

#[test]
fn the_end_of_the_last_channel_that_was_waited_for_completes_the_checkpoint() {
    check(
        3,
        &[(B(1, 0), Waiting, &[0]), (E(1), Nothing, &[0]), (E(2), Snapshot(1), &[]), (E(0), Nothing, &[])],
    );
    // A channel that ends while it is held isn't held any more, and still counts.
    let mut alignment = Alignment::new(2);
    assert_eq!((alignment.barrier(0, 1), alignment.ended(0)), (Waiting, Nothing));
    assert_eq!((alignment.open(), alignment.is_held(0)), (Some(1), false));
    assert_eq!(alignment.barrier(1, 1), Snapshot(1));
}

#[test]
fn one_channel_needs_no_waiting() {
    check(1, &[(B(1, 0), Snapshot(1), &[]), (B(1, 0), Nothing, &[]), (B(5, 0), Snapshot(5), &[])]);
}

#[test]
fn stale_and_repeated_barriers_hold_nothing() {
    check(
        2,
        &[
            (B(3, 0), Waiting, &[0]),
            (B(3, 0), Nothing, &[0]),
            (B(2, 1), Nothing, &[0]),
            (B(3, 1), Snapshot(3), &[]),
            (B(3, 1), Nothing, &[]),
            (B(2, 0), Nothing, &[]),
        ],
    );
}

#[test]
fn a_newer_barrier_may_be_complete_at_once() {
    let mut alignment = Alignment::new(3);
    let _ = (alignment.barrier(0, 1), alignment.ended(1), alignment.ended(2));
    // The last two have ended, so 1 was complete with the end of the second.
    assert_eq!(alignment.open(), None);
    let mut alignment = Alignment::new(2);
    assert_eq!(alignment.barrier(0, 1), Waiting);
    assert_eq!(alignment.ended(0), Nothing);
    assert_eq!(alignment.barrier(1, 2), GaveUp { checkpoint: 1, snapshot: Some(2) });
    assert_eq!(alignment.open(), None);
}

#[test]
fn cancellation_releases_and_outlasts_late_barriers() {
    check(
        2,
        &[
            (C(1), Nothing, &[]),
            (B(1, 0), Nothing, &[]),
            (B(2, 0), Waiting, &[0]),
            (C(1), Nothing, &[0]),
            (C(2), gave_up(2), &[]),
            (B(2, 1), Nothing, &[]),
            (B(3, 1), Waiting, &[1]),
            // One checkpoint is in flight at a time: word of 5 means that 3 is over as well.
            (C(5), gave_up(3), &[]),
            (B(4, 0), Nothing, &[]),
            (B(6, 0), Waiting, &[0]),
            (B(6, 1), Snapshot(6), &[]),
        ],
    );
}

/// What comes over channels: data, barriers of checkpoints, and the end; and that nobody waits any longer.
enum Comes {
    Data(usize),
    Barrier(u64, usize),
    End(usize),
    Cancel(u64),
    TimeIsUp,
}
use Comes::{Barrier, Cancel, Data, End, TimeIsUp};

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Checkpoints whose snapshot was taken, in order.
    snapshots: Vec<u64>,
    /// For each that is complete what was in flight: by their place, the steps that brought it.
    complete: Vec<(u64, Vec<usize>)>,
    given_up: Vec<u64>,
}

/// `at_once`: nobody waits for a second barrier.
fn drive(channels: usize, at_once: bool, steps: &[Comes]) -> Told {
    let mut alignment = Alignment::new(channels);
    let (mut told, mut in_flight) = (Told::default(), Vec::new());
    for (at, step) in steps.iter().enumerate() {
        let aligned = match *step {
            Data(channel) => {
                assert!(!alignment.is_held(channel), "step {at} comes over a channel that is held");
                if alignment.records(channel) {
                    in_flight.push(at);
                }
                Nothing
            }
            Barrier(checkpoint, channel) => alignment.barrier(channel, checkpoint),
            End(channel) => alignment.ended(channel),
            Cancel(checkpoint) => alignment.cancel(checkpoint),
            TimeIsUp => {
                told.snapshots.extend(alignment.overtake());
                Nothing
            }
        };
        match aligned {
            Snapshot(checkpoint) => {
                told.snapshots.push(checkpoint);
                told.complete.push((checkpoint, Vec::new()));
            }
            Recorded(checkpoint) => told.complete.push((checkpoint, std::mem::take(&mut in_flight))),
            GaveUp { checkpoint, snapshot } => {
                told.given_up.push(checkpoint);
                in_flight.clear();
                told.snapshots.extend(snapshot);
                told.complete.extend(snapshot.map(|s| (s, Vec::new())));
            }
            Waiting | Nothing => {}
        }
        if at_once && aligned != Nothing {
            told.snapshots.extend(alignment.overtake());
        }
        if alignment.recording().is_some() {
            assert!((0..channels).all(|c| !alignment.is_held(c)), "a channel is held after step {at}");
        } else {
            assert!(in_flight.is_empty(), "recorded for nobody after step {at}");
        }
    }
    told
}

fn told(snapshots: &[u64], complete: &[(u64, &[usize])], given_up: &[u64]) -> Told {
    Told {
        snapshots: snapshots.to_vec(),
        complete: complete.iter().map(|(checkpoint, steps)| (*checkpoint, steps.to_vec())).collect(),
        given_up: given_up.to_vec(),
    }
}

/// Flink's `UnalignedCheckpointsTest`, where the first barrier takes the snapshot.
#[test]
fn what_comes_before_a_channels_barrier_and_after_the_snapshot_is_in_flight() {
    let steps = [
        Data(0),
        Data(2),
        Data(0),
        Barrier(1, 1),
        Barrier(1, 2),
        Data(2),
        Data(1),
        Data(0),
        Barrier(1, 0),
        Data(0),
    ];
    assert_eq!(drive(3, true, &steps), told(&[1], &[(1, &[7])], &[]));
    let steps = [
        Data(0),
        Data(2),
        Data(0),
        Barrier(5, 1),
        Data(2),
        Data(0),
        Data(2),
        Data(1),
        Barrier(5, 2),
        Data(1),
        Data(0),
        Data(2),
        Data(1),
        Barrier(5, 0),
    ];
    assert_eq!(drive(3, true, &steps), told(&[5], &[(5, &[4, 5, 6, 10])], &[]));
}

#[test]
fn barriers_back_to_back_leave_nothing_in_flight() {
    let barriers = |checkpoint| [2, 0, 1].map(|channel| Barrier(checkpoint, channel));
    let steps: Vec<Comes> = [Data(1)].into_iter().chain(barriers(1)).chain(barriers(2)).collect();
    assert_eq!(drive(3, true, &steps), told(&[1, 2], &[(1, &[]), (2, &[])], &[]));
    let one_channel = [Data(0), Barrier(1, 0), Data(0), Barrier(2, 0)];
    assert_eq!(drive(1, true, &one_channel), told(&[1, 2], &[(1, &[]), (2, &[])], &[]));
}

#[test]
fn channels_are_held_until_the_time_is_up() {
    let steps =
        [Barrier(1, 0), Data(1), TimeIsUp, TimeIsUp, Data(0), Data(1), Barrier(1, 1), TimeIsUp, Data(1)];
    assert_eq!(drive(2, false, &steps), told(&[1], &[(1, &[5])], &[]));
    // Nothing is open, and nothing was: it is no reason for a snapshot.
    assert_eq!(
        drive(2, false, &[TimeIsUp, Data(0), Barrier(1, 0), Barrier(1, 1)]),
        told(&[1], &[(1, &[])], &[])
    );
}

#[test]
fn the_end_of_the_last_channel_completes_a_recording() {
    let steps = [Barrier(1, 0), Data(1), Data(2), End(1), Data(2), End(2), Data(0)];
    assert_eq!(drive(3, true, &steps), told(&[1], &[(1, &[1, 2, 4])], &[]));
    // A channel that had ended before isn't waited for.
    let steps = [End(0), Barrier(1, 1), Data(2), Barrier(1, 2)];
    assert_eq!(drive(3, true, &steps), told(&[1], &[(1, &[2])], &[]));
}

#[test]
fn a_newer_barrier_or_a_cancellation_ends_a_recording() {
    let steps = [Barrier(1, 0), Data(1), Barrier(2, 1), Data(1), Data(0), Barrier(2, 0), Barrier(1, 1)];
    assert_eq!(drive(2, true, &steps), told(&[1, 2], &[(2, &[4])], &[1]));
    // Over the channel whose older barrier had come, the newer one waits in turn.
    let steps = [Barrier(1, 0), Data(1), Barrier(2, 0), Data(1), Barrier(1, 1), Data(1), Barrier(2, 1)];
    assert_eq!(drive(2, true, &steps), told(&[1, 2], &[(2, &[3, 5])], &[1]));
    let steps = [Barrier(1, 0), Data(1), Cancel(1), Data(1), Data(0), Barrier(1, 1), Data(0)];
    assert_eq!(drive(2, true, &steps), told(&[1], &[], &[1]));
    // The newer one is complete at once: the other channel has ended, with its older barrier.
    let steps = [Barrier(1, 0), End(0), Data(1), Barrier(2, 1), Data(1)];
    assert_eq!(drive(2, true, &steps), told(&[1, 2], &[(2, &[])], &[1]));
}
