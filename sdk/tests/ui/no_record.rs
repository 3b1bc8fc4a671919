use tidemill_sdk::prelude::*;

struct Flight {
    dep_delay: i64,
}

#[operator]
fn late(flight: Flight) -> bool {
    flight.dep_delay > 15
}

fn main() {}
