//! The broker's door: a listener, and a task for each client.

use std::net::SocketAddr;
use std::sync::Arc;

use atoll_base::Tasks;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::config::EventsConfig;
use crate::connection::Manners;
use crate::{Broker, Error, connection};

/// A door that is open for clients, once it is run.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    addr: SocketAddr,
    manners: Manners,
}

/// Clients at one time. Each costs some kilobytes; one that leaks connections should not cost all.
const CLIENTS_MAX: usize = 10_000;

impl Door {
    /// Takes the port.
    ///
    /// # Errors
    /// When an address is none or the port is taken.
    pub async fn open(config: &EventsConfig) -> Result<Self, Error> {
        let addr = config.addr()?;
        let bound = TcpListener::bind(addr).await;
        let listener = bound.map_err(|source| Error::listen(addr, source))?;
        let addr = listener
            .local_addr()
            .map_err(|source| Error::listen(addr, source))?;
        Ok(Self {
            listener,
            addr,
            manners: Manners {
                tls: None,
                advertised: config.advertised()?,
            },
        })
    }

    /// Clients greet by TLS, with what the channel holds when they come.
    #[must_use]
    pub fn with_tls(mut self, config: watch::Receiver<Arc<ServerConfig>>) -> Self {
        self.manners.tls = Some(config);
        self
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets clients in until the node stops.
    pub async fn run(self, broker: Broker, tasks: Tasks) {
        let places = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = tasks.stopping() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a client of Kafka's protocol could not be let in");
                    // Most often there are no file descriptors left; that passes.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let (broker, own) = (broker.clone(), tasks.clone());
            let manners = self.manners.clone();
            tasks.spawn("kafka client", async move {
                connection::serve(stream, manners, broker, own).await;
                drop(place);
            });
        }
    }
}
