//! The outside world: a bank's API, faked, because a tour needs one that breaks on demand.
//!
//! It is called as a real one would be: it takes its time, it may fail, and it may not answer
//! within our patience, which leaves us not knowing what it did. It is idempotent by the charge's
//! id, as payment APIs are. A real adapter has an HTTP client here; nothing else would change.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long we wait. Shorter than our callers wait for us: whoever gives up first should be the
/// one who can explain why.
const PATIENCE: Duration = Duration::from_secs(2);
const USUAL_LATENCY: Duration = Duration::from_millis(30);
/// A card that never has money on it.
const EMPTY_CARD: &str = "tok_declined";

/// What is wrong with the bank today.
#[derive(Clone, Copy)]
pub struct Faults {
    pub latency_ms: u32,
    /// Of all calls, from 0 to 1.
    pub fail_rate: f64,
}

pub enum Request {
    Charge { id: String, card: String },
    Refund { id: String },
}

pub enum Verdict {
    Done { reference: String },
    Declined,
}

/// Both mean: the money may or may not have moved.
#[derive(Clone, Copy)]
pub enum Trouble {
    Failed,
    TimedOut,
}

/// Asks the bank, and waits for [`PATIENCE`] at most.
pub fn ask(request: Request, faults: Faults) -> Result<Verdict, Trouble> {
    let (answer, answered) = mpsc::sync_channel(1);
    thread::spawn(move || {
        thread::sleep(USUAL_LATENCY + Duration::from_millis(faults.latency_ms.into()));
        // The other side may have given up: then nobody listens, as on a closed connection.
        answer.send(decide(&request, faults)).ok();
    });
    answered.recv_timeout(PATIENCE).unwrap_or(Err(Trouble::TimedOut))
}

fn decide(request: &Request, faults: Faults) -> Result<Verdict, Trouble> {
    if chance() < faults.fail_rate {
        return Err(Trouble::Failed);
    }
    Ok(match request {
        Request::Charge { card, .. } if card == EMPTY_CARD => Verdict::Declined,
        Request::Charge { id, .. } => Verdict::Done { reference: format!("bank-{id}") },
        Request::Refund { id } => Verdict::Done { reference: format!("bank-refund-{id}") },
    })
}

/// From 0 to just under 1.
fn chance() -> f64 {
    getrandom::u32().map_or(0.0, |number| f64::from(number) / (f64::from(u32::MAX) + 1.0))
}
