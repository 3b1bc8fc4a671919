//! Nexmark query 8: a person who has opened auctions in the same window in which they became a person. On the left are
//! persons, on the right sellers, each once.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Person<'a> {
    id: Option<i64>,
    name: Option<&'a str>,
}

#[derive(Record, Debug, PartialEq)]
struct NewSeller<'a> {
    person: i64,
    name: &'a str,
}

#[derive(Default)]
struct NewSellers;

#[operator]
impl Join for NewSellers {
    type Left<'a> = Person<'a>;
    type Right<'a> = ();
    type Output<'a> = Result<NewSeller<'a>, Reject>;

    fn join<'a>(&self, person: Person<'a>, _seller: ()) -> Result<NewSeller<'a>, Reject> {
        let (person, name) = person.id.zip(person.name).ok_or("a person without id or name")?;
        Ok(NewSeller { person, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seller_is_told_by_name() {
        let person = Person { id: Some(1000), name: Some("Kate Smith") };
        assert_eq!(NewSellers.join(person, ()), Ok(NewSeller { person: 1000, name: "Kate Smith" }));
        assert!(NewSellers.join(Person { id: None, name: None }, ()).is_err());
    }
}
