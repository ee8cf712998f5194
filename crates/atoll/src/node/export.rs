//! Sending telemetry on: how a batch gets to `[telemetry] export`. How to send one is decided in the crate
//! `telemetry`; here is only the way out.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::Tasks;
use atoll_store::StateDir;
use atoll_telemetry::TelemetryConfig;
use atoll_telemetry::export::{Exporter, Outcome, Service, Transport};
use atoll_telemetry::otlp::Signal;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::post::Place;

/// An attempt takes no longer.
const SEND_WITHIN: Duration = Duration::from_secs(20);

/// Opens the exporter, if the application wants one, and sends until the node stops.
///
/// # Errors
/// When the buffer cannot be opened, or the headers or the certificates cannot be read.
pub(super) fn open(
    config: &TelemetryConfig,
    dir: &Path,
    state: &StateDir,
    tasks: &Tasks,
) -> anyhow::Result<Option<Exporter>> {
    let Some(url) = &config.export else {
        return Ok(None);
    };
    let headers = config.export_headers.as_ref();
    let place = Place::new(url, dir, headers, config.export_ca.as_ref());
    place.check()?;
    let buffer = state.subdir("telemetry/export")?;
    let bytes_max = config.export_buffer.0;
    let (exporter, sending) = Service::start(buffer, bytes_max, Arc::new(place))?;
    let stopping = tasks.clone();
    tasks.spawn("export of telemetry", async move {
        tokio::select! {
            () = sending => {}
            () = stopping.stopping() => {}
        }
    });
    Ok(Some(exporter))
}

impl Transport for Place {
    fn send(&self, signal: Signal, body: Bytes) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let path = match signal {
            Signal::Traces => "/v1/traces",
            Signal::Logs => "/v1/logs",
            Signal::Metrics => "/v1/metrics",
        };
        let place = self.clone();
        Box::pin(async move {
            let ended = tokio::time::timeout(SEND_WITHIN, send(&place, path, body)).await;
            let late = |_| {
                Err(anyhow::anyhow!(
                    "no answer within {} s",
                    SEND_WITHIN.as_secs()
                ))
            };
            let ended = ended.unwrap_or_else(late);
            let unreached =
                |error| Outcome::Unreached(format!("{}: {error:#}", place.target(path)));
            ended.unwrap_or_else(unreached)
        })
    }
}

async fn send(place: &Place, path: &str, body: Bytes) -> anyhow::Result<Outcome> {
    let mut headers = place.headers()?;
    for (name, value) in [
        (CONTENT_TYPE, "application/x-protobuf"),
        (CONTENT_ENCODING, "gzip"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let answer = place.post(path, headers, body).await?;
    Ok(Outcome::Answered {
        status: answer.status,
        retry_after: answer.retry_after,
        rejected: atoll_telemetry::export::rejected(&answer.body),
    })
}
