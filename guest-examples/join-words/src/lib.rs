//! Joins the words of a key in the order in which they come, and says them at an instant of event time.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Said<'a> {
    word: &'a str,
}

#[derive(State, Default)]
struct Heard {
    words: Option<String>,
}

#[derive(Record, Debug, PartialEq)]
struct Joined {
    words: String,
}

struct JoinWords {
    at: Timestamp,
}

#[operator]
impl Process for JoinWords {
    type Input<'a> = Said<'a>;
    type State = Heard;
    type Output = Option<Joined>;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        Ok(Self { at: Timestamp(settings.required("at_ms")?) })
    }

    fn process(&self, heard: &mut Heard, said: Said<'_>, timers: &mut Timers) -> Option<Joined> {
        timers.set("say", self.at);
        match &mut heard.words {
            Some(words) => {
                words.push(',');
                words.push_str(said.word);
            }
            None => heard.words = Some(said.word.to_owned()),
        }
        None
    }

    fn on_timer(&self, heard: &mut Heard, _say: Timer<'_>, _timers: &mut Timers) -> Option<Joined> {
        heard.words.take().map(|words| Joined { words })
    }
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::Keyed;

    use super::*;

    #[test]
    fn words_are_said_when_it_is_time() {
        let mut keyed = Keyed::new(&describe(), open(&[("at_ms".into(), "5".into())]).unwrap());
        let rows = ["a", "b"].map(|word| ("ann", Said { word }));
        assert_eq!(keyed.process::<_, Joined>(rows).unwrap().rows, []);
        let said = keyed.advance_watermark(Timestamp(5)).unwrap();
        assert_eq!(said.rows, [("ann", Joined { words: "a,b".to_owned() })]);
    }
}
