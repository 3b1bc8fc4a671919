//! The contract as wasmtime sees it: generated from `wit/`, one module a world, with shared types.

#![allow(missing_docs, unreachable_pub, clippy::all)]

pub mod transform {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "transform-operator",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
    });
}

pub mod aggregate {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "aggregate-operator",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: {
            "tidemill:operator/types": super::transform::tidemill::operator::types,
            "tidemill:operator/telemetry": super::transform::tidemill::operator::telemetry,
        },
    });
}

pub mod process {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "process-operator",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { "tidemill:operator/state": trappable },
        exports: { default: async },
        with: {
            "tidemill:operator/types": super::transform::tidemill::operator::types,
            "tidemill:operator/telemetry": super::transform::tidemill::operator::telemetry,
        },
    });
}

pub mod window {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "window-operator",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: {
            "tidemill:operator/types": super::transform::tidemill::operator::types,
            "tidemill:operator/telemetry": super::transform::tidemill::operator::telemetry,
        },
    });
}

pub mod join {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "join-operator",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: {
            "tidemill:operator/types": super::transform::tidemill::operator::types,
            "tidemill:operator/telemetry": super::transform::tidemill::operator::telemetry,
        },
    });
}

/// What components of two worlds may export beside.
pub mod migrating {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package tidemill:host;
            world migrating {
                import tidemill:operator/telemetry@0.1.0;
                export tidemill:operator/lifecycle@0.1.0;
                export tidemill:operator/migration@0.1.0;
            }
        ",
        world: "tidemill:host/migrating",
        ownership: Borrowing { duplicate_if_necessary: true },
        exports: { default: async },
        with: {
            "tidemill:operator/types": super::transform::tidemill::operator::types,
            "tidemill:operator/telemetry": super::transform::tidemill::operator::telemetry,
        },
    });
}
