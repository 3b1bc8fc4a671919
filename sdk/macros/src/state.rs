//! `#[derive(State)]`: of the values it makes a record, and passes each collection on to its type.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Result, parse_quote};

use crate::record;

/// A field of the struct that is a collection.
struct Collection<'i> {
    ident: &'i syn::Ident,
    ty: &'i syn::Type,
    name: String,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let (values, collections) = fields(input)?;
    let ident = &input.ident;
    let sdk = quote!(::tidemill_sdk);
    let record: DeriveInput = parse_quote!(pub struct Values { #(#values,)* });
    let implementation = record::expand(&record)?;
    let kept: Vec<_> = values.iter().filter_map(|field| field.ident.as_ref()).collect();
    let tys = values.iter().map(|field| &field.ty);
    let entries: Vec<_> = collections.iter().map(|collection| collection.ident).collect();
    let numbers: Vec<_> = (0..collections.len()).map(syn::Index::from).collect();
    let described = collections.iter().map(|Collection { ty, name, .. }| {
        quote_spanned! {ty.span()=> ::tidemill_sdk::Collection {
            name: #name,
            entry: <#ty>::ENTRY,
            value: <#ty>::VALUE,
        }}
    });
    let opened = collections.iter().zip(0_u8..).map(|(Collection { ident, ty, .. }, number)| {
        quote_spanned!(ty.span()=> #ident: <#ty>::at(place, #number))
    });
    Ok(quote! {
        // A state of collections alone has no values: its record is a unit.
        #[allow(clippy::unused_unit)]
        const _: () = {
            /// The values of a key, as a row.
            #[allow(missing_docs, unreachable_pub)]
            pub struct Values { #(pub #kept: #tys,)* }

            #implementation

            #[automatically_derived]
            impl #sdk::State for #ident {
                const COLLECTIONS: &'static [#sdk::Collection] = &[#(#described),*];
                type Values = Values;

                #[inline(always)]
                fn load(values: Values, place: &#sdk::__private::Place) -> Self {
                    let _ = (&values, place);
                    Self { #(#kept: values.#kept,)* #(#opened,)* }
                }

                #[inline(always)]
                fn values(&self) -> Values {
                    Values { #(#kept: ::core::clone::Clone::clone(&self.#kept),)* }
                }

                fn has_entries(&self) -> bool {
                    false #(|| self.#entries.is_touched())*
                }

                #[inline(always)]
                fn restore(&mut self, values: Values) {
                    let _ = &values;
                    #(self.#kept = values.#kept;)*
                }

                #[inline(always)]
                fn settle(&mut self, accepted: bool) {
                    let _ = accepted;
                    #(self.#entries.settle(accepted);)*
                }

                #[inline(always)]
                fn unload(self, changes: &mut [#sdk::__private::EntryChanges]) -> Values {
                    let _ = &changes;
                    #(self.#entries.unload(&mut changes[#numbers]);)*
                    Values { #(#kept: self.#kept,)* }
                }
            }
        };
    })
}

/// The values, as fields of a record, and the collections.
fn fields(input: &DeriveInput) -> Result<(Vec<syn::Field>, Vec<Collection<'_>>)> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.span(), "a state is a struct: one field for each value or collection"));
    };
    if let Some(parameter) = input.generics.params.first() {
        let message = "a state owns what it holds and has no parameters: it outlives every batch";
        return Err(Error::new(parameter.span(), message));
    }
    let named = match &data.fields {
        Fields::Named(fields) => fields.named.iter().collect(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(fields) => {
            return Err(Error::new(fields.span(), "give the fields names: a checkpoint knows them by these"));
        }
    };
    let (mut values, mut collections) = (Vec::new(), Vec::<Collection<'_>>::new());
    for field in named {
        let Some(ident) = &field.ident else {
            return Err(Error::new(field.span(), "give the field a name: a checkpoint knows it by this"));
        };
        let name = name(field)?;
        match last_segment(&field.ty).as_deref() {
            Some("Option") => values.push(value(field, name)),
            Some("Entries") => {
                check_entries(ident, &field.ty)?;
                let name = name.unwrap_or_else(|| ident.to_string().trim_start_matches("r#").to_owned());
                if collections.iter().any(|earlier| earlier.name == name) {
                    let message = format!("two collections of this state are called `{name}`");
                    return Err(Error::new(field.span(), message));
                }
                collections.push(Collection { ident, ty: &field.ty, name });
            }
            _ => {
                let message = format!(
                    "the field `{ident}` of a state is an `Option`, as a key that is new has no values; or it is \
                     an `Entries<K, V>`, a collection"
                );
                return Err(Error::new(field.ty.span(), message));
            }
        }
    }
    if collections.len() > usize::from(u8::MAX) {
        return Err(Error::new(input.span(), "a state has at most 255 collections"));
    }
    Ok((values, collections))
}

/// Refuses types that entries and their values don't have. The traits would refuse them too, but cannot name the field,
/// and say so once for each use.
fn check_entries(field: &syn::Ident, ty: &syn::Type) -> Result<()> {
    let arguments = record::arguments(ty);
    let [entry, value] = arguments.as_slice() else {
        return Err(Error::new(
            ty.span(),
            format!("the collection `{field}` is an `Entries<K, V>`: of what, and what"),
        ));
    };
    let refuse = |ty: &syn::Type, what: &str, advice: &str| {
        Err(Error::new(
            ty.span(),
            format!("the {what} of the collection `{field}` cannot have this type: {advice}"),
        ))
    };
    match last_segment(entry).as_deref() {
        Some("f64" | "f32") => {
            return refuse(entry, "entries", "floats have no order to rely on; take `i64`");
        }
        Some("Option") => return refuse(entry, "entries", "an entry is always there"),
        _ => {}
    }
    if let Some(advice) = record::advice(entry) {
        return refuse(entry, "entries", advice);
    }
    if last_segment(value).as_deref() == Some("Option") {
        return refuse(value, "values", "an entry without a value is one that isn't there");
    }
    match record::advice(value) {
        Some(advice) => refuse(value, "values", advice),
        None => Ok(()),
    }
}

/// The field of a record that is this value.
fn value(field: &syn::Field, name: Option<String>) -> syn::Field {
    let attrs = name.map(|name| parse_quote!(#[record(name = #name)])).into_iter().collect();
    syn::Field { attrs, vis: syn::Visibility::Inherited, ..field.clone() }
}

fn name(field: &syn::Field) -> Result<Option<String>> {
    let mut name = None;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("expected `name = \"..\"`"));
            }
            name = Some(meta.value()?.parse::<LitStr>()?.value());
            Ok(())
        })?;
    }
    Ok(name)
}

fn last_segment(ty: &syn::Type) -> Option<String> {
    let syn::Type::Path(path) = ty else { return None };
    Some(path.path.segments.last()?.ident.to_string())
}
