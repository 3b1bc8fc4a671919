//! All routes, in the order of `openapi.json`.

use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use serde_json::json;

use super::answer::{Answer, Problem, found, text};
use super::{Api, OPENAPI, components, pipelines, replays};

/// The table of contents of the API.
pub(super) fn all() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/health", get(health)),
        ("/openapi.json", get(openapi)),
        ("/v1/pipelines", get(pipelines::list)),
        ("/v1/pipelines/{pipeline}", get(pipelines::status)),
        ("/v1/pipelines/{pipeline}", delete(pipelines::delete)),
        ("/v1/plan", post(pipelines::plan)),
        ("/v1/apply", post(pipelines::apply)),
        ("/v1/pipelines/{pipeline}/pause", post(pipelines::pause)),
        ("/v1/pipelines/{pipeline}/resume", post(pipelines::resume)),
        ("/v1/pipelines/{pipeline}/stop", post(pipelines::stop)),
        ("/v1/pipelines/{pipeline}/swap", post(pipelines::swap)),
        ("/v1/pipelines/{pipeline}/promote", post(pipelines::promote)),
        ("/v1/pipelines/{pipeline}/rollback", post(pipelines::rollback)),
        ("/v1/pipelines/{pipeline}/savepoints", get(pipelines::savepoints)),
        ("/v1/pipelines/{pipeline}/savepoints", post(pipelines::savepoint)),
        ("/v1/pipelines/{pipeline}/history", get(pipelines::history)),
        ("/v1/pipelines/{pipeline}/logs", get(pipelines::logs)),
        ("/v1/pipelines/{pipeline}/replays", get(replays::list)),
        ("/v1/pipelines/{pipeline}/replays", post(replays::start)),
        ("/v1/pipelines/{pipeline}/replays/{replay}", get(replays::report)),
        ("/v1/components", get(components::list)),
        ("/v1/components", post(components::upload)),
        ("/v1/operations/{operation}", get(pipelines::operation)),
    ]
}

/// That the host runs, for whoever watches over it.
async fn health() -> Answer {
    found(&json!({ "status": "ok" }))
}

async fn openapi() -> Response {
    text(StatusCode::OK, "application/json", OPENAPI.to_owned())
}

pub(super) async fn unknown(uri: Uri) -> Problem {
    let shown: String = uri.path().chars().take(200).collect();
    Problem::not_found(format!("there is nothing at {shown:?}; /openapi.json says what there is"))
}

pub(super) async fn wrong_method(method: Method) -> Problem {
    Problem::wrong_method(format!("{method} isn't possible here; /openapi.json says what is"))
}
