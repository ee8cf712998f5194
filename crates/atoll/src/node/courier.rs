//! Pushes go through the mesh, as calls of a dependency of the node's own: so they are balanced,
//! spared, traced and counted like all others.

use std::sync::Arc;

use atoll_base::ServiceName;
use atoll_events::Courier;
use atoll_events::courier::{Failure, Topic};
use atoll_proxy::TOPIC_FIELD;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::traffic::Traffic;

/// Of an answer, so many bytes are read; a longer one is none.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Calls services in the name of the node.
pub(super) struct MeshCourier {
    traffic: Arc<Traffic>,
    client: Client<HttpConnector, Full<Bytes>>,
    own: ServiceName,
}

impl MeshCourier {
    pub(super) fn new(traffic: Arc<Traffic>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .set_host(false)
            .build(connector);
        let own = super::http_door::own_name();
        traffic.adopt(own.clone());
        Self {
            traffic,
            client,
            own,
        }
    }
}

impl Courier for MeshCourier {
    fn send(
        &self,
        service: &ServiceName,
        mut request: http::Request<Bytes>,
    ) -> BoxFuture<'static, Result<http::Response<Bytes>, Failure>> {
        let address = self.traffic.mesh_address(&self.own, service);
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |own| own.as_str());
        match format!("http://{address}{target}").parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => {
                let reason = format!("the path is none: {error}");
                return std::future::ready(Err(Failure::Unsent(reason))).boxed();
            }
        }
        // So that the proxy's span says of which topic it is.
        let topic = request.extensions().get::<Topic>();
        if let Some(topic) = topic.and_then(|topic| HeaderValue::from_str(&topic.0).ok()) {
            request.headers_mut().insert(TOPIC_FIELD, topic);
        }
        let answering = self.client.request(request.map(Full::new));
        async move {
            let answer = answering
                .await
                .map_err(|error| Failure::Unsent(chain(&error)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| Failure::Broken(error.to_string()))?;
            Ok(http::Response::from_parts(head, body.to_bytes()))
        }
        .boxed()
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
