//! The macros of `tidemill-sdk`; documented there, where their examples compile.
//!
//! They write as little as they can: a record's code names its fields and leaves the work to their types'
//! traits, and an operator's code passes the function on, whose types say the rest.

mod arguments;
mod component;
mod operator;
mod record;
mod state;

use proc_macro::TokenStream;

/// Makes a struct a row: see `tidemill_sdk::Record`.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    record::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct the state of a key: see `tidemill_sdk::State`.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    state::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a function, or an `impl` of `Transform`, `Aggregate`, `Window`, `Join` or `Process`, the operator of this crate.
///
/// With `#[operator(extend)]` the fields that it returns are added to the row; without, they replace it.
/// `#[operator(migrate(f, g))]` names functions that make the state of an aggregate or a process operator of what earlier
/// versions kept: see `tidemill_sdk::Migrated`.
#[proc_macro_attribute]
pub fn operator(arguments: TokenStream, item: TokenStream) -> TokenStream {
    operator::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
