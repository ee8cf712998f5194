//! Copies of requests for another service, whose answers nobody sees.
//!
//! A copy is sent once the request has gone to its own service, by a task of its own: it costs the
//! client nothing, whatever becomes of it. A body that is too large, or too many copies under way,
//! and there is none.

use std::rc::Rc;

use tokio::time::timeout;

use super::lease::{Asked, Tried, choose};
use super::{connect, reach_http2};
use crate::http::response;
use crate::http::{Body, field};
use crate::limits::{BUFFER_BYTES, HEAD_BYTES_MAX, MIRROR_BYTES_MAX, MIRRORS_MAX};
use crate::local::Target;
use crate::pool::Lease;
use crate::transport::Transport;
use crate::wire::Wire;
use crate::worker::Worker;

/// What is kept of a request while it passes.
#[derive(Debug, Default)]
pub(super) struct Copy(Option<Vec<u8>>);

impl Copy {
    /// Begins with what is known of the request.
    pub(super) fn begin(request: &[u8]) -> Self {
        Self(Some(request.to_vec()))
    }

    /// Adds what follows.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if let Some(copy) = &mut self.0 {
            if copy.len() + bytes.len() > MIRROR_BYTES_MAX {
                self.0 = None;
            } else {
                copy.extend_from_slice(bytes);
            }
        }
    }

    /// Sends it on its way, if it is whole and there is room.
    pub(super) fn send(self, worker: &Rc<Worker>, target: &Rc<Target>, to_head: bool) {
        let Some(request) = self.0 else { return };
        if worker.mirrors.get() >= MIRRORS_MAX {
            return;
        }
        worker.mirrors.set(worker.mirrors.get() + 1);
        let (worker, target) = (Rc::clone(worker), Rc::clone(target));
        tokio::task::spawn_local(async move {
            let sent = deliver(&worker, &target, &request, to_head);
            if timeout(target.timeout, sent).await != Ok(Some(())) {
                tracing::debug!(service = %target.service.name, "a copy of a request got no answer");
            }
            worker.mirrors.set(worker.mirrors.get() - 1);
        });
    }
}

/// Sends a copy and reads the answer to its end; none if either fails.
async fn deliver(worker: &Worker, target: &Target, request: &[u8], to_head: bool) -> Option<()> {
    let now = worker.clockwork.now();
    let asked = Asked {
        now,
        ..Asked::default()
    };
    let lease = choose(target, &Tried::default(), &asked, &worker.random)?;
    let mut wire = Wire::new(reach(target, &lease).await?);
    let mut sent = 0;
    while sent < request.len() {
        let rest = request.get(sent..)?;
        sent += std::future::poll_fn(|cx| wire.poll_write(cx, rest))
            .await
            .ok()?;
    }
    let mut body = None;
    loop {
        let length = std::future::poll_fn(|cx| wire.poll_fill(cx, &worker.buffers)).await;
        if length.ok()? == 0 {
            return matches!(body, Some(Body::UntilClose)).then_some(());
        }
        if body.is_none() {
            body = head(&mut wire, to_head)?;
        }
        if let Some(body) = &mut body {
            let length = body.advance(wire.input.bytes()).ok()?;
            wire.input.consume(length);
            if body.is_done() {
                break;
            }
        }
    }
    wire.release(&worker.buffers);
    if let Some(stream) = wire.transport.into_tcp() {
        lease.pool().put(stream, now);
    }
    Some(())
}

async fn reach(target: &Target, lease: &Lease) -> Option<Transport> {
    if target.protocol.is_http2() {
        return reach_http2(lease.pool(), true, connect(lease.pool()))
            .await
            .ok()
            .map(|(t, _)| t);
    }
    if let Some(stream) = lease.pool().take(true) {
        return Some(Transport::Tcp(stream));
    }
    connect(lease.pool()).await.ok().map(Transport::Tcp)
}

/// The framing of the final answer, once its head is there; none if it is malformed.
fn head(wire: &mut Wire, to_head: bool) -> Option<Option<Body>> {
    loop {
        let mut storage = field::storage();
        let Some(head) = response::parse(wire.input.bytes(), &mut storage).ok()? else {
            if wire.input.room().is_empty() {
                wire.input.grow(HEAD_BYTES_MAX + BUFFER_BYTES);
            }
            return Some(None);
        };
        let body = head.facts(to_head).ok()?.body;
        let (length, interim) = (head.length, head.status < 200);
        wire.input.consume(length);
        if !interim {
            return Some(Some(body));
        }
    }
}
