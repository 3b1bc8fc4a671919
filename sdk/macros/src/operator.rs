//! `#[operator]`: leaves the item as it is and adds `describe`, `open` and, for a component, the exports; with `migrate(..)`
//! also `earlier` and `migrate`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ImplItem, Item, ItemFn, ItemImpl, Path, Result, parse_quote, parse_quote_spanned};

use crate::arguments::Arguments;
use crate::component::{self, World};

const TRAITS: &str = "`Transform`, `Aggregate`, `Window`, `Join` or `Process`";

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::of(arguments)?;
    let extend = arguments.extend;
    match syn::parse2(item)? {
        Item::Fn(function) => {
            arguments.without_migrations("a function")?;
            expand_function(&function, extend)
        }
        Item::Impl(implementation) => match trait_name(&implementation).as_deref() {
            Some("Transform") => {
                arguments.without_migrations("a `Transform`")?;
                Ok(expand_transform(implementation, extend))
            }
            Some(name) => match Kind::of(name) {
                Some(Kind { nothing_to_extend: Some(why), .. }) if extend => {
                    Err(Error::new(implementation.span(), format!("{why}: write `#[operator]`")))
                }
                Some(kind) => {
                    if kind.migrate.is_none() {
                        arguments.without_migrations(&format!("a `{name}`"))?;
                    }
                    Ok(expand_kind(implementation, kind, &arguments))
                }
                None => Err(Error::new(implementation.span(), format!("expected an `impl` of {TRAITS}"))),
            },
            None => Err(Error::new(implementation.span(), format!("expected an `impl` of {TRAITS}"))),
        },
        other => {
            let message = format!("expected a function, or an `impl` of {TRAITS}");
            Err(Error::new(other.span(), message))
        }
    }
}

fn trait_name(implementation: &ItemImpl) -> Option<String> {
    let (_, path, _) = implementation.trait_.as_ref()?;
    Some(path.segments.last()?.ident.to_string())
}

fn expand_function(function: &ItemFn, extend: bool) -> Result<TokenStream> {
    let signature = &function.sig;
    let name = &signature.ident;
    if signature.inputs.len() != 1 || matches!(signature.inputs.first(), Some(syn::FnArg::Receiver(_))) {
        return Err(Error::new(signature.span(), "an operator is a function of one record"));
    }
    if signature.asyncness.is_some() {
        return Err(Error::new(
            signature.asyncness.span(),
            "an operator computes and returns: it cannot be async",
        ));
    }
    let sdk = quote!(::tidemill_sdk);
    let description = description();
    // In the span of the function's name, so that a mistake in its types is shown there.
    let describe = quote_spanned! {name.span()=>
        ::tidemill_sdk::__private::describe_function(#description, #extend, #name)
    };
    let process = quote_spanned!(name.span()=> ::tidemill_sdk::__private::process(batch, #name));
    let component = component::expand(World::Transform);
    Ok(quote! {
        #function

        /// What this operator says about itself.
        #[allow(unreachable_pub)]
        pub fn describe() -> #sdk::Description {
            #describe
        }

        /// This operator, to run whole batches; it has no settings.
        ///
        /// # Errors
        /// If a setting is given.
        #[allow(unreachable_pub)]
        pub fn open(
            settings: &[(::std::string::String, ::std::string::String)],
        ) -> ::core::result::Result<::std::boxed::Box<dyn #sdk::TransformOperator>, ::std::string::String> {
            struct Function;

            impl #sdk::TransformOperator for Function {
                fn process(
                    &self,
                    batch: #sdk::Batch<'_>,
                ) -> ::core::result::Result<#sdk::Emission, ::std::string::String> {
                    #process
                }
            }

            #sdk::__private::open_function(settings, Function)
        }

        #component
    })
}

