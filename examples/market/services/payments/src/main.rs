//! payments: an adapter between the shop and a bank, so that no other service knows which bank.
//!
//! It turns an interface that is slow and fails into one that is safe to repeat: a charge has an
//! id chosen by the caller, and any number of requests with that id charge once. Whoever asks gets
//! an answer; whoever wants to know for sure gets the event `payments.settled` (`news.rs`).

mod bank;
mod news;
mod store;
mod web;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use bank::{Faults, Request, Trouble, Verdict};
use news::Publisher;
use serde_json::{Value, json};
use store::{Charge, Store, Turn};
use web::{Answer, Call, Problem, WORKERS, serve};

/// A bulkhead: a slow bank may keep this many workers waiting, and the others stay free to answer
/// health checks and to say no quickly. Without it the platform would think *us* ill.
const MOST_AT_BANK: usize = WORKERS - 4;

struct Payments {
    store: Store,
    publisher: Publisher,
    at_bank: AtomicUsize,
}

fn main() -> ExitCode {
    match Payments::open().and_then(|payments| serve(|call| payments.answer(call))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            web::log("error", "cannot start", None, json!({ "error": error }));
            ExitCode::FAILURE
        }
    }
}

impl Payments {
    fn open() -> Result<Self, String> {
        let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
        let events_url = env::var("EVENTS_URL").map_err(|_| "EVENTS_URL is not set")?;
        let store = Store::open(&url)?;
        let publisher = Publisher::start(Store::open(&url)?, events_url);
        Ok(Self { store, publisher, at_bank: AtomicUsize::new(0) })
    }

    fn answer(&self, call: &Call) -> Result<Answer, Problem> {
        let path: Vec<&str> = call.path.split('/').skip(1).collect();
        match (call.method.as_str(), path.as_slice()) {
            ("GET", ["healthz"]) => {
                self.store.faults()?; // it can read its database; the bank is not our health
                Ok(Answer::new(200, json!({ "status": "ok" })))
            }
            ("POST", ["charges"]) => self.charge(call),
            ("GET", ["charges", id]) => {
                let charge = self.store.get(id)?;
                let charge = charge.ok_or(Problem::new(404, "there is no such charge"))?;
                Ok(Answer::new(200, show(&charge)))
            }
            ("POST", ["charges", id, "refund"]) => self.refund(id, call),
            ("GET", ["faults"]) => Ok(Answer::new(200, show_faults(self.store.faults()?))),
            ("PUT", ["faults"]) => {
                let faults = parse_faults(&call.body)?;
                self.store.set_faults(faults)?;
                web::log(
                    "warn",
                    "the bank behaves differently now",
                    call.trace(),
                    json!({
                    "latency_ms": faults.latency_ms, "fail_rate": faults.fail_rate }),
                );
                Ok(Answer::new(200, show_faults(faults)))
            }
            _ => Err(Problem::new(404, "there is nothing here")),
        }
    }

    /// POST /charges {order, amount_cents, token}, with the charge's id as `Idempotency-Key`.
    fn charge(&self, call: &Call) -> Result<Answer, Problem> {
        let id = call.header("idempotency-key").filter(|id| !id.is_empty() && !id.contains('/'));
        let id = id.ok_or(Problem::new(400, "an Idempotency-Key header is needed"))?;
        let order = call.body["order"].as_str();
        let cents = call.body["amount_cents"].as_i64().filter(|cents| *cents > 0);
        let (Some(order), Some(cents), Some(card)) = (order, cents, call.body["token"].as_str())
        else {
            return Err(Problem::new(422, "needed: `order`, `amount_cents` (over 0), `token`"));
        };
        match self.store.begin(id, order, cents)? {
            Turn::SomebodyElses => return Err(Problem::busy(409, "this charge is being made")),
            Turn::Over(charge) => return outcome(&charge, 200),
            Turn::AnotherCharge => return Err(Problem::new(422, "this id is another charge's")),
            Turn::Ours => {}
        }
        let request = Request::Charge { id: id.to_owned(), card: card.to_owned() };
        let verdict = self.bank(request, call);
        match &verdict {
            Ok(Verdict::Done { reference }) => {
                let traceparent = call.trace().and(call.header("traceparent"));
                self.store.settle(id, reference, traceparent)?;
                self.publisher.wake();
            }
            Ok(Verdict::Declined) => self.store.end(id, "declined")?,
            Err(_) => self.store.end(id, "unknown")?,
        }
        verdict?;
        outcome(&self.store.get(id)?.ok_or(Problem::internal("the charge is gone"))?, 201)
    }

