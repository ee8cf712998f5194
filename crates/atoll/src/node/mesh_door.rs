//! What the platform itself serves to services: through the mesh, as any other dependency.
//!
//! So the proxy knows who calls, by the kernel's record, and tells it. A token that only the proxy
//! has proves that it was the proxy.

use std::sync::Arc;

use anyhow::Context as _;
use atoll_base::{ServiceName, Tasks};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;

use super::traffic::Traffic;

/// A port that only the proxy may use, not served yet.
pub(super) struct MeshDoor {
    listener: TcpListener,
    token: Arc<str>,
    /// What services know it by.
    what: &'static str,
}

impl MeshDoor {
    /// Takes a port and makes it known to the proxy, as `name`; `what` is for messages.
    pub(super) async fn open(
        name: ServiceName,
        what: &'static str,
        traffic: &Traffic,
    ) -> anyhow::Result<Self> {
        let mut secret = [0; 16];
        let random = SystemRandom::new().fill(&mut secret);
        random.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let token: Arc<str> = secret
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into();
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.with_context(|| format!("no port is to be had for {what}"))?;
        traffic.serve_own(name, listener.local_addr()?, Arc::clone(&token));
        Ok(Self {
            listener,
            token,
            what,
        })
    }

    /// Serves `app` until the node stops. `introduce` tells a request who makes it.
    pub(super) fn serve(
        self,
        app: Router,
        introduce: fn(&mut Request, ServiceName),
        tasks: &Tasks,
    ) {
        let Self {
            listener,
            token,
            what,
        } = self;
        let known = move |request: Request, next: Next| {
            let token = Arc::clone(&token);
            async move { introduced((&token, what), introduce, request, next).await }
        };
        let app = app.layer(from_fn(known));
        let stopping = tasks.clone();
        tasks.spawn("a door in the mesh", async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(async move {
                stopping.stopping().await;
            });
            if let Err(error) = served.await {
                tracing::error!(%error, "{what} is not served any more");
            }
        });
    }
}

/// Lets requests pass of which the proxy says who makes them.
async fn introduced(
    (token, what): (&str, &str),
    introduce: fn(&mut Request, ServiceName),
    mut request: Request,
    next: Next,
) -> Response {
    match caller(token, &request) {
        Some(caller) => {
            introduce(&mut request, caller);
            next.run(request).await
        }
        None => {
            let detail = format!("this port is for the mesh; services find the way in {what}");
            (StatusCode::FORBIDDEN, detail).into_response()
        }
    }
}

fn caller(token: &str, request: &Request) -> Option<ServiceName> {
    let field = |name: &str| Some(request.headers().get(name)?.as_bytes());
    let proven: bool = field("atoll-token")?.ct_eq(token.as_bytes()).into();
    let name = std::str::from_utf8(field("atoll-caller")?).ok()?;
    ServiceName::new(name).ok().filter(|_| proven)
}
