//! Ways to an instance: kept ones, and new ones.

use std::future::Future;
use std::io;
use std::task::Poll;

use tokio::net::{TcpSocket, TcpStream};

use super::Exchange;
use crate::clock::millis;
use crate::h2::Link;
use crate::limits::{CONNECT_TIMEOUT, SUSPECT_FOR};
use crate::pool::Pool;
use crate::transport::Transport;

impl Exchange<'_> {
    /// A way to the instance, and whether others have used it before. Only a first attempt trusts a
    /// kept connection.
    pub(super) async fn reach(&self, pool: &Pool, first: bool) -> io::Result<(Transport, bool)> {
        if self.plan.target.protocol.is_http2() {
            return reach_http2(pool, first, self.connect(pool)).await;
        }
        if first {
            let safe = self
                .upload
                .survives_a_stale_connection(self.plan.idempotent);
            if let Some(stream) = pool.take(!safe) {
                return Ok((Transport::Tcp(stream), true));
            }
        }
        Ok((Transport::Tcp(self.connect(pool).await?), false))
    }

    async fn connect(&self, pool: &Pool) -> io::Result<TcpStream> {
        let mut connecting = std::pin::pin!(connect(pool));
        self.timer.arm(CONNECT_TIMEOUT);
        std::future::poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(connected),
            Poll::Pending if self.timer.poll(cx) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    pub(super) fn suspect(&self, pool: &Pool) {
        pool.endpoint
            .suspect(self.worker.clockwork.now() + millis(SUSPECT_FOR));
    }
}

/// A new connection to an instance.
pub(super) async fn connect(pool: &Pool) -> io::Result<TcpStream> {
    let addr = pool.endpoint.addr();
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_nodelay(true)?;
    socket.connect(addr).await
}

/// A stream to an instance that speaks HTTP/2, on a connection that is open (only if `kept` may be
/// trusted) or on a new one.
pub(super) async fn reach_http2(
    pool: &Pool,
    kept: bool,
    connect: impl Future<Output = io::Result<TcpStream>>,
) -> io::Result<(Transport, bool)> {
    let open = || pool.links.take().filter(|_| kept);
    let shared = |call| (Transport::Call(Box::new(call)), true);
    if let Some(call) = open() {
        return Ok(shared(call));
    }
    let _making = pool.links.begin().await;
    // Whoever made one in the meantime did it for all.
    if let Some(call) = open() {
        return Ok(shared(call));
    }
    let link = Link::begin(connect.await?).await?;
    let call = link.call();
    pool.links.add(link);
    Ok((Transport::Call(Box::new(call)), false))
}
