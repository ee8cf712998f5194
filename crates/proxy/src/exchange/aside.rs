//! Requests that the proxy makes itself, beside those it passes on: copies for a mirror, questions
//! to a service that knows who may come.
//!
//! They are whole when they begin, and nobody reads their answers as they come: so there is no
//! stream here, and no second state machine.

use std::time::Duration;

use atoll_base::clock::monotonic;

use super::lease::{Asked, Tried, choose};
use super::reach::{connect, reach_http2};
use crate::http::response;
use crate::http::{Body, field};
use crate::limits::{BUFFER_BYTES, HEAD_BYTES_MAX};
use crate::local::Target;
use crate::pool::Lease;
use crate::resilience::Failure;
use crate::transport::Transport;
use crate::wire::Wire;
use crate::worker::Worker;

/// What is wanted of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// It is read to its end and forgotten.
    Nothing,
    /// Only the head counts: a body that is not there at once ends the connection.
    Head,
    /// All of it, if it has no more bytes than this.
    Body(u64),
}

/// What a service answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The head, as it came.
    pub(crate) head: Vec<u8>,
    /// The body without framing, if it was wanted and was not too large.
    pub(crate) body: Option<Vec<u8>>,
}

/// Sends a request and reads the answer; none if either fails. There is no limit of time. What is
/// asked for its answer is asked twice before it fails.
pub(crate) async fn ask(
    worker: &Worker,
    target: &Target,
    request: &[u8],
    to_head: bool,
    want: Want,
) -> Option<Answer> {
    let now = worker.clockwork.now();
    let asked = Asked {
        now,
        ..Asked::default()
    };
    let mut tried = Tried::default();
    for fresh in [false, true] {
        let mut lease = choose(target, &tried, &asked, &worker.random)?;
        let began = monotonic();
        let Some((transport, kept)) = reach(target, &lease, fresh).await else {
            lease.settle(Err(Failure::Refused), now, worker.random.next());
            tried.add(lease.pool());
            continue;
        };
        let mut wire = Wire::new(transport);
        let Some((answer, body)) = converse(worker, &mut wire, request, to_head).await else {
            if kept {
                // It was closed while nobody looked: that says nothing about the instance.
                lease.pool().clear();
            } else {
                lease.settle(Err(Failure::Broken), now, worker.random.next());
                tried.add(lease.pool());
            }
            if want == Want::Nothing {
                // It may have had its effect.
                return None;
            }
            continue;
        };
        settle(worker, &mut lease, answer.status, began.elapsed());
        let ended = finish(worker, &mut wire, body, want).await?;
        if ended.reusable && !answer.closes {
            wire.release(&worker.buffers);
            if let Some(stream) = wire.transport.into_tcp() {
                lease.pool().put(stream, now);
            }
        }
        return Some(Answer {
            head: answer.head,
            body: ended.body,
        });
    }
    None
}

/// The head of an answer, and what of it matters here.
struct Head {
    head: Vec<u8>,
    status: u16,
    closes: bool,
}

fn settle(worker: &Worker, lease: &mut Lease, status: u16, latency: Duration) {
    let outcome = Failure::of_status(status).map_or(Ok(latency), Err);
    lease.settle(outcome, worker.clockwork.now(), worker.random.next());
}

/// A way to the instance, and whether others have used it before.
async fn reach(target: &Target, lease: &Lease, fresh: bool) -> Option<(Transport, bool)> {
    let pool = lease.pool();
    if target.protocol.is_http2() {
        return reach_http2(pool, !fresh, connect(pool)).await.ok();
    }
    if !fresh && let Some(stream) = pool.take(true) {
        return Some((Transport::Tcp(stream), true));
    }
    let stream = connect(pool).await.ok()?;
    Some((Transport::Tcp(stream), false))
}

/// Sends the request and reads to the end of the answer's head.
async fn converse(
    worker: &Worker,
    wire: &mut Wire,
    request: &[u8],
    to_head: bool,
) -> Option<(Head, Body)> {
    let mut sent = 0;
    while let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) {
        let written = std::future::poll_fn(|cx| wire.poll_write(cx, rest)).await;
        sent += written.ok()?;
    }
    loop {
        if fill(worker, wire).await? == 0 {
            return None;
        }
        if let Some(found) = take_head(wire, to_head)? {
            return Some(found);
        }
    }
}

/// How a body ended.
struct Ended {
    reusable: bool,
    body: Option<Vec<u8>>,
}

/// Deals with the body; none if it broke.
async fn finish(worker: &Worker, wire: &mut Wire, mut body: Body, want: Want) -> Option<Ended> {
    let mut payload = Vec::new();
    let most = match want {
        Want::Body(most) => most,
        Want::Nothing | Want::Head => 0,
    };
    loop {
        let length = body.unwrap(wire.input.bytes(), &mut payload).ok()?;
        wire.input.consume(length);
        let wanted = matches!(want, Want::Body(_));
        if body.is_done() {
            return Some(Ended {
                reusable: wire.input.is_empty(),
                body: wanted.then_some(payload),
            });
        }
        let cut = match want {
            Want::Nothing => {
                payload.clear();
                false
            }
            Want::Head => true,
            // Of one that lasts until the close, nobody knows whether it is whole.
            Want::Body(_) => payload.len() as u64 > most || body == Body::UntilClose,
        };
        if cut || fill(worker, wire).await? == 0 {
            let whole = cut || body == Body::UntilClose;
            return whole.then_some(Ended {
                reusable: false,
                body: None,
            });
        }
    }
}

async fn fill(worker: &Worker, wire: &mut Wire) -> Option<usize> {
    let filled = std::future::poll_fn(|cx| wire.poll_fill(cx, &worker.buffers)).await;
    filled.ok()
}

/// The head of the final answer and the framing of its body, once it is there; none at all if it is
/// malformed.
fn take_head(wire: &mut Wire, to_head: bool) -> Option<Option<(Head, Body)>> {
    loop {
        let mut storage = field::storage();
        let Some(head) = response::parse(wire.input.bytes(), &mut storage).ok()? else {
            if wire.input.room().is_empty() {
                wire.input.grow(HEAD_BYTES_MAX + BUFFER_BYTES);
            }
            return Some(None);
        };
        let facts = head.facts(to_head).ok()?;
        let (length, status) = (head.length, head.status);
        if status == 101 {
            // Nobody has asked for that.
            return None;
        }
        let text = wire.input.bytes().get(..length).unwrap_or_default();
        let found = Head {
            head: if status < 200 {
                Vec::new()
            } else {
                text.to_vec()
            },
            status,
            closes: facts.close,
        };
        wire.input.consume(length);
        if status >= 200 {
            return Some(Some((found, facts.body)));
        }
    }
}
