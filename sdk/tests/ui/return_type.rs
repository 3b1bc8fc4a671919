use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Flight {
    dep_delay: i64,
}

#[operator]
fn late(flight: Flight) -> i64 {
    flight.dep_delay
}

fn main() {}
