//! The words of a window in capitals, in the order of their event time.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Said<'a> {
    word: &'a str,
}

#[derive(Record, Debug, PartialEq)]
struct Shouted {
    word: String,
}

#[derive(Default)]
struct UpperCase;

#[operator]
impl Window for UpperCase {
    type Input<'a> = Said<'a>;
    type Output<'a> = Vec<Shouted>;

    fn evaluate<'a>(&self, _window: Bounds, said: Vec<Said<'a>>) -> Vec<Shouted> {
        said.iter().map(|said| Shouted { word: said.word.to_uppercase() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_in_their_order() {
        let window = Bounds { start: Timestamp(0), end: Timestamp(1_000) };
        let shouted = UpperCase.evaluate(window, vec![Said { word: "well" }, Said { word: "now" }]);
        assert_eq!(shouted.iter().map(|s| s.word.as_str()).collect::<Vec<_>>(), ["WELL", "NOW"]);
    }
}
