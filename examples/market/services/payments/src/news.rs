//! What others are told: `payments.settled`, once for each charge that was settled.
//!
//! A charge becomes `settled` and its news is written down in one transaction (`Store::settle`), so
//! there is never one without the other. A thread publishes what is written down at `EVENTS_URL`, as
//! a CloudEvent, and crosses it out when the platform has acknowledged it; before that it tries
//! again, for ever, with longer and longer pauses. Nothing is lost by a crash or a broker that is
//! away; it only comes later.
//!
//! It may be *sent* twice: by two instances at once, or because we died before we crossed it out. The
//! `Idempotency-Key` makes that one event, for the 24 hours that the platform remembers it. After
//! that it would be two, with the same `ce-id`, by which those who read it know it again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::json;
use ureq::Agent;

use crate::store::{News, Store};
use crate::web::log;

const TOPIC: &str = "payments.settled";
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for news that another instance has left behind.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The thread that publishes. It ends with the process.
pub struct Publisher(SyncSender<()>);

impl Publisher {
    /// `store` is the publisher's own connection: a slow broker must not hold up any charge.
    pub fn start(store: Store, events_url: String) -> Self {
        // One signal is enough, however much news there is.
        let (wake, woken) = sync_channel(1);
        thread::spawn(move || publish_all(&store, &events_url, &woken));
        Self(wake)
    }

    /// There is news.
    pub fn wake(&self) {
        self.0.try_send(()).ok();
    }
}

fn publish_all(store: &Store, events_url: &str, woken: &Receiver<()>) {
    let agent: Agent = Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let mut pause = LOOK_EVERY;
    loop {
        let all_told = match store.news() {
            // Each is tried: one that is refused must not hold up the others.
            Ok(news) => {
                news.iter().filter(|one| !publish(store, &agent, events_url, one)).count() == 0
            }
            Err(error) => {
                log("error", "the news wait", None, json!({ "error": error.to_string() }));
                false
            }
        };
        if all_told {
            pause = LOOK_EVERY;
            match woken.recv_timeout(pause) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        } else {
            // What is new meanwhile waits as well: it would go the same way.
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether it is published, and crossed out.
fn publish(store: &Store, agent: &Agent, events_url: &str, news: &News) -> bool {
    let News { charge, order, amount_cents, traceparent } = news;
    let body = json!({ "charge": charge, "order": order, "amount_cents": amount_cents });
    let id = format!("{charge}-settled");
    let mut request = agent
        .post(format!("{events_url}/topics/{TOPIC}"))
        .header("content-type", "application/json")
        .header("idempotency-key", &id)
        .header("ce-specversion", "1.0")
        .header("ce-id", &id)
        .header("ce-source", "/payments")
        .header("ce-type", TOPIC)
        .header("ce-partitionkey", order);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    let trace = traceparent.as_deref().and_then(|text| text.get(3..35));
    // A status of 400 or more is an error here as well.
    let told = request.send(body.to_string()).map_err(|e| e.to_string());
    match told.and_then(|_| store.forget(charge).map_err(|e| e.to_string())) {
        Ok(()) => {
            log("info", "told that it is settled", trace, json!({ "charge": charge }));
            true
        }
        Err(error) => {
            let fields = json!({ "charge": charge, "error": error });
            log("warn", "it must be told later that it is settled", trace, fields);
            false
        }
    }
}
