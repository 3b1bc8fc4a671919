//! Whatever a file holds, reading it ends in a declaration or in errors that can be shown.

use super::whole::WHOLE;
use crate::pipeline::declaration::parse;

/// These take about a second; a million, once, found nothing more.
const RUNS: u64 = 2000;

/// Pieces that a random byte would hardly ever spell.
const PIECES: [&str; 20] = [
    "\"",
    "'''",
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\r\n",
    "\t",
    "\\u0000",
    "é",
    "\u{feff}",
    "😀",
    "[[a]]",
    "-1",
    "99999999999999999999",
    "\"by-origin.late\"",
];

/// Marsaglia's xorshift: the same seed gives the same file.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    fn position(&mut self, text: &str) -> usize {
        text.floor_char_boundary(self.below(text.len() + 1))
    }

    fn range(&mut self, text: &str) -> std::ops::Range<usize> {
        let (start, length) = (self.position(text), self.below(40));
        start..text.floor_char_boundary((start + length).min(text.len())).max(start)
    }
}

fn mutate(text: &mut String, random: &mut Random) {
    let at = random.position(text);
    match random.below(5) {
        0 => text.insert_str(at, PIECES[random.below(PIECES.len())]),
        1 => text.replace_range(random.range(text), ""),
        2 => text.replace_range(random.range(text), PIECES[random.below(PIECES.len())]),
        3 => {
            let copied = text[random.range(text)].to_owned();
            text.insert_str(at, &copied);
        }
        _ => {
            let mut lines: Vec<_> = text.split('\n').collect();
            let (a, b) = (random.below(lines.len()), random.below(lines.len()));
            lines.swap(a, b);
            *text = lines.join("\n");
        }
    }
}

#[test]
fn no_file_makes_the_reader_panic() {
    let mut refused = 0;
    for seed in 1..=RUNS {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut text = WHOLE.to_owned();
        for _ in 0..=random.below(6) {
            mutate(&mut text, &mut random);
        }
        if let Err(errors) = parse("pipeline.toml", &text) {
            refused += 1;
            assert!(errors.to_string().starts_with("pipeline.toml:"), "seed {seed}: {errors}");
            assert!(errors.iter().count() > 0, "seed {seed}");
        }
    }
    assert!(
        refused > RUNS / 4 && refused < RUNS,
        "{refused} of {RUNS} files refused: the mutations are no test"
    );
}
