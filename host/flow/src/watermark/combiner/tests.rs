//! The tables of Flink's tests, our own beside them, and a model that counts everything anew.

use super::*;

/// `w(input, watermark)`, `idle(input)`, `wake(input)` and what each passes on, as in the table of
/// Flink's `StatusWatermarkValveTest`.
enum Step {
    Advance(usize, i64),
    Idle(usize),
    Wake(usize),
}
use Progress::{Active, Idle, Watermark};
use Step::{Advance as W, Idle as I, Wake as A};

fn check(inputs: usize, steps: &[(Step, &[Progress])]) {
    let mut combiner = Combiner::new(inputs);
    for (at, (step, expected)) in steps.iter().enumerate() {
        let got = match *step {
            W(input, watermark) => combiner.advance(input, watermark),
            I(input) => combiner.idle(input),
            A(input) => combiner.wake(input),
        };
        assert_eq!(got, *expected, "step {at}");
    }
}

#[test]
fn the_minimum_rises_and_waits_for_all() {
    check(1, &[(W(0, 25), &[Watermark(25)]), (W(0, 18), &[]), (W(0, 42), &[Watermark(42)])]);
    check(
        3,
        &[
            (W(0, 0), &[]),
            (W(1, 0), &[]),
            (W(2, 0), &[Watermark(0)]),
            (W(0, 12), &[]),
            (W(2, 8), &[]),
            (W(2, 10), &[]),
            (W(1, 15), &[Watermark(10)]),
            (W(2, 17), &[Watermark(12)]),
            (W(0, 20), &[Watermark(15)]),
        ],
    );
}

#[test]
fn an_idle_input_does_not_count() {
    check(
        3,
        &[
            (W(0, 15), &[]),
            (W(1, 10), &[]),
            (I(2), &[Watermark(10)]),
            (W(1, 18), &[Watermark(15)]),
            (W(0, 20), &[Watermark(18)]),
        ],
    );
    check(
        3,
        &[
            (W(0, 10), &[]),
            (W(1, 5), &[]),
            (W(2, 3), &[Watermark(3)]),
            (I(0), &[]),
            (I(1), &[]),
            (I(2), &[Watermark(10), Idle]),
        ],
    );
    check(
        3,
        &[
            (W(0, 25), &[]),
            (W(1, 10), &[]),
            (W(2, 17), &[Watermark(10)]),
            (I(1), &[Watermark(17)]),
            (I(2), &[Watermark(25)]),
        ],
    );
    check(
        1,
        &[
            (W(0, 25), &[Watermark(25)]),
            (I(0), &[Idle]),
            (I(0), &[]),
            (W(0, 50), &[]),
            (A(0), &[Active]),
            (W(0, 50), &[Watermark(50)]),
        ],
    );
}

#[test]
fn a_woken_input_counts_when_it_has_caught_up() {
    check(
        3,
        &[
            (W(0, 10), &[]),
            (W(1, 7), &[]),
            (W(2, 3), &[Watermark(3)]),
            (I(2), &[Watermark(7)]),
            (A(2), &[]),
            (W(2, 5), &[]),
            (W(2, 9), &[]),
            (W(1, 12), &[Watermark(9)]),
        ],
    );
}

#[test]
fn a_watermark_never_goes_back() {
    check(
        3,
        &[
            (W(0, 25), &[]),
            (W(1, 10), &[]),
            (W(2, 17), &[Watermark(10)]),
            (W(0, 12), &[]),
            (W(1, 8), &[]),
            (W(2, 15), &[]),
        ],
    );
}

#[test]
fn idle_and_active_are_told_once() {
    check(
        2,
        &[
            (I(0), &[]),
            (I(0), &[]),
            (I(1), &[Idle]),
            (I(1), &[]),
            (A(0), &[Active]),
            (A(0), &[]),
            (A(1), &[]),
        ],
    );
    // One that is awake needs no waking.
    check(1, &[(A(0), &[]), (W(0, 5), &[Watermark(5)]), (A(0), &[])]);
}

#[test]
fn nothing_is_told_while_every_active_input_is_behind() {
    check(
        3,
        &[
            (W(0, 10), &[]),
            (W(1, 7), &[]),
            (I(2), &[Watermark(7)]),
            (A(2), &[]),
            (I(0), &[]),
            (I(1), &[]),
            (W(2, 5), &[]),
            (W(2, 8), &[Watermark(8)]),
            // The furthest of all, whoever goes last.
            (I(2), &[Watermark(10), Idle]),
        ],
    );
}

#[test]
fn an_input_without_rows_is_idle_and_never_ends_time() {
    check(2, &[(I(0), &[]), (W(1, 7), &[Watermark(7)]), (I(1), &[Idle]), (W(1, WATERMARK_MAX), &[])]);
    check(1, &[(I(0), &[Idle]), (W(0, WATERMARK_MAX), &[Watermark(WATERMARK_MAX)])]);
}

#[test]
fn time_ends_when_the_last_input_does() {
    const END: i64 = WATERMARK_MAX;
    // One has ended; what the other has counts, though it goes idle.
    check(
        2,
        &[
            (W(0, 30), &[]),
            (W(1, 20), &[Watermark(20)]),
            (W(0, END), &[]),
            (I(1), &[Watermark(30), Idle]),
            (A(1), &[Active]),
            (W(1, 40), &[Watermark(40)]),
            (W(1, END), &[Watermark(END)]),
            (W(1, END), &[]),
        ],
    );
    // The last active one ends: the idle one may come back.
    check(
        2,
        &[
            (W(0, 30), &[]),
            (I(1), &[Watermark(30)]),
            (W(0, 35), &[Watermark(35)]),
            (W(0, END), &[Idle]),
            (A(1), &[Active]),
            (W(1, END), &[Watermark(END)]),
        ],
    );
    // An idle one can end without waking.
    check(2, &[(I(0), &[]), (W(0, END), &[]), (W(1, 3), &[Watermark(3)]), (W(1, END), &[Watermark(END)])]);
    check(2, &[(I(0), &[]), (I(1), &[Idle]), (W(0, END), &[]), (W(1, END), &[Watermark(END)])]);
}

