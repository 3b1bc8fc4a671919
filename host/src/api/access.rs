//! Who is let in: a program of this machine that knows the token, and no web page.
//!
//! A browser can be made to send requests to this machine by any page. Three things keep such requests out, each by
//! itself: they lack the token; those that could change something have an `Origin`; and a name that an attacker's
//! server of names lets point here is none of the hosts that we answer to.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};

use super::answer::Problem;

/// What anybody of this machine may see.
const PUBLIC: [&str; 2] = ["/health", "/openapi.json"];

/// What a request has to prove.
#[derive(Debug)]
pub struct Access {
    token: Token,
    hosts: Vec<String>,
}

impl Access {
    /// Lets in who knows the token.
    pub fn new(token: Token) -> Self {
        Self { token, hosts: Vec::new() }
    }

    /// Answers to these names of the host too, beside `localhost` and loopback addresses with our port: a proxy's, as in
    /// `tidemill.example.org` with any port or `tidemill.example.org:8443`.
    pub fn with_hosts(self, hosts: Vec<String>) -> Self {
        Self { hosts, ..self }
    }

    /// Whether a request to this host is meant for us.
    fn is_ours(&self, authority: &str, port: u16) -> bool {
        // Nobody means `user@host`, and what it says depends on who reads it.
        let Ok(host) = authority.parse::<Authority>() else { return false };
        if authority.contains('@') {
            return false;
        }
        let name = host.host();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = name.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let allowed =
            |allowed: &String| authority.eq_ignore_ascii_case(allowed) || name.eq_ignore_ascii_case(allowed);
        (is_loopback && host.port_u16().unwrap_or(80) == port) || self.hosts.iter().any(allowed)
    }
}

/// What proves that somebody may use the host: of it only the SHA-256 is kept.
pub struct Token([u8; 32]);

impl Token {
    /// The token that is written so.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether this is the token. How long that takes tells nothing: all of both digests is compared, and nobody can
    /// aim at a digest.
    fn is(&self, text: &str) -> bool {
        let other = Self::new(text);
        let difference = self.0.iter().zip(other.0).fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets a request through, or says why not.
pub(super) async fn let_in(
    State((access, port)): State<(Arc<Access>, u16)>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    let host = only(headers, &HOST)
        .ok_or_else(|| Problem::forbidden("the request has to have the header `Host`, once"))?;
    // A proxy's form of a request names the host twice; both have to be ours.
    let asked = request.uri().authority().map(Authority::as_str);
    if let Some(other) = [Some(host), asked].into_iter().flatten().find(|host| !access.is_ours(host, port)) {
        return Err(Problem::forbidden(format!(
            "`{other}` isn't a name of this host; `tidemill serve --allowed-host` makes it one"
        )));
    }
    if headers.contains_key(ORIGIN) {
        return Err(Problem::forbidden(
            "a web page may not use this host: the request has a header `Origin`",
        ));
    }
    if !PUBLIC.contains(&request.uri().path()) {
        let token = only(headers, &AUTHORIZATION).and_then(bearer);
        let token = token
            .ok_or_else(|| Problem::unauthorized("the header `Authorization: Bearer TOKEN` is missing"))?;
        if !access.token.is(token) {
            return Err(Problem::unauthorized("the token isn't the one of this host"));
        }
    }
    Ok(next.run(request).await)
}

/// The value of a header that there is once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_this_machine_with_our_port_or_one_that_was_named() {
        let access = Access::new(Token::new("t"))
            .with_hosts(vec!["mill.example.org".to_owned(), "other.example.org:8443".to_owned()]);
        for ours in [
            "127.0.0.1:7070",
            "127.8.9.1:7070",
            "[::1]:7070",
            "LocalHost:7070",
            "mill.example.org",
            "Mill.Example.org:443",
            "other.example.org:8443",
        ] {
            assert!(access.is_ours(ours, 7070), "{ours}");
        }
        for foreign in [
            "",
            "127.0.0.1",
            "127.0.0.1:7071",
            "localhost.evil.example:7070",
            "evil.example:7070",
            "other.example.org",
            "127.0.0.1:7070@evil.example",
            "evil@127.0.0.1:7070",
            "10.0.0.1:7070",
            "[::]:7070",
            "0.0.0.0:7070",
            "mill.example.org.evil.example",
        ] {
            assert!(!access.is_ours(foreign, 7070), "{foreign}");
        }
        assert!(access.is_ours("127.0.0.1", 80));
    }

    #[test]
    fn only_the_token_is_the_token() {
        let token = Token::new("secret");
        assert!(token.is("secret"));
        for other in ["", "Secret", "secret ", "secre", "secrets"] {
            assert!(!token.is(other), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_eq!(
            [bearer("Bearer a"), bearer("bearer  a "), bearer("Basic a"), bearer("a")],
            [Some("a"), Some("a"), None, None]
        );
    }
}
