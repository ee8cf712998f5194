//! The proxy alone, in front of one server: for measuring and profiling the data plane.
//!
//! `forward --listen 127.0.0.1:8080 --upstream 127.0.0.1:9000 --threads 1`, with `--protocol h2c`
//! for a server of HTTP/2, and with `--listen-tls`, `--certificate` and `--key` also by HTTPS.
//!
//! Everything that a node has is on: routing, tracing, counting. The spans go nowhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use atoll_base::{InstanceId, RevisionNumber, ServiceName};
use atoll_proxy::config::{CertificateConfig, TlsConfig};
use atoll_proxy::{
    Cluster, Config, DEFAULT_RESPONSE_TIMEOUT, Endpoint, MeshConfig, Protocol, RouteConfig,
    RouteTable, Service, Snapshot, SpanBatch, SpanSink,
};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

struct Nowhere;

impl SpanSink for Nowhere {
    fn spans(&self, batch: SpanBatch) {
        drop(batch);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config {
        mesh: MeshConfig {
            port: 0,
            ..MeshConfig::default()
        },
        ..Config::default()
    };
    let mut upstream: Option<SocketAddr> = None;
    let mut protocol = Protocol::Http1;
    let mut tls = TlsConfig {
        certificates: vec![CertificateConfig {
            cert: PathBuf::new(),
            key: PathBuf::new(),
        }],
        redirect: false,
        ..TlsConfig::default()
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("every argument needs a value")?;
        match name.as_str() {
            "--listen" => config.edge.listen = value.parse()?,
            "--upstream" => upstream = Some(value.parse()?),
            "--protocol" => {
                let name: StrDeserializer<'_, ValueError> = value.as_str().into_deserializer();
                protocol = Protocol::deserialize(name)?;
            }
            "--certificate" => tls.certificates[0].cert = value.into(),
            "--key" => tls.certificates[0].key = value.into(),
            "--listen-tls" => {
                tls.listen = value.parse()?;
                config.edge.tls = Some(TlsConfig::default());
            }
            "--threads" => config.threads = Some(value.parse::<NonZeroUsize>()?),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    let upstream = upstream.ok_or("--upstream is missing")?;
    config.edge.tls = config.edge.tls.map(|_| tls);
    let service = Service::bind(config, Arc::new(Nowhere))?;
    println!("{}", service.edge_addr());
    let handle = service.start();
    let name = ServiceName::new("upstream")?;
    let routes = [(name.clone(), RouteConfig::new("/**"))];
    let cluster = Cluster {
        protocol,
        denials: None,
        introduce: None,
        rate: None,
        resilience: Default::default(),
        dependencies: Default::default(),
        service: name.clone(),
        endpoints: vec![Endpoint::new(
            InstanceId::new(name.clone(), RevisionNumber(1), 1),
            upstream,
        )],
        timeout: DEFAULT_RESPONSE_TIMEOUT,
        slow_after: None,
    };
    handle.publish(Snapshot {
        routes: RouteTable::build(routes).map_err(|errors| format!("{errors:?}"))?,
        clusters: HashMap::from([(name, Arc::new(cluster))]),
        mesh: HashMap::new(),
    });
    loop {
        std::thread::park();
    }
}
