//! Sending telemetry on: how a batch gets to `[telemetry] export`. How to send one is decided in the crate
//! `telemetry`; here is only the way out.

use std::future::Future;
use std::path::{Path, PathBuf};
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

use super::post::{Headers, post, read_headers, trust_in};

/// An attempt takes no longer.
const SEND_WITHIN: Duration = Duration::from_secs(20);

/// Where batches go.
struct Place {
    /// Without a slash at its end.
    base: String,
    headers: Option<PathBuf>,
    ca: Option<PathBuf>,
}

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
    let place = Place {
        base: url.as_str().trim_end_matches('/').to_owned(),
        headers: config.export_headers.as_ref().map(|file| dir.join(file)),
        ca: config.export_ca.as_ref().map(|file| dir.join(file)),
    };
    place.read_headers()?;
    if let Some(file) = &place.ca {
        trust_in(file)?;
    }
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
            Signal::Traces => "traces",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        };
        let target = format!("{}/v1/{path}", self.base);
        let (headers, ca) = (self.read_headers(), self.ca.clone());
        Box::pin(async move {
            let attempt = async { send((&target, ca.as_deref()), headers?, body).await };
            let ended = tokio::time::timeout(SEND_WITHIN, attempt).await;
            let late = |_| {
                Err(anyhow::anyhow!(
                    "no answer within {} s",
                    SEND_WITHIN.as_secs()
                ))
            };
            let ended = ended.unwrap_or_else(late);
            ended.unwrap_or_else(|error| Outcome::Unreached(format!("{target}: {error:#}")))
        })
    }
}

impl Place {
    fn read_headers(&self) -> anyhow::Result<Headers> {
        self.headers
            .as_deref()
            .map_or_else(|| Ok(Vec::new()), read_headers)
    }
}

async fn send(
    target: (&str, Option<&Path>),
    mut headers: Headers,
    body: Bytes,
) -> anyhow::Result<Outcome> {
    for (name, value) in [
        (CONTENT_TYPE, "application/x-protobuf"),
        (CONTENT_ENCODING, "gzip"),
    ] {
        headers.push((name, HeaderValue::from_static(value)));
    }
    let answer = post(target, headers, body).await?;
    Ok(Outcome::Answered {
        status: answer.status,
        retry_after: answer.retry_after,
        rejected: atoll_telemetry::export::rejected(&answer.body),
    })
}
