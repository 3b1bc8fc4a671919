//! Real NATS servers for tests: a [`Server`] or a [`Cluster`] of its own for each test, and a [`Proxy`] to cut it off.
//! A [`Client`] is for tests, and programs, that have no other.
//!
//! A server listens on a port of 127.0.0.1 that it keeps over restarts, and stores into a folder of its own, which
//! goes with the value. Keep the value in the test: what lives in a static is never dropped, and its process stays.
//!
//! ```no_run
//! let Some(server) = tidemill_nats_test::Server::start() else { return };
//! println!("{}", server.url());
//! server.kill();
//! server.restart();
//! ```

mod client;
mod cluster;
mod ports;
mod program;
mod proxy;
pub mod python;
mod server;

pub use client::{Client, Message};
pub use cluster::Cluster;
pub use program::{VARIABLE, find, is_named};
pub use proxy::Proxy;
pub use server::Server;

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Says that a test wasn't done, in a line that `cargo xtask test` counts. What `print!` says of a test that passes
/// nobody sees.
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stdout(), "\ntest skipped: {name}: {why}");
}

/// The folder that cargo builds into: what is installed for tests is kept in it.
pub fn target() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).expect("the kit is two folders below the workspace");
    workspace.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
