//! Ports that are free, and stay so while a server is down.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those from which systems give ports to outgoing connections. There a client that tries to reach a server which
/// is down would now and then get the server's port as its own, and be connected to itself.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A free port of 127.0.0.1; not one that this process was given before.
///
/// # Panics
/// When none is free.
pub(crate) fn free() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Processes start far apart from each other; a prime, so that neighbours don't meet soon.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("below 32000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT);
}
