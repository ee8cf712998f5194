//! `atoll top`: who works most, as it happens.
//!
//! On a terminal it takes the whole screen and gives it back; elsewhere each look is printed below the
//! one before, so that `atoll top -n 3 | tee` is of use. The screen is written in one piece, over the
//! old one: nothing flickers, and a slow line shows no half pictures.

use std::collections::{HashMap, VecDeque};
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use atoll_base::{ByteCount, HumanDuration, clock};
use clap::{Args, ValueEnum};

use super::output::{BAD, FAINT, Output, STRONG, curve, table};
use super::ps::{errors, percent, processor_use, state};
use super::{Client, Failure};
use crate::node::{NodeView, ServiceView};

/// Looks of which the curve is made.
const CURVE_LENGTH: usize = 30;

/// Shows another screen without a cursor, and gives the old one back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the upper left; clears to the end of a line; clears what is below.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// The time between two looks.
    #[arg(short, long, value_name = "SPAN", default_value = "2s")]
    interval: HumanDuration,
    /// So many looks. Default: until Ctrl-C.
    #[arg(short = 'n', long, value_name = "COUNT")]
    looks: Option<u32>,
    /// What comes first.
    #[arg(short, long, value_enum, default_value = "cpu")]
    sort: Sort,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// Who uses the processor most.
    Cpu,
    /// Who uses most memory.
    Memory,
    /// Who has most requests.
    Requests,
    /// Who fails most.
    Errors,
    /// Who is slowest.
    P99,
    /// By name.
    Name,
}

/// A service in one look.
#[derive(Debug, Clone, Default)]
struct Load {
    cores: f64,
    memory: u64,
}

/// Gives the screen back, however this ends.
struct Screen;

impl Screen {
    fn enter() -> Self {
        show(ENTER);
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        show(LEAVE);
    }
}

pub(super) async fn run(client: &Client, args: &TopArgs, out: &Output) -> Result<(), Failure> {
    let interval = args.interval.0.max(Duration::from_millis(100));
    let node: NodeView = client.get("/v1/node").await?;
    let mut before: Vec<ServiceView> = client.get("/v1/services").await?;
    let mut rates: HashMap<String, VecDeque<Option<f64>>> = HashMap::new();
    let screen = (std::io::stdout().is_terminal() && !out.json).then(Screen::enter);
    let mut left = args.looks.unwrap_or(u32::MAX);
    while left > 0 {
        let begun = clock::monotonic();
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            ended = tokio::signal::ctrl_c() => return Ok(ended.map_err(anyhow::Error::from)?),
        }
        let services: Vec<ServiceView> = client.get("/v1/services").await?;
        let usage = processor_use(&before, &services, begun.elapsed());
        let mut loads: Vec<(ServiceView, Load)> = services
            .iter()
            .map(|service| (service.clone(), load(service, &usage)))
            .collect();
        loads.sort_by(|a, b| order(args.sort, a, b));
        for service in &services {
            let curve = rates.entry(service.name.to_string()).or_default();
            curve.push_back(Some(service.requests_per_second));
            while curve.len() > CURVE_LENGTH {
                curve.pop_front();
            }
        }
        if out.json {
            out.json_line(&document(&loads));
        } else {
            let picture = picture(&node, &loads, &rates);
            draw(&picture, screen.is_some(), out);
        }
        before = services;
        if args.looks.is_some() {
            left -= 1;
        }
    }
    Ok(())
}

fn load(service: &ServiceView, usage: &HashMap<String, f64>) -> Load {
    let instances = &service.instances;
    Load {
        cores: instances.iter().filter_map(|own| usage.get(&own.id)).sum(),
        memory: instances.iter().map(|own| own.memory).sum(),
    }
}

fn order(sort: Sort, a: &(ServiceView, Load), b: &(ServiceView, Load)) -> std::cmp::Ordering {
    let ((a, a_load), (b, b_load)) = (a, b);
    // The greatest first.
    let first = match sort {
        Sort::Cpu => b_load.cores.total_cmp(&a_load.cores),
        Sort::Memory => b_load.memory.cmp(&a_load.memory),
        Sort::Requests => b.requests_per_second.total_cmp(&a.requests_per_second),
        Sort::Errors => b.errors_per_second.total_cmp(&a.errors_per_second),
        Sort::P99 => b.p99_ms.total_cmp(&a.p99_ms),
        Sort::Name => std::cmp::Ordering::Equal,
    };
    first.then_with(|| a.name.cmp(&b.name))
}

fn document(loads: &[(ServiceView, Load)]) -> serde_json::Value {
    let services = loads.iter().map(|(service, load)| {
        serde_json::json!({
            "service": service.name,
            "state": service.state,
            "cpu_percent": load.cores * 100.0,
            "memory": load.memory,
            "requests_per_second": service.requests_per_second,
            "errors_per_second": service.errors_per_second,
            "p99_ms": service.p99_ms,
        })
    });
    services.collect()
}

fn picture(
    node: &NodeView,
    loads: &[(ServiceView, Load)],
    rates: &HashMap<String, VecDeque<Option<f64>>>,
) -> String {
    let cores: f64 = loads.iter().map(|(_, load)| load.cores).sum();
    let memory: u64 = loads.iter().map(|(_, load)| load.memory).sum();
    let requests: f64 = loads.iter().map(|(own, _)| own.requests_per_second).sum();
    let title = format!(
        "{STRONG}{}{STRONG:#}  {}  cpu {}  memory {}  {requests:.1} req/s",
        node.application,
        clock_now(),
        percent(cores),
        ByteCount(memory)
    );
    let head = [
        "SERVICE",
        "STATE",
        "INSTANCES",
        "CPU",
        "MEMORY",
        "REQ/S",
        "ERR/S",
        "P99",
        "REQUESTS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (service, load) in loads {
        let rates = rates.get(service.name.as_str()).into_iter().flatten();
        rows.push(vec![
            service.name.to_string(),
            state(service.state),
            format!("{}/{}", service.serving, service.wanted),
            percent(load.cores),
            ByteCount(load.memory).to_string(),
            format!("{:.1}", service.requests_per_second),
            errors(service.errors_per_second),
            format!("{:.1} ms", service.p99_ms),
            curve(&rates.copied().collect::<Vec<_>>()),
        ]);
    }
    let mut lines = vec![title, table(&rows)];
    for (service, _) in loads {
        if let Some(reason) = &service.reason {
            let reason = super::output::inert(reason.lines().next().unwrap_or_default());
            lines.push(format!("{BAD}!{BAD:#} {}: {reason}", service.name));
        }
    }
    lines.join("\n")
}

fn clock_now() -> String {
    let now = super::logs::clock_time(atoll_base::Timestamp::now());
    let seconds = now.split('.').next().unwrap_or_default();
    format!("{FAINT}{seconds}{FAINT:#}")
}

fn draw(picture: &str, takes_screen: bool, out: &Output) {
    if !takes_screen {
        out.data(format!("{picture}\n"));
        return;
    }
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(24, |size| size.ws_row);
    let lines = picture.lines().take(usize::from(rows.max(2)) - 1);
    let lines: Vec<String> = lines.map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
    show(&format!("{HOME}{}{CLEAR_BELOW}", lines.concat()));
}

/// Writes to the terminal at once. If that is gone, the next question to the node is the last.
fn show(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
