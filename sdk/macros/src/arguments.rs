//! The arguments of `#[operator]`.

use proc_macro2::TokenStream;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Meta, Path, Result, Token};

/// What stands in the parentheses of `#[operator(..)]`.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) extend: bool,
    /// The functions that migrate state.
    pub(crate) migrations: Vec<Path>,
}

impl Arguments {
    pub(crate) fn of(arguments: TokenStream) -> Result<Self> {
        const EXPECTED: &str =
            "expected `#[operator]`, `#[operator(extend)]` or `#[operator(migrate(f, ..))]`";
        let span = arguments.span();
        let listed = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(arguments);
        let mut all = Self::default();
        for argument in listed.map_err(|_| Error::new(span, EXPECTED))? {
            match argument {
                Meta::Path(path) if path.is_ident("extend") => all.extend = true,
                Meta::List(list) if list.path.is_ident("migrate") => {
                    let paths = Punctuated::<Path, Token![,]>::parse_terminated.parse2(list.tokens.clone());
                    all.migrations.extend(paths.map_err(|_| Error::new(list.span(), EXPECTED))?);
                }
                other => return Err(Error::new(other.span(), EXPECTED)),
            }
        }
        Ok(all)
    }

    /// Refuses migrations, for what keeps no state of its own.
    pub(crate) fn without_migrations(&self, what: &str) -> Result<()> {
        match self.migrations.first() {
            None => Ok(()),
            Some(first) => Err(Error::new(
                first.span(),
                format!(
                    "{what} keeps nothing of its own that could be migrated; an `Aggregate` or a `Process` does"
                ),
            )),
        }
    }
}
