use tidemill_sdk::prelude::*;

#[derive(State)]
struct Visits<'a> {
    last: Option<&'a str>,
}

fn main() {}
