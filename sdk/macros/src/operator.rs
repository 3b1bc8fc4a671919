//! `#[operator]`: leaves the item as it is and adds `describe`, `open` and, for a component, the exports.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ImplItem, Item, ItemFn, ItemImpl, Result, parse_quote, parse_quote_spanned};

use crate::component::{self, World};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let extend = extend(arguments)?;
    match syn::parse2(item)? {
        Item::Fn(function) => expand_function(&function, extend),
        Item::Impl(implementation) => match trait_name(&implementation).as_deref() {
            Some("Transform") => Ok(expand_transform(implementation, extend)),
            Some("Aggregate") if extend => Err(Error::new(
                implementation.span(),
                "an aggregate has no row to extend: write `#[operator]`",
            )),
            Some("Process") if extend => Err(Error::new(
                implementation.span(),
                "a process operator has no row to extend when a timer is due: write `#[operator]`",
            )),
            Some("Aggregate") => Ok(expand_keyed(implementation, &AGGREGATE)),
            Some("Process") => Ok(expand_keyed(implementation, &PROCESS)),
            _ => Err(Error::new(
                implementation.span(),
                "expected an `impl` of `Transform`, `Aggregate` or `Process`",
            )),
        },
        other => {
            let message = "expected a function, or an `impl` of `Transform`, `Aggregate` or `Process`";
            Err(Error::new(other.span(), message))
        }
    }
}

fn extend(arguments: TokenStream) -> Result<bool> {
    match arguments.to_string().as_str() {
        "" => Ok(false),
        "extend" => Ok(true),
        _ => Err(Error::new(arguments.span(), "expected `#[operator]` or `#[operator(extend)]`")),
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
    bind_lifetime(&mut implementation);
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

/// What the code of an operator whose state the host keeps is made of: the two functions that it calls, and what it
/// opens.
struct Kind {
    world: World,
    describe: &'static str,
    open: &'static str,
    operator: &'static str,
}

const AGGREGATE: Kind = Kind {
    world: World::Aggregate,
    describe: "describe_aggregate",
    open: "open_aggregate",
    operator: "AggregateOperator",
};
const PROCESS: Kind = Kind {
    world: World::Process,
    describe: "describe_process",
    open: "open_process",
    operator: "ProcessOperator",
};

fn expand_keyed(mut implementation: ItemImpl, kind: &Kind) -> TokenStream {
    add_open(&mut implementation);
    let ty = &implementation.self_ty;
    let sdk = quote!(::tidemill_sdk);
    let description = description();
    let [describe, open, operator] =
        [kind.describe, kind.open, kind.operator].map(|name| Ident::new(name, Span::call_site()));
    let component = component::expand(kind.world);
    quote! {
        #implementation

        /// What this operator says about itself.
        #[allow(unreachable_pub)]
        pub fn describe() -> #sdk::Description {
            #sdk::__private::#describe::<#ty>(#description)
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

/// Makes the lifetime of `process` one that the compiler counts as the trait's. That one is "early bound",
/// because a type like `Self::Input<'a>` does not pin it down; the author's `Flight<'a>` does, and the two
/// would not match. A bound that says nothing makes it early too.
fn bind_lifetime(implementation: &mut ItemImpl) {
    for item in &mut implementation.items {
        let ImplItem::Fn(process) = item else { continue };
        if process.sig.ident != "process" {
            continue;
        }
        let generics = &mut process.sig.generics;
        if generics.lifetimes().next().is_none() {
            generics.params.insert(0, parse_quote!('row));
        }
        let lifetime = generics.lifetimes().next().map(|parameter| parameter.lifetime.clone());
        generics.make_where_clause().predicates.push(parse_quote!(#lifetime: #lifetime));
        process
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
        }
    }
}
