//! Replays and their reports.

use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::Api;
use super::answer::{Answer, Problem, begun, found, text};
use super::body::{Json, Parameters};
use crate::replay;
use crate::service::model::ReplayOrder;

pub(super) async fn list(State(api): State<Api>, Path(pipeline): Path<String>) -> Answer {
    found(&api.service.replays(&pipeline)?)
}

pub(super) async fn start(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(order): Json<ReplayOrder>,
) -> Answer {
    begun(&api.service.replay(&pipeline, order).await?)
}

/// In which form a report is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Text,
    Html,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    format: Option<Format>,
}

pub(super) async fn report(
    State(api): State<Api>,
    Path((pipeline, replay)): Path<(String, String)>,
    Parameters(Form { format }): Parameters<Form>,
    headers: HeaderMap,
) -> Answer {
    let json = api.service.report(&pipeline, &replay)?;
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let default = if accepts.contains("text/html") { Format::Html } else { Format::Json };
    let format = format.unwrap_or(default);
    let written = write(&json, format).map_err(Problem::failed)?;
    Ok(as_response(written, format))
}

fn as_response(written: String, format: Format) -> Response {
    let content_type = match format {
        Format::Json => "application/json",
        Format::Text => "text/plain; charset=utf-8",
        Format::Html => "text/html; charset=utf-8",
    };
    let mut response = text(StatusCode::OK, content_type, written);
    if format == Format::Html {
        // What the page shows came from rows; were it ever taken for more than text, it could still do nothing.
        let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A report, in this form.
fn write(json: &str, format: Format) -> Result<String, String> {
    match format {
        Format::Json => Ok(json.to_owned()),
        Format::Text => replay::report_text(json),
        Format::Html => replay::report_html(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_html_may_do_nothing() {
        let policy =
            |format| as_response(String::new(), format).headers().get(CONTENT_SECURITY_POLICY).cloned();
        assert_eq!(policy(Format::Html).unwrap(), "default-src 'none'; style-src 'unsafe-inline'");
        assert_eq!([policy(Format::Json), policy(Format::Text)], [None, None]);
    }
}
