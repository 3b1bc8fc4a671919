//! The words of a line: whatever stands between white space, as it is.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Line<'a> {
    line: &'a str,
}

/// A piece of the line, not a copy.
#[derive(Record)]
struct Word<'a> {
    word: &'a str,
}

#[operator]
fn words<'a>(line: Line<'a>) -> Rows<impl Iterator<Item = Word<'a>>> {
    Rows(line.line.split_whitespace().map(|word| Word { word }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_between_white_space() {
        let line = Line { line: " Time and tide\twait for no-one. " };
        let words: Vec<_> = words(line).0.map(|word| word.word).collect();
        assert_eq!(words, ["Time", "and", "tide", "wait", "for", "no-one."]);
    }
}
