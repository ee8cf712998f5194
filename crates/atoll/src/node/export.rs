//! Sending telemetry on: how a batch gets to `[telemetry] export`. How to send one is decided in the crate
//! `telemetry`; here is only the way out.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::Tasks;
use atoll_store::StateDir;
use atoll_telemetry::export::{Exporter, Outcome, Service, Transport, grpc};
use atoll_telemetry::otlp::Signal;
use atoll_telemetry::{ExportProtocol, TelemetryConfig};
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
    let protocol = config.export_protocol;
    let buffer = state.subdir("telemetry/export")?;
    let bytes_max = config.export_buffer.0;
    let (exporter, sending) =
        Service::start(buffer, bytes_max, Arc::new(Collector { place, protocol }))?;
    let stopping = tasks.clone();
    tasks.spawn("export of telemetry", async move {
        tokio::select! {
            () = sending => {}
            () = stopping.stopping() => {}
        }
    });
    Ok(Some(exporter))
}

/// Where telemetry is sent on to, and how.
struct Collector {
    place: Place,
    protocol: ExportProtocol,
}

impl Transport for Collector {
    fn send(&self, signal: Signal, body: Bytes) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let place = self.place.clone();
        let (protocol, path, hint) = (self.protocol, self.path(signal), self.hint());
        Box::pin(async move {
            let sent = async {
                match protocol {
                    ExportProtocol::Http => post(&place, path, body).await,
                    ExportProtocol::Grpc => call(&place, path, &body).await,
                }
            };
            let ended = tokio::time::timeout(SEND_WITHIN, sent).await;
            let late = |_| {
                Err(anyhow::anyhow!(
                    "no answer within {} s",
                    SEND_WITHIN.as_secs()
                ))
            };
            let ended = ended.unwrap_or_else(late);
            let unreached =
                |error| Outcome::Unreached(format!("{}: {error:#}{hint}", place.target(path)));
            ended.unwrap_or_else(unreached)
        })
    }
}

impl Collector {
    /// What may be wrong when nobody answers: the usual ports speak one protocol each.
    fn hint(&self) -> &'static str {
        match (self.protocol, self.place.port()) {
            (ExportProtocol::Http, Some(4317)) => {
                "; if it speaks gRPC there, as is usual at 4317, say `export_protocol = \"grpc\"`"
            }
            (ExportProtocol::Grpc, Some(4318)) => {
                "; if it speaks HTTP there, as is usual at 4318, take `export_protocol = \"grpc\"` out"
            }
            _ => "",
        }
    }

    fn path(&self, signal: Signal) -> &'static str {
        match (self.protocol, signal) {
            (ExportProtocol::Grpc, _) => grpc::method(signal),
            (ExportProtocol::Http, Signal::Traces) => "/v1/traces",
            (ExportProtocol::Http, Signal::Logs) => "/v1/logs",
            (ExportProtocol::Http, Signal::Metrics) => "/v1/metrics",
        }
    }
}

async fn post(place: &Place, path: &str, body: Bytes) -> anyhow::Result<Outcome> {
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

async fn call(place: &Place, method: &str, message: &[u8]) -> anyhow::Result<Outcome> {
    let mut headers = place.headers()?;
    for (name, value) in grpc::FIELDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let answer = place.post_h2(method, headers, grpc::body(message)).await?;
    let (head, trailers) = (&answer.head, &answer.trailers);
    let status = (answer.status, answer.retry_after);
    Ok(grpc::outcome(status, head, &answer.body, trailers))
}
