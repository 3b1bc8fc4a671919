use proptest::prelude::*;

use super::*;

const PIPELINE: &str = "p";

fn hex(ids: &Ids) -> Vec<String> {
    ids.iter().map(|id| format!("{id:032x}")).collect()
}

fn packed(record: u64) -> u64 {
    Position { partition: 3, record }.pack()
}

/// Logs hold ids that were made so: none of these may ever change.
#[test]
fn ids_are_what_they_were() {
    let partition = PartitionIds::new(PIPELINE, "orders", "in/a.jsonl");
    let operator = OperatorIds::new(PIPELINE, "split");
    let rows = partition.rows(&[packed(0), packed(1), packed(u64::MAX >> 20)]);
    assert_eq!(
        hex(&rows),
        [
            "2c98e963a4bdc27838cd50c9e3789dd0",
            "cc7ad6c5560e932068749d1e8927654c",
            "d9df56b04bbef43fdd35fcd96a8dd418"
        ]
    );
    assert_eq!(
        hex(&operator.rows(&rows, None, 2)),
        ["ac43d8a3bbfbb6b8151e12bf00ccf086", "84c178e900ebf189e68034b30256e3f3"]
    );
    assert_eq!(
        hex(&operator.rows(&rows, Some(&[0, 0, 2]), 3)),
        [
            "ac43d8a3bbfbb6b8151e12bf00ccf086",
            "6d7c7a34a03a0d0209aef5ef1b34d41a",
            "7b1580897ab20468c9bc736de3c906af"
        ]
    );
    let window = Bounds { start: -60_000, end: 0 };
    let keys: [&[u8]; 2] = [b"\x01\x07\0\0\0\0\0\0\0", b""];
    assert_eq!(
        hex(&operator.results(window, 0, |at| keys[at], None, 2)),
        ["2d7c8ba70eda929c6fa3919a094cfd95", "a95c7089c074b2f8349a97a899fb0e79"]
    );
    assert_eq!(
        hex(&operator.results(window, 1, |at| keys[at], Some(&[1, 1]), 2)),
        ["a9fdc9bb74d9382efd77ba734d474f87", "fe19016ab01794bd12eb4fa29ea95a2f"]
    );
    let timer = |at: usize| (keys[at], ["", "late"][at], 1_000);
    assert_eq!(
        hex(&operator.of_timers(Clock::Event, timer, None, 2)),
        ["663320161e2a318fff96f476ef378943", "0bbc94347ed8f94a553ce2af3ee2d785"]
    );
    assert_eq!(
        hex(&operator.of_timers(Clock::Processing, timer, Some(&[0, 0]), 2)),
        ["df85756c9207d180431f401980552c04", "a127f08c2570c5729628d5de2ae11c9d"]
    );
}

#[test]
fn what_differs_in_anything_has_another_id() {
    let positions = [packed(0), packed(1)];
    let mut ids: Vec<i128> = Vec::new();
    for (pipeline, source, partition) in
        [("p", "s", "0"), ("q", "s", "0"), ("p", "t", "0"), ("p", "s", "1"), ("ps", "", "0"), ("", "ps", "0")]
    {
        ids.extend(PartitionIds::new(pipeline, source, partition).rows(&positions).iter());
    }
    for (pipeline, operator) in [("p", "o"), ("q", "o"), ("p", "r"), ("po", "")] {
        let operator = OperatorIds::new(pipeline, operator);
        ids.extend(operator.rows(&[1, 2], Some(&[0, 0, 1]), 3).iter());
        for window in [Bounds { start: 0, end: 1 }, Bounds { start: 0, end: 2 }, Bounds { start: 1, end: 2 }]
        {
            for firing in [0, 1] {
                ids.extend(operator.results(window, firing, |_| b"key", Some(&[0, 0]), 2).iter());
                ids.extend(operator.results(window, firing, |_| b"", None, 1).iter());
            }
        }
        for clock in Clock::ALL {
            for (key, name, at) in [("k", "n", 1), ("kn", "", 1), ("", "kn", 1), ("k", "n", 2)] {
                let timer = |_| (key.as_bytes(), name, at);
                ids.extend(operator.of_timers(clock, timer, Some(&[0, 0]), 2).iter());
            }
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn the_number_of_a_partition_in_the_plan_doesnt_matter() {
    let ids = PartitionIds::new(PIPELINE, "s", "0");
    let of = |partition| ids.rows(&[Position { partition, record: 9 }.pack()]);
    assert_eq!(hex(&of(0)), hex(&of(7)));
}

#[test]
fn rows_of_one_origin_are_numbered_wherever_they_stand() {
    assert_eq!(ordinals(&[]), [0; 0]);
    assert_eq!(ordinals(&[4, 4, 2, 4, 2, 0]), [0, 1, 0, 2, 1, 0]);
}

/// What a flat-map makes of rows: of row r so many as `counts` says.
fn flat_map(operator: OperatorIds, inputs: &[i128], counts: &[usize]) -> Vec<i128> {
    let origins = (0u32..).zip(counts).flat_map(|(row, &count)| std::iter::repeat_n(row, count));
    let origins: Vec<u32> = origins.collect();
    operator.rows(inputs, Some(&origins), origins.len()).to_vec()
}

proptest! {
    #[test]
    fn ids_dont_depend_on_where_batches_were_cut(
        counts in prop::collection::vec((0..4_usize, 0..3_usize), 1..60),
        cuts in prop::collection::vec(1..20_usize, 1..60),
    ) {
        let partition = PartitionIds::new(PIPELINE, "s", "0");
        let operators = [OperatorIds::new(PIPELINE, "first"), OperatorIds::new(PIPELINE, "second")];
        let run = |from: usize, until: usize| -> Vec<i128> {
            let positions: Vec<u64> = (from as u64..until as u64).map(packed).collect();
            let rows = partition.rows(&positions);
            let once: Vec<usize> = counts[from..until].iter().map(|c| c.0).collect();
            let first = flat_map(operators[0], &rows, &once);
            // Each row of the first goes on as often as its record says.
            let again = counts[from..until].iter().flat_map(|c| std::iter::repeat_n(c.1, c.0));
            flat_map(operators[1], &first, &again.collect::<Vec<_>>())
        };
        let (mut cut_up, mut from) = (Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let until = (from + cut).min(counts.len());
            cut_up.extend(run(from, until));
            from = until;
            if from == counts.len() {
                break;
            }
        }
        let whole = run(0, counts.len());
        prop_assert_eq!(&cut_up, &whole);
        let mut distinct = whole.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), whole.len());
    }
}
