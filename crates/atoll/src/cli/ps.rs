//! `atoll ps`

use std::collections::HashMap;
use std::time::Duration;

use atoll_base::{ByteCount, clock};
use serde_json::Value;

use super::output::{BAD, FAINT, GOOD, Output, STRONG, WARN, table};
use super::{Client, Failure};
use crate::node::{NodeView, ServiceState, ServiceView};

/// Processor use is measured between two looks this far apart.
const SAMPLE: Duration = Duration::from_millis(250);

pub(super) async fn run(client: &Client, out: &Output) -> Result<(), Failure> {
    let node: NodeView = client.get("/v1/node").await?;
    let before: Vec<ServiceView> = client.get("/v1/services").await?;
    let begun = clock::monotonic();
    tokio::time::sleep(SAMPLE).await;
    let services: Vec<ServiceView> = client.get("/v1/services").await?;
    let usage = processor_use(&before, &services, begun.elapsed());
    if out.json {
        out.json(&document(&node, &services, &usage));
        return Ok(());
    }
    out.data(format!(
        "{STRONG}{}{STRONG:#}  {}",
        node.application, node.edge
    ));
    out.data(table(&rows(&services, &usage)));
    for service in &services {
        if let Some(reason) = &service.reason {
            let first = reason.lines().next().unwrap_or_default();
            out.say(format!("{WARN}!{WARN:#} {}: {first}", service.name));
        }
    }
    for warning in &node.warnings {
        out.say(format!("{WARN}!{WARN:#} {warning}"));
    }
    if let Some(trouble) = &node.logs_trouble {
        out.say(format!("{BAD}!{BAD:#} log lines are being lost: {trouble}"));
    }
    Ok(())
}

/// What `--json` prints: what the API answers, and the processor use of each service and instance,
/// in percent of one core, as the table shows it.
fn document(node: &NodeView, services: &[ServiceView], usage: &HashMap<String, f64>) -> Value {
    let percent_of = |id: &Value| {
        let cores = id.as_str().and_then(|id| usage.get(id));
        cores.copied().unwrap_or_default() * 100.0
    };
    let services: Vec<Value> = services
        .iter()
        .map(|service| {
            let mut service = serde_json::json!(service);
            let mut sum = 0.0;
            for instance in service["instances"].as_array_mut().into_iter().flatten() {
                let percent = percent_of(&instance["id"]);
                instance["cpu_percent"] = percent.into();
                sum += percent;
            }
            service["cpu_percent"] = sum.into();
            service
        })
        .collect();
    serde_json::json!({ "node": node, "services": services })
}

fn rows(services: &[ServiceView], usage: &HashMap<String, f64>) -> Vec<Vec<String>> {
    let head = [
        "SERVICE", "STATE", "REV", "PID", "UP", "RESTARTS", "CPU", "MEMORY", "REQ/S", "ERR/S",
        "P99",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for service in services {
        rows.push(vec![
            service.name.to_string(),
            format!(
                "{} {}/{}",
                state(service.state),
                service.serving,
                service.wanted
            ),
            service
                .revision
                .map_or_else(|| "-".to_owned(), |revision| revision.to_string()),
            String::new(),
            String::new(),
            service
                .instances
                .iter()
                .map(|instance| instance.restarts)
                .sum::<u32>()
                .to_string(),
            percent(
                service
                    .instances
                    .iter()
                    .filter_map(|i| usage.get(&i.id))
                    .sum(),
            ),
            ByteCount(
                service
                    .instances
                    .iter()
                    .map(|instance| instance.memory)
                    .sum(),
            )
            .to_string(),
            format!("{:.1}", service.requests_per_second),
            errors(service.errors_per_second),
            format!("{:.1} ms", service.p99_ms),
        ]);
        rows.extend(service.instances.iter().map(|instance| {
            let mark = if instance.serving { "•" } else { "◦" };
            vec![
                format!("{FAINT}{mark} {}{FAINT:#}", instance.id),
                format!("{FAINT}{}{FAINT:#}", instance.state.words()),
                instance.revision.to_string(),
                instance
                    .pid
                    .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                since(instance.since),
                instance.restarts.to_string(),
                percent(usage.get(&instance.id).copied().unwrap_or_default()),
                ByteCount(instance.memory).to_string(),
            ]
        }));
    }
    rows
}

pub(super) fn state(state: ServiceState) -> String {
    match state {
        ServiceState::Ready => format!("{GOOD}ready{GOOD:#}"),
        ServiceState::Building => "building".to_owned(),
        ServiceState::Waiting => "waiting".to_owned(),
        ServiceState::Starting => "starting".to_owned(),
        ServiceState::Degraded => format!("{WARN}degraded{WARN:#}"),
        ServiceState::Failed => format!("{BAD}failed{BAD:#}"),
    }
}

pub(super) fn errors(rate: f64) -> String {
    if rate > 0.0 {
        format!("{BAD}{rate:.1}{BAD:#}")
    } else {
        "0.0".to_owned()
    }
}

pub(super) fn percent(cores: f64) -> String {
    format!("{:.0}%", cores * 100.0)
}

fn since(moment: atoll_base::Timestamp) -> String {
    let secs = atoll_base::Timestamp::now().since(moment).as_secs();
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86400 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86400),
    }
}

/// Cores in use, by instance.
pub(super) fn processor_use(
    before: &[ServiceView],
    after: &[ServiceView],
    between: Duration,
) -> HashMap<String, f64> {
    let spent = |services: &[ServiceView]| -> HashMap<String, u64> {
        let instances = services.iter().flat_map(|service| &service.instances);
        instances
            .map(|instance| (instance.id.clone(), instance.cpu_ns))
            .collect()
    };
    let earlier = spent(before);
    let cores = |id: &String, now: u64| {
        let then = earlier.get(id).copied().unwrap_or(now);
        now.saturating_sub(then) as f64 / between.as_nanos().max(1) as f64
    };
    spent(after)
        .into_iter()
        .map(|(id, now)| (id.clone(), cores(&id, now)))
        .collect()
}
