//! What the names of streams and the addresses of servers have to look like.

use async_nats::ServerAddr;

/// As long as a name may be for its files' sake.
const STREAM_BYTES_MAX: usize = 255;

/// Whether a stream can have this name.
///
/// # Errors
/// Why it can't.
pub fn check_stream(name: &str) -> Result<(), String> {
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    if name.is_empty() || name.len() > STREAM_BYTES_MAX || name.contains(is_wrong) {
        return Err(format!(
            "`{}` is no name of a stream: up to {STREAM_BYTES_MAX} bytes, without spaces, dots, slashes, `*` and `>`",
            name.escape_debug()
        ));
    }
    Ok(())
}

/// Whether this is the address of a server.
///
/// # Errors
/// Why it isn't.
pub fn check_server(address: &str) -> Result<(), String> {
    let wrong = |why: &str| {
        let shown = address.rsplit('@').next().unwrap_or(address);
        format!(
            "`{}` is no address of a server: {why}; write it as in nats://host:4222",
            shown.escape_debug()
        )
    };
    let parsed: ServerAddr = address.parse().map_err(|e: std::io::Error| wrong(&e.to_string()))?;
    if !matches!(parsed.scheme(), "nats" | "tls") {
        return Err(wrong("it begins with `nats://` or `tls://`"));
    }
    if parsed.host().is_empty() {
        return Err(wrong("it has no host"));
    }
    if parsed.has_user_pass() {
        // It would be printed with the address.
        return Err(wrong("who connects doesn't stand in it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams() {
        for name in ["ORDERS", "a-b_c=1", "Bücher"] {
            assert_eq!(check_stream(name), Ok(()));
        }
        for name in ["", "a.b", "a b", "a*", ">", "a/b", "a\nb"] {
            assert!(check_stream(name).is_err(), "{name}");
        }
    }

    #[test]
    fn addresses_of_servers() {
        for address in ["nats://localhost", "tls://nats-1:4222", "127.0.0.1:4222", "host"] {
            assert_eq!(check_server(address), Ok(()), "{address}");
        }
        for address in ["", "http://host", "ws://host", "nats://ann:secret@host:4222"] {
            let why = check_server(address).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
    }
}
