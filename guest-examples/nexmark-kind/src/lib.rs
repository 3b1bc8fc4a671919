//! Of Nexmark's events, which come in one stream, those of one kind: the setting `kind` is `person`, `auction` or
//! `bid`.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Event<'a> {
    event_type: &'a str,
}

struct OfKind {
    kind: String,
}

#[operator]
impl Transform for OfKind {
    type Input<'a> = Event<'a>;
    type Output<'a> = bool;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        let kind: String = settings.required("kind")?;
        match kind.as_str() {
            "person" | "auction" | "bid" => Ok(Self { kind }),
            _ => Err(format!("`kind` is `{kind}`; there are `person`, `auction` and `bid`")),
        }
    }

    fn process(&self, event: Event<'_>) -> bool {
        event.event_type == self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_passes() {
        let auctions = OfKind { kind: "auction".into() };
        let passes = |event_type| auctions.process(Event { event_type });
        assert_eq!(["person", "auction", "bid"].map(passes), [false, true, false]);
        assert!(open(&[("kind".into(), "seller".into())]).is_err());
    }
}
