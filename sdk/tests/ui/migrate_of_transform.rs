use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Word<'a> {
    word: &'a str,
}

#[operator(migrate(of_words))]
fn short(word: Word<'_>) -> bool {
    word.word.len() < 4
}

fn of_words(_: ()) {}

fn main() {}
