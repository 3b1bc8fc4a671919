//! The kit of the tests: the real program, real components, and a folder for each run.
//!
//! A test makes a [`Folder`], writes files into it, runs a pipeline there, and looks at what [`Ended`] says and at
//! the files. Nothing here knows the host's library; what the kit can't see, users can't see either.

mod bucket;
mod components;
mod consumer;
mod ended;
mod folder;
mod program;
mod serving;
mod streams;

pub use bucket::Bucket;
pub use components::component;
pub use consumer::Consumer;
pub use ended::Ended;
pub use folder::{Folder, sorted};
pub use program::{Running, command, tidemill, tidemill_in};
pub use serving::Host;
pub use streams::Streams;
pub use tidemill_nats_test::target;

use std::path::Path;

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace")
}

/// A file of the workspace, as text.
///
/// # Panics
/// When it can't be read.
pub fn workspace_file(path: &str) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

/// The pipeline of an example, its components named as [`Folder::run`] has them.
pub fn example(path: &str) -> String {
    let text = workspace_file(&format!("examples/{path}"));
    let mut parts = text.split("\"../operators/");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (component, rest) = part.split_once(".wasm\"").expect("a component is a .wasm file");
        named += &format!("\"@{}\"{rest}", component.replace('_', "-"));
    }
    named
}