fn expand_transform(mut implementation: ItemImpl, extend: bool) -> TokenStream {
    add_open(&mut implementation);
    bind_lifetime(&mut implementation, "process");
    let ty = &implementation.self_ty;
    let sdk = quote!(::tidemill_sdk);
    let description = description();
    let component = component::expand(World::Transform);
    quote! {
        #implementation

        /// What this operator says about itself.
        #[allow(unreachable_pub)]
        pub fn describe() -> #sdk::Description {
            #sdk::__private::describe_transform::<#ty>(#description, #extend)
        }

        /// This operator with its settings, to run whole batches.
        ///
        /// # Errors
        /// If a setting is missing, wrong or unknown.
        #[allow(unreachable_pub)]
        pub fn open(
            settings: &[(::std::string::String, ::std::string::String)],
        ) -> ::core::result::Result<::std::boxed::Box<dyn #sdk::TransformOperator>, ::std::string::String> {
            #sdk::__private::open_transform::<#ty>(settings)
        }

        #component
    }
}

/// What the code of an operator that isn't a transform is made of: the two functions that it calls, and what it opens.
struct Kind {
    world: World,
    describe: &'static str,
    open: &'static str,
    operator: &'static str,
    /// The function whose answer may borrow from what it is given.
    borrowing: Option<&'static str>,
    /// Why it can't be `#[operator(extend)]`; `None`: it can, and is described with whether it is.
    nothing_to_extend: Option<&'static str>,
    /// What runs a migration of its state, if it has any of its own.
    migrate: Option<&'static str>,
}

impl Kind {
    /// The kind of operator that implements this trait.
    fn of(name: &str) -> Option<&'static Self> {
        match name {
            "Aggregate" => Some(&AGGREGATE),
            "Window" => Some(&WINDOW),
            "Join" => Some(&JOIN),
            "Process" => Some(&PROCESS),
            _ => None,
        }
    }
}

const AGGREGATE: Kind = Kind {
    world: World::Aggregate,
    describe: "describe_aggregate",
    open: "open_aggregate",
    operator: "AggregateOperator",
    borrowing: None,
    nothing_to_extend: Some("an aggregate has no row to extend"),
    migrate: Some("migrate_aggregate"),
};
const WINDOW: Kind = Kind {
    world: World::Window,
    describe: "describe_window",
    open: "open_window",
    operator: "WindowOperator",
    borrowing: Some("evaluate"),
    nothing_to_extend: Some("a window operator has many rows and none to extend"),
    migrate: None,
};
const JOIN: Kind = Kind {
    world: World::Join,
    describe: "describe_join",
    open: "open_join",
    operator: "JoinOperator",
    borrowing: Some("join"),
    nothing_to_extend: None,
    migrate: None,
};
const PROCESS: Kind = Kind {
    world: World::Process,
    describe: "describe_process",
    open: "open_process",
    operator: "ProcessOperator",
    borrowing: None,
    nothing_to_extend: Some("a process operator has no row to extend when a timer is due"),
    migrate: Some("migrate_process"),
};

fn expand_kind(mut implementation: ItemImpl, kind: &Kind, arguments: &Arguments) -> TokenStream {
    let Arguments { extend, migrations } = arguments;
    add_open(&mut implementation);
    if let Some(borrowing) = kind.borrowing {
        bind_lifetime(&mut implementation, borrowing);
    }
    let ty = &implementation.self_ty;
    let sdk = quote!(::tidemill_sdk);
    let description = description();
    let [describe, open, operator] =
        [kind.describe, kind.open, kind.operator].map(|name| Ident::new(name, Span::call_site()));
    let extend = kind.nothing_to_extend.is_none().then(|| quote!(, #extend));
    let functions = kind.migrate.filter(|_| !migrations.is_empty()).map(|run| migrating(ty, run, migrations));
    let component = match functions {
        Some(_) => component::expand_migrating(kind.world),
        None => component::expand(kind.world),
    };
    quote! {
        #implementation

        #functions

        /// What this operator says about itself.
        #[allow(unreachable_pub)]
        pub fn describe() -> #sdk::Description {
            #sdk::__private::#describe::<#ty>(#description #extend)
        }

        /// This operator with its settings, to run whole batches.
        ///
        /// # Errors
        /// If a setting is missing, wrong or unknown.
        #[allow(unreachable_pub)]
        pub fn open(
            settings: &[(::std::string::String, ::std::string::String)],
        ) -> ::core::result::Result<::std::boxed::Box<dyn #sdk::#operator>, ::std::string::String> {
            #sdk::__private::#open::<#ty>(settings)
        }

        #component
    }
}

