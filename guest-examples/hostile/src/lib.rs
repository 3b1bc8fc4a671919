//! Misbehaves as its setting `do` says: what the sandbox's tests run. Not an example to follow.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Line<'a> {
    line: &'a str,
}

#[derive(Record)]
struct Answer {
    answer: String,
}

/// More than a host copies out of a guest in one call.
const HUGE_BYTES: usize = 160 << 20;
/// More lines than a host shows of a guest.
const FLOOD_LINES: usize = 20_000;

/// How often it was told to remember.
static REMEMBERED: AtomicU64 = AtomicU64::new(0);

/// What it does with the line `now`; other lines it answers like any other operator.
#[derive(Clone, Copy)]
enum Hostile {
    Spin,
    Allocate,
    Panic,
    Recurse,
    FloodLog,
    HugeOutput,
    /// Its answer depends on what it was asked before.
    Remember,
    /// Its answer depends on the order of a hash map.
    HashOrder,
}

#[operator]
impl Transform for Hostile {
    type Input<'a> = Line<'a>;
    type Output<'a> = Answer;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        Ok(match settings.required::<String>("do")?.as_str() {
            "spin" => Self::Spin,
            "allocate" => Self::Allocate,
            "panic" => Self::Panic,
            "recurse" => Self::Recurse,
            "flood-log" => Self::FloodLog,
            "huge-output" => Self::HugeOutput,
            "remember" => Self::Remember,
            "hash-order" => Self::HashOrder,
            other => return Err(format!("`{other}` is nothing that it does")),
        })
    }

    fn process(&self, Line { line }: Line<'_>) -> Answer {
        let answer = if line == "now" { self.misbehave() } else { line.to_owned() };
        Answer { answer }
    }
}

impl Hostile {
    fn misbehave(self) -> String {
        match self {
            Self::Spin => loop {
                black_box(());
            },
            Self::Allocate => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(black_box(vec![1; 1 << 20]));
                }
            }
            Self::Panic => panic!("no more of this"),
            Self::Recurse => descend(1).to_string(),
            Self::FloodLog => {
                (0..FLOOD_LINES).for_each(|n| log::warn(format!("line {n} of a flood")));
                "dry again".to_owned()
            }
            Self::HugeOutput => "x".repeat(HUGE_BYTES),
            Self::Remember => REMEMBERED.fetch_add(1, Relaxed).to_string(),
            Self::HashOrder => ('a'..='z').zip(0..).collect::<HashMap<char, u8>>().into_keys().collect(),
        }
    }
}

/// Never comes back up.
#[expect(unconditional_recursion, reason = "it is what the test wants")]
fn descend(depth: u64) -> u64 {
    1 + black_box(descend(black_box(depth) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_behaves_until_told() {
        assert_eq!(Hostile::Spin.process(Line { line: "later" }).answer, "later");
        assert!(open(&[("do".into(), "nothing".into())]).is_err_and(|e| e.contains("nothing that it does")));
    }
}
