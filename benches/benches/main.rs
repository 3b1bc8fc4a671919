//! One program for all questions: each is a file, and linking wasmtime takes longer than most answers.

mod boundary;
mod decoding;
mod end_to_end;

criterion::criterion_main!(boundary::benches, decoding::benches, end_to_end::benches);
