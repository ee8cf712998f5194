//! Records pushed to a service: how many in a second, and how long one is on its way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::median;
use crate::app::{App, NO_OTLP};
use crate::run::atoll;

/// Records of the backlog.
const BACKLOG: u64 = 200_000;
/// Records in a second when their way is measured.
const RATE: u64 = 1000;
const SECONDS: u64 = 10;
const ROUNDS: usize = 5;

pub(super) fn run() -> anyhow::Result<()> {
    let app = application()?;
    let edge = app
        .up(&atoll(true)?)?
        .trim_start_matches("http://")
        .to_owned();
    let (mut rates, mut halves, mut late, mut cpu) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        ask(&edge, "POST", &format!("/pace/{RATE}/{SECONDS}"))?;
        let seen = wait(&edge, RATE * SECONDS)?;
        halves.push(number(&seen, "p50")? / 1e6);
        late.push(number(&seen, "p99")? / 1e6);
        let before = app.cpu()?;
        ask(&edge, "POST", &format!("/publish/{BACKLOG}"))?;
        let seen = wait(&edge, BACKLOG)?;
        rates.push(number(&seen, "count")? / (number(&seen, "span")? / 1e9));
        cpu.push((app.cpu()? - before) * 1e6 / BACKLOG as f64);
    }
    println!("\n| pushed to one subscription, trivial handler, medians of {ROUNDS} | |");
    println!("|---|---|");
    println!(
        "| pushes in a second, from a backlog of {BACKLOG} | {:.0} |",
        median(&rates)
    );
    println!(
        "| CPU of the node for each, with its publication, µs | {:.1} |",
        median(&cpu)
    );
    println!(
        "| from publication to the handler's 2xx at {RATE}/s, p50, ms | {:.2} |",
        median(&halves)
    );
    println!("| the same, p99, ms | {:.2} |", median(&late));
    Ok(())
}

fn application() -> anyhow::Result<App> {
    let app = App::new("bench-pushes")?;
    app.describe(&format!("{NO_OTLP}[events]\nlisten = \"127.0.0.1:0\"\n"))?;
    app.own_service(
        "taker",
        "take",
        "[publish]\ntopics = [\"bench\"]\n\
         [[subscribe]]\ntopic = \"bench\"\npath = \"/take\"\nconcurrency = 64\n\
         [[route]]\npath = \"/**\"\ntimeout = \"60s\"\n",
    )?;
    Ok(app)
}

/// What the service has seen, once it is this much.
fn wait(edge: &str, count: u64) -> anyhow::Result<Value> {
    let mut waited = Duration::ZERO;
    loop {
        // It is asked rarely: what is measured is not this.
        std::thread::sleep(Duration::from_millis(500));
        waited += Duration::from_millis(500);
        let came: u64 = ask(edge, "GET", "/count")?.trim().parse().unwrap_or(0);
        if came >= count {
            let seen = ask(edge, "GET", "/seen")?;
            return serde_json::from_str(&seen).context("what the service has seen");
        }
        anyhow::ensure!(waited < Duration::from_secs(120), "{came} of {count} came");
    }
}

fn number(seen: &Value, name: &str) -> anyhow::Result<f64> {
    seen[name]
        .as_f64()
        .with_context(|| format!("no {name} in {seen}"))
}

/// One request through the edge; the body of the answer.
fn ask(edge: &str, method: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(edge)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    anyhow::ensure!(head.contains(" 20"), "{method} {path}: {answer}");
    Ok(body.to_owned())
}
