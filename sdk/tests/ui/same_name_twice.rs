use tidemill_sdk::prelude::*;

#[derive(Record)]
#[record(rename_all = "camelCase")]
struct Flight {
    dep_delay: i64,
    #[record(name = "depDelay")]
    delay: i64,
}

fn main() {}
