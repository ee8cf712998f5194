//! What many routes cost: building them, making them known, finding one of them, keeping them.
//!
//! Prints, for 10 and 10,000 routes, nanoseconds per lookup; and for 10,000 routes of 1,000 services
//! milliseconds until the whole configuration is built and until a request is answered by it.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use atoll_base::ServiceName;
use atoll_base::clock::monotonic;
use atoll_proxy::{
    Cluster, Config, Lookup, Match, Protocol, RouteConfig, RouteTable, Service, Snapshot,
    SpanBatch, SpanSink, mesh_address,
};

struct Nowhere;

impl SpanSink for Nowhere {
    fn spans(&self, batch: SpanBatch) {
        drop(batch);
    }
}

const SERVICES: usize = 1000;
const LOOKUPS: usize = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for count in [10, 100, 1000, 10_000] {
        let table = table(count)?;
        let paths: Vec<_> = (0..count).map(path).collect();
        let start = monotonic();
        let mut found = 0;
        for at in 0..LOOKUPS {
            let path = &paths[at * 7919 % count];
            let asked = Lookup {
                host: b"shop.example.com",
                method: b"GET",
                path: path.as_bytes(),
                query: "",
                fields: None,
            };
            found += usize::from(matches!(black_box(table.find(&asked)), Match::Route(_)));
        }
        assert_eq!(found, LOOKUPS);
        let nanos = start.elapsed().as_nanos() as usize / LOOKUPS;
        println!("{count} routes: {nanos} ns per lookup");
    }
    let before = resident()?;
    let start = monotonic();
    let snapshot = snapshot()?;
    let built = start.elapsed();
    let kept = resident()?.saturating_sub(before);
    println!(
        "10000 routes, 1000 services: built in {:.1} ms, {} B a route",
        millis(built),
        kept / 10_000
    );
    apply(snapshot)
}

fn apply(snapshot: Snapshot) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.edge.listen = "127.0.0.1:0".parse()?;
    config.mesh.port = 0;
    let handle = Service::bind(config, Arc::new(Nowhere))?.start();
    let mut client = TcpStream::connect(handle.edge_addr())?;
    let mut ask = || -> std::io::Result<u16> {
        let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path(9999));
        client.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        let length = client.read(&mut answer)?;
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        Ok(text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0))
    };
    assert_eq!(ask()?, 404);
    let start = monotonic();
    handle.publish(snapshot);
    // 503: the route is known, its service has no instance.
    while ask()? != 503 {}
    println!("applied in {:.1} ms", millis(start.elapsed()));
    Ok(())
}

fn snapshot() -> Result<Snapshot, Box<dyn std::error::Error>> {
    let mut clusters = HashMap::new();
    let mut mesh = HashMap::new();
    for at in 0..SERVICES {
        let cluster = Cluster {
            service: service(at)?,
            endpoints: Vec::new(),
            protocol: Protocol::Http1,
            denials: None,
            introduce: None,
            rate: None,
            resilience: Default::default(),
            dependencies: Default::default(),
            timeout: Duration::from_secs(30),
            slow_after: None,
        };
        clusters.insert(service(at)?, Arc::new(cluster));
        let dependency = atoll_proxy::Dependency {
            caller: service(at)?,
            callee: service((at + 1) % SERVICES)?,
        };
        mesh.insert(mesh_address(at as u32), dependency);
    }
    Ok(Snapshot {
        routes: table(10_000)?,
        clusters,
        mesh,
    })
}

fn table(count: usize) -> Result<RouteTable, Box<dyn std::error::Error>> {
    let mut routes = Vec::with_capacity(count);
    for at in 0..count {
        let pattern = format!("/s{}/r{at}/{{id}}", at % SERVICES);
        routes.push((service(at % SERVICES)?, RouteConfig::new(pattern)));
    }
    RouteTable::build(routes).map_err(|errors| format!("{errors:?}").into())
}

fn path(at: usize) -> String {
    format!("/s{}/r{at}/12345", at % SERVICES)
}

fn service(at: usize) -> Result<ServiceName, Box<dyn std::error::Error>> {
    Ok(ServiceName::new(&format!("service-{at}"))?)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Bytes of this process in memory.
fn resident() -> std::io::Result<usize> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    Ok(pages.unwrap_or(0) * 4096)
}
