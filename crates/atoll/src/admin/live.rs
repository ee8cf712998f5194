//! What happens, as it happens: Server-Sent Events for the console.
//!
//! One stream for each page that is open. Services and alerts are looked at once a second, by one task for
//! all streams and only while there is one; what has not changed is not sent again.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use utoipa::ToSchema;

use super::alerts::{self, AlertView};
use crate::node::{Node, ServiceView};

/// How often services are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So often a stream says that it is alive, if nothing else is to say.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Services and alerts as JSON, looked at while somebody wants to know.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Weak<watch::Sender<Seen>>>);

/// What is told, by the names of [`KINDS`].
type Seen = [Arc<str>; 2];

/// The events there are.
const KINDS: [&str; 2] = ["services", "alerts"];

/// The events of `/v1/live`, by their names, for its description: each is sent by itself.
#[derive(Serialize, ToSchema)]
pub struct LiveEvents {
    /// What `/v1/services` answers.
    #[schema(required = false)]
    services: Vec<ServiceView>,
    /// What `/v1/alerts` answers.
    #[schema(required = false)]
    alerts: Vec<AlertView>,
}

/// What one stream has.
struct Stand {
    node: Arc<Node>,
    /// Held, so that the task goes on.
    _watched: Arc<watch::Sender<Seen>>,
    news: watch::Receiver<Seen>,
    /// What was sent last of each kind.
    sent: [Option<Arc<str>>; 2],
}

/// What changes, at most once a second: `event: services`, with what `/v1/services` answers, and `event:
/// alerts`, with what `/v1/alerts` answers.
#[utoipa::path(
    get, path = "/v1/live",
    responses((status = 200, description = "Events, by their names", body = LiveEvents, content_type = "text/event-stream"))
)]
pub async fn live(
    State(node): State<Arc<Node>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let watched = node.watch().begin(&node).await;
    let news = watched.subscribe();
    let stand = Stand {
        node,
        _watched: watched,
        news,
        sent: [None, None],
    };
    let events = stream::unfold(stand, |mut stand| async move {
        let event = stand.next().await?;
        Some((Ok(event), stand))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE_EVERY))
}

impl Stand {
    /// The next event; none when the node stops.
    async fn next(&mut self) -> Option<Event> {
        let tasks = self.node.tasks().clone();
        loop {
            let seen = self.news.borrow_and_update().clone();
            for ((kind, now), sent) in KINDS.iter().zip(seen).zip(&mut self.sent) {
                if sent.as_ref() != Some(&now) {
                    let event = Event::default().event(kind).data(&*now);
                    *sent = Some(now);
                    return Some(event);
                }
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = tasks.stopping() => return None,
            }
        }
    }
}

impl Watch {
    /// The channel of those who watch; made, with its task, by the first.
    async fn begin(&self, node: &Arc<Node>) -> Arc<watch::Sender<Seen>> {
        let mut own = self.0.lock().await;
        if let Some(running) = own.upgrade() {
            return running;
        }
        let sender = Arc::new(watch::Sender::new(look(node).await));
        *own = Arc::downgrade(&sender);
        let (weak, watched) = (Arc::downgrade(&sender), Arc::downgrade(node));
        let tasks = node.tasks().clone();
        node.tasks().spawn("live", async move {
            tokio::select! {
                () = keep_looking(weak, watched) => {}
                () = tasks.stopping() => {}
            }
        });
        sender
    }
}

/// Ends when nobody watches any more.
async fn keep_looking(sender: Weak<watch::Sender<Seen>>, node: Weak<Node>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(node) = node.upgrade() else { return };
        if sender.strong_count() == 0 {
            return;
        }
        let now = look(&node).await;
        let Some(sender) = sender.upgrade() else {
            return;
        };
        sender.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

async fn look(node: &Node) -> Seen {
    let services = serde_json::to_string(&node.services().await);
    let alerts = serde_json::to_string(&alerts::now(node));
    [services, alerts].map(|view| view.expect("views are written as JSON").into())
}