    /// POST /charges/{id}/refund: afterwards no money has moved, whatever was before.
    fn refund(&self, id: &str, call: &Call) -> Result<Answer, Problem> {
        self.store.forbid(id)?;
        let charge = self.store.get(id)?.ok_or(Problem::internal("the charge is gone"))?;
        if charge.state == "pending" && !charge.abandoned {
            return Err(Problem::busy(409, "this charge is being made"));
        }
        if !matches!(charge.state.as_str(), "refunded" | "declined") {
            // The bank first: repeating this is harmless, forgetting it would not be.
            let verdict = self.bank(Request::Refund { id: id.to_owned() }, call)?;
            let Verdict::Done { reference } = verdict else {
                return Err(Problem::new(502, "the bank declined a refund"));
            };
            if !self.store.refund(id, &reference)? {
                return Err(Problem::busy(409, "this charge is being made"));
            }
        }
        let charge = self.store.get(id)?.ok_or(Problem::internal("the charge is gone"))?;
        Ok(Answer::new(200, show(&charge)))
    }

    fn bank(&self, request: Request, call: &Call) -> Result<Verdict, Problem> {
        let mut faults = self.store.faults()?;
        match call.header("x-fault") {
            Some("slow") => faults.latency_ms = 10_000,
            Some("fail") => faults.fail_rate = 1.0,
            _ => {}
        }
        let waiting = self.at_bank.fetch_add(1, Ordering::Relaxed);
        let verdict = (waiting < MOST_AT_BANK).then(|| bank::ask(request, faults));
        self.at_bank.fetch_sub(1, Ordering::Relaxed);
        let (status, detail) = match verdict {
            Some(Ok(verdict)) => return Ok(verdict),
            Some(Err(Trouble::Failed)) => (502, "the bank failed"),
            Some(Err(Trouble::TimedOut)) => (504, "the bank did not answer in time"),
            None => return Err(Problem::busy(503, "too many wait for the bank already")),
        };
        web::log("error", detail, call.trace(), json!({}));
        Err(Problem::new(status, detail))
    }
}

fn outcome(charge: &Charge, settled: u16) -> Result<Answer, Problem> {
    match charge.state.as_str() {
        "settled" => Ok(Answer::new(settled, show(charge))),
        "declined" => Err(Problem::new(402, "the bank declined the charge")),
        state => Err(Problem::new(409, format!("this charge is {state}"))),
    }
}

fn show(charge: &Charge) -> Value {
    let Charge { id, order, amount_cents, state, reference, .. } = charge;
    json!({ "id": id, "order": order, "amount_cents": amount_cents, "state": state,
        "reference": reference })
}

fn show_faults(faults: Faults) -> Value {
    json!({ "latency_ms": faults.latency_ms, "fail_rate": faults.fail_rate })
}

fn parse_faults(body: &Value) -> Result<Faults, Problem> {
    // What is left out works as it should: `{}` repairs everything.
    let number = |key: &str| if body[key].is_null() { Some(0.0) } else { body[key].as_f64() };
    match (number("latency_ms"), number("fail_rate")) {
        (Some(latency), Some(fail_rate))
            if (0.0..=60_000.0).contains(&latency) && (0.0..=1.0).contains(&fail_rate) =>
        {
            Ok(Faults { latency_ms: latency as u32, fail_rate })
        }
        _ => Err(Problem::new(422, "`latency_ms` is 0 to 60000, `fail_rate` is 0 to 1")),
    }
}
