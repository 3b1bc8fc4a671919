//! What all tests of plugins need: the examples' components, and one runtime.

use std::path::Path;
use std::sync::OnceLock;

use tidemill::plugin::Runtime;
use tidemill::toolchain;

const PACKAGES: [&str; 12] = [
    "count-by-key",
    "deduplicate",
    "hostile",
    "hostile-aggregate",
    "hostile-keyed",
    "join-orders-payments",
    "latest-by-item",
    "median",
    "number-by-key",
    "top-n",
    "visits-v1",
    "visits-v2",
];

/// The bytes of an example operator's component.
pub(crate) fn component(package: &str) -> Vec<u8> {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let options = toolchain::Options {
            packages: PACKAGES.map(Into::into).into(),
            target_dir: None,
            output_dir: Some(folder.path().to_owned()),
            quiet: true,
        };
        let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        toolchain::build(workspace, &options).expect("the examples can be built");
        folder
    });
    let path = folder.path().join(package.replace('-', "_")).with_extension("wasm");
    std::fs::read(path).expect("it was built")
}

/// One for all tests, as it is one for a process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<(Runtime, tempfile::TempDir)> = OnceLock::new();
    let (runtime, _) = RUNTIME.get_or_init(|| {
        let cache = tempfile::tempdir().expect("a folder can be made");
        (Runtime::new(cache.path()).expect("wasmtime starts"), cache)
    });
    runtime
}
