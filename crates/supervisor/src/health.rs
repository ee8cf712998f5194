//! Asks an instance whether it can serve, quickly while it starts and at leisure afterwards.
//!
//! The first checks come every few milliseconds: a service that starts in 50 ms should not wait for
//! a one-second tick. They are cheap, since a port where nobody listens refuses at once. Every check
//! makes a connection of its own: one that is kept open would tell that the connection lives, not
//! that new ones are accepted.

mod grpc;
mod http;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::{Check, Health};
use crate::event::Rough;

/// The first pause between checks of an instance that starts.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause while nobody listens: to be refused costs microseconds.
const PAUSE_UNHEARD_MAX: Duration = Duration::from_millis(25);
/// The longest pause once somebody listens: each check is work for a service that starts.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Checks one process, again and again.
#[derive(Debug)]
pub(crate) struct Prober {
    addr: SocketAddr,
    health: Health,
    ready: bool,
    pause: Duration,
    due: Instant,
    /// What was wrong at the last check, for people.
    last: Option<String>,
}

impl Prober {
    /// For a process that just started.
    pub(crate) fn new(addr: SocketAddr, health: Health) -> Self {
        Self {
            addr,
            health,
            ready: false,
            pause: PAUSE_MIN,
            due: Instant::from_std(atoll_base::clock::monotonic()),
            last: None,
        }
    }

    /// From now on the instance is ready, and asked at leisure.
    pub(crate) fn slow_down(&mut self) {
        self.ready = true;
        self.pause = self.health.interval.0;
        self.due += self.pause;
    }

    /// What was wrong at the last check.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Waits until the next check is due and makes it. Tells whether it succeeded. A call that is
    /// dropped before it completed is made up for by the next.
    pub(crate) async fn next(&mut self) -> bool {
        sleep_until(self.due).await;
        let limit = self.health.timeout.0;
        let mut heard = false;
        let asking = probe(&self.health.check, self.addr, &mut heard);
        let result = match timeout(limit, asking).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {}", Rough(limit))),
        };
        self.due = Instant::from_std(atoll_base::clock::monotonic()) + self.pause;
        if !self.ready {
            let longest = if heard { PAUSE_MAX } else { PAUSE_UNHEARD_MAX };
            let growth = if heard { 1.5 } else { 1.25 };
            self.pause = self.pause.mul_f64(growth).min(longest);
        }
        self.last = result.err();
        self.last.is_none()
    }
}

/// Makes one check. Leaves in `heard` whether anybody listens.
async fn probe(check: &Check, addr: SocketAddr, heard: &mut bool) -> Result<(), String> {
    let stream = TcpStream::connect(addr)
        .await
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("nothing listens on {addr}"),
            _ => format!("cannot connect to {addr}: {error}"),
        })?;
    *heard = true;
    match check {
        Check::Tcp => Ok(()),
        Check::Http { path } => http::ask(stream, path).await,
        Check::Grpc { service } => grpc::ask(stream, service).await,
    }
}

/// The beginning of an answer that makes no sense, for people.
fn excerpt(bytes: &[u8]) -> String {
    let head = bytes.get(..60).unwrap_or(bytes);
    String::from_utf8_lossy(head).escape_debug().to_string()
}
