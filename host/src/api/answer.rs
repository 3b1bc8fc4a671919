//! Answers: JSON, and problems in one form.

use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::service::model::Operation;
use crate::service::{Refusal, RefusalKind};

/// What a handler gives.
pub(super) type Answer = Result<Response, Problem>;

/// Why a request isn't answered as it wanted.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(super) fn wrong_method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid", message)
    }

    pub(super) fn too_slow(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid", message)
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            RefusalKind::NotFound => Self::not_found(refusal.message),
            RefusalKind::Invalid => Self::invalid(refusal.message),
            RefusalKind::Conflict => Self::new(StatusCode::CONFLICT, "conflict", refusal.message),
            RefusalKind::Failed => Self::failed(refusal.message),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let said = json!({ "error": { "kind": self.kind, "message": self.message } });
        let mut response = text(self.status, "application/json", said.to_string());
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"tidemill\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What was asked for.
pub(super) fn found(what: &impl Serialize) -> Answer {
    as_json(StatusCode::OK, what)
}

/// Something was begun that takes its time.
pub(super) fn begun(operation: &Operation) -> Answer {
    as_json(StatusCode::ACCEPTED, operation)
}

fn as_json(status: StatusCode, what: &impl Serialize) -> Answer {
    match serde_json::to_string(what) {
        Ok(json) => Ok(text(status, "application/json", json)),
        Err(error) => Err(Problem::failed(format!("the answer can't be written as JSON: {error}"))),
    }
}

/// A text of this type.
pub(super) fn text(status: StatusCode, content_type: &'static str, text: String) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(content_type))], text).into_response()
}

/// Has every answer say that it is of the type that it says, and not to be kept: it is about now, and not for everybody.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
