//! `EVENTS_URL`: where services publish and read over HTTP.
//!
//! They come through the mesh, as to any other dependency, so the proxy knows who calls and tells it.
//! A token that only the proxy has proves that it was the proxy.

use std::sync::Arc;

use anyhow::Context as _;
use atoll_base::{ServiceName, Tasks};
use atoll_broker::access::{Access, Principal, Right};
use atoll_events::Registry;
use atoll_events::http::{Caller, Problem, Rights, State, router};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

use super::traffic::Traffic;

/// What services have declared.
pub(super) struct Declared {
    pub(super) access: Access,
    pub(super) schemas: Registry,
}

impl Rights for Declared {
    fn may_publish(&self, caller: &ServiceName, topic: &str) -> bool {
        let who = Principal::Account(caller.to_string());
        self.access.permits(&who, Right::Publish, topic)
    }

    fn may_read(&self, caller: &ServiceName, topic: &str) -> bool {
        let who = Principal::Account(caller.to_string());
        self.access.permits(&who, Right::Read, topic)
    }

    fn check(&self, topic: &str, value: Option<&Bytes>, _: Option<&str>) -> Result<(), String> {
        self.schemas.check(topic, value.map(AsRef::as_ref))
    }
}

/// The name by which the platform calls and is called in the mesh. No service can have it.
pub(super) fn own_name() -> ServiceName {
    ServiceName::new("atoll").expect("a valid name")
}

/// Serves it, and makes it known to the proxy.
pub(super) async fn open(state: State, traffic: &Traffic, tasks: &Tasks) -> anyhow::Result<()> {
    let mut secret = [0; 16];
    let random = SystemRandom::new().fill(&mut secret);
    random.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let token: Arc<str> = secret
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into();
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.context("no port is to be had for EVENTS_URL")?;
    traffic.serve_own(own_name(), listener.local_addr()?, Arc::clone(&token));
    let known = move |request: Request, next: Next| {
        let token = Arc::clone(&token);
        async move { introduced(&token, request, next).await }
    };
    let app = router(state).layer(from_fn(known));
    let stopping = tasks.clone();
    tasks.spawn("events over HTTP", async move {
        let served = axum::serve(listener, app).with_graceful_shutdown(async move {
            stopping.stopping().await;
        });
        if let Err(error) = served.await {
            tracing::error!(%error, "EVENTS_URL is not served any more");
        }
    });
    Ok(())
}

/// Lets requests pass of which the proxy says who makes them.
async fn introduced(token: &str, mut request: Request, next: Next) -> Response {
    match caller(token, &request) {
        Some(caller) => {
            request.extensions_mut().insert(Caller(caller));
            next.run(request).await
        }
        None => {
            let detail = "this port is for the mesh; services find the way in EVENTS_URL";
            Problem::new(axum::http::StatusCode::FORBIDDEN, detail).into_response()
        }
    }
}

fn caller(token: &str, request: &Request) -> Option<ServiceName> {
    let field = |name: &str| Some(request.headers().get(name)?.as_bytes());
    let proven: bool = field("atoll-token")?.ct_eq(token.as_bytes()).into();
    let name = std::str::from_utf8(field("atoll-caller")?).ok()?;
    ServiceName::new(name).ok().filter(|_| proven)
}
