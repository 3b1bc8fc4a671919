//! The exports of a component: bindings from the contract's text, and the conversion between their types and
//! the SDK's.
//!
//! The bindings stand in the operator's crate and not in the SDK, because each world leaves a description of
//! itself in the module, and one crate with several worlds would leave all of them. Buffers change owner here
//! and are never copied.

use proc_macro2::TokenStream;
use quote::quote;

/// The contract, as this version of the SDK knows it.
const CONTRACT: &str = include_str!("../../../wit/operator.wit");

#[derive(Clone, Copy)]
pub(crate) enum World {
    Transform,
    Aggregate,
    Window,
    Join,
    Process,
}

pub(crate) fn expand(world: World) -> TokenStream {
    let (world, slot, exports) = match world {
        World::Transform => ("transform-operator", quote!(TransformOperator), transform()),
        World::Aggregate => ("aggregate-operator", quote!(AggregateOperator), aggregate()),
        World::Window => ("window-operator", quote!(WindowOperator), window()),
        World::Join => ("join-operator", quote!(JoinOperator), join()),
        World::Process => ("process-operator", quote!(ProcessOperator), process()),
    };
    module(world, &slot, &exports)
}

/// As [`expand`], of an operator that also takes over the state of earlier versions.
pub(crate) fn expand_migrating(world: World) -> TokenStream {
    let (world, slot, exports) = match world {
        World::Aggregate => ("migrating-aggregate-operator", quote!(AggregateOperator), aggregate()),
        World::Process => ("migrating-process-operator", quote!(ProcessOperator), process()),
        World::Transform | World::Window | World::Join => unreachable!("it has no state of its own"),
    };
    let migration = migration();
    module(world, &slot, &quote!(#exports #migration))
}

fn module(world: &str, slot: &TokenStream, exports: &TokenStream) -> TokenStream {
    let common = common(slot);
    quote! {
        #[cfg(target_family = "wasm")]
        #[doc(hidden)]
        #[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all)]
        mod tidemill_component {
            ::tidemill_sdk::__private::wit_bindgen::generate!({
                inline: #CONTRACT,
                world: #world,
                runtime_path: "::tidemill_sdk::__private::wit_bindgen::rt",
            });

            #common
            #exports

            export!(Component);
        }
    }
}

fn common(slot: &TokenStream) -> TokenStream {
    quote! {
        use ::std::{boxed::Box, cell::OnceCell, option::Option, result::Result, string::String, vec::Vec};
        use ::tidemill_sdk::{__private, log};
        use exports::tidemill::operator::lifecycle;
        use tidemill::operator::{telemetry, types};

        struct Component;

        ::std::thread_local! {
            static OPERATOR: OnceCell<Box<dyn ::tidemill_sdk::#slot>> = const { OnceCell::new() };
        }

        fn with<T>(
            f: impl FnOnce(&dyn ::tidemill_sdk::#slot) -> Result<T, String>,
        ) -> Result<T, String> {
            OPERATOR.with(|operator| f(operator.get().ok_or("`open` has not been called")?.as_ref()))
        }

        impl lifecycle::Guest for Component {
            fn describe() -> lifecycle::Description {
                let described = super::describe();
                lifecycle::Description {
                    name: described.name.into(),
                    version: described.version.into(),
                    inputs: described.inputs.into_iter().map(schema).collect(),
                    output: match described.output {
                        ::tidemill_sdk::Output::Same => lifecycle::Output::Same,
                        ::tidemill_sdk::Output::Extended(fields) => lifecycle::Output::Extended(schema(fields)),
                        ::tidemill_sdk::Output::Replaced(fields) => lifecycle::Output::Replaced(schema(fields)),
                    },
                    state: schema(described.state),
                }
            }

            fn open(settings: Vec<(String, String)>) -> Result<(), String> {
                __private::connect(__private::Channel {
                    log: |level, message| telemetry::log(level_of(level), message),
                    count: telemetry::count,
                    gauge: telemetry::gauge,
                });
                let opened = super::open(&settings)?;
                OPERATOR.with(|operator| operator.set(opened)).map_err(|_| "`open` was called twice".into())
            }
        }

        fn level_of(level: log::Level) -> telemetry::Level {
            match level {
                log::Level::Debug => telemetry::Level::Debug,
                log::Level::Info => telemetry::Level::Info,
                log::Level::Warn => telemetry::Level::Warn,
                log::Level::Error => telemetry::Level::Error,
            }
        }

        fn schema(fields: &[::tidemill_sdk::Field]) -> Vec<types::Field> {
            let field = |field: &::tidemill_sdk::Field| types::Field {
                name: field.name.into(),
                data_type: data_type(field.data_type),
                nullable: field.nullable,
            };
            fields.iter().map(field).collect()
        }

        fn data_type(data_type: ::tidemill_sdk::DataType) -> types::DataType {
            match data_type {
                ::tidemill_sdk::DataType::Boolean => types::DataType::Boolean,
                ::tidemill_sdk::DataType::Integer => types::DataType::Integer,
                ::tidemill_sdk::DataType::Float => types::DataType::Float,
                ::tidemill_sdk::DataType::Text => types::DataType::Text,
                ::tidemill_sdk::DataType::Bytes => types::DataType::Bytes,
                ::tidemill_sdk::DataType::Timestamp => types::DataType::Timestamp,
            }
        }

        fn borrow(columns: &[types::Column]) -> Vec<::tidemill_sdk::Column<'_>> {
            let mut borrowed = Vec::with_capacity(columns.len());
            for column in columns {
                borrowed.push(::tidemill_sdk::Column {
                    validity: column.validity.as_deref(),
                    offsets: column.offsets.as_deref(),
                    data: &column.data,
                });
            }
            borrowed
        }

        fn hand_over(columns: Vec<::tidemill_sdk::ColumnBuffer>) -> Vec<types::Column> {
            columns.into_iter().map(column).collect()
        }

        fn column(column: ::tidemill_sdk::ColumnBuffer) -> types::Column {
            types::Column { validity: column.validity, offsets: column.offsets, data: column.data }
        }

        fn rejections(rejected: Vec<::tidemill_sdk::Rejection>) -> Vec<types::Rejection> {
            let rejection = |rejection: ::tidemill_sdk::Rejection| types::Rejection {
                row: rejection.row,
                reason: rejection.reason,
            };
            rejected.into_iter().map(rejection).collect()
        }

        fn emission(emission: ::tidemill_sdk::Emission) -> types::Emission {
            types::Emission {
                rows: emission.rows,
                origins: emission.origins,
                columns: hand_over(emission.columns),
                rejected: rejections(emission.rejected),
            }
        }
    }
}

fn transform() -> TokenStream {
    quote! {
        impl exports::tidemill::operator::transform::Guest for Component {
            fn process(input: types::Batch) -> Result<types::Emission, String> {
                let columns = borrow(&input.columns);
                let batch = ::tidemill_sdk::Batch { rows: input.rows as usize, columns: &columns };
                with(|operator| operator.process(batch)).map(emission)
            }
        }
    }
}

fn aggregate() -> TokenStream {
    quote! {
        use exports::tidemill::operator::aggregate;

        impl aggregate::Guest for Component {
            fn initial() -> Result<Vec<types::Column>, String> {
                with(|operator| Ok(hand_over(operator.initial())))
            }

            fn accumulate(
                groups: u32,
                accumulators: Vec<types::Column>,
                group_of: Vec<u8>,
                input: types::Batch,
            ) -> Result<aggregate::Folded, String> {
                let accumulators = borrow(&accumulators);
                let columns = borrow(&input.columns);
                let batch = ::tidemill_sdk::Batch { rows: input.rows as usize, columns: &columns };
                let folded = with(|operator| operator.accumulate(groups as usize, &accumulators, &group_of, batch))?;
                Ok(aggregate::Folded {
                    accumulators: hand_over(folded.accumulators),
                    rejected: rejections(folded.rejected),
                })
            }

            fn merge(
                groups: u32,
                left: Vec<types::Column>,
                right: Vec<types::Column>,
            ) -> Result<Vec<types::Column>, String> {
                let (left, right) = (borrow(&left), borrow(&right));
                with(|operator| operator.merge(groups as usize, &left, &right)).map(hand_over)
            }

            fn finish(groups: u32, accumulators: Vec<types::Column>) -> Result<types::Emission, String> {
                let accumulators = borrow(&accumulators);
                with(|operator| operator.finish(groups as usize, &accumulators)).map(emission)
            }
        }
    }
}

fn window() -> TokenStream {
    quote! {
        use exports::tidemill::operator::window;

        impl window::Guest for Component {
            fn evaluate(windows: Vec<window::Bounds>, input: types::Batch) -> Result<types::Emission, String> {
                let columns = borrow(&input.columns);
                let batch = ::tidemill_sdk::Batch { rows: input.rows as usize, columns: &columns };
                let window = |window: window::Bounds| ::tidemill_sdk::WindowRows {
                    bounds: ::tidemill_sdk::Bounds {
                        start: ::tidemill_sdk::Timestamp(window.start),
                        end: ::tidemill_sdk::Timestamp(window.end),
                    },
                    rows_end: window.rows_end as usize,
                };
                let windows: Vec<_> = windows.into_iter().map(window).collect();
                with(|operator| operator.evaluate(&windows, batch)).map(emission)
            }
        }
    }
}

fn join() -> TokenStream {
    quote! {
        use exports::tidemill::operator::join;

        impl join::Guest for Component {
            fn absent() -> join::Sides {
                let ::tidemill_sdk::Sides { left, right } = super::describe().absent;
                join::Sides { left, right }
            }

            fn process(
                left: types::Batch,
                right: types::Batch,
                left_absent: Option<Vec<u8>>,
                right_absent: Option<Vec<u8>>,
            ) -> Result<types::Emission, String> {
                let (lefts, rights) = (borrow(&left.columns), borrow(&right.columns));
                let pairs = ::tidemill_sdk::Pairs {
                    left: ::tidemill_sdk::Batch { rows: left.rows as usize, columns: &lefts },
                    right: ::tidemill_sdk::Batch { rows: right.rows as usize, columns: &rights },
                    left_absent: left_absent.as_deref(),
                    right_absent: right_absent.as_deref(),
                };
                with(|operator| operator.process(pairs)).map(emission)
            }
        }
    }
}

fn migration() -> TokenStream {
    quote! {
        impl exports::tidemill::operator::migration::Guest for Component {
            fn earlier() -> Vec<Vec<types::Field>> {
                super::earlier().into_iter().map(schema).collect()
            }

            fn migrate(which: u32, rows: types::Batch) -> Result<Vec<types::Column>, String> {
                let columns = borrow(&rows.columns);
                let batch = ::tidemill_sdk::Batch { rows: rows.rows as usize, columns: &columns };
                super::migrate(which as usize, batch).map(hand_over)
            }
        }
    }
}

fn process() -> TokenStream {
    quote! {
        use exports::tidemill::operator::keyed_process;
        use tidemill::operator::state;

        /// The collections that the host keeps.
        struct Kept;

        impl ::tidemill_sdk::Collections for Kept {
            fn read(
                &self,
                collection: u8,
                keys: &[u8],
                entries: ::tidemill_sdk::ColumnBuffer,
            ) -> ::tidemill_sdk::ColumnBuffer {
                column_buffer(state::read(collection, keys, &column(entries)))
            }

            fn write(
                &self,
                collection: u8,
                keys: &[u8],
                entries: ::tidemill_sdk::ColumnBuffer,
                values: ::tidemill_sdk::ColumnBuffer,
            ) {
                state::write(collection, keys, &column(entries), &column(values));
            }

            fn range(
                &self,
                collection: u8,
                key: u32,
                first: Option<&[u8]>,
                end: Option<&[u8]>,
                limit: u32,
            ) -> ::tidemill_sdk::FoundEntries {
                let found = state::range(collection, key, first, end, limit);
                ::tidemill_sdk::FoundEntries {
                    count: found.count,
                    entries: column_buffer(found.entries),
                    values: column_buffer(found.values),
                }
            }
        }

        fn column_buffer(column: types::Column) -> ::tidemill_sdk::ColumnBuffer {
            ::tidemill_sdk::ColumnBuffer { validity: column.validity, offsets: column.offsets, data: column.data }
        }

        fn run(
            input: keyed_process::Keyed,
            call: impl FnOnce(
                &dyn ::tidemill_sdk::ProcessOperator,
                ::tidemill_sdk::Keyed<'_>,
            ) -> Result<::tidemill_sdk::Processed, String>,
        ) -> Result<keyed_process::Processed, String> {
            let values = borrow(&input.values);
            let columns = borrow(&input.rows.columns);
            let keyed = ::tidemill_sdk::Keyed {
                keys: input.keys as usize,
                key_of: &input.key_of,
                values: &values,
                rows: ::tidemill_sdk::Batch { rows: input.rows.rows as usize, columns: &columns },
                watermark: input.watermark,
                processing_time: input.processing_time,
            };
            let processed = with(|operator| call(operator, keyed))?;
            Ok(keyed_process::Processed {
                emission: emission(processed.emission),
                values: processed.values.into_iter().map(|values| values.map(column)).collect(),
                timers: timers(processed.timers)?,
            })
        }

        fn timers(changes: ::tidemill_sdk::TimerChanges) -> Result<keyed_process::TimerChanges, String> {
            let columns: [types::Column; 4] =
                hand_over(changes.columns).try_into().map_err(|_| "timers have four columns")?;
            let [key, processing_time, name, at] = columns;
            Ok(keyed_process::TimerChanges { rows: changes.rows, key, processing_time, name, at })
        }

        impl keyed_process::Guest for Component {
            fn collections() -> Vec<keyed_process::Collection> {
                let collection = |collection: &::tidemill_sdk::Collection| keyed_process::Collection {
                    name: collection.name.into(),
                    entry: data_type(collection.entry),
                    value: data_type(collection.value),
                };
                super::describe().collections.iter().map(collection).collect()
            }

            fn process(input: keyed_process::Keyed) -> Result<keyed_process::Processed, String> {
                run(input, |operator, input| operator.process(input, ::std::rc::Rc::new(Kept)))
            }

            fn on_timer(due: keyed_process::Keyed) -> Result<keyed_process::Processed, String> {
                run(due, |operator, due| operator.on_timer(due, ::std::rc::Rc::new(Kept)))
            }
        }
    }
}
