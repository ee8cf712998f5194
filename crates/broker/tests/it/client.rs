//! A broker on a free port, and a client that speaks the protocol by hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::Tasks;
use atoll_broker::access::Access;
use atoll_broker::config::EventsConfig;
use atoll_broker::journal::MIGRATION;
use atoll_broker::{Broker, Door};
use atoll_store::Sql;
use atoll_store::log::{Log, RealDisk};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) addr: SocketAddr,
    tasks: Tasks,
}

impl Node {
    /// The only account is `orders`, with the secret `s`; it may publish to `mine` and read it.
    pub(crate) fn has_account_of_mine(&self) {
        let mine = std::collections::BTreeSet::from(["mine".to_owned()]);
        let account = atoll_broker::access::Account {
            secret: "s".to_owned(),
            publishes: mine.clone(),
            reads: mine,
        };
        let accounts = [("orders".to_owned(), account)].into();
        self.broker.access().replace(accounts);
    }

    /// On what is in `dir`. `open`: clients without an account may do everything.
    pub(crate) async fn start(dir: &Path, open: bool) -> Self {
        std::fs::create_dir_all(dir.join("log")).unwrap();
        let tasks = Tasks::new();
        let sql = Sql::open(&dir.join("state.db"), &[MIGRATION]).unwrap();
        let (log, _) = Log::open(&dir.join("log"), Arc::new(RealDisk)).unwrap();
        let broker = Broker::open(sql, log, Access::new(open), true, &tasks);
        let broker = broker.await.unwrap();
        let config = EventsConfig {
            listen: "127.0.0.1:0".to_owned(),
            ..EventsConfig::default()
        };
        let door = Door::open(&config).await.unwrap();
        let addr = door.addr();
        let (own, serving) = (broker.clone(), tasks.clone());
        tasks.spawn("kafka", async move { door.run(own, serving).await });
        Self {
            broker,
            addr,
            tasks,
        }
    }

    pub(crate) async fn stop(self) {
        self.tasks.stop();
        assert!(self.tasks.join(Duration::from_secs(10)).await);
        self.broker.close().await;
    }

    pub(crate) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.addr).await.unwrap())
    }
}

pub(crate) struct Client(TcpStream);

impl Client {
    /// Says who it is; tells the code of the answer.
    pub(crate) async fn log_in(&mut self, name: &str, password: &str) -> i16 {
        let plain = StrBytes::from_static_str("PLAIN");
        let shake = SaslHandshakeRequest::default().with_mechanism(plain);
        assert_eq!(self.ask(1, &shake).await.error_code, 0);
        let proof = Bytes::from(format!("\0{name}\0{password}"));
        let proof = SaslAuthenticateRequest::default().with_auth_bytes(proof);
        self.ask(2, &proof).await.error_code
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.answer::<R>(version).await.expect("an answer")
    }

    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        let key = ApiKey::try_from(R::KEY).unwrap();
        let mut body = BytesMut::new();
        let head = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let header_version = key.request_header_version(version);
        head.encode(&mut body, header_version).unwrap();
        request.encode(&mut body, version).unwrap();
        self.frame(&body).await;
    }

    pub(crate) async fn frame(&mut self, body: &[u8]) {
        let length = i32::try_from(body.len()).unwrap();
        self.raw(&[&length.to_be_bytes()[..], body].concat()).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// None: the broker has closed the connection.
    pub(crate) async fn answer<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let mut body = self.read().await?;
        let key = ApiKey::try_from(R::KEY).unwrap();
        let header_version = key.response_header_version(version);
        let head = ResponseHeader::decode(&mut body, header_version).unwrap();
        assert_eq!(head.correlation_id, 7);
        Some(R::Response::decode(&mut body, version).unwrap())
    }

    async fn read(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).await.ok()?;
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.0.read_exact(&mut body).await.ok()?;
        Some(body.into())
    }

    /// Nothing more will be sent.
    pub(crate) async fn says_no_more(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Gone without a farewell.
    pub(crate) fn resets(self) {
        self.0.set_zero_linger().unwrap();
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read().await.is_none()
    }
}
