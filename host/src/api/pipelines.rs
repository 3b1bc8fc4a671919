//! What is asked about pipelines, and what is done with them.

use axum::extract::{Path, State};
use serde::Deserialize;

use super::answer::{Answer, begun, found};
use super::body::{Json, Parameters};
use super::{Api, check};
use crate::service::model::{Apply, Asked, Promote, Savepoint, Stop, Swap};

/// Lines of a log in an answer, unless asked for another number.
const LINES_COUNT: usize = 100;
const LINES_COUNT_MAX: usize = 1_000;

pub(super) async fn list(State(api): State<Api>) -> Answer {
    found(&api.service.list())
}

pub(super) async fn status(State(api): State<Api>, Path(pipeline): Path<String>) -> Answer {
    found(&api.service.status(&pipeline).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct By {
    #[serde(default)]
    by: String,
}

pub(super) async fn delete(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Parameters(By { by }): Parameters<By>,
) -> Answer {
    check::text("by", &by)?;
    begun(&api.service.delete(&pipeline, Asked { by }).await?)
}

pub(super) async fn plan(State(api): State<Api>, Json(apply): Json<Apply>) -> Answer {
    found(&api.service.plan(&apply).await?)
}

pub(super) async fn apply(State(api): State<Api>, Json(apply): Json<Apply>) -> Answer {
    begun(&api.service.apply(apply).await?)
}

pub(super) async fn pause(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(asked): Json<Asked>,
) -> Answer {
    begun(&api.service.pause(&pipeline, asked).await?)
}

pub(super) async fn resume(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(asked): Json<Asked>,
) -> Answer {
    begun(&api.service.resume(&pipeline, asked).await?)
}

pub(super) async fn stop(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(stop): Json<Stop>,
) -> Answer {
    begun(&api.service.stop(&pipeline, stop).await?)
}

pub(super) async fn swap(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(swap): Json<Swap>,
) -> Answer {
    begun(&api.service.swap(&pipeline, swap).await?)
}

pub(super) async fn promote(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(promote): Json<Promote>,
) -> Answer {
    begun(&api.service.promote(&pipeline, promote).await?)
}

pub(super) async fn rollback(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(asked): Json<Asked>,
) -> Answer {
    begun(&api.service.rollback(&pipeline, asked).await?)
}

pub(super) async fn savepoints(State(api): State<Api>, Path(pipeline): Path<String>) -> Answer {
    found(&api.service.savepoints(&pipeline).await?)
}

pub(super) async fn savepoint(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Json(savepoint): Json<Savepoint>,
) -> Answer {
    begun(&api.service.savepoint(&pipeline, savepoint).await?)
}

pub(super) async fn history(State(api): State<Api>, Path(pipeline): Path<String>) -> Answer {
    found(&api.service.history(&pipeline)?)
}

/// Which lines of a log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    #[serde(default)]
    after: u64,
    count: Option<usize>,
    wait_ms: Option<u64>,
}

pub(super) async fn logs(
    State(api): State<Api>,
    Path(pipeline): Path<String>,
    Parameters(lines): Parameters<Lines>,
) -> Answer {
    let count = lines.count.unwrap_or(LINES_COUNT).min(LINES_COUNT_MAX);
    let ask = |wait| api.service.logs(&pipeline, lines.after, count, wait);
    found(&api.patiently(lines.wait_ms, ask).await?)
}

/// What news of an operation is waited for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct News {
    seen: Option<String>,
    wait_ms: Option<u64>,
}

pub(super) async fn operation(
    State(api): State<Api>,
    Path(id): Path<u64>,
    Parameters(News { seen, wait_ms }): Parameters<News>,
) -> Answer {
    let ask = |wait| api.service.operation(id, seen.as_deref(), wait);
    found(&api.patiently(wait_ms, ask).await?)
}
