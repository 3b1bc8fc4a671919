//! The client of a service that speaks S3, set up from the usual environment variables.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};

use crate::error::Error;
use crate::place::S3Place;

/// No request has more than a part in it (8 MiB), so this is 280 kB/s; slower than that nobody keeps state.
const REQUEST_TIMEOUT_S: u64 = 30;
/// Far more than a connection takes around the world.
const CONNECT_TIMEOUT_S: u64 = 5;
/// A request that failed is tried again so often.
const RETRIES_COUNT_MAX: usize = 5;
/// And no more after this: a service that can't be reached makes a checkpoint fail, it doesn't make it wait. So a
/// request has failed after a minute at the latest.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// The pauses in between grow from here...
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// ...to here: all five together are less than the time for retries.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What to look at when the service doesn't answer.
pub(super) const REACHED_BY: &str = "AWS_ENDPOINT_URL, AWS_REGION, the network";

/// The client for a bucket. Nothing is asked of the service yet.
pub(super) fn client(place: &S3Place) -> Result<Arc<dyn ObjectStore>, Error> {
    // Fails if there is one already, which then does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seconds = |seconds: u64| format!("{seconds} seconds");
    let builder = AmazonS3Builder::from_env()
        .with_bucket_name(place.bucket())
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), seconds(REQUEST_TIMEOUT_S))
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), seconds(CONNECT_TIMEOUT_S))
        .with_retry(RetryConfig {
            backoff: BackoffConfig { init_backoff: PAUSE_FIRST, max_backoff: PAUSE_MAX, base: 2.0 },
            max_retries: RETRIES_COUNT_MAX,
            retry_timeout: RETRY_TIMEOUT,
        });
    check_endpoint(&builder)?;
    let client = builder.build().map_err(|error| {
        Error::Invalid(format!("{place} can't be used with the variables AWS_* as they are: {error}"))
    })?;
    Ok(Arc::new(client))
}

/// Without encryption only when somebody says so.
fn check_endpoint(builder: &AmazonS3Builder) -> Result<(), Error> {
    let value = |key: AmazonS3ConfigKey| builder.get_config_value(&key);
    let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
    let allowed = value(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    let is_allowed =
        allowed.is_some_and(|allowed| matches!(&*allowed.to_lowercase(), "true" | "1" | "yes" | "on"));
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) && !is_allowed {
        return Err(Error::Invalid(
            "AWS_ENDPOINT_URL begins with http://, which doesn't encrypt; set AWS_ALLOW_HTTP=true if that is meant, \
             or use https://"
                .to_owned(),
        ));
    }
    Ok(())
}
