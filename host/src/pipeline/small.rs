//! Plans for tests, made as those of people are, of components that say of themselves what a test wants.

use std::path::Path;

use super::check;
use super::declaration::{self, Declaration};
use super::plan::Plan;
use crate::plugin::{Description, Plugin, World, small};

/// Checks the pipeline in `text`, whose operators are these, in its order.
pub(crate) fn plan(base: &Path, text: &str, operators: &[(World, Description)]) -> (Declaration, Plan) {
    let declaration = declaration::parse("p.toml", text).unwrap_or_else(|errors| panic!("{errors}"));
    let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let load = |(world, about): &(World, Description)| -> Plugin {
        executor.block_on(small::RUNTIME.load(&small::component(*world, about))).unwrap()
    };
    let plugins = operators.iter().map(load).collect();
    let plan = check::plan(&declaration, plugins, base, 2).unwrap_or_else(|errors| panic!("{errors}"));
    (declaration, plan)
}
