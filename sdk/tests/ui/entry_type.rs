use tidemill_sdk::prelude::*;

#[derive(State)]
struct Prices {
    items: Entries<f64, String>,
}

fn main() {}
