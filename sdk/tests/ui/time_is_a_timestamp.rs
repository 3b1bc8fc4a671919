use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Flight {
    #[record(time)]
    at: i64,
}

fn main() {}
