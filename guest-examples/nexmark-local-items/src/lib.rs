//! Nexmark query 3: an auction of category 10 and its seller, if they live in Oregon, Idaho or California.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Auction {
    id: Option<i64>,
    category: Option<i64>,
}

#[derive(Record)]
struct Person<'a> {
    name: Option<&'a str>,
    city: Option<&'a str>,
    state: Option<&'a str>,
}

#[derive(Record, Debug, PartialEq)]
struct Item<'a> {
    name: &'a str,
    city: &'a str,
    state: &'a str,
    auction: i64,
}

const CATEGORY: i64 = 10;

#[derive(Default)]
struct LocalItems;

#[operator]
impl Join for LocalItems {
    type Left<'a> = Auction;
    type Right<'a> = Person<'a>;
    type Output<'a> = Option<Item<'a>>;

    fn join<'a>(&self, auction: Auction, person: Person<'a>) -> Option<Item<'a>> {
        let state = person.state.filter(|state| ["OR", "ID", "CA"].contains(state))?;
        let auction = auction.id.filter(|_| auction.category == Some(CATEGORY))?;
        Some(Item { name: person.name?, city: person.city?, state, auction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_states_are_local() {
        let item = |state, category| {
            let person = Person { name: Some("Kate Smith"), city: Some("Bend"), state: Some(state) };
            LocalItems.join(Auction { id: Some(7), category: Some(category) }, person)
        };
        let local = Item { name: "Kate Smith", city: "Bend", state: "OR", auction: 7 };
        assert_eq!(item("OR", 10), Some(local));
        assert_eq!(item("OR", 11), None);
        assert_eq!(item("WA", 10), None);
    }
}
