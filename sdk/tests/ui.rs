//! Mistakes that the compiler finds, and what it says about them.

#[test]
fn a_mistake_is_explained_where_it_is_made() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