/// The functions that run migrations; `run` is the one that does for this kind of operator.
fn migrating(ty: &syn::Type, run: &str, migrations: &[Path]) -> TokenStream {
    let sdk = quote!(::tidemill_sdk);
    let run = Ident::new(run, Span::call_site());
    let numbers = 0..migrations.len();
    // In the span of the function's name, so that a mistake in its types is shown there.
    let earlier =
        migrations.iter().map(|path| quote_spanned!(path.span()=> ::tidemill_sdk::__private::earlier(#path)));
    let migrate = migrations
        .iter()
        .map(|path| quote_spanned!(path.span()=> ::tidemill_sdk::__private::#run::<#ty, _, _>(rows, #path)));
    quote! {
        /// The fields of the states of earlier versions that this operator takes over.
        #[allow(unreachable_pub)]
        pub fn earlier() -> ::std::vec::Vec<&'static [#sdk::Field]> {
            ::std::vec![#(#earlier),*]
        }

        /// Makes this operator's state of rows of the earlier one of this number.
        ///
        /// # Errors
        /// If the rows do not fit, a migration refuses one, or there is none of this number.
        #[allow(unreachable_pub)]
        pub fn migrate(
            which: usize,
            rows: #sdk::Batch<'_>,
        ) -> ::core::result::Result<::std::vec::Vec<#sdk::ColumnBuffer>, ::std::string::String> {
            match which {
                #(#numbers => #migrate,)*
                other => ::core::result::Result::Err(#sdk::__private::no_migration(other)),
            }
        }
    }
}

/// An operator without settings need not say so. (A default method in the trait could not: its `Self:
/// Default` would be asked of every operator.)
fn add_open(implementation: &mut ItemImpl) {
    let has_open =
        implementation.items.iter().any(|item| matches!(item, ImplItem::Fn(f) if f.sig.ident == "open"));
    if has_open {
        return;
    }
    let ty = &implementation.self_ty;
    let open: syn::ImplItemFn = parse_quote_spanned! {ty.span()=>
        fn open(
            _settings: &mut ::tidemill_sdk::Settings,
        ) -> ::core::result::Result<Self, ::std::string::String> {
            ::core::result::Result::Ok(<#ty as ::core::default::Default>::default())
        }
    };
    implementation.items.push(parse_quote!(#open));
}

/// Makes the lifetime of the function of this name one that the compiler counts as the trait's. That one is "early bound",
/// because a type like `Self::Input<'a>` does not pin it down; the author's `Flight<'a>` does, and the two
/// would not match. A bound that says nothing makes it early too.
fn bind_lifetime(implementation: &mut ItemImpl, name: &str) {
    for item in &mut implementation.items {
        let ImplItem::Fn(function) = item else { continue };
        if function.sig.ident != name {
            continue;
        }
        let generics = &mut function.sig.generics;
        if generics.lifetimes().next().is_none() {
            generics.params.insert(0, parse_quote!('row));
        }
        let lifetime = generics.lifetimes().next().map(|parameter| parameter.lifetime.clone());
        generics.make_where_clause().predicates.push(parse_quote!(#lifetime: #lifetime));
        function
            .attrs
            .push(parse_quote!(#[allow(clippy::extra_unused_lifetimes, clippy::needless_lifetimes)]));
    }
}

/// The crate's name and version, as they are where the operator is written.
fn description() -> TokenStream {
    let sdk = quote!(::tidemill_sdk);
    quote! {
        #sdk::Description {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
            inputs: ::std::vec::Vec::new(),
            output: #sdk::Output::Same,
            state: &[],
            collections: &[],
            absent: #sdk::Sides { left: false, right: false },
        }
    }
}
