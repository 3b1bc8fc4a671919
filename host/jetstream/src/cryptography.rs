//! The cryptography of TLS in this process: ring, which connections to NATS bring along.

use async_nats::rustls::crypto::ring;

/// Has whoever speaks TLS in this process and names no cryptography use ours. Clients of HTTP need that before they are
/// made.
pub fn use_cryptography() {
    // Fails if there is one already, which then does as well.
    let _ = ring::default_provider().install_default();
}
