use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Flight {
    dep_delay: Option<u32>,
}

fn main() {}
