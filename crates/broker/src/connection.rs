//! One client: requests are taken in order, and answered in order.
//!
//! Records that were put in line for the disk are waited for together: a client that sends on
//! without waiting shares one `fsync` among its requests. Everything else waits for what came
//! before, as Kafka does it. A client that leaves while it waits for records or for its group is
//! noticed; what changes something is brought to its end all the same. One that vanishes without a
//! word is found out by the kernel's probes, one that does not read its answers by their standing
//! still: neither keeps its place, and neither keeps the node from stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::Tasks;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use kafka_protocol::messages::ApiKey;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::Broker;
use crate::access::Principal;
use crate::api;
use crate::config::Place;
use crate::sasl::Exchange;
use crate::wire::{BadRequest, FRAME_BYTES_MAX, FRAME_BYTES_UNPROVEN_MAX, Frames, Request};

/// Who speaks, and what has been proven.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) broker: Broker,
    pub(crate) who: Principal,
    /// A proof under way.
    pub(crate) exchange: Option<Exchange>,
    /// Where the client is told to go.
    pub(crate) place: Place,
    pub(crate) peer: SocketAddr,
}

/// Requests whose records are waited for.
const IN_FLIGHT_MAX: usize = 128;
/// An idle client is asked by the kernel whether it is there after so long, then so often, and is
/// gone after so many questions without an answer: two minutes in all.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// A client that takes nothing of an answer for so long is left. Kafka's clients wait 30 s for one.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// A client greets by TLS within this.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// Where nothing is to be had without an account, a client proves itself within this.
const LOGIN_MAX: Duration = Duration::from_secs(10);
/// What an answer gets to be sent when the node stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Answers = FuturesOrdered<BoxFuture<'static, Result<Option<Bytes>, BadRequest>>>;

/// What all clients of a door meet.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    /// TLS, if it is spoken.
    pub(crate) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// Where clients are told to go; none: where they are.
    pub(crate) advertised: Option<Place>,
}

