//! OTLP at the node: the open ports, the door in the mesh, and where all of it goes.
//!
//! Services come through the mesh, so that nobody sends in another's name; the open ports are for
//! what runs beside Atoll. Both hand over to the same [`Intake`].

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use atoll_base::{ServiceName, Tasks};
use atoll_store::StateDir;
use atoll_telemetry::export::Exporter;
use atoll_telemetry::otlp::http::Caller;
use atoll_telemetry::otlp::{Door, Intake, Taken, grpc, http};
use atoll_telemetry::{Handle as Telemetry, Records, Spans, metrics};
use axum::extract::Request;
use tokio::net::TcpListener;

use super::mesh_door::MeshDoor;
use super::traffic::Traffic;
use crate::manifest::Application;

/// Takes what comes by OTLP.
struct NodeIntake {
    telemetry: Telemetry,
    metrics: metrics::Handle,
    export: Option<Exporter>,
}

impl Intake for NodeIntake {
    fn spans(&self, spans: Box<dyn Spans>) -> Taken {
        taken(self.telemetry.offer_spans(spans))
    }

    fn logs(&self, records: Box<dyn Records>) -> Taken {
        taken(self.telemetry.offer_records(records))
    }

    fn metrics(&self, points: Vec<metrics::MetricPoint>) -> Taken {
        if let Some(export) = &self.export {
            export.metrics(points.clone());
        }
        self.metrics.take(points)
    }
}

/// While much waits, senders are asked to come again; they keep what they have.
const fn taken(taken: bool) -> Taken {
    if taken { Taken::All } else { Taken::Busy }
}

/// The name by which services reach it in the mesh. No service can have it.
pub(super) fn own_name() -> ServiceName {
    ServiceName::new("atoll-otlp").expect("a valid name")
}

/// What services send, and what becomes of it.
pub(super) struct Sent {
    pub(super) metrics: metrics::Handle,
    pub(super) door: Door,
    /// Takes what the node itself has to say, too.
    intake: Arc<dyn Intake>,
    /// Where all of it is sent on, if anywhere.
    pub(super) export: Option<Exporter>,
}

/// Opens metrics and the exporter, binds all ports, and serves them until the node stops.
///
/// # Errors
/// When a port is taken, or a folder cannot be used.
pub(super) async fn open(
    application: &Application,
    state: &StateDir,
    telemetry: &Telemetry,
    traffic: &Traffic,
    tasks: &Tasks,
) -> anyhow::Result<Sent> {
    let config = &application.file.telemetry;
    let folder = state.subdir("telemetry/metrics")?;
    let metrics = metrics::Service::start(folder, metrics::MetricsConfig::default())?;
    let export = super::export::open(config, &application.dir, state, tasks)?;
    if let Some(export) = &export {
        telemetry.send_on(export.clone());
    }
    let intake: Arc<dyn Intake> = Arc::new(NodeIntake {
        telemetry: telemetry.clone(),
        metrics: metrics.clone(),
        export: export.clone(),
    });
    let door = Door::new(Arc::clone(&intake));
    let mesh = MeshDoor::open(own_name(), "OTEL_EXPORTER_OTLP_ENDPOINT", traffic).await?;
    if let Some(address) = config.otlp_http.0 {
        serve_http(bind(address, "otlp_http").await?, door.clone(), tasks);
    }
    if let Some(address) = config.otlp_grpc.0 {
        serve_grpc(bind(address, "otlp_grpc").await?, door.clone(), tasks);
    }
    let introduce = |request: &mut Request, caller| {
        request.extensions_mut().insert(Caller(caller));
    };
    mesh.serve(http::router(door.clone()), introduce, tasks);
    Ok(Sent {
        metrics,
        door,
        intake,
        export,
    })
}

impl Sent {
    /// Puts what the node itself measures beside what services send.
    pub(super) fn watch(
        &self,
        proxy: &atoll_proxy::Handle,
        supervisor: &atoll_supervisor::Handle,
        topics: Option<Arc<super::Topics>>,
        tasks: &Tasks,
    ) {
        let intake = Arc::clone(&self.intake);
        let (proxy, supervisor) = (proxy.clone(), supervisor.clone());
        let looking = super::own_metrics::watch(proxy, supervisor, topics, intake, tasks.clone());
        tasks.spawn("own metrics", looking);
    }
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| {
        format!(
            "cannot listen on {address}; choose another with `{key}` in [telemetry], or \"off\""
        )
    })
}

fn serve_http(listener: TcpListener, door: Door, tasks: &Tasks) {
    let stopping = tasks.clone();
    tasks.spawn("OTLP over HTTP", async move {
        let served = axum::serve(listener, http::router(door));
        let served = served.with_graceful_shutdown(async move { stopping.stopping().await });
        if let Err(error) = served.await {
            tracing::error!(%error, "OTLP over HTTP is not served any more");
        }
    });
}

fn serve_grpc(listener: TcpListener, door: Door, tasks: &Tasks) {
    let stopping = tasks.clone();
    tasks.spawn("OTLP over gRPC", async move {
        let stopped = async move { stopping.stopping().await };
        if let Err(error) = grpc::serve(listener, door, stopped).await {
            tracing::error!(%error, "OTLP over gRPC is not served any more");
        }
    });
}

/// What an instance is told.
pub(super) fn variables(address: SocketAddr) -> Vec<(String, String)> {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
