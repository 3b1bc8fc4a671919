use tidemill_sdk::prelude::*;

#[derive(State)]
struct Visits {
    count: i64,
}

fn main() {}
