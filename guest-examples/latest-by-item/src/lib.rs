//! The latest price of each item that a shop sells, one shop a key. For each offer comes how many items the shop has
//! then, and by how much the price has changed. A price of none takes the item out of the shop.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Offer<'a> {
    item: &'a str,
    price: Option<f64>,
}

/// Items may be many: they stay with the host until an offer names them.
#[derive(State, Default)]
struct Shop {
    items: Option<i64>,
    prices: Entries<String, f64>,
}

#[derive(Record, Debug, PartialEq)]
struct Change {
    item: String,
    items: i64,
    change: Option<f64>,
}

#[derive(Default)]
struct LatestByItem;

#[operator]
impl Process for LatestByItem {
    type Input<'a> = Offer<'a>;
    type State = Shop;
    type Output = Result<Change, Reject>;

    fn process(&self, shop: &mut Shop, offer: Offer<'_>, _: &mut Timers) -> Result<Change, Reject> {
        let (item, before) = (offer.item.to_owned(), shop.prices.get(offer.item));
        let mut items = shop.items.unwrap_or(0);
        match (before, offer.price) {
            (None, None) => return Err(format!("{item} isn't sold here").into()),
            (None, Some(_)) => items += 1,
            (Some(_), None) => items -= 1,
            (Some(_), Some(_)) => {}
        }
        match offer.price {
            Some(price) => shop.prices.insert(item.clone(), price),
            None => shop.prices.remove(offer.item),
        }
        shop.items = Some(items);
        Ok(Change { item, items, change: before.zip(offer.price).map(|(before, now)| now - before) })
    }
}

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::Keyed;

    use super::*;

    #[test]
    fn each_shop_has_its_own_prices() {
        let mut keyed = Keyed::new(&describe(), open(&[]).unwrap());
        let offer = |shop, item, price| (shop, Offer { item, price });
        let change = |shop, item: &str, items, change| (shop, Change { item: item.into(), items, change });
        let came = keyed.process([
            offer("mill", "rye", Some(1.5)),
            offer("mill", "flour", Some(2.0)),
            offer("bakery", "rye", Some(4.0)),
            offer("mill", "rye", Some(1.25)),
        ]);
        let came = came.unwrap().rows;
        assert_eq!(came[..2], [change("mill", "rye", 1, None), change("mill", "flour", 2, None)]);
        assert_eq!(came[2..], [change("bakery", "rye", 1, None), change("mill", "rye", 2, Some(-0.25))]);

        let came = keyed.process([offer("mill", "rye", None), offer("mill", "rye", None)]).unwrap();
        assert_eq!(came.rows, [change("mill", "rye", 1, None)]);
        assert_eq!(came.rejected, [("mill", "rye isn't sold here".to_owned())]);
        assert_eq!(keyed.entries::<String, f64>(&"mill", "prices"), [("flour".to_owned(), 2.0)]);
    }
}