/// Serves a client until it leaves, speaks nonsense, or the node stops.
pub(crate) async fn serve(stream: TcpStream, manners: Manners, broker: Broker, tasks: Tasks) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    // Small requests are answered at once.
    let _ = stream.set_nodelay(true);
    // Without it the node works all the same, but for those who vanish.
    let _ = probe(&stream);
    let here = || Place::new(local.ip().to_string(), local.port());
    let session = Session {
        broker,
        who: Principal::Anonymous,
        exchange: None,
        place: manners.advertised.unwrap_or_else(here),
        peer,
    };
    let served = match manners.tls {
        None => {
            let (read, write) = stream.into_split();
            Connection::new(session, (read, write), tasks).run().await
        }
        Some(config) => {
            let config = Arc::clone(&config.borrow());
            let greeting = TlsAcceptor::from(config).accept(stream);
            let greeted = tokio::select! {
                greeted = tokio::time::timeout(GREETING_MAX, greeting) => greeted,
                () = tasks.stopping() => return,
            };
            match greeted {
                Ok(Ok(stream)) => {
                    let halves = tokio::io::split(stream);
                    Connection::new(session, halves, tasks).run().await
                }
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a client of Kafka's protocol was left");
    }
}

struct Connection<R, W> {
    session: Session,
    frames: Frames<R>,
    write: W,
    answers: Answers,
    tasks: Tasks,
}

/// Why a client is left.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Request(#[from] BadRequest),
    #[error("it did not say who it is in time")]
    Stranger,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    fn new(session: Session, (read, write): (R, W), tasks: Tasks) -> Self {
        Self {
            session,
            frames: Frames::new(read),
            write,
            answers: Answers::new(),
            tasks,
        }
    }

    async fn run(&mut self) -> Result<(), Left> {
        let login_until = tokio::time::Instant::now() + LOGIN_MAX;
        loop {
            let waits = !self.answers.is_empty();
            let room = self.answers.len() < IN_FLIGHT_MAX;
            let proven = self.session.broker.access().knows(&self.session.who);
            let largest = if proven {
                FRAME_BYTES_MAX
            } else {
                FRAME_BYTES_UNPROVEN_MAX
            };
            tokio::select! {
                biased;
                Some(answer) = self.answers.next(), if waits => {
                    self.send(answer?).await?;
                }
                frame = self.frames.next(largest), if room => {
                    let Some(frame) = frame? else { break };
                    if !self.take(frame).await? {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(login_until), if !proven => {
                    return Err(Left::Stranger);
                }
                () = self.tasks.stopping() => break,
            }
        }
        self.settle().await?;
        // In TLS this says that nothing was cut off. Who has gone does not hear it.
        let _ = tokio::time::timeout(LAST_WORDS, self.write.shutdown()).await;
        Ok(())
    }

    /// Takes one request. False: the client has gone, or the node stops.
    async fn take(&mut self, frame: Bytes) -> Result<bool, Left> {
        let request = match Request::parse(frame) {
            Ok(request) => request,
            Err(error) => {
                self.settle().await?;
                // A client that is newer than we are asks first, and is told what is known.
                let told = api::versions::not_known(&error)?;
                self.send(Some(told)).await?;
                return Ok(true);
            }
        };
        if !api::may_ask(&self.session, &request) {
            return Ok(false);
        }
        if request.kind.key == ApiKey::Produce {
            let answer = api::produce::submit(&mut self.session, request).await?;
            self.answers.push_back(answer);
            return Ok(true);
        }
        self.settle().await?;
        let waits = matches!(
            request.kind.key,
            ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup
        );
        let answering = api::answer(&mut self.session, &request);
        let answer = if waits {
            tokio::select! {
                answer = answering => answer?,
                () = self.frames.ended() => return Ok(false),
                () = self.tasks.stopping() => return Ok(false),
            }
        } else {
            answering.await?
        };
        self.send(Some(answer)).await?;
        Ok(true)
    }

    /// Sends what is still to be answered.
    async fn settle(&mut self) -> Result<(), Left> {
        while let Some(answer) = self.answers.next().await {
            self.send(answer?).await?;
        }
        Ok(())
    }

    async fn send(&mut self, answer: Option<Bytes>) -> std::io::Result<()> {
        let Some(answer) = answer else {
            return Ok(());
        };
        tokio::select! {
            biased;
            sent = write_out(&mut self.write, answer) => sent,
            () = last_words(&self.tasks) => Err(std::io::ErrorKind::Interrupted.into()),
        }
    }
}

/// Writes all of it, as long as the client takes some of it now and then. TLS keeps the end to itself
/// until it is told that nothing follows.
async fn write_out(
    write: &mut (impl AsyncWrite + Unpin),
    mut answer: Bytes,
) -> std::io::Result<()> {
    while !answer.is_empty() {
        let written = tokio::time::timeout(STANDSTILL_MAX, write.write_buf(&mut answer)).await;
        if written.map_err(|_| std::io::ErrorKind::TimedOut)?? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
    }
    let flushed = tokio::time::timeout(STANDSTILL_MAX, write.flush()).await;
    flushed.map_err(|_| std::io::ErrorKind::TimedOut)?
}

async fn last_words(tasks: &Tasks) {
    tasks.stopping().await;
    tokio::time::sleep(LAST_WORDS).await;
}

/// Has the kernel ask an idle client whether it is still there.
fn probe(stream: &TcpStream) -> std::io::Result<()> {
    let probes = TcpKeepalive::new()
        .with_time(PROBE_AFTER)
        .with_interval(PROBE_EVERY)
        .with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_left_and_a_slow_one_is_not() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let stalled = write_out(&mut near, Bytes::from_static(b"more than fits")).await;
        assert_eq!(stalled.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        let mut drop = [0; 4];
        far.read_exact(&mut drop).await.unwrap();
        let slow = async {
            let mut all = [0; 40];
            for byte in &mut all {
                tokio::time::sleep(STANDSTILL_MAX / 2).await;
                *byte = far.read_u8().await.unwrap();
            }
            all
        };
        let sending = write_out(&mut near, Bytes::from_static(&[7; 40]));
        let (sent, read) = tokio::join!(sending, slow);
        sent.unwrap();
        assert_eq!(read, [7; 40]);
    }

    #[tokio::test]
    async fn the_end_of_an_answer_does_not_stay_within_tls() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let cert = made.cert.der().clone();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.clone()], key)
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Less than an answer fits on the way.
        let (near, far) = tokio::io::duplex(1000);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let (near, far) = tokio::join!(
            TlsAcceptor::from(Arc::new(server)).accept(near),
            connector.connect("localhost".try_into().unwrap(), far)
        );
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        let answer = Bytes::from(vec![7; 30_000]);
        let reading = async {
            let mut all = vec![0; 30_000];
            far.read_exact(&mut all).await.unwrap();
            all
        };
        let both = async { tokio::join!(write_out(&mut near, answer.clone()), reading) };
        let both = tokio::time::timeout(Duration::from_secs(10), both).await;
        let (sent, read) = both.expect("all of it comes");
        sent.unwrap();
        assert_eq!(read, answer);
    }

    #[tokio::test]
    async fn the_kernel_looks_after_idle_clients() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let (stream, _) = accepted.unwrap();
        probe(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE_AFTER);
    }
}
