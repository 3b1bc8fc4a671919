//! The client of the API: one request, one answer, or why there is none.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::data::DataFolder;
use super::super::exit::Exit;
use super::super::text::fit_to_print;

const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Longer than the host lets anybody wait for news.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A component is compiled before the host answers, and a plan loads all of a pipeline's.
const WORK_MAX: Duration = Duration::from_mins(15);

/// A host, and what lets us in.
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    token: String,
}

impl Client {
    /// The host at this URL, or else the one that serves the data folder.
    pub(super) fn new(host: Option<&str>, data: &DataFolder) -> Result<Self, Exit> {
        let address = host.map_or_else(|| data.address(), |host| Ok(host.to_owned()))?;
        let url = parse(&address)?;
        let token = match std::env::var("TIDEMILL_TOKEN") {
            Ok(token) if !token.is_empty() => token,
            _ => data.token()?,
        };
        let is_plain = url.scheme() == "http";
        tidemill_jetstream::use_cryptography();
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_MAX).redirect(Policy::none());
        // What is plain stays on this machine: no proxy gets to see it, and it needs no certificates of the system,
        // which may have none.
        let builder = if is_plain { builder.no_proxy().tls_certs_only([]) } else { builder };
        let http = builder
            .build()
            .map_err(|e| Exit::failure(format!("cannot make a client of HTTP: {}", chain(&e))))?;
        Ok(Self { http, url, token })
    }

    /// Asks for something.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Exit> {
        json(self.send(self.request(Method::GET, path, query).timeout(ANSWER_MAX)).await?)
    }

    /// Asks for something that is no JSON.
    pub(super) async fn get_text(&self, path: &[&str], query: &[(&str, &str)]) -> Result<String, Exit> {
        let bytes = self.send(self.request(Method::GET, path, query).timeout(ANSWER_MAX)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Asks that something be done.
    pub(super) async fn post(&self, path: &[&str], body: &impl Serialize) -> Result<Value, Exit> {
        json(self.send(self.request(Method::POST, path, &[]).json(body).timeout(WORK_MAX)).await?)
    }

    /// Asks that something be forgotten.
    pub(super) async fn delete(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Exit> {
        json(self.send(self.request(Method::DELETE, path, query).timeout(WORK_MAX)).await?)
    }

    /// Sends a file.
    pub(super) async fn upload(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        file: Vec<u8>,
    ) -> Result<Value, Exit> {
        let request = self.request(Method::POST, path, query).header(CONTENT_TYPE, "application/wasm");
        json(self.send(request.body(file).timeout(WORK_MAX)).await?)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.url.clone();
        // A base that can't have a path was refused when it was parsed.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.http.request(method, url).bearer_auth(&self.token)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, Exit> {
        let lost = |error: reqwest::Error| {
            Exit::unreachable(format!("the host at {} can't be reached: {}", self.url, chain(&error)))
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(lost)?;
        if status.is_success() {
            return Ok(bytes.into());
        }
        let message = message(status, &bytes);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Exit::unreachable(format!("the host at {} doesn't let us in: {message}", self.url))
            }
            _ if status.is_client_error() => Exit::usage(message),
            _ => Exit::failure(message),
        })
    }
}

fn parse(address: &str) -> Result<Url, Exit> {
    let refused = |why: &str| Exit::usage(format!("`{address}` can't be the URL of a host: {why}"));
    let url = Url::parse(address).map_err(|e| refused(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(refused("it has to be as http://127.0.0.1:7070, or https://…"));
    }
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || bare.parse().is_ok_and(|a: std::net::IpAddr| a.is_loopback());
    if url.scheme() == "http" && !is_loopback {
        return Err(refused("others could read the token on its way; use https"));
    }
    Ok(url)
}

/// What the host says of a request that it refuses.
fn message(status: StatusCode, bytes: &[u8]) -> String {
    let said: Option<Value> = serde_json::from_slice(bytes).ok();
    let message = said.as_ref().and_then(|said| said["error"]["message"].as_str());
    match message {
        Some(message) => fit_to_print(message),
        None => format!("the answer was {status}, and not one of a Tidemill host"),
    }
}

fn json(bytes: Vec<u8>) -> Result<Value, Exit> {
    serde_json::from_slice(&bytes).map_err(|e| Exit::failure(format!("the host's answer isn't JSON: {e}")))
}

/// An answer as what it should be.
pub(super) fn typed<T: DeserializeOwned>(answer: &Value) -> Result<T, Exit> {
    let other = |e| {
        Exit::failure(format!("the host's answer isn't what was expected; is it of another version? {e}"))
    };
    T::deserialize(answer).map_err(other)
}

/// An error with its reasons.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let reason_text = reason.to_string();
        if !text.contains(&reason_text) {
            text += &format!(": {reason_text}");
        }
        source = reason.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_sent_to_this_machine_or_encrypted() {
        for right in
            ["http://127.0.0.1:7070", "http://[::1]:1", "http://localhost", "https://mill.example.org/x/"]
        {
            assert!(parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "127.0.0.1:7070",
            "http://mill.example.org",
            "http://10.0.0.1",
            "ftp://localhost",
            "mailto:a@b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_host_says_does_not_steer_the_terminal() {
        let said = br#"{"error":{"kind":"invalid","message":"no\u001b[2J"}}"#;
        assert_eq!(message(StatusCode::BAD_REQUEST, said), "no\u{fffd}[2J");
        let other = message(StatusCode::BAD_GATEWAY, b"<html>\x1b");
        assert_eq!(other, "the answer was 502 Bad Gateway, and not one of a Tidemill host");
    }
}
