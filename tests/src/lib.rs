//! The kit of the tests.
