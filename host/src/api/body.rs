//! What comes with a request, read within limits: JSON, a component's bytes, the parameters behind the `?`.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::answer::Problem;
use super::check::Checked;

/// A pipeline file has 1 MiB at most, and half of it may be quotation marks, which JSON escapes.
const JSON_BYTES_MAX: usize = 2 << 20;

/// How long JSON may take to arrive.
const JSON_MAX: Duration = Duration::from_secs(30);

/// A body of JSON whose fields are known and whose names are proper.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned + Checked, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::invalid(
                "the body has to be JSON, with the header `Content-Type: application/json`",
            ));
        }
        let bytes = read(request, JSON_BYTES_MAX, JSON_MAX).await?;
        // A list of the fields' values would be taken for an object as well.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Problem::invalid(
                "the body isn't what is expected here: it has to be an object of JSON",
            ));
        }
        let body: T = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::invalid(format!("the body isn't what is expected here: {error}")))?;
        body.check()?;
        Ok(Self(body))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// The parameters behind the `?`; unknown ones are refused by their type.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(parameters) = query.map_err(|error| Problem::invalid(error.body_text()))?;
        Ok(Self(parameters))
    }
}

/// All of a body, if it is no larger than this and there in time.
pub(super) async fn read(request: Request, bytes_max: usize, time_max: Duration) -> Result<Vec<u8>, Problem> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // Refused before it is sent, if it says so.
    if announced.is_some_and(|bytes: u64| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let read = tokio::time::timeout(time_max, collect(request.into_body(), bytes_max)).await;
    read.unwrap_or_else(|_| Err(Problem::too_slow(format!("the body wasn't there within {time_max:?}"))))
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Problem::invalid(format!("the body can't be read: {error}")))?;
        // Trailers are of no interest.
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > bytes_max - bytes.len() {
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::too_large(format!("the body has more than the {} MiB that are allowed here", bytes_max >> 20))
}
