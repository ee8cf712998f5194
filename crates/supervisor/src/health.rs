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

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It can serve.
    Good,
    /// It did not answer as it should.
    Bad,
    /// Atoll lacked what a check takes: this says nothing about the instance.
    Unknown,
}

/// Why a check did not succeed.
#[derive(Debug, PartialEq)]
enum Failure {
    /// The instance did not answer as it should; in words.
    Its(String),
    /// There was no file descriptor, port or memory to ask it with; in words.
    Ours(String),
}

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

    /// Waits until the next check is due and makes it. A call that is dropped before it completed is
    /// made up for by the next.
    pub(crate) async fn next(&mut self) -> Checked {
        sleep_until(self.due).await;
        let limit = self.health.timeout.0;
        let mut heard = false;
        let asking = probe(&self.health.check, self.addr, &mut heard);
        let result = match timeout(limit, asking).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Its(format!("no answer within {}", Rough(limit)))),
        };
        self.due = Instant::from_std(atoll_base::clock::monotonic()) + self.pause;
        if !self.ready {
            let longest = if heard { PAUSE_MAX } else { PAUSE_UNHEARD_MAX };
            let growth = if heard { 1.5 } else { 1.25 };
            self.pause = self.pause.mul_f64(growth).min(longest);
        }
        let (checked, last) = match result {
            Ok(()) => (Checked::Good, None),
            Err(Failure::Its(what)) => (Checked::Bad, Some(what)),
            Err(Failure::Ours(what)) => {
                if self.last.as_ref() != Some(&what) {
                    tracing::warn!(what, "an instance could not be checked");
                }
                (Checked::Unknown, Some(what))
            }
        };
        self.last = last;
        checked
    }
}

/// Makes one check. Leaves in `heard` whether anybody listens.
async fn probe(check: &Check, addr: SocketAddr, heard: &mut bool) -> Result<(), Failure> {
    let connected = TcpStream::connect(addr).await;
    let stream = connected.map_err(|error| Failure::to_connect(addr, &error))?;
    *heard = true;
    match check {
        Check::Tcp => Ok(()),
        Check::Http { path } => http::ask(stream, addr, path).await,
        Check::Grpc { service } => grpc::ask(stream, service).await,
    }
}

impl Failure {
    fn to_connect(addr: SocketAddr, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Its(format!("nothing listens on {addr}")),
            _ => Self::of(error, format!("cannot connect to {addr}: {error}")),
        }
    }

    /// Whose failure an error of the system is; `what` tells it.
    fn of(error: &std::io::Error, what: String) -> Self {
        match error.raw_os_error() {
            Some(
                libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL,
            ) => Self::Ours(what),
            _ => Self::Its(what),
        }
    }
}

impl From<String> for Failure {
    /// What it answered was not what it should.
    fn from(what: String) -> Self {
        Self::Its(what)
    }
}

/// The beginning of an answer that makes no sense, for people.
fn excerpt(bytes: &[u8]) -> String {
    let head = bytes.get(..60).unwrap_or(bytes);
    String::from_utf8_lossy(head).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// A connection on which the kernel refuses everything with this error.
    struct Refusing(i32);

    impl Refusing {
        fn error<T>(&self) -> Poll<io::Result<T>> {
            Poll::Ready(Err(io::Error::from_raw_os_error(self.0)))
        }
    }

    impl AsyncRead for Refusing {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.error()
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.error()
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.error()
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.error()
        }
    }

    #[tokio::test]
    async fn what_atoll_lacks_is_never_the_fault_of_the_instance() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        for (errno, ours) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::ENOBUFS, true),
            (libc::ENOMEM, true),
            (libc::EADDRNOTAVAIL, true),
            (libc::ECONNRESET, false),
            (libc::ECONNREFUSED, false),
        ] {
            let connect = Failure::to_connect(addr, &io::Error::from_raw_os_error(errno));
            let http = http::ask(Refusing(errno), addr, "/").await.unwrap_err();
            let grpc = grpc::ask(Refusing(errno), "").await.unwrap_err();
            for failure in [connect, http, grpc] {
                let is_ours = matches!(failure, Failure::Ours(_));
                assert_eq!(is_ours, ours, "{errno}: {failure:?}");
            }
        }
    }
}
