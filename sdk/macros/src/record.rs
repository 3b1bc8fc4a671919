//! `#[derive(Record)]`: names the fields, and asks each field's type to do its part.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Fields, GenericParam, Lifetime, LitStr, Result};

/// A field of the struct, as the data knows it.
struct Column<'i> {
    ident: &'i syn::Ident,
    ty: &'i syn::Type,
    name: String,
    time: bool,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let columns = columns(input)?;
    let write = write_half(input, &columns);
    let read = read_half(input, &columns)?;
    Ok(quote! { #write #read })
}

/// `Record` and `Outcome`: the fields and their way out.
fn write_half(input: &DeriveInput, columns: &[Column<'_>]) -> TokenStream {
    let ident = &input.ident;
    let (generics, types, clause) = input.generics.split_for_impl();
    let sdk = quote!(::tidemill_sdk);
    let fields = columns.iter().map(|Column { ty, name, .. }| {
        quote_spanned! {ty.span()=> ::tidemill_sdk::Field {
            name: #name,
            data_type: <#ty as ::tidemill_sdk::FieldType>::DATA_TYPE,
            nullable: <#ty as ::tidemill_sdk::FieldType>::NULLABLE,
        }}
    });
    let times = columns.iter().filter(|column| column.time).map(|Column { ident, ty, .. }| {
        quote_spanned! {ty.span()=> let _: &::tidemill_sdk::Timestamp = &self.#ident; }
    });
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let tys: Vec<_> = columns.iter().map(|column| column.ty).collect();
    // In the span of the field's type, so that a mistake is shown there.
    let written: Vec<_> =
        tys.iter().map(|ty| quote_spanned!(ty.span()=> <#ty as ::tidemill_sdk::FieldType>)).collect();
    let at: Vec<_> = (0..columns.len()).map(syn::Index::from).collect();
    quote! {
        #[automatically_derived]
        impl #generics #sdk::Record for #ident #types #clause {
            const FIELDS: &'static [#sdk::Field] = &[#(#fields),*];
            const FIXED: bool = true #(&& #written::FIXED)*;
            type Writers = (#(#written::Writer,)*);
            type Block = (#([#tys; 8],)*);

            fn writers(rows: usize) -> Self::Writers {
                let _ = rows;
                (#(#written::writer(rows),)*)
            }

            #[inline(always)]
            fn empty_block() -> Self::Block {
                (#(<[#tys; 8] as ::core::default::Default>::default(),)*)
            }

            #[inline(always)]
            fn put(self, block: &mut Self::Block, lane: usize) {
                let _ = (&block, lane);
                #(block.#at[lane] = self.#idents;)*
            }

            #[inline(always)]
            fn push_block(writers: &mut Self::Writers, block: Self::Block) {
                let _ = (&writers, &block);
                #(#written::push_block(&mut writers.#at, block.#at);)*
            }

            #[inline(always)]
            fn push_lane(writers: &mut Self::Writers, block: &mut Self::Block, lane: usize) {
                let _ = (&writers, &block, lane);
                #(#written::push(&mut writers.#at, ::core::mem::take(&mut block.#at[lane]));)*
            }

            #[inline(always)]
            fn push(self, writers: &mut Self::Writers) {
                let _ = &writers;
                #(#written::push(&mut writers.#at, self.#idents);)*
            }

            fn finish(writers: Self::Writers) -> ::std::vec::Vec<#sdk::ColumnBuffer> {
                let _ = &writers;
                ::std::vec![#(#written::finish(writers.#at)),*]
            }

            #[inline(always)]
            fn duplicate(&self) -> Self {
                #(#times)*
                Self { #(#idents: ::core::clone::Clone::clone(&self.#idents)),* }
            }
        }

        #[automatically_derived]
        impl #generics #sdk::Outcome for #ident #types #clause {
            type Record = Self;
            const AT_MOST_ONE: bool = true;

            #[inline(always)]
            fn one(self) -> ::core::result::Result<::core::option::Option<Self>, #sdk::Reject> {
                ::core::result::Result::Ok(::core::option::Option::Some(self))
            }

            #[inline(always)]
            fn emit(self, row: usize, sink: &mut #sdk::Sink<Self>) {
                sink.push(row, self);
            }

            #[inline(always)]
            fn collect<'batch, I: #sdk::FromRow<'batch>>(
                input: &#sdk::Checked<'batch, I>,
                f: impl ::core::ops::FnMut(I) -> Self,
            ) -> #sdk::Emission {
                #sdk::__private::collect_dense(input, f)
            }
        }
    }
}

/// `FromRow`: the fields and their way in. A record that holds `&'static` text is only ever an output.
fn read_half(input: &DeriveInput, columns: &[Column<'_>]) -> Result<TokenStream> {
    if columns.iter().any(|column| mentions_static(column.ty)) {
        return Ok(TokenStream::new());
    }
    let ident = &input.ident;
    let mut generics = input.generics.clone();
    let batch = match lifetime(input)? {
        Some(lifetime) => lifetime,
        None => {
            let batch = Lifetime::new("'batch", ident.span());
            generics.params.insert(0, GenericParam::Lifetime(syn::LifetimeParam::new(batch.clone())));
            batch
        }
    };
    let (generics, _, clause) = generics.split_for_impl();
    let (_, types, _) = input.generics.split_for_impl();
    let sdk = quote!(::tidemill_sdk);
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let tys: Vec<_> = columns.iter().map(|column| column.ty).collect();
    let read: Vec<_> = tys
        .iter()
        .map(|ty| quote_spanned!(ty.span()=> <#ty as ::tidemill_sdk::FromColumn<#batch>>))
        .collect();
    let at: Vec<_> = (0..columns.len()).map(syn::Index::from).collect();
    let values: Vec<_> = (0..columns.len()).map(|at| format_ident!("value_{at}")).collect();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #sdk::FromRow<#batch> for #ident #types #clause {
            type Readers = (#(#read::Reader,)*);
            type Lanes = (#([#tys; 8],)*);

            #[inline(always)]
            fn readers(
                columns: &[#sdk::Column<#batch>],
                rows: usize,
            ) -> ::core::result::Result<Self::Readers, ::std::string::String> {
                let _ = (columns, rows);
                ::core::result::Result::Ok((#(
                    #sdk::__private::reader::<#tys>(
                        &columns[#at],
                        &<Self as #sdk::Record>::FIELDS[#at],
                        rows,
                    )?,
                )*))
            }

            #[inline(always)]
            fn lanes(readers: &Self::Readers, index: usize) -> Self::Lanes {
                let _ = (readers, index);
                (#(#read::block(&readers.#at, index),)*)
            }

            #[inline(always)]
            fn take(lanes: &mut Self::Lanes, lane: usize) -> Self {
                let _ = (&lanes, lane);
                #(let #values = ::core::mem::take(&mut lanes.#at[lane]);)*
                Self { #(#idents: #values),* }
            }

            #[inline(always)]
            fn tail(readers: &Self::Readers, lane: usize) -> Self {
                let _ = (readers, lane);
                #(let #values = #read::tail(&readers.#at, lane);)*
                Self { #(#idents: #values),* }
            }
        }
    })
}

fn columns(input: &DeriveInput) -> Result<Vec<Column<'_>>> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.span(), "a record is a struct: one field for each column"));
    };
    let fields = match &data.fields {
        Fields::Named(fields) => fields.named.iter().collect(),
        Fields::Unit => Vec::new(),
        Fields::Unnamed(fields) => {
            return Err(Error::new(fields.span(), "give the fields names: the columns are found by them"));
        }
    };
    let case = case(input)?;
    let mut columns = Vec::<Column<'_>>::new();
    for field in fields {
        let column = column(field, case)?;
        if columns.iter().any(|earlier| earlier.name == column.name) {
            let message = format!("two fields of this record are called `{}` in the data", column.name);
            return Err(Error::new(field.span(), message));
        }
        columns.push(column);
    }
    Ok(columns)
}

fn column(field: &syn::Field, case: Case) -> Result<Column<'_>> {
    let Some(ident) = &field.ident else {
        return Err(Error::new(field.span(), "give the field a name: its column is found by it"));
    };
    if let Some(advice) = advice(&field.ty) {
        let (ty, message) = (&field.ty, format!("the field `{ident}` cannot have this type: {advice}"));
        return Err(Error::new(ty.span(), message));
    }
    let mut name = case.apply(ident.to_string().trim_start_matches("r#"));
    let mut time = false;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("record")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("time") {
                time = true;
                name = "$time".into();
                Ok(())
            } else if meta.path.is_ident("name") {
                name = meta.value()?.parse::<LitStr>()?.value();
                Ok(())
            } else {
                Err(meta.error("expected `name = \"..\"` or `time`"))
            }
        })?;
    }
    Ok(Column { ident, ty: &field.ty, name, time })
}

/// What to write instead of a number type that columns do not have. The traits would refuse it too, but
/// cannot name the field, and say so once for each use.
pub(crate) fn advice(ty: &syn::Type) -> Option<&'static str> {
    let syn::Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    match last.ident.to_string().as_str() {
        "i8" | "i16" | "i32" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => {
            Some("whole numbers are `i64`")
        }
        "f32" => Some("numbers are `f64`"),
        "char" => Some("text is `&str` or `String`"),
        "Option" => advice(argument(last)?),
        "Vec" => match argument(last)? {
            syn::Type::Path(of) if !of.path.is_ident("u8") && !of.path.is_ident("i64") => {
                Some("a list is `Vec<i64>`, bytes are `Vec<u8>`")
            }
            _ => None,
        },
        _ => None,
    }
}

/// What a type is made of: `K` and `V` of `Entries<K, V>`.
pub(crate) fn arguments(ty: &syn::Type) -> Vec<&syn::Type> {
    let syn::Type::Path(path) = ty else { return Vec::new() };
    let Some(syn::PathArguments::AngleBracketed(arguments)) = path.path.segments.last().map(|s| &s.arguments)
    else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        syn::GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// What a type is made of: the `T` of `Option<T>`.
fn argument(segment: &syn::PathSegment) -> Option<&syn::Type> {
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first()? {
        syn::GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// How a field's name in Rust becomes its name in the data.
#[derive(Clone, Copy)]
enum Case {
    Same,
    Camel,
    Pascal,
    Kebab,
}

impl Case {
    fn apply(self, name: &str) -> String {
        let words = name.split('_').filter(|word| !word.is_empty());
        let capital = |word: &str| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect::<String>())
                .unwrap_or_default()
        };
        match self {
            Self::Same => name.to_owned(),
            Self::Kebab => words.collect::<Vec<_>>().join("-"),
            Self::Pascal => words.map(capital).collect(),
            Self::Camel => words
                .enumerate()
                .map(|(at, word)| if at == 0 { word.to_owned() } else { capital(word) })
                .collect(),
        }
    }
}

fn case(input: &DeriveInput) -> Result<Case> {
    let mut case = Case::Same;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("record")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("rename_all") {
                return Err(meta.error("expected `rename_all = \"camelCase\"`"));
            }
            let wanted = meta.value()?.parse::<LitStr>()?;
            case = match wanted.value().as_str() {
                "camelCase" => Case::Camel,
                "PascalCase" => Case::Pascal,
                "kebab-case" => Case::Kebab,
                _ => return Err(Error::new(wanted.span(), "expected camelCase, PascalCase or kebab-case")),
            };
            Ok(())
        })?;
    }
    Ok(case)
}

/// The lifetime of the batch that the record borrows from.
fn lifetime(input: &DeriveInput) -> Result<Option<Lifetime>> {
    let mut lifetimes = Vec::new();
    for parameter in &input.generics.params {
        match parameter {
            GenericParam::Lifetime(parameter) => lifetimes.push(parameter.lifetime.clone()),
            other => {
                return Err(Error::new(
                    other.span(),
                    "a record has no type parameters: its columns are fixed",
                ));
            }
        }
    }
    match lifetimes.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [_, second, ..] => {
            Err(Error::new(second.span(), "a record borrows from one batch: one lifetime is enough"))
        }
    }
}

fn mentions_static(ty: &syn::Type) -> bool {
    quote!(#ty).to_string().contains("'static")
}