/// The rules as semantics state them, over everything that was said: nothing is kept but the story.
mod model {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    pub(super) enum Said {
        Watermark(i64),
        Idle,
        Active,
        End,
    }

    /// What an input is, by its own story alone.
    #[derive(Clone, Copy, PartialEq)]
    enum Mood {
        Awake,
        Asleep,
        Gone,
    }

    fn mood(story: &[Said]) -> Mood {
        let last = story.iter().rev().find(|s| !matches!(s, Said::Watermark(_)));
        match (story.iter().any(|s| matches!(s, Said::End)), last) {
            (true, _) => Mood::Gone,
            (false, Some(Said::Idle)) => Mood::Asleep,
            (false, _) => Mood::Awake,
        }
    }

    /// The furthest that it said while it was awake.
    fn reached(story: &[Said]) -> i64 {
        let at = |n: usize| match story[n] {
            Said::Watermark(w) if mood(&story[..n]) == Mood::Awake => w,
            _ => WATERMARK_MIN,
        };
        (0..story.len()).map(at).max().unwrap_or(WATERMARK_MIN)
    }

    /// What is passed on in all, of what the inputs said in this order.
    pub(super) fn passed_on(inputs: usize, said: &[(usize, Said)]) -> Vec<Progress> {
        let mut told: Vec<Progress> = Vec::new();
        // Who was behind when it woke, and hasn't caught up since.
        let mut behind = vec![false; inputs];
        for end in 1..=said.len() {
            let story = |input: usize, until: usize| -> Vec<Said> {
                said[..until].iter().filter(|(i, _)| *i == input).map(|(_, s)| *s).collect()
            };
            let stories: Vec<Vec<Said>> = (0..inputs).map(|i| story(i, end)).collect();
            let out = told.iter().rev().find_map(|p| if let Watermark(w) = p { Some(*w) } else { None });
            let out = out.unwrap_or(WATERMARK_MIN);
            let input = said[end - 1].0;
            let woke = mood(&story(input, end - 1)) == Mood::Asleep && mood(&stories[input]) == Mood::Awake;
            behind[input] = (behind[input] || woke) && reached(&stories[input]) < out;

            let all: Vec<Mood> = stories.iter().map(|s| mood(s)).collect();
            let is_idle = !all.contains(&Mood::Awake) && all.contains(&Mood::Asleep);
            let was_idle = told.iter().rev().find(|p| !matches!(p, Watermark(_))) == Some(&Idle);
            let next = if all.iter().all(|m| *m == Mood::Gone) {
                Some(WATERMARK_MAX)
            } else if is_idle {
                stories.iter().map(|s| reached(s)).max()
            } else {
                let counts = |i: &usize| all[*i] == Mood::Awake && !behind[*i];
                (0..inputs).filter(counts).map(|i| reached(&stories[i])).min()
            };
            if was_idle && all.contains(&Mood::Awake) {
                told.push(Active);
            }
            told.extend(next.filter(|w| *w > out).map(Watermark));
            if is_idle && !was_idle {
                told.push(Idle);
            }
        }
        told
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 2000, ..Default::default() })]
    #[test]
    fn any_interleaving_gives_what_the_rules_say(
        inputs in 1..4_usize,
        said in proptest::collection::vec((0..4_usize, 0..16_u8, 0..12_i64), 0..40),
    ) {
        use model::Said;
        let mut combiner = Combiner::new(inputs);
        let (mut told, mut events) = (Vec::new(), Vec::new());
        let mut before = 0;
        for (input, what, by) in said {
            let input = input % inputs;
            let said = match what {
                0 => Said::End,
                1..4 => Said::Idle,
                4..7 => Said::Active,
                _ => Said::Watermark(by + i64::try_from(events.len()).unwrap() / 2),
            };
            events.push((input, said));
            let passed = match said {
                Said::Watermark(w) => combiner.advance(input, w),
                Said::Idle => combiner.idle(input),
                Said::Active => combiner.wake(input),
                Said::End => combiner.advance(input, WATERMARK_MAX),
            };
            told.extend(passed);
            let expected = model::passed_on(inputs, &events);
            proptest::prop_assert_eq!(&told[before..], &expected[before.min(expected.len())..], "after {:?}", events);
            before = told.len();
        }
        // Laws that hold whatever the rules are.
        let watermarks: Vec<i64> =
            told.iter().filter_map(|p| if let Watermark(w) = p { Some(*w) } else { None }).collect();
        proptest::prop_assert!(watermarks.is_sorted_by(|a, b| a < b));
        let statuses: Vec<&Progress> = told.iter().filter(|p| !matches!(p, Watermark(_))).collect();
        let by_turns = statuses.chunks(2).all(|pair| *pair[0] == Idle && pair.get(1).is_none_or(|p| **p == Active));
        proptest::prop_assert!(by_turns);
        let all_ended = (0..inputs).all(|i| events.iter().any(|(at, s)| *at == i && matches!(s, Said::End)));
        proptest::prop_assert_eq!(watermarks.last() == Some(&WATERMARK_MAX), all_ended);
    }
}
