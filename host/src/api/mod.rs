//! The HTTP API: the host's front door, [`Service`], for whoever isn't in its process. `openapi.json` describes it.
//!
//! A request is let in first ([`access`](self)): by its `Host`, its lack of an `Origin` and its token. Then the names
//! in its path are checked, then its body is read, within limits of size and time, and only then a method of the
//! service is called. Nothing is decided here: what is refused after that, the service has refused.

mod access;
mod answer;
mod body;
mod check;
mod components;
mod connection;
mod pipelines;
mod replays;
mod routes;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use access::{Access, Token};

use crate::service::Service;
use connection::{Activity, Arrivals};

/// The API's description, as it is served at `/openapi.json`.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Requests that are under way when the host stops may take so long.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Components that are taken in at a time; each may have 256 MiB, and compiling is what takes long.
const UPLOADS_COUNT_MAX: usize = 2;

/// The longest that a request waits for news: less than proxies give a silent server.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What all requests share.
#[derive(Clone)]
struct Api {
    service: Service,
    /// Whether the host stops; then nobody waits for news any more.
    stopping: watch::Receiver<bool>,
    uploads: Arc<Semaphore>,
}

impl Api {
    /// Asks something that may wait for news; when the host stops meanwhile, asks again without waiting.
    async fn patiently<F: Future>(&self, wait_ms: Option<u64>, ask: impl Fn(Duration) -> F) -> F::Output {
        let wait = Duration::from_millis(wait_ms.unwrap_or(0)).min(WAIT_MAX);
        let mut stopping = self.stopping.clone();
        // What it gives is a lock, which must not be held while we ask again.
        let stopped = async move { _ = stopping.wait_for(|stopping| *stopping).await };
        tokio::select! {
            answer = ask(wait) => answer,
            () = stopped => ask(Duration::ZERO).await,
        }
    }
}

/// Serves the API until `stop` comes; then takes no more requests, and returns when those that are under way have been
/// answered, after some seconds at the latest.
///
/// # Errors
/// When the listener's address isn't one of this machine alone: what is said isn't encrypted.
pub async fn serve(
    service: Service,
    listener: TcpListener,
    access: Access,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), io::Error> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let message = format!(
            "the API can't be served at {address}, which other machines reach: it doesn't speak TLS itself; \
             listen at 127.0.0.1 and have a proxy with TLS forward to it"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let (stopper, stopping) = watch::channel(false);
    let api =
        Api { service, stopping: stopping.clone(), uploads: Arc::new(Semaphore::new(UPLOADS_COUNT_MAX)) };
    let app = router(api, Arc::new(access), address.port());
    let app = app.into_make_service_with_connect_info::<Activity>();
    let stopped = {
        let mut stopping = stopping;
        // That nobody can stop it any more means that it is over as well.
        async move { _ = stopping.wait_for(|stopping| *stopping).await }
    };
    let serving = axum::serve(Arrivals::new(listener), app).with_graceful_shutdown(stopped);
    let mut serving = std::pin::pin!(serving.into_future());
    tokio::select! {
        result = &mut serving => return result,
        () = stop => {}
    }
    stopper.send_replace(true);
    // Whoever is cut off was told nothing wrong: an operation goes on without them.
    tokio::time::timeout(STOP_MAX, serving).await.unwrap_or(Ok(()))
}

/// From the outside in: who is let in, whether the path has proper names, what is done.
fn router(api: Api, access: Arc<Access>, port: u16) -> Router {
    let routes = routes::all().into_iter();
    let router = routes.fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    router
        .method_not_allowed_fallback(routes::wrong_method)
        .route_layer(from_fn(check::names_of_path))
        .fallback(routes::unknown)
        .layer(from_fn_with_state((access, port), access::let_in))
        .layer(from_fn(connection::count))
        .layer(from_fn(answer::harden))
        .with_state(api)
}
