//! The proxy alone, in front of one server: for measuring and profiling the data plane.
//!
//! `forward --listen 127.0.0.1:8080 --upstream 127.0.0.1:9000 --threads 1`
//!
//! Everything that a node has is on: routing, tracing, counting. The spans go nowhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use atoll_base::{InstanceId, RevisionNumber, ServiceName};
use atoll_proxy::{
    Cluster, Config, DEFAULT_RESPONSE_TIMEOUT, Endpoint, MeshConfig, Protocol, RouteConfig,
    RouteTable, Service, Snapshot, SpanBatch, SpanSink,
};

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
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or("every argument needs a value")?;
        match name.as_str() {
            "--listen" => config.edge.listen = value.parse()?,
            "--upstream" => upstream = Some(value.parse()?),
            "--threads" => config.threads = Some(value.parse::<NonZeroUsize>()?),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    let upstream = upstream.ok_or("--upstream is missing")?;
    let service = Service::bind(config, Arc::new(Nowhere))?;
    println!("{}", service.edge_addr());
    let handle = service.start();
    let name = ServiceName::new("upstream")?;
    let routes = [(name.clone(), RouteConfig::new("/**"))];
    let cluster = Cluster {
        protocol: Protocol::Http1,
        denials: None,
        rate: None,
        service: name.clone(),
        endpoints: vec![Endpoint::new(
            InstanceId::new(name.clone(), RevisionNumber(1), 1),
            upstream,
        )],
        timeout: DEFAULT_RESPONSE_TIMEOUT,
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
