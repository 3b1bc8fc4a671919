use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Flight {
    delays: Vec<String>,
}

fn main() {}
