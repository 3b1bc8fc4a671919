//! The store of components.

use std::time::Duration;

use axum::extract::{Request, State};
use serde::Deserialize;

use super::answer::{Answer, found};
use super::body::{Parameters, read};
use super::{Api, check};
use crate::plugin::COMPONENT_BYTES_MAX;

/// How long a component may take to arrive: the largest one, at a megabyte a second.
const ARRIVAL_MAX: Duration = Duration::from_mins(5);

pub(super) async fn list(State(api): State<Api>) -> Answer {
    found(&api.service.components()?)
}

/// Where a component comes from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Origin {
    file: String,
    #[serde(default)]
    by: String,
}

pub(super) async fn upload(
    State(api): State<Api>,
    Parameters(Origin { file, by }): Parameters<Origin>,
    request: Request,
) -> Answer {
    check::text("file", &file)?;
    check::text("by", &by)?;
    // Before the body is read: what waits here is on its way, and not in memory.
    let _place = api.uploads.acquire().await.expect("places are never closed");
    let bytes = read(request, COMPONENT_BYTES_MAX, ARRIVAL_MAX).await?;
    found(&api.service.upload(bytes, &file, &by).await?)
}
