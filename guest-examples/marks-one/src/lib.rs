//! The first version of an operator that marks what it has seen. Not an example to follow: see `marks.rs`.

pub mod marks;

const VERSION: i64 = 1;
