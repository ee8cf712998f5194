//! One client: requests are taken in order, and answered in order.
//!
//! Records that were put in line for the disk are waited for together: a client that sends on
//! without waiting shares one `fsync` among its requests. Everything else waits for what came
//! before, as Kafka does it. A client that leaves while it waits for records or for its group is
//! noticed; what changes something is brought to its end all the same.

use std::net::SocketAddr;

use atoll_base::Tasks;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use kafka_protocol::messages::ApiKey;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::Broker;
use crate::access::Principal;
use crate::api;
use crate::sasl::Exchange;
use crate::wire::{BadRequest, Frames, Request};

/// Who speaks, and what has been proven.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) broker: Broker,
    pub(crate) who: Principal,
    /// A proof under way.
    pub(crate) exchange: Option<Exchange>,
    /// Where the client has found us: that is where it is told to go.
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// Requests whose records are waited for.
const IN_FLIGHT_MAX: usize = 128;

type Answers = FuturesOrdered<BoxFuture<'static, Result<Option<Bytes>, BadRequest>>>;

/// Serves a client until it leaves, speaks nonsense, or the node stops.
pub(crate) async fn serve(stream: TcpStream, broker: Broker, tasks: Tasks) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    // Small requests are answered at once.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let mut connection = Connection {
        session: Session {
            broker,
            who: Principal::Anonymous,
            exchange: None,
            local,
            peer,
        },
        frames: Frames::new(read),
        write,
        answers: Answers::new(),
        tasks,
    };
    if let Err(error) = connection.run().await {
        tracing::debug!(%peer, %error, "a client of Kafka's protocol was left");
    }
}

struct Connection {
    session: Session,
    frames: Frames<OwnedReadHalf>,
    write: OwnedWriteHalf,
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
}

impl Connection {
    async fn run(&mut self) -> Result<(), Left> {
        loop {
            let waits = !self.answers.is_empty();
            let room = self.answers.len() < IN_FLIGHT_MAX;
            tokio::select! {
                biased;
                Some(answer) = self.answers.next(), if waits => {
                    send(&mut self.write, answer?).await?;
                }
                frame = self.frames.next(), if room => {
                    let Some(frame) = frame? else { break };
                    if !self.take(frame).await? {
                        return Ok(());
                    }
                }
                () = self.tasks.stopping() => break,
            }
        }
        self.settle().await
    }

    /// Takes one request. False: the client has gone, or the node stops.
    async fn take(&mut self, frame: Bytes) -> Result<bool, Left> {
        let request = match Request::parse(frame) {
            Ok(request) => request,
            Err(error) => {
                self.settle().await?;
                // A client that is newer than we are asks first, and is told what is known.
                let told = api::versions::not_known(&error)?;
                send(&mut self.write, Some(told)).await?;
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
        send(&mut self.write, Some(answer)).await?;
        Ok(true)
    }

    /// Sends what is still to be answered.
    async fn settle(&mut self) -> Result<(), Left> {
        while let Some(answer) = self.answers.next().await {
            send(&mut self.write, answer?).await?;
        }
        Ok(())
    }
}

async fn send(write: &mut OwnedWriteHalf, answer: Option<Bytes>) -> std::io::Result<()> {
    match answer {
        Some(answer) => write.write_all(&answer).await,
        None => Ok(()),
    }
}
