//! 5,000 connections that do nothing: what each takes, and what they cost the others.
//!
//! Each has made a request, so that whatever a proxy gives back after one is given back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Bench;
use super::app::Setup;
use super::contest::{self, NO_WORSE_THAN_NGINX, print_goal};
use super::haproxy::Haproxy;
use super::load::Wrk;
use super::nginx::Nginx;
use super::peer::Peer;

const CONNECTIONS: usize = 5000;

pub(super) fn run(bench: &Bench) -> anyhow::Result<()> {
    let setup = Setup {
        edge: "idle_timeout = \"1h\"".to_owned(),
        ..Setup::default()
    };
    let stand = setup.up(bench)?;
    let peers = [
        stand.atoll()?,
        Nginx::default().start(&stand)?,
        Haproxy::default().start(&stand)?,
    ];
    let mut idle = Vec::new();
    let mut memory = Vec::new();
    for peer in &peers {
        // What the first load makes it allocate for good is no connection's.
        Wrk::default().run(&peer.address, 1)?;
        let before = peer.resident_kib()?;
        idle.push(open(peer)?);
        memory.push((peer.resident_kib()? - before) / CONNECTIONS as f64);
    }
    let title = "5,000 idle connections beside 64 busy ones, 120 bytes of JSON";
    let load = |address: &str, seconds| Wrk::default().run(address, seconds);
    contest::run(bench, title, &peers, NO_WORSE_THAN_NGINX, &load)?;
    println!("\n| proxy | memory per idle connection, KiB |\n|---|---|");
    for (peer, memory) in peers.iter().zip(&memory) {
        println!("| {} | {memory:.2} |", peer.name);
    }
    println!();
    print_goal("Memory per idle connection", memory[0], 8.0, " KiB");
    for (peer, connections) in peers.iter().zip(&idle) {
        let closed = connections.iter().filter(|stream| is_closed(stream));
        let closed = closed.count();
        if closed > 0 {
            bail!("{} closed {closed} of its idle connections", peer.name);
        }
    }
    Ok(())
}

/// Opens the connections one after the other, each with one request.
fn open(peer: &Peer) -> anyhow::Result<Vec<TcpStream>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let told = || format!("{}, idle connection {number}", peer.name);
        let stream = TcpStream::connect(&peer.address).with_context(told)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        ask(&stream).with_context(told)?;
        connections.push(stream);
    }
    Ok(connections)
}

/// One request and its answer, which ends with the brace of the JSON.
fn ask(mut stream: &TcpStream) -> anyhow::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.last() != Some(&b'}') {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            bail!("closed early");
        }
        answer.extend_from_slice(&buffer[..read]);
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("answered {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Nothing may be sent by now, not even an end.
fn is_closed(mut stream: &TcpStream) -> bool {
    let waits = std::io::ErrorKind::WouldBlock;
    stream.set_nonblocking(true).is_err()
        || !matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == waits)
}
